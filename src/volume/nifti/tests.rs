use std::process::Command;

use super::*;
use crate::geometry::{Affine, PatientPoint, VoxelPoint};

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nifti").join(name)
}

/// The RAS affine of `[i, j, k]`, row-major.
fn ras_affine(geometry: &VolumeGeometry) -> [[f64; 4]; 4] {
    let m = geometry.voxel_to_patient().matrix();
    let row = |r: usize, sign: f64| [m[r][2], m[r][1], m[r][0], m[r][3]].map(|v| v * sign);
    [row(0, -1.0), row(1, -1.0), row(2, 1.0), [0.0, 0.0, 0.0, 1.0]]
}

#[test]
fn reads_what_nibabel_reads() {
    let text = std::fs::read_to_string(file("expected.json")).expect("a fixture");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let files = expected.as_object().expect("an object");
    assert_eq!(files.len(), 5);
    for (name, expected) in files {
        let (volume, _) = read(&file(name), Some(Modality::Mr)).expect("a good file");
        assert_eq!(volume.voxels.dim(), (5, 3, 4), "{name}");
        let values = expected["values"].as_array().expect("numbers");
        for (found, value) in volume.voxels.iter().zip(values) {
            let value = value.as_f64().expect("a number") as f32;
            assert_eq!(*found, value, "{name}");
        }
        for (r, row) in ras_affine(&volume.geometry).iter().enumerate() {
            for (c, found) in row.iter().enumerate() {
                let value = expected["affine"][r][c].as_f64().expect("a number");
                assert!((found - value).abs() < 1e-5, "{name}: [{r}][{c}] {found} is not {value}");
            }
        }
    }
}

#[test]
fn guesses_the_modality_and_says_so() {
    let (volume, findings) = read(&file("sform_i16_scaled.nii.gz"), None).expect("a good file");
    assert_eq!(volume.modality, Modality::Ct);
    assert_eq!(findings[0].message, "modality was guessed as CT: lowest value -1124.25");
    let (volume, findings) = read(&file("neither_f64.nii"), None).expect("a good file");
    assert_eq!(volume.modality, Modality::Mr);
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["no_orientation", "modality_guessed"]);
}

#[test]
fn refuses_what_is_no_volume() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |path: &Path, expected: &str| {
        let error = read(path, None).expect_err("a bad file").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&file("nan_f32.nii.gz"), "1 voxels are not finite numbers");
    check(&file("two_volumes_i8.nii.gz"), "its dimensions are [4, 3, 5, 2], not one 3-D volume");
    check(&file("README.md"), "cannot use the NIfTI image");
    check(&file("no-such-file.nii"), "cannot read or write the file");
    let whole = std::fs::read(file("neither_f64.nii")).expect("a fixture");
    let cut = folder.path().join("cut.nii");
    std::fs::write(&cut, &whole[..500]).expect("a write");
    check(&cut, "cannot use the NIfTI image");
    let constant = folder.path().join("constant.nii.gz");
    let (volume, _) = read(&file("qform_u8.nii.gz"), None).expect("a good file");
    write_labels(&constant, &Array3::from_elem((5, 3, 4), 7), &volume.geometry).expect("a write");
    check(&constant, "all voxels hold one value, 7");
}

#[test]
fn labels_come_back_on_the_same_grid() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, largest) in [("sform_i16_scaled.nii.gz", 255), ("qform_u8.nii.gz", 40_000)] {
        let (volume, _) = read(&file(name), None).expect("a good file");
        let labels = Array3::from_shape_fn((5, 3, 4), |(k, j, i)| match (k, j, i) {
            (4, 2, 3) => largest,
            _ => (k * 12 + j * 4 + i) as u16,
        });
        let path = folder.path().join(name);
        write_labels(&path, &labels, &volume.geometry).expect("a write");
        let (found, geometry) = read_labels(&path).expect("a good file");
        assert_eq!(found, labels.mapv(u32::from));
        assert!(geometry.is_close(&volume.geometry, 1e-5), "{name}");
    }
    let error = read_labels(&file("neither_f64.nii")).expect_err("fractions").to_string();
    assert!(error.contains("is not a whole number"), "{error}");
}

/// What we write, nibabel reads at the same place by sform and, on orthogonal grids, by qform.
#[test]
fn nibabel_reads_what_we_write() {
    let Some(judges) = std::env::var_os("SEER_JUDGES") else {
        eprintln!("SKIPPED: SEER_JUDGES is not set");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("labels.nii.gz");
    // Turned about every axis, columns to the right, left-handed.
    let orthogonal = Affine::from_columns(
        [[0.0, -1.8, 2.4], [0.0, 0.8, 0.6], [-0.7, 0.0, 0.0]],
        PatientPoint([31.5, -12.25, 8.0]),
    );
    let geometry = VolumeGeometry::new([5, 3, 4], orthogonal).expect("a good grid");
    let labels = Array3::from_shape_fn((5, 3, 4), |(k, j, i)| (k * 12 + j * 4 + i) as u16);
    write_labels(&path, &labels, &geometry).expect("a write");
    let script = "import sys, json, nibabel, numpy as np; n = nibabel.load(sys.argv[1]); \
                  print(json.dumps([np.asarray(n.dataobj).transpose(2, 1, 0).ravel().tolist(), \
                  n.header.get_sform().tolist(), n.header.get_qform().tolist(), \
                  str(n.get_data_dtype())]))";
    let output = Command::new(Path::new(&judges).join("bin/python"))
        .args(["-c", script])
        .arg(&path)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let voxels: Vec<u64> =
        found[0].as_array().expect("voxels").iter().filter_map(|v| v.as_u64()).collect();
    assert_eq!(voxels, (0..60).collect::<Vec<u64>>());
    assert_eq!(found[3], "uint8");
    let expected = ras_affine(&geometry);
    for form in [1, 2] {
        for r in 0..3 {
            for c in 0..4 {
                let value = found[form][r][c].as_f64().expect("a number");
                let error = (value - expected[r][c]).abs();
                assert!(error < 1e-5, "form {form} [{r}][{c}]: {value} is not {}", expected[r][c]);
            }
        }
    }
    let first = geometry.voxel_to_patient().apply(VoxelPoint([0.0; 3])).0;
    assert!((expected[0][3] + first[0]).abs() < 1e-9, "x is turned round");
}
