//! The `sam3` family against transformers' SAM3, on a bundle of our own exporter.

use std::path::Path;

use ndarray::Array3;
use seer::geometry::{Affine, PatientPoint, VolumeGeometry};
use seer::runtime::Bundle;
use seer::segment::{Backbone, BackboneSettings};
use seer::series::Modality;
use seer::threads::{Cancel, Progress};
use seer::volume::Volume;
use serde::Deserialize;

use crate::runtime::runtime;
use crate::segment::{overlap, run};

#[derive(Deserialize)]
struct Fixture {
    prompts: Vec<String>,
    cases: Vec<Case>,
}

/// A volume by formula, and where the masks of its slices begin.
#[derive(Deserialize)]
struct Case {
    name: String,
    shape: [usize; 3],
    columns: [[f64; 3]; 3],
    modality: String,
    offset: i64,
    first_byte: usize,
}

fn folder() -> &'static Path {
    Path::new("tests/data/parity/sam3")
}

impl Case {
    /// The formula of `parity_slices.py`.
    fn volume(&self) -> Volume {
        let shape = self.shape;
        let affine = Affine::from_columns(self.columns, PatientPoint([-20.0, 14.5, 310.0]));
        let value = |(s, r, c): (usize, usize, usize)| {
            let away = |n: usize, middle: usize| (n as i64 - middle as i64).pow(2);
            let away =
                9 * away(s, shape[0] / 3) + 4 * away(r, shape[1] / 2) + 5 * away(c, shape[2] / 4);
            let grain = (s * 7 + r * 13 + c * 29) as i64 % 31 * 8;
            ((1200 - 2 * away).max(0) + grain + self.offset) as f32
        };
        Volume {
            geometry: VolumeGeometry::new(shape, affine).unwrap(),
            voxels: Array3::from_shape_fn(shape, value),
            modality: Modality::parse(&self.modality),
        }
    }

    /// One mask per prompt.
    fn masks(&self, prompts: usize, packed: &[u8]) -> Vec<Vec<bool>> {
        let count: usize = self.shape.iter().product();
        let mask = |prompt: usize| {
            let bytes = &packed[self.first_byte + prompt * count.div_ceil(8)..];
            (0..count).map(|index| bytes[index / 8] >> (index % 8) & 1 == 1).collect()
        };
        (0..prompts).map(mask).collect()
    }
}

#[test]
fn masks_of_slices_are_those_of_transformers() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let Fixture { prompts, cases } = serde_json::from_str(&text).unwrap();
    let packed = std::fs::read(folder().join("masks.bin")).unwrap();
    let bundle = Bundle::open(folder()).unwrap();
    let backbone = Backbone::load(&bundle, &runtime(), BackboneSettings::default()).unwrap();
    let (mut worst, mut filled, mut told_apart) = (1.0_f64, 0, 0);
    for case in &cases {
        let volume = case.volume();
        let expected = case.masks(prompts.len(), &packed);
        let together = run(&backbone, &volume, &prompts);
        for (index, expected) in expected.iter().enumerate() {
            let mask = &together.masks[index];
            assert_eq!(mask.geometry, volume.geometry);
            let what = format!("{}, {}", case.name, prompts[index]);
            if !expected.contains(&true) {
                assert_eq!(mask.voxel_count(), 0, "{what}: no query was kept");
                continue;
            }
            filled += 1;
            let iou = overlap(mask, expected);
            assert!(iou >= 0.999, "{what}: IoU {iou}");
            worst = worst.min(iou);
            let alone = backbone
                .segment(&volume, &prompts[index..=index], &Cancel::new(), &Progress::silent())
                .unwrap();
            assert_eq!(alone.masks[0].sha256(), mask.sha256(), "{what}: alone and together");
            // The same slices mirrored, or another prompt, must not pass.
            let mut mirrored = volume.clone();
            mirrored.voxels.invert_axis(ndarray::Axis(2));
            mirrored.voxels = mirrored.voxels.as_standard_layout().into_owned();
            let other = run(&backbone, &mirrored, &prompts[index..=index]);
            told_apart += usize::from(overlap(&other.masks[0], expected) < 0.999);
        }
    }
    eprintln!("lowest IoU of {filled} masks of {} volumes: {worst:.6}", cases.len());
    assert!(filled >= 8, "only {filled} masks hold anything");
    assert_eq!(told_apart, filled, "a mirrored volume passed for the right one");
}
