//! The backbones against `voxtell`'s own predictor, on a bundle of our own exporter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use ndarray::Array3;
use seer::dicom::{DicomLimits, Instance};
use seer::geometry::{Affine, PatientPoint, VolumeGeometry, VoxelPoint};
use seer::runtime::Bundle;
use seer::segment::{Backbone, BackboneSettings, Segmentation};
use seer::series::Modality;
use seer::threads::{Cancel, Progress};
use seer::volume::{self, Mask, Volume, nifti};
use serde::Deserialize;

use crate::runtime::runtime;
use crate::segment::overlap;

/// Intersection over union with the predictor's masks that must be reached: with the package as it
/// comes, which sums in half precision, when the manifest asks for that too; and at every threshold
/// with single-precision sums on both sides.
const OVERLAP_MIN: f64 = 0.999;
/// Mean logits may differ by this much, at a spread of about 1.5.
const MEAN_LOGIT_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Fixture {
    prompts: Vec<String>,
    levels: Vec<f32>,
    origin: [f64; 3],
    oblique_case: String,
    cases: Vec<Case>,
}

/// A volume by formula, and the predictor's masks of it.
#[derive(Deserialize)]
struct Case {
    name: String,
    shape: [usize; 3],
    columns: [[f64; 3]; 3],
    modality: String,
    margin: usize,
    offset: i64,
    first_byte: usize,
    mean_logits: Vec<f64>,
}

fn folder() -> &'static Path {
    Path::new("tests/data/parity/voxtell")
}

fn fixture() -> Fixture {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    assert!(fixture.cases.len() >= 8);
    fixture
}

/// The bundle with another threshold, or as it is.
fn backbone(threshold_logit: f32) -> Backbone {
    with_lines(&format!("threshold_logit = {threshold_logit:?}"))
}

/// The bundle that adds up as the package does.
fn with_half_sums() -> Backbone {
    with_lines("threshold_logit = 0.0\nsums = \"fp16\"")
}

/// The bundle with other lines instead of that of its threshold.
fn with_lines(lines: &str) -> Backbone {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("backbone")).unwrap();
    for entry in std::fs::read_dir(folder().join("backbone")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join("backbone").join(entry.file_name())).unwrap();
    }
    let manifest = std::fs::read_to_string(folder().join("manifest.toml")).unwrap();
    let line = "threshold_logit = 0.0";
    assert!(manifest.contains(line));
    let manifest = manifest.replace(line, lines);
    std::fs::write(copy.path().join("manifest.toml"), manifest).unwrap();
    let bundle = Bundle::open(copy.path()).unwrap();
    Backbone::load(&bundle, &runtime(), BackboneSettings::default()).unwrap()
}

fn segment(backbone: &Backbone, volume: &Volume, prompts: &[String]) -> Segmentation {
    backbone.segment(volume, prompts, &Cancel::new(), &Progress::silent()).unwrap()
}

impl Case {
    /// The formula of `parity_backbone.py`.
    fn voxels(&self) -> Array3<f32> {
        Array3::from_shape_fn(self.shape, |(s, r, c)| {
            let at = [s, r, c];
            let inside = (0..3)
                .all(|axis| at[axis] >= self.margin && at[axis] + self.margin < self.shape[axis]);
            let [s, r, c] = at.map(|n| n as i64);
            let away = |n: i64, middle: usize| (n - middle as i64).pow(2);
            let away = 9 * away(s, self.shape[0] / 3)
                + 4 * away(r, self.shape[1] / 2)
                + 5 * away(c, self.shape[2] / 4);
            let value = (1200 - 2 * away).max(0) + (s * 7 + r * 13 + c * 29) % 31 * 8 + self.offset;
            if inside { value as f32 } else { 0.0 }
        })
    }

    fn volume(&self, fixture: &Fixture) -> Volume {
        let origin = PatientPoint(fixture.origin);
        let affine = Affine::from_columns(self.columns, origin);
        Volume {
            geometry: VolumeGeometry::new(self.shape, affine).unwrap(),
            voxels: self.voxels(),
            modality: Modality::parse(&self.modality),
        }
    }

    /// The predictor's masks, `[prompt][1 + level]`; the first is the package's own answer.
    fn masks(&self, fixture: &Fixture, packed: &[u8]) -> Vec<Vec<Vec<bool>>> {
        let count: usize = self.shape.iter().product();
        let mask = |number: usize| {
            let bytes = &packed[self.first_byte + number * count.div_ceil(8)..];
            (0..count).map(|index| bytes[index / 8] >> (index % 8) & 1 == 1).collect()
        };
        let each = fixture.levels.len() + 1;
        let prompt = |prompt: usize| (0..each).map(|n| mask(prompt * each + n)).collect();
        (0..fixture.prompts.len()).map(prompt).collect()
    }
}

