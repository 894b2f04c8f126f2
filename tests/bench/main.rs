//! Ratios against a peer in the same run; absolute times say little between machines.
//!
//! `cargo bench` prints one line per measurement. `SEER_PEER_PYTHON` names a Python with
//! onnxruntime, numpy and scipy; without it the lines that need a peer are skipped, loudly.
//! Both sides use every core they find. The graphs are the embedded bundle's.
#![allow(missing_docs)]

mod bank;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ndarray::Array3;
use seer::geometry::{Affine, PatientPoint, VolumeGeometry};
use seer::runtime::{Bundle, Provider, Runtime, setup};
use seer::segment::{Backbone, BackboneSettings};
use seer::series::Modality;
use seer::threads::{Cancel, Progress};
use seer::volume::{Volume, resample};

const BUNDLE: &str = "models/seer-mini";
const PROMPTS: usize = 8;
const REPEATS: usize = 3;

fn main() -> Result<()> {
    // `cargo test --benches` passes this and wants no measurements.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    bank::retrieval_from_a_large_bank()?;
    // `cargo bench -- bank` measures what needs no models.
    if std::env::args().any(|argument| argument == "bank") {
        return Ok(());
    }
    let patch_time = prompts_together()?;
    match std::env::var_os("SEER_PEER_PYTHON").map(PathBuf::from) {
        Some(python) => {
            patches_against_onnxruntime(&python, patch_time)?;
            resampling_against_scipy(&python)
        }
        None => {
            eprintln!("SKIPPED: patches and resampling against a peer; set SEER_PEER_PYTHON");
            Ok(())
        }
    }
}

/// N prompts in one call against one call per prompt: what encoding an image once is worth.
/// Gives the time of a patch with all prompts.
fn prompts_together() -> Result<Duration> {
    let bundle = Bundle::open(Path::new(BUNDLE))?;
    let library = setup::ensure(Path::new(setup::FOLDER), Provider::Cpu, &|l| eprintln!("{l}"))?;
    let runtime = Runtime::open(&library, Provider::Cpu)?;
    let backbone = Backbone::load(&bundle, &runtime, BackboneSettings::default())?;
    let volume = phantom([60, 110, 110], [3.0, 2.0, 2.0])?;
    let concepts = bundle.vocabulary().concepts.iter();
    let prompts: Vec<String> = concepts.take(PROMPTS).map(|c| c.prompt.clone()).collect();
    ensure!(prompts.len() == PROMPTS, "{BUNDLE} knows fewer than {PROMPTS} concepts");
    let segment = |prompts: &[String]| {
        backbone.segment(&volume, prompts, &Cancel::new(), &Progress::silent())
    };
    let first = segment(&prompts)?;
    let together = best(|| segment(&prompts).map(drop))?;
    let apart = best(|| prompts.chunks(1).try_for_each(|one| segment(one).map(drop)))?;
    line(&format!("{PROMPTS} prompts together / one at a time"), together, apart);
    Ok(first.timings.infer / first.patch_count as u32)
}

/// The same graphs on the same patch in Python's onnxruntime.
fn patches_against_onnxruntime(python: &Path, ours: Duration) -> Result<()> {
    let bundle = Bundle::open(Path::new(BUNDLE))?;
    let manifest = bundle.backbone()?;
    let mut arguments = vec!["patch".to_owned(), PROMPTS.to_string()];
    arguments.push(manifest.embedding_size.to_string());
    arguments.extend(manifest.preprocessing.patch_size.map(|n| n.to_string()));
    for graph in [&manifest.image_encoder, &manifest.prompt_decoder, &manifest.mask_decoder] {
        arguments.push(bundle.path(graph).display().to_string());
    }
    let peer = ask(python, &arguments)?;
    line(&format!("patch with {PROMPTS} prompts, seer / Python onnxruntime"), ours, peer);
    Ok(())
}

/// Trilinear resampling of the same size in scipy.ndimage.
fn resampling_against_scipy(python: &Path) -> Result<()> {
    let source = phantom([120, 256, 256], [2.5, 0.8, 0.8])?;
    let target = phantom([150, 200, 200], [2.0, 1.0, 1.0])?.geometry;
    let ours = best(|| {
        let out = resample::trilinear(&source.voxels, &source.geometry, &target, 0.0);
        ensure!(out.sum() > 0.0, "resampled volume is empty");
        Ok(())
    })?;
    let peer = ask(python, &["resample".to_owned()])?;
    line("trilinear resampling, seer / scipy.ndimage.map_coordinates", ours, peer);
    Ok(())
}

fn phantom(shape: [usize; 3], spacing_mm: [f64; 3]) -> Result<Volume> {
    let [z, y, x] = spacing_mm;
    let columns = [[0.0, 0.0, z], [0.0, y, 0.0], [x, 0.0, 0.0]];
    let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
    let voxels =
        Array3::from_shape_fn(shape, |(s, r, c)| (1 + (s * 7 + r * 13 + c * 29) % 97) as f32);
    Ok(Volume { geometry: VolumeGeometry::new(shape, affine)?, voxels, modality: Modality::Mr })
}

/// Runs the peer's side, which prints its best time in seconds.
fn ask(python: &Path, arguments: &[String]) -> Result<Duration> {
    let output = Command::new(python)
        .arg("tests/bench/peer.py")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer failed: {error}");
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Duration::from_secs_f64(seconds))
}

fn best<E: Into<anyhow::Error>>(mut work: impl FnMut() -> Result<(), E>) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..REPEATS {
        let started = Instant::now();
        work().map_err(Into::into)?;
        shortest = shortest.min(started.elapsed());
    }
    Ok(shortest)
}

fn line(what: &str, ours: Duration, theirs: Duration) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let (ours, theirs) = (ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3);
    println!("{what}: {ratio:.2} ({ours:.1} ms / {theirs:.1} ms)");
}
