//! The embedded bundle: what our own means are worth, and its graphs in Python's ONNX Runtime.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ndarray::Array3;
use seer::geometry::{Affine, PatientPoint, VolumeGeometry};
use seer::reason::constraint::Next;
use seer::reason::decode::{Plan, decode};
use seer::reason::grammar::{Grammar, Targets};
use seer::reason::model::{Model, Prompt};
use seer::reason::positions::token_positions;
use seer::reason::prompt::Prompter;
use seer::reason::sample::Sampler;
use seer::reason::{ReasonRequest, Reasoner, ReasonerSettings};
use seer::runtime::manifest::BackboneManifest;
use seer::runtime::{Bundle, Runtime};
use seer::segment::{Backbone, BackboneSettings};
use seer::series::Modality;
use seer::threads::{Cancel, Progress};
use seer::volume::{Volume, resample};

use super::peer::{ask, number};
use super::{best, line, runtime};

const BUNDLE: &str = "models/seer-mini";
const PROMPTS: usize = 8;
const REPEATS: usize = 3;

pub fn run(python: Option<&Path>) -> Result<()> {
    let bundle = Bundle::open(Path::new(BUNDLE))?;
    let runtime = runtime()?;
    masked_steps(&bundle, &runtime)?;
    samples_together(&bundle, &runtime)?;
    let patch_time = prompts_together(&bundle, &runtime)?;
    let Some(python) = python else {
        eprintln!("SKIPPED: patches and resampling against a peer; set SEER_PEER_PYTHON");
        return Ok(());
    };
    patches_against_onnxruntime(&bundle, python, patch_time)?;
    resampling_against_scipy(python)
}

