//! `seer models list|verify`.

use anyhow::Context;
use clap::Subcommand;

use super::Ended;
use crate::app;
use crate::config::Config;
use crate::runtime::{Bundle, Runtime, RuntimeSettings, verify};
use crate::telemetry::error_chain;

/// Lists or verifies model bundles.
#[derive(Debug, Subcommand)]
pub(super) enum Models {
    /// Lists the bundles of the models folder.
    List,
    /// Checks hashes and graphs against the manifests and runs a warm-up.
    Verify {
        /// Names of bundles; all without one.
        names: Vec<String>,
    },
}

impl Models {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        match self {
            Self::List => list(config),
            Self::Verify { names } => verify_all(config, names),
        }
    }
}

/// Folders with a manifest, by name.
fn names_of(config: &Config) -> anyhow::Result<Vec<String>> {
    let folder = &config.models.folder;
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the models folder {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("manifest.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn list(config: &Config) -> anyhow::Result<Ended> {
    for name in names_of(config)? {
        match Bundle::open(&config.models.folder.join(&name)) {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let mut roles = Vec::new();
                roles.extend(manifest.reasoner.as_ref().map(|_| "reasoner"));
                roles.extend(manifest.backbone.as_ref().map(|_| "backbone"));
                let size_bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
                println!(
                    "{name}  {}  {}  {:.1} MB  {}",
                    manifest.version,
                    roles.join("+"),
                    size_bytes as f64 / 1e6,
                    manifest.licence
                );
            }
            Err(error) => println!("{name}  refused: {}", error_chain(&error)),
        }
    }
    Ok(Ended::Done)
}

fn verify_all(config: &Config, names: Vec<String>) -> anyhow::Result<Ended> {
    let names = if names.is_empty() { names_of(config)? } else { names };
    anyhow::ensure!(!names.is_empty(), "no bundles in {}", config.models.folder.display());
    let settings = RuntimeSettings::new(app::library(config), config.runtime.provider);
    let runtime = Runtime::open_with(settings)?;
    let mut refused = 0;
    for name in &names {
        println!("{name}");
        let report = verify(&config.models.folder.join(name), &runtime);
        for check in &report.checks {
            println!("  {check}");
        }
        refused += usize::from(!report.passed());
    }
    anyhow::ensure!(refused == 0, "{refused} of {} bundles refused", names.len());
    Ok(Ended::Done)
}
