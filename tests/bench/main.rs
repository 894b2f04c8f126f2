//! Ratios against a peer in the same run; absolute times say little between machines.
//!
//! `cargo bench` prints one line per measurement; words after `--` choose the parts: `dicomweb`
//! (against Orthanc, where it is installed), `bank`, `embedded`, `mini` and `half` (reasoners of two
//! sizes), `voxtell`. `SEER_PEER_PYTHON` names a Python with what `models/exporters` and the peers
//! need (torch, transformers, voxtell, onnxruntime, scipy); without a peer its lines are skipped,
//! loudly. `SEER_BENCH_FOLDER` keeps the networks that are made for it, a few
//! gigabytes; without it they go into a temporary folder. Both sides use every core they find.
#![allow(missing_docs, clippy::expect_used)]

mod backbone;
mod dicomweb;
mod embedded;
mod peer;
mod reasoner;

mod bank;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use seer::runtime::{Provider, Runtime, setup};

const PARTS: [&str; 6] = ["dicomweb", "bank", "embedded", "mini", "half", "voxtell"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` passes this and wants no measurements.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    if let [child, folder, count] = &arguments[..]
        && child == backbone::CHILD
    {
        return backbone::child(Path::new(folder), count.parse()?);
    }
    let named: Vec<&str> =
        PARTS.into_iter().filter(|part| arguments.iter().any(|a| a == part)).collect();
    let wants = |part: &str| named.is_empty() || named.contains(&part);
    let python = std::env::var_os("SEER_PEER_PYTHON").map(PathBuf::from);
    if wants("dicomweb") {
        dicomweb::run()?;
    }
    if wants("bank") {
        bank::retrieval_from_a_large_bank()?;
    }
    if wants("embedded") {
        embedded::run(python.as_deref())?;
    }
    let Some(python) = python else {
        eprintln!("SKIPPED: transformers and voxtell; set SEER_PEER_PYTHON");
        return Ok(());
    };
    let kept = std::env::var_os("SEER_BENCH_FOLDER").map(PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let folder = kept.unwrap_or_else(|| temporary.path().to_owned());
    for part in PARTS[3..].iter().copied().filter(|part| wants(part)) {
        peer::make(&python, &folder, part)?;
        match part {
            "voxtell" => backbone::run(&python, &folder)?,
            _ => reasoner::run(&python, &folder, part)?,
        }
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    let library = setup::ensure(Path::new(setup::FOLDER), Provider::Cpu, &|l| eprintln!("{l}"))?;
    Ok(Runtime::open(&library, Provider::Cpu)?)
}

/// The shortest of several runs.
fn best<E: Into<anyhow::Error>>(
    repeats: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..repeats {
        let started = Instant::now();
        work().map_err(Into::into)?;
        shortest = shortest.min(started.elapsed());
    }
    Ok(shortest)
}

/// `theirs / ours`, so that more is better.
fn line(what: &str, ours: Duration, theirs: Duration) {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let (ours, theirs) = (ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3);
    println!("{what}: {ratio:.2} x (ours {ours:.2} ms, theirs {theirs:.2} ms)");
}
