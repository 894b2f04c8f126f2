//! Series as scanners of several vendors wrote them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seer::dicom::{DicomLimits, Instance};
use seer::series;
use seer::volume;

/// The numbered files of a folder; those that are no DICOM (some folders have such) are left out,
/// and the fault of the last is told when none is left.
fn instances(folder: &Path) -> Result<Vec<Arc<Instance>>, String> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".dcm") && name.starts_with(|c: char| c.is_ascii_digit())
    });
    let (mut instances, mut fault) = (Vec::new(), String::new());
    for path in paths {
        match Instance::parse(&std::fs::read(path).unwrap(), &DicomLimits::default()) {
            Ok((instance, _)) => instances.push(Arc::new(instance)),
            Err(error) => fault = error.to_string(),
        }
    }
    if instances.is_empty() { Err(fault) } else { Ok(instances) }
}

/// One line: what came out, or the refusal.
fn outcome(folder: &Path) -> Result<String, String> {
    let (series, mut findings) =
        series::assemble(instances(folder)?).map_err(|error| error.to_string())?;
    let (volume, more) = volume::assemble(&series).map_err(|error| error.to_string())?;
    findings.extend(more);
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    let [slices, rows, columns] = volume.geometry.shape();
    let [step, _, _] = volume.geometry.spacing_mm();
    let code = volume.modality.code();
    Ok(format!("{code} {slices}x{rows}x{columns} step {step:.2} mm [{}]", codes.join(", ")))
}

#[test]
fn real_series_become_volumes_or_are_refused_with_the_fact() {
    let Some(data) = std::env::var_os("SEER_TEST_DATA") else {
        eprintln!("SKIPPED: SEER_TEST_DATA is not set");
        return;
    };
    for (name, expected) in EXPECTED {
        let found = outcome(&Path::new(&data).join("dicom").join(name))
            .unwrap_or_else(|fact| format!("refused: {fact}"));
        eprintln!("{name}: {found}");
        assert_eq!(found, *expected, "{name}");
    }
}

/// Folder and outcome: modality, slices x rows x columns, and what was tolerated.
const EXPECTED: &[(&str, &str)] = &[
    ("ct-3-slices-with-seg", "CT 3x512x512 step 1.00 mm [padding]"),
    ("ct-abdomen-contrast-ge", "CT 41x512x512 step 5.00 mm [padding]"),
    (
        "ct-head-tilt-ge-jpegls",
        "CT 37x512x512 step 4.22 mm [uneven_spacing, gantry_tilt, padding, interpolated_slices]",
    ),
    ("ct-small-23x38x3", "CT 3x38x23 step 2.50 mm []"),
    ("ct-small-24x38x3", "CT 3x38x24 step 2.50 mm []"),
    ("ct-tilt-siemens", "CT 4x512x512 step 5.00 mm [no_frame_of_reference, gantry_tilt]"),
    (
        "ct-torso-empty-uids-siemens-j2k",
        "refused: StudyInstanceUID is missing or malformed (0 characters)",
    ),
    (
        "ct-uneven-spacing-ge",
        "CT 5x512x512 step 5.00 mm [no_frame_of_reference, missing_slices, interpolated_slices]",
    ),
    ("mr-compressed-jpeg-lossless", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("mr-compressed-jpeg2000", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("mr-compressed-jpegls", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("mr-compressed-rle", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    (
        "mr-diffusion-mosaic-uih",
        "refused: none of 17 frames has Image Position (Patient) (0020,0032)",
    ),
    ("mr-enhanced-multiframe-hyperfine", "MR 8x138x112 step 5.00 mm [no_frame_of_reference]"),
    ("mr-enhanced-multiframe-philips", "MR 8x256x256 step 1.20 mm [no_frame_of_reference]"),
    (
        "mr-enhanced-multiframe-philips-diffusion",
        "MR 8x128x128 step 2.70 mm [several_b_values, no_frame_of_reference]",
    ),
    ("mr-enhanced-multiframe-siemens", "MR 8x256x256 step 0.90 mm [no_frame_of_reference]"),
    ("mr-ge", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("mr-hitachi", "MR 4x64x64 step 4.00 mm [no_frame_of_reference]"),
    ("mr-liver-adc-toshiba", "MR 36x288x256 step 7.00 mm []"),
    (
        "mr-mixed-orientation-philips",
        "MR 2x288x288 step 4.40 mm [mixed_orientations, no_frame_of_reference]",
    ),
    ("mr-philips-implicit", "MR 4x240x240 step 0.60 mm [no_frame_of_reference]"),
    ("mr-rgb-jpeg2000", "refused: pixels are in colour (RGB), grey is needed"),
    ("mr-siemens", "MR 4x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("mr-two-slices", "MR 2x256x256 step 1.00 mm [no_frame_of_reference]"),
    ("pet-neck-with-seg", "PT 9x128x128 step 3.38 mm []"),
];
