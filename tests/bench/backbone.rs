//! Whole volumes against voxtell's own predictor, with the same weights, each in a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seer::runtime::Bundle;
use seer::segment::{Backbone, BackboneSettings};
use seer::threads::{Cancel, Progress};
use serde_json::{Value, json};

use super::embedded::phantom;
use super::peer::{ask, number};
use super::{best, line, runtime};

/// First argument of the process that measures our side.
pub const CHILD: &str = "backbone-child";

/// Three patches of 64 x 64 x 64.
const SHAPE: [usize; 3] = [64, 64, 128];

pub fn run(python: &Path, folder: &Path) -> Result<()> {
    for prompts in [1, 8] {
        let model = folder.join("voxtell").display().to_string();
        let mut arguments = vec!["backbone".to_owned(), model];
        arguments.extend(SHAPE.map(|n| n.to_string()));
        arguments.push(prompts.to_string());
        let theirs = ask(python, &arguments)?;
        let ours = measure(&folder.join("voxtell-fp32"), prompts)?;
        let seconds = |found: &Value| number(found, "seconds").map(Duration::from_secs_f64);
        let what = format!("volume of {SHAPE:?}, {prompts} prompts, against voxtell");
        line(&what, seconds(&ours)?, seconds(&theirs)?);
        let mib = |found: &Value| number(found, "peak_bytes").map(|bytes| bytes / 1_048_576.0);
        let (our_mib, their_mib) = (mib(&ours)?, mib(&theirs)?);
        let ratio = their_mib / our_mib;
        println!(
            "{what}, peak memory: {ratio:.2} x (ours {our_mib:.0} MiB, theirs {their_mib:.0} MiB)"
        );
        agree(&ours["counts"], &theirs["counts"])?;
    }
    Ok(())
}

/// Both sides found as many voxels for each prompt, to two thousandths of the volume: they computed
/// the same.
fn agree(ours: &Value, theirs: &Value) -> Result<()> {
    let counts = |found: &Value| -> Result<Vec<f64>> {
        let counts = found.as_array().context("there are no counts")?;
        counts.iter().map(|count| count.as_f64().context("a count is no number")).collect()
    };
    let (ours, theirs) = (counts(ours)?, counts(theirs)?);
    let tolerance = SHAPE.iter().product::<usize>() as f64 * 2e-3;
    let same = ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= tolerance);
    ensure!(same && ours.len() == theirs.len(), "masks of {ours:?} and {theirs:?} voxels");
    Ok(())
}

fn measure(bundle: &Path, prompts: usize) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(bundle)
        .arg(prompts.to_string())
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "our own process failed: {error}");
    Ok(serde_json::from_str(String::from_utf8(output.stdout)?.trim())?)
}

/// Our side: prints seconds, peak memory and voxels per prompt.
pub fn child(folder: &Path, prompts: usize) -> Result<()> {
    let bundle = Bundle::open(folder)?;
    let backbone = Backbone::load(&bundle, &runtime()?, BackboneSettings::default())?;
    let volume = phantom(SHAPE, [1.0; 3])?;
    let prompts: Vec<String> = (0..prompts).map(|n| format!("structure {n}")).collect();
    let mut counts = Vec::new();
    let seconds = best(2, || {
        let found = backbone.segment(&volume, &prompts, &Cancel::new(), &Progress::silent())?;
        counts = found.masks.iter().map(|mask| mask.voxel_count()).collect();
        anyhow::Ok(())
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = peak.and_then(|line| line.split_whitespace().nth(1)).context("no VmHWM")?;
    let peak_bytes = peak.parse::<u64>()? << 10;
    let found =
        json!({"seconds": seconds.as_secs_f64(), "peak_bytes": peak_bytes, "counts": counts});
    println!("{found}");
    Ok(())
}
