//! The peers' side, in Python.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Makes the network that both sides of a part run, where it is not there yet.
pub fn make(python: &Path, folder: &Path, part: &str) -> Result<()> {
    let status = Command::new(python)
        .arg("tests/bench/make.py")
        .arg(folder)
        .arg(part)
        .status()
        .with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(status.success(), "the network {part} could not be made");
    Ok(())
}

/// Runs the peer and gives the line of JSON that it prints.
pub fn ask(python: &Path, arguments: &[String]) -> Result<Value> {
    let output = Command::new(python)
        .arg("tests/bench/peer.py")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer failed: {error}");
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().context("the peer said nothing")?;
    serde_json::from_str(last).with_context(|| format!("the peer said {last}"))
}

/// A number of what the peer said.
pub fn number(found: &Value, key: &str) -> Result<f64> {
    found[key].as_f64().with_context(|| format!("the peer did not say {key}: {found}"))
}
