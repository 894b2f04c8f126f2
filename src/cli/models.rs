//! `seer models list|verify|run`.

mod run;

use anyhow::Context;
use clap::Subcommand;

use super::Ended;
use crate::app;
use crate::config::Config;
use crate::runtime::memory::shown;
use crate::runtime::{Bundle, MemoryPlan, Provider, Runtime, verify};
use crate::telemetry::error_chain;

/// Lists, verifies or runs model bundles.
#[derive(Debug, Subcommand)]
pub(super) enum Models {
    /// Lists the bundles of the models folder with the memory they need.
    List,
    /// Checks hashes, memory and graphs against the manifests and runs a warm-up.
    Verify {
        /// Names of bundles; all without one.
        names: Vec<String>,
    },
    /// Runs one part of a bundle on an input and prints what comes out.
    Run(run::Run),
}

impl Models {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        match self {
            Self::List => list(config),
            Self::Verify { names } => verify_all(config, names),
            Self::Run(run) => run.run(config),
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
    let on_cpu = config.runtime.provider == Provider::Cpu;
    for name in names_of(config)? {
        match Bundle::open(&config.models.folder.join(&name)) {
            Ok(bundle) => list_one(&name, &bundle, on_cpu),
            Err(error) => println!("{name}  refused: {}", error_chain(&error)),
        }
    }
    Ok(Ended::Done)
}

fn list_one(name: &str, bundle: &Bundle, on_cpu: bool) {
    let manifest = bundle.manifest();
    let size_bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    let (version, licence) = (&manifest.version, &manifest.licence);
    println!("{name}  {version}  {:.1} MB on disk  {licence}", size_bytes as f64 / 1e6);
    for role in manifest.roles() {
        let family = manifest.family(role).unwrap_or_default();
        match MemoryPlan::of(bundle, role, on_cpu) {
            Ok(plan) => println!("  {role} {family}: {} ({plan})", shown(plan.total_bytes())),
            Err(error) => println!("  {role} {family}: refused: {}", error_chain(&error)),
        }
    }
}

fn verify_all(config: &Config, names: Vec<String>) -> anyhow::Result<Ended> {
    let names = if names.is_empty() { names_of(config)? } else { names };
    anyhow::ensure!(!names.is_empty(), "no bundles in {}", config.models.folder.display());
    let runtime = Runtime::open_with(app::runtime_settings(config))?;
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