#[test]
fn masks_and_logits_are_those_of_voxtells_own_predictor() {
    let fixture = fixture();
    let packed = std::fs::read(folder().join("masks.bin")).unwrap();
    let at_levels: Vec<Backbone> = fixture.levels.iter().map(|level| backbone(*level)).collect();
    let mut worst = 1.0_f64;
    for case in &fixture.cases {
        let volume = case.volume(&fixture);
        let expected = case.masks(&fixture, &packed);
        for (level, backbone) in at_levels.iter().enumerate() {
            let found = segment(backbone, &volume, &fixture.prompts);
            for (prompt, mask) in found.masks.iter().enumerate() {
                assert_eq!(mask.geometry, volume.geometry);
                let iou = overlap(mask, &expected[prompt][1 + level]);
                let threshold = fixture.levels[level];
                let what = format!("{}, prompt {prompt}, threshold {threshold}", case.name);
                assert!(iou >= OVERLAP_MIN, "{what}: IoU {iou}");
                worst = worst.min(iou);
            }
            if fixture.levels[level] == 0.0 {
                for (mean, expected) in found.mean_logits.iter().zip(&case.mean_logits) {
                    let off = (mean.unwrap() - expected).abs();
                    assert!(off < MEAN_LOGIT_TOLERANCE, "{}: mean off by {off}", case.name);
                }
            }
        }
    }
    let count = fixture.cases.len();
    eprintln!("lowest IoU of {count} volumes: {worst:.6}");
}

#[test]
fn masks_with_half_precision_sums_are_those_of_the_package_as_it_comes() {
    let fixture = fixture();
    let packed = std::fs::read(folder().join("masks.bin")).unwrap();
    let (half, single) = (with_half_sums(), backbone(0.0));
    let (mut worst, mut worst_of_single) = (1.0_f64, 1.0_f64);
    for case in &fixture.cases {
        let volume = case.volume(&fixture);
        let expected = case.masks(&fixture, &packed);
        let found = segment(&half, &volume, &fixture.prompts);
        let of_single = segment(&single, &volume, &fixture.prompts);
        for (prompt, mask) in found.masks.iter().enumerate() {
            let iou = overlap(mask, &expected[prompt][0]);
            assert!(iou >= OVERLAP_MIN, "{}, prompt {prompt}: IoU {iou}", case.name);
            worst = worst.min(iou);
            let iou = overlap(&of_single.masks[prompt], &expected[prompt][0]);
            worst_of_single = worst_of_single.min(iou);
        }
    }
    eprintln!("lowest IoU {worst:.6}; with single-precision sums {worst_of_single:.6}");
    assert!(worst_of_single < worst, "the setting changes nothing");
}

#[test]
fn several_prompts_give_what_each_gives_alone() {
    let fixture = fixture();
    let backbone = backbone(0.0);
    for case in &fixture.cases[..4] {
        let volume = case.volume(&fixture);
        let together = segment(&backbone, &volume, &fixture.prompts);
        for (index, prompt) in fixture.prompts.iter().enumerate() {
            let alone = segment(&backbone, &volume, std::slice::from_ref(prompt));
            let expected: Vec<bool> = together.masks[index].voxels.iter().copied().collect();
            let iou = overlap(&alone.masks[0], &expected);
            assert!(iou >= 0.9999, "{}, {prompt}: IoU {iou}", case.name);
        }
    }
}

/// The comparison must fail for another prompt, another threshold and a volume the other way round.
#[test]
fn the_comparison_would_notice_a_wrong_prompt_threshold_or_side() {
    let fixture = fixture();
    let packed = std::fs::read(folder().join("masks.bin")).unwrap();
    let backbone = backbone(0.0);
    for case in &fixture.cases {
        let expected = case.masks(&fixture, &packed);
        let volume = case.volume(&fixture);
        let found = segment(&backbone, &volume, &fixture.prompts);
        let iou = overlap(&found.masks[0], &expected[2][1]);
        assert!(iou < OVERLAP_MIN, "{}: another prompt has IoU {iou}", case.name);
        let iou = overlap(&found.masks[0], &expected[0][3]);
        assert!(iou < OVERLAP_MIN, "{}: another threshold has IoU {iou}", case.name);
        let mut mirrored = volume.clone();
        mirrored.voxels.invert_axis(ndarray::Axis(2));
        mirrored.voxels = mirrored.voxels.as_standard_layout().into_owned();
        let found = segment(&backbone, &mirrored, &fixture.prompts[..1]);
        let iou = overlap(&found.masks[0], &expected[0][1]);
        assert!(iou < OVERLAP_MIN, "{}: the mirrored volume has IoU {iou}", case.name);
    }
}

