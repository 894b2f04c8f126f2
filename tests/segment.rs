//! A tiny backbone of the VoxTell family against a reference host, and against itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ndarray::Array3;
use seer::error::{ErrorKind, Kind};
use seer::geometry::{Affine, AxisOrder, AxisPermutation, PatientPoint, VolumeGeometry};
use seer::runtime::{Bundle, Provider, Runtime};
use seer::segment::{Backbone, BackboneSettings, SegmentError, Segmentation};
use seer::series::Modality;
use seer::threads::{Cancel, Progress, Stopped};
use seer::volume::{Mask, Volume};
use sha2::{Digest, Sha256};

use crate::support::library;

const GRAPHS: [&str; 5] = [
    "text_encoder.onnx",
    "image_encoder.onnx",
    "prompt_decoder.onnx",
    "mask_decoder.onnx",
    "tokenizer.json",
];

fn fixture() -> &'static Path {
    Path::new("tests/data/tiny-voxtell")
}

/// A bundle of the tiny graphs; `spacing_mm` is the manifest's value or nothing.
fn tiny_bundle(spacing_mm: Option<&str>) -> (tempfile::TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = String::from(
        "name = \"tiny-voxtell\"\nversion = \"1\"\nlicence = \"Apache-2.0\"\n\
         intended_use = \"Tests.\"\ntraining_data = \"None.\"\n",
    );
    for file in GRAPHS {
        let bytes = std::fs::read(fixture().join(file)).unwrap();
        std::fs::write(folder.path().join(file), &bytes).unwrap();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        manifest += &format!(
            "[[files]]\npath = \"{file}\"\nsha256 = \"{sha256}\"\nsize_bytes = {}\n",
            bytes.len()
        );
    }
    manifest += "[backbone]\nfamily = \"voxtell\"\nembedding_size = 12\n";
    for (key, file) in
        ["text_encoder", "image_encoder", "prompt_decoder", "mask_decoder", "text_tokenizer"]
            .into_iter()
            .zip(GRAPHS)
    {
        manifest += &format!("{key} = \"{file}\"\n");
    }
    manifest += "[backbone.text]\ntemplate = \"Find this: {text}\"\nlowercase = true\n\
                 suffix_token = \"<|end|>\"\nmax_tokens = 64\n\
                 [backbone.preprocessing]\norientation = \"RAS\"\ncrop = \"nonzero\"\n\
                 patch_size = [16, 20, 16]\ntile_step = 0.5\ngaussian_sigma_scale = 0.125\n\
                 threshold_logit = 0.0\n";
    if let Some(spacing_mm) = spacing_mm {
        manifest += &format!("spacing_mm = {spacing_mm}\n");
    }
    manifest += "[backbone.preprocessing.normalization]\n\
                 CT = { kind = \"fixed\", clip_low = -1000.0, clip_high = 1000.0, mean = 0.0, std = 300.0 }\n\
                 default = { kind = \"zscore\" }\n";
    std::fs::write(folder.path().join("manifest.toml"), manifest).unwrap();
    let bundle = Bundle::open(folder.path()).unwrap();
    (folder, bundle)
}

fn load(spacing_mm: Option<&str>, settings: BackboneSettings) -> Backbone {
    let (_folder, bundle) = tiny_bundle(spacing_mm);
    let runtime = Runtime::open(library(), Provider::Cpu).unwrap();
    Backbone::load(&bundle, &runtime, settings).unwrap()
}

/// The formula of `make.py`.
fn voxels(shape: [usize; 3], margin: usize, offset: i64) -> Array3<f32> {
    Array3::from_shape_fn(shape, |at| {
        let at = [at.0, at.1, at.2];
        let inside = (0..3).all(|axis| at[axis] >= margin && at[axis] + margin < shape[axis]);
        let [s, r, c] = at.map(|n| n as i64);
        let away = |n: i64, middle: usize| (n - middle as i64).pow(2);
        let away =
            9 * away(s, shape[0] / 3) + 4 * away(r, shape[1] / 2) + 5 * away(c, shape[2] / 4);
        let value = (1200 - 2 * away).max(0) + (s * 7 + r * 13 + c * 29) % 31 * 8 + offset;
        if inside { value as f32 } else { 0.0 }
    })
}

fn numbers<const N: usize>(value: &serde_json::Value) -> [f64; N] {
    std::array::from_fn(|index| value[index].as_f64().unwrap())
}