/// What the grammar costs a step: its own time, and the time of a step with and without it.
fn masked_steps(bundle: &Bundle, runtime: &Runtime) -> Result<()> {
    let manifest = bundle.reasoner()?;
    let prompter = Prompter::load(bundle, manifest)?;
    let names = bundle.vocabulary().concepts.iter().map(|concept| concept.name.clone());
    let width = manifest.vocabulary_size;
    let grammar = Grammar::new(prompter.tokenizer(), prompter.end_ids(), width, names)?;
    let model = Model::load(bundle, manifest, runtime)?;
    let cancel = Cancel::new();
    let tokens = prompter.encode(&prompter.render(&[], "outline the liver", &[])?)?;
    let positions = token_positions(&tokens, prompter.image_id(), &[])?;
    let prompt = Prompt { tokens: &tokens, image_id: prompter.image_id(), positions, seen: &[] };
    for (targets, name) in [(Targets::Closed, "closed vocabulary"), (Targets::Open, "open")] {
        let budget = manifest.decoding.max_new_tokens;
        let mut constraint = grammar.start(targets, budget)?;
        let mut state = model.read(prompt.clone(), &cancel)?;
        let mut sampler = Sampler::new(0.0, 1.0, 0);
        let (mut masking, mut decoding) = (Vec::new(), Vec::new());
        for written in 0..budget {
            let started = Instant::now();
            let next = constraint.next(budget - written)?;
            let picked = match next {
                Next::Nothing => break,
                Next::Exactly(token) => Some(token),
                Next::Among(mask) => sampler.pick(&state.logits, mask.iter()),
            };
            let token = picked.context("no finite logit")?;
            constraint.accept(token)?;
            masking.push(started.elapsed());
            let started = Instant::now();
            state = model.write(token, &state, &cancel)?;
            decoding.push(started.elapsed());
        }
        let steps = decoding.len();
        let sum = |times: &[Duration]| times.iter().sum::<Duration>();
        let share = sum(&masking).as_secs_f64() / sum(&decoding).as_secs_f64() * 100.0;
        let (masking, decoding) = (median(masking), median(decoding));
        println!(
            "mask and pick, {name}: {masking:?} of a decoder step's {decoding:?}, medians of {steps}; \
             {share:.1} % in sum"
        );
        // As it runs, against as many tokens without the grammar.
        let write = |constraint, max_new_tokens| -> Result<(f64, usize)> {
            let state = model.read(prompt.clone(), &cancel)?;
            let sampler = Sampler::new(0.0, 1.0, 0);
            let plan = Plan { state, max_new_tokens, end_ids: &[], sampler, constraint };
            let started = Instant::now();
            let written = decode(&model, plan, &cancel, &Progress::silent())?;
            let count = written.tokens.len();
            Ok((started.elapsed().as_secs_f64() / count.max(1) as f64, count))
        };
        let (mut with, mut without) = (f64::MAX, f64::MAX);
        for _ in 0..2 * REPEATS {
            let (seconds, count) = write(Some(grammar.start(targets, budget)?), budget)?;
            with = with.min(seconds);
            without = without.min(write(None, count)?.0);
        }
        println!(
            "decoding, {name}: {:.0} us a token, {:.0} us without the grammar ({:+.1} %)",
            with * 1e6,
            without * 1e6,
            (with / without - 1.0) * 100.0
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Several samples that share one reading of the prompt, against one call each.
fn samples_together(bundle: &Bundle, runtime: &Runtime) -> Result<()> {
    let reasoner = Reasoner::load(bundle, runtime, &ReasonerSettings::default())?;
    let long = "The patient had a CT last year. ".repeat(60);
    let sample = |count: usize| -> Result<(), seer::reason::ReasonError> {
        let request = ReasonRequest::new(&[], &long);
        reasoner.reason_samples(request, count, &Cancel::new(), &Progress::silent()).map(drop)
    };
    let together = best(REPEATS, || sample(4))?;
    let apart = best(REPEATS, || (0..4).try_for_each(|_| sample(1)))?;
    line("4 samples on one prefill, against 4 calls", together, apart);
    Ok(())
}

/// N prompts in one call against one call per prompt: what encoding an image once is worth.
/// Gives the time of a patch with all prompts.
fn prompts_together(bundle: &Bundle, runtime: &Runtime) -> Result<Duration> {
    let backbone = Backbone::load(bundle, runtime, BackboneSettings::default())?;
    let volume = phantom([60, 110, 110], [3.0, 2.0, 2.0])?;
    let concepts = bundle.vocabulary().concepts.iter();
    let prompts: Vec<String> = concepts.take(PROMPTS).map(|c| c.prompt.clone()).collect();
    ensure!(prompts.len() == PROMPTS, "{BUNDLE} knows fewer than {PROMPTS} concepts");
    let segment = |prompts: &[String]| {
        backbone.segment(&volume, prompts, &Cancel::new(), &Progress::silent())
    };
    let first = segment(&prompts)?;
    let together = best(REPEATS, || segment(&prompts).map(drop))?;
    let apart = best(REPEATS, || prompts.chunks(1).try_for_each(|one| segment(one).map(drop)))?;
    line(&format!("{PROMPTS} prompts together, against one at a time"), together, apart);
    Ok(first.timings.infer / first.patch_count as u32)
}

/// The same graphs on the same patch in Python's onnxruntime.
fn patches_against_onnxruntime(bundle: &Bundle, python: &Path, ours: Duration) -> Result<()> {
    let BackboneManifest::Voxtell(manifest) = bundle.backbone()? else {
        anyhow::bail!("{BUNDLE} is of another family")
    };
    let mut arguments = vec!["patch".to_owned(), PROMPTS.to_string()];
    arguments.push(manifest.embedding_size.to_string());
    arguments.extend(manifest.preprocessing.patch_size.map(|n| n.to_string()));
    for graph in [&manifest.image_encoder, &manifest.prompt_decoder, &manifest.mask_decoder] {
        arguments.push(bundle.path(graph).display().to_string());
    }
    let peer = Duration::from_secs_f64(number(&ask(python, &arguments)?, "seconds")?);
    line(&format!("patch with {PROMPTS} prompts, against Python onnxruntime"), ours, peer);
    Ok(())
}

/// Trilinear resampling of the same size in scipy.ndimage.
fn resampling_against_scipy(python: &Path) -> Result<()> {
    let source = phantom([120, 256, 256], [2.5, 0.8, 0.8])?;
    let target = phantom([150, 200, 200], [2.0, 1.0, 1.0])?.geometry;
    let ours = best(REPEATS, || {
        let out = resample::trilinear(&source.voxels, &source.geometry, &target, 0.0);
        ensure!(out.sum() > 0.0, "resampled volume is empty");
        Ok(())
    })?;
    let peer = number(&ask(python, &["resample".to_owned()])?, "seconds")?;
    let peer = Duration::from_secs_f64(peer);
    line("trilinear resampling, against scipy.ndimage.map_coordinates", ours, peer);
    Ok(())
}

/// Whole numbers of a formula that the peer repeats, already in the model's axis order.
pub fn phantom(shape: [usize; 3], spacing_mm: [f64; 3]) -> Result<Volume> {
    let [z, y, x] = spacing_mm;
    let columns = [[0.0, 0.0, z], [0.0, -y, 0.0], [-x, 0.0, 0.0]];
    let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
    let voxels =
        Array3::from_shape_fn(shape, |(s, r, c)| (1 + (s * 7 + r * 13 + c * 29) % 97) as f32);
    Ok(Volume { geometry: VolumeGeometry::new(shape, affine)?, voxels, modality: Modality::Mr })
}
