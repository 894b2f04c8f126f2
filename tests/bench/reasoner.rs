//! Reading and writing against transformers, with the same weights.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayD, IxDyn};
use seer::reason::model::{Model, Prompt, State};
use seer::reason::picture::{Grid, Patches};
use seer::reason::positions::{patch_positions, token_positions};
use seer::runtime::{Bundle, Inputs, Runtime, Tensor, contract};
use seer::threads::Cancel;

use super::peer::{ask, number};
use super::{best, line, runtime};

/// Prompt, tokens written, and edge of a picture: the published plan's prompt for the larger one.
const SIZES: [(&str, usize, usize, usize); 2] = [("mini", 512, 48, 128), ("half", 512, 12, 448)];

/// Tokens in the cache, and steps taken, when keeping it is measured.
const CACHED_TOKENS: usize = 1500;
const CACHED_STEPS: usize = 6;

/// Times of one network.
struct Times {
    prefill: Duration,
    decode: Duration,
    vision: Duration,
}

pub fn run(python: &Path, folder: &Path, part: &str) -> Result<()> {
    let runtime = runtime()?;
    for (size, prompt, written, picture) in SIZES.into_iter().filter(|size| size.0 == part) {
        let checkpoint = folder.join(size).display().to_string();
        let numbers = [prompt, written, picture].map(|n| n.to_string());
        let arguments = [&["reasoner".to_owned(), checkpoint][..], &numbers[..]].concat();
        let found = ask(python, &arguments)?;
        let theirs = |key: &str| number(&found, key).map(Duration::from_secs_f64);
        let fp32 = Bundle::open(&folder.join(format!("{size}-fp32")))?;
        held_cache(&fp32, &runtime, size)?;
        for precision in ["fp32", "int4", "int4-int8"] {
            let bundle = Bundle::open(&folder.join(format!("{size}-{precision}")))?;
            let ours = measure(&bundle, &runtime, prompt, written, picture)?;
            let what =
                |part: &str| format!("{size}, {precision}, {part}, against transformers fp32");
            line(&what("prefill"), ours.prefill, theirs("prefill")?);
            line(&what("decode of a token"), ours.decode, theirs("decode")?);
            line(&what("vision encoder"), ours.vision, theirs("vision")?);
        }
    }
    Ok(())
}

fn measure(
    bundle: &Bundle,
    runtime: &Runtime,
    prompt: usize,
    written: usize,
    picture: usize,
) -> Result<Times> {
    let manifest = bundle.reasoner()?;
    let model = Model::load(bundle, manifest, runtime)?;
    let cancel = Cancel::new();
    let tokens: Vec<u32> = (0..prompt).map(|i| (5 + (i * 37) % 500) as u32).collect();
    // None of the tokens is the image token, which is a special one of a high id.
    let image_id = u32::MAX;
    let read = || -> Result<State> {
        let positions = token_positions(&tokens, image_id, &[])?;
        Ok(model.read(Prompt { tokens: &tokens, image_id, positions, seen: &[] }, &cancel)?)
    };
    read()?;
    let prefill = best(3, || read().map(drop))?;
    let mut decode = Duration::MAX;
    for _ in 0..2 {
        decode = decode.min(write(&model, read()?, written)? / written as u32);
    }
    let edge = picture / manifest.image.patch_size;
    let grid = Grid { rows: edge, columns: edge };
    let patches = Patches { values: Array2::from_elem([edge * edge, 1536], 0.25), grid };
    let merge = manifest.image.merge_size;
    let positions = patch_positions(grid, merge, manifest.position_grid_side);
    model.see(&patches, &positions, merge, &cancel)?;
    let vision = best(3, || model.see(&patches, &positions, merge, &cancel).map(drop))?;
    Ok(Times { prefill, decode, vision })
}

/// What it is worth that the cache stays where ONNX Runtime put it: steps that keep it, against
/// steps that fetch it and feed it back.
fn held_cache(bundle: &Bundle, runtime: &Runtime, what: &str) -> Result<()> {
    let manifest = bundle.reasoner()?;
    let [_, _, decoder] = contract::reasoner(manifest);
    let graph = runtime.load_checked(bundle, &decoder)?;
    let (hidden, levels) = (manifest.hidden_size, manifest.deepstack_levels);
    let step = |keep: &[&str]| -> Result<Duration> {
        let empty = [1, manifest.key_value_heads, CACHED_TOKENS, manifest.head_dim];
        let mut past: Vec<(String, Tensor)> = contract::cache_names(manifest.layers)
            .map(|name| (name, Tensor::F32(ArrayD::zeros(IxDyn(&empty)))))
            .collect();
        let mut shortest = Duration::MAX;
        for written in 1..=CACHED_STEPS {
            let total = CACHED_TOKENS + written;
            let started = Instant::now();
            let mut inputs = Inputs::new()
                .with("inputs_embeds", Tensor::F32(ArrayD::zeros(IxDyn(&[1, 1, hidden]))))
                .with("attention_mask", Tensor::I64(ArrayD::ones(IxDyn(&[1, total]))))
                .with(
                    "position_ids",
                    Tensor::I64(ArrayD::from_elem(IxDyn(&[3, 1, 1]), total as i64)),
                )
                .with(
                    "deepstack_embeds",
                    Tensor::F32(ArrayD::zeros(IxDyn(&[levels, 1, 1, hidden]))),
                );
            for (name, tensor) in past {
                inputs.push(format!("past_key_values.{name}"), tensor);
            }
            past = graph.run_keeping(inputs, keep, &Cancel::new())?.take_all("present.");
            shortest = shortest.min(started.elapsed());
        }
        Ok(shortest)
    };
    let (kept, fetched) = (step(&["present."])?, step(&[])?);
    line(&format!("{what}, cache of {CACHED_TOKENS} tokens kept, against fetched"), kept, fetched);
    Ok(())
}

/// Greedy, one token at a time; gives the time of the steps.
fn write(model: &Model, mut state: State, count: usize) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..count {
        let highest = state.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let token = highest.context("there are no logits")?.0 as u32;
        state = model.write(token, &state, &Cancel::new())?;
    }
    Ok(started.elapsed())
}