pub fn case_volume(case: &serde_json::Value) -> Volume {
    let shape = numbers::<3>(&case["shape"]).map(|n| n as usize);
    let columns = std::array::from_fn(|axis| numbers::<3>(&case["columns"][axis]));
    let origin = PatientPoint([-31.5, 12.25, 407.0]);
    Volume {
        geometry: VolumeGeometry::new(shape, Affine::from_columns(columns, origin)).unwrap(),
        voxels: voxels(
            shape,
            case["margin"].as_u64().unwrap() as usize,
            case["offset"].as_i64().unwrap(),
        ),
        modality: Modality::parse(case["modality"].as_str().unwrap()),
    }
}

/// A case's description and the reference's masks, one per prompt.
pub type Case = (serde_json::Value, Vec<Vec<bool>>);

/// The prompts, and every case.
pub fn cases(fixture: &Path) -> (Vec<String>, Vec<Case>) {
    let text = std::fs::read_to_string(fixture.join("expected.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let packed = std::fs::read(fixture.join("expected.bin")).unwrap();
    let prompts: Vec<String> = serde_json::from_value(json["prompts"].clone()).unwrap();
    let cases = json["cases"].as_array().unwrap().iter().map(|case| {
        let count = numbers::<3>(&case["shape"]).iter().product::<f64>() as usize;
        let first = case["first_byte"].as_u64().unwrap() as usize;
        let mask = |prompt: usize| {
            let bytes = &packed[first + prompt * count.div_ceil(8)..];
            (0..count).map(|index| bytes[index / 8] >> (index % 8) & 1 == 1).collect()
        };
        (case.clone(), (0..prompts.len()).map(mask).collect())
    });
    let cases = cases.collect();
    (prompts, cases)
}

pub fn run(backbone: &Backbone, volume: &Volume, prompts: &[String]) -> Segmentation {
    backbone.segment(volume, prompts, &Cancel::new(), &Progress::silent()).unwrap()
}

/// Intersection over union.
pub fn overlap(found: &Mask, expected: &[bool]) -> f64 {
    let pairs = || found.voxels.iter().zip(expected);
    let both = pairs().filter(|(a, b)| **a && **b).count();
    let any = pairs().filter(|(a, b)| **a || **b).count();
    both as f64 / any as f64
}

#[test]
fn agrees_with_the_reference_host() {
    let (prompts, cases) = cases(fixture());
    for (case, expected) in &cases {
        let spacing = case["spacing_mm"].as_array().map(|_| case["spacing_mm"].to_string());
        let backbone = load(spacing.as_deref(), BackboneSettings::default());
        let volume = case_volume(case);
        let found = run(&backbone, &volume, &prompts);
        for (index, expected) in expected.iter().enumerate() {
            let mask = &found.masks[index];
            assert_eq!(mask.geometry, volume.geometry);
            let iou = overlap(mask, expected);
            assert!(iou >= 0.999, "{}, {}: IoU {iou}", case["name"], prompts[index]);
            let mean = case["mean_logits"][index].as_f64().unwrap();
            let off = (found.mean_logits[index].unwrap() - mean).abs();
            assert!(off < 2e-3, "{}, {}: mean logit off by {off}", case["name"], prompts[index]);
        }
    }
}

#[test]
fn prompts_asked_together_equal_prompts_asked_alone() {
    let (prompts, cases) = cases(fixture());
    let volume = case_volume(&cases[1].0);
    let together = run(&load(None, BackboneSettings::default()), &volume, &prompts);
    let tight = BackboneSettings {
        prompts_per_run_max: 1,
        embeddings_cached_max: 1,
        memory_bytes_max: 450_000,
        ..BackboneSettings::default()
    };
    let in_groups = run(&load(None, tight), &volume, &prompts);
    assert!(in_groups.image_encoder_run_count > together.image_encoder_run_count);
    assert_eq!(together.image_encoder_run_count, together.patch_count);
    let alone = load(None, BackboneSettings::default());
    for (index, prompt) in prompts.iter().enumerate() {
        let single = run(&alone, &volume, std::slice::from_ref(prompt));
        for other in [&single.masks[0], &in_groups.masks[index]] {
            let expected: Vec<bool> = together.masks[index].voxels.iter().copied().collect();
            assert!(overlap(other, &expected) >= 0.9999, "{prompt}");
        }
    }
    // Again, now with remembered embeddings: the very same bits.
    let again = run(&alone, &volume, &prompts);
    let digests = |found: &Segmentation| found.masks.iter().map(Mask::sha256).collect::<Vec<_>>();
    assert_eq!(digests(&again), digests(&run(&alone, &volume, &prompts)));
    assert_ne!(digests(&again)[0], digests(&again)[1]);
}

#[test]
fn the_same_anatomy_in_another_orientation_gives_the_same_mask() {
    let (prompts, cases) = cases(fixture());
    let backbone = load(Some("[1.0, 1.4, 1.0]"), BackboneSettings::default());
    let volume = case_volume(&cases[1].0);
    let found = run(&backbone, &volume, &prompts[..1]);
    for order in [
        AxisOrder::SuperiorAnteriorRight,
        AxisOrder::SuperiorPosteriorLeft,
        AxisOrder::PosteriorInferiorLeft,
        AxisOrder::LeftInferiorPosterior,
    ] {
        let permutation = AxisPermutation::closest(&volume.geometry, order);
        let turned = Volume {
            geometry: permutation.apply(&volume.geometry),
            voxels: seer::volume::resample::reorder(&volume.voxels, &permutation),
            modality: volume.modality.clone(),
        };
        let mask = &run(&backbone, &turned, &prompts[..1]).masks[0];
        assert_eq!(mask.geometry, turned.geometry);
        let back = seer::volume::resample::nearest(
            &mask.voxels,
            &turned.geometry,
            &volume.geometry,
            false,
        );
        assert_eq!(back, found.masks[0].voxels, "{order:?}");
    }
}

#[test]
fn stops_within_a_patch_of_being_cancelled() {
    let (prompts, cases) = cases(fixture());
    let backbone = load(None, BackboneSettings::default());
    let volume = case_volume(&cases[1].0);
    let cancel = Cancel::new();
    let patches = Arc::new(AtomicUsize::new(0));
    let progress = {
        let (cancel, patches) = (cancel.clone(), Arc::clone(&patches));
        Progress::new(move |done, total| {
            assert!(done <= total && total > 3);
            patches.fetch_add(1, Ordering::Relaxed);
            if done == 2 {
                cancel.cancel();
            }
        })
    };
    let error = backbone.segment(&volume, &prompts, &cancel, &progress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(patches.load(Ordering::Relaxed), 2);
    let late = Cancel::new().with_deadline(Instant::now() - Duration::from_secs(1));
    let error = backbone.segment(&volume, &prompts, &late, &Progress::silent()).unwrap_err();
    assert!(error.to_string().contains(&Stopped::DeadlinePassed.to_string()), "{error}");
}

#[test]
fn reports_every_patch_and_refuses_what_is_beyond_its_limits() {
    let (prompts, cases) = cases(fixture());
    let volume = case_volume(&cases[1].0);
    let check = |settings: BackboneSettings, prompts: &[String], kind: ErrorKind, words: &str| {
        let backbone = load(None, settings);
        let error =
            backbone.segment(&volume, prompts, &Cancel::new(), &Progress::silent()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let normal = BackboneSettings::default();
    let memory = BackboneSettings { memory_bytes_max: 1 << 18, ..normal.clone() };
    check(memory, &prompts, ErrorKind::TooLarge, "MiB to segment, more than the limit of 1 MiB");
    let patches = BackboneSettings { patch_count_max: 2, ..normal.clone() };
    check(patches, &prompts, ErrorKind::TooLarge, "patches, more than the limit of 2");
    check(normal.clone(), &[], ErrorKind::Invalid, "no prompts");
    let long = ["kidney ".repeat(80)];
    check(normal.clone(), &long, ErrorKind::Unsupported, "prompt 1 has");
    let seen = Arc::new(AtomicUsize::new(0));
    let last = Arc::clone(&seen);
    let progress = Progress::new(move |done, _| last.store(done as usize, Ordering::Relaxed));
    let found = load(None, normal).segment(&volume, &prompts, &Cancel::new(), &progress).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), found.patch_count);
}

#[test]
fn a_constant_volume_is_segmented_without_a_fault() {
    let (prompts, cases) = cases(fixture());
    let mut volume = case_volume(&cases[0].0);
    volume.voxels.fill(0.0);
    let found = run(&load(None, BackboneSettings::default()), &volume, &prompts);
    assert_eq!(found.patch_count, 1);
    assert!(found.mean_logits.iter().flatten().all(|mean| mean.is_finite()));
}

#[test]
fn refuses_a_manifest_that_cannot_be_followed() {
    let (folder, _) = tiny_bundle(Some("[1.0, 0.0, 1.0]"));
    let bundle = Bundle::open(folder.path()).unwrap();
    let runtime = Runtime::open(library(), Provider::Cpu).unwrap();
    let Err(error) = Backbone::load(&bundle, &runtime, BackboneSettings::default()) else {
        panic!("a spacing of zero was accepted");
    };
    assert!(
        matches!(error, SegmentError::Setting { key: "preprocessing.spacing_mm", .. }),
        "{error}"
    );
}