/// Part 10 files of the slices of a volume of whole numbers.
fn slices(volume: &Volume) -> Vec<Arc<Instance>> {
    let [count, rows, columns] = volume.geometry.shape();
    let affine = volume.geometry.voxel_to_patient();
    let position = |slice: usize| {
        let corner = affine.apply(VoxelPoint([slice as f64, 0.0, 0.0]));
        corner.0.map(|mm| format!("{mm:.8}"))
    };
    let [_, row_mm, column_mm] = volume.geometry.spacing_mm();
    let (down, across) = (affine.column(1), affine.column(2));
    let (down, across) = (down.map(|mm| mm / row_mm), across.map(|mm| mm / column_mm));
    let cosines: Vec<String> = across.iter().chain(&down).map(|c| format!("{c:.10}")).collect();
    let study = "1.2.826.0.1.3680043.2.1143.77";
    (0..count)
        .map(|slice| {
            let mut object = InMemDicomObject::new_empty();
            let mut put = |tag, vr, value: PrimitiveValue| {
                object.put(DataElement::new(tag, vr, value));
            };
            put(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.into());
            put(tags::SOP_INSTANCE_UID, VR::UI, format!("{study}.1.{}", slice + 1).into());
            put(tags::STUDY_INSTANCE_UID, VR::UI, study.into());
            put(tags::SERIES_INSTANCE_UID, VR::UI, format!("{study}.1").into());
            put(tags::FRAME_OF_REFERENCE_UID, VR::UI, format!("{study}.9").into());
            put(tags::MODALITY, VR::CS, volume.modality.code().into());
            put(tags::IMAGE_TYPE, VR::CS, dicom_value!(Strs, ["ORIGINAL", "PRIMARY", "AXIAL"]));
            put(tags::INSTANCE_NUMBER, VR::IS, (slice + 1).to_string().into());
            let position = PrimitiveValue::Strs(position(slice).into_iter().collect());
            put(tags::IMAGE_POSITION_PATIENT, VR::DS, position);
            let cosines = PrimitiveValue::Strs(cosines.iter().cloned().collect());
            put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, cosines);
            let spacing = [row_mm, column_mm].map(|mm| format!("{mm:.10}"));
            put(tags::PIXEL_SPACING, VR::DS, PrimitiveValue::Strs(spacing.into_iter().collect()));
            put(tags::SAMPLES_PER_PIXEL, VR::US, 1_u16.into());
            put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into());
            put(tags::ROWS, VR::US, (rows as u16).into());
            put(tags::COLUMNS, VR::US, (columns as u16).into());
            put(tags::BITS_ALLOCATED, VR::US, 16_u16.into());
            put(tags::BITS_STORED, VR::US, 16_u16.into());
            put(tags::HIGH_BIT, VR::US, 15_u16.into());
            put(tags::PIXEL_REPRESENTATION, VR::US, 1_u16.into());
            put(tags::RESCALE_SLOPE, VR::DS, "1".into());
            put(tags::RESCALE_INTERCEPT, VR::DS, "0".into());
            let plane = volume.voxels.index_axis(ndarray::Axis(0), slice);
            let pixels: Vec<u16> = plane.iter().map(|value| *value as i16 as u16).collect();
            put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into()));
            let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
            let mut bytes = Vec::new();
            object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
            Arc::new(Instance::parse(&bytes, &DicomLimits::default()).unwrap().0)
        })
        .collect()
}

#[test]
fn an_oblique_series_in_dicom_gives_what_its_nifti_gives_and_both_what_the_predictor_gives() {
    let fixture = fixture();
    let packed = std::fs::read(folder().join("masks.bin")).unwrap();
    let case = fixture.cases.iter().find(|case| case.name == fixture.oblique_case).unwrap();
    let backbone = backbone(0.0);
    let path: PathBuf = folder().join("oblique.nii.gz");
    let (from_nifti, _) = nifti::read(&path, Some(Modality::parse(&case.modality))).unwrap();
    let by_formula = case.volume(&fixture);
    let mut instances = slices(&by_formula);
    instances.reverse();
    let (series, _) = seer::series::assemble(instances).unwrap();
    let (from_dicom, _) = volume::assemble(&series).unwrap();
    let masks: BTreeMap<&str, Mask> = [("NIfTI", from_nifti), ("DICOM", from_dicom)]
        .into_iter()
        .map(|(name, volume)| {
            (name, segment(&backbone, &volume, &fixture.prompts[..1]).masks.remove(0))
        })
        .collect();
    let expected = &case.masks(&fixture, &packed)[0][1];
    for (name, mask) in &masks {
        // Whatever way round each reader keeps its slices: compared on the formula's own grid.
        let voxels =
            volume::resample::nearest(&mask.voxels, &mask.geometry, &by_formula.geometry, false);
        let on_grid = Mask { geometry: by_formula.geometry, voxels };
        let iou = overlap(&on_grid, expected);
        assert!(iou >= OVERLAP_MIN, "{name}: IoU {iou}");
    }
}
