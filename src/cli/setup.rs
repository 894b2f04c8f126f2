//! `seer setup`: ONNX Runtime from its pinned wheel.

use std::path::Path;

use clap::{Args, ValueEnum};

use super::Ended;
use crate::config::Config;
use crate::runtime::{Provider, setup};

/// Fetches ONNX Runtime from its pinned wheel into an ignored folder.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// Which build; the configured provider's without it.
    #[arg(long, value_enum)]
    provider: Option<ProviderChoice>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProviderChoice {
    Cpu,
    Cuda,
    Tensorrt,
}

impl Setup {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let provider = match self.provider {
            Some(ProviderChoice::Cpu) => Provider::Cpu,
            Some(ProviderChoice::Cuda) => Provider::Cuda,
            Some(ProviderChoice::Tensorrt) => Provider::TensorRt,
            None => config.runtime.provider,
        };
        let library =
            setup::ensure(Path::new(setup::FOLDER), provider, &|line| println!("{line}"))?;
        println!("{}", library.display());
        Ok(Ended::Done)
    }
}

/// Fetches the library when the configuration names none and it is not there yet.
pub(super) fn ensure_library(config: &mut Config) -> anyhow::Result<()> {
    if config.runtime.library.is_none() {
        let folder = Path::new(setup::FOLDER);
        let tell = |line: &str| eprintln!("{line}");
        config.runtime.library = Some(setup::ensure(folder, config.runtime.provider, &tell)?);
    }
    Ok(())
}
