//! Bundles into loaded graphs on named threads. The only room that names `ort`.
//!
//! A [`Bundle`] is a checked folder; a [`Runtime`] is ONNX Runtime, loaded once per process from a
//! library that [`setup`] fetched; a [`Graph`] is one ONNX file whose session one thread owns.
//!
//! ```no_run
//! use seer::runtime::{Bundle, Inputs, Provider, Runtime, Tensor, setup};
//! use seer::threads::Cancel;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bundle = Bundle::open("models/seer-mini".as_ref())?;
//! let runtime = Runtime::open(&setup::library(setup::FOLDER.as_ref(), Provider::Cpu), Provider::Cpu)?;
//! let embed = runtime.load(&bundle.path("reasoner/embed_tokens.onnx"))?;
//! let ids = ndarray::arr2(&[[1_i64, 2, 3]]).into_dyn();
//! let mut outputs = embed.run(Inputs::new().with("input_ids", Tensor::I64(ids)), &Cancel::new())?;
//! let embeds = outputs.take_f32("inputs_embeds")?;
//! assert_eq!(embeds.shape()[..2], [1, 3]);
//! # Ok(())
//! # }
//! ```

pub mod bundle;
pub mod contract;
pub mod graph;
pub mod library;
pub mod manifest;
pub mod memory;
mod onnx;
mod owner;
mod provider;
pub mod setup;
pub mod tensor;
pub mod verify;
pub mod vocabulary;

use std::path::PathBuf;

use crate::error::{ErrorKind, Kind};
use crate::threads::Stopped;

pub use bundle::Bundle;
pub use graph::{Element, Graph, Port};
pub use library::{Runtime, RuntimeSettings};
pub use manifest::{BackboneManifest, Manifest, ReasonerManifest};
pub use memory::{MemoryLimits, MemoryPlan, Reservation};
pub use provider::{DeviceSettings, Provider};
pub use tensor::{Held, Inputs, Outputs, Tensor};
pub use verify::{Check, VerifyReport, verify};

/// Why graphs cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library file is missing.
    #[error("ONNX Runtime is not at {path}; run `seer setup`")]
    LibraryMissing {
        /// Where it was looked for.
        path: String,
    },
    /// The file is there but is not a loadable ONNX Runtime.
    #[error("cannot load ONNX Runtime from {path}: {reason}; run `seer setup`")]
    LibraryUnusable {
        /// The library file.
        path: String,
        /// What the loader said.
        reason: String,
    },
    /// The library is older than the API this server is built on.
    #[error("ONNX Runtime at {path} is version {found}, older than {required}; run `seer setup`")]
    LibraryTooOld {
        /// The library file.
        path: String,
        /// Its version.
        found: String,
        /// The oldest version that serves.
        required: String,
    },
    /// A process can hold one ONNX Runtime only.
    #[error("ONNX Runtime is already loaded from {loaded}, so {asked} cannot be loaded beside it")]
    LibraryTwice {
        /// The library in use.
        loaded: String,
        /// The library asked for.
        asked: String,
    },
    /// The library works but not with the provider asked for.
    #[error(
        "ONNX Runtime at {path} cannot run on {provider}: {reason}; run `seer setup --provider {provider}`"
    )]
    ProviderUnavailable {
        /// The library file.
        path: String,
        /// The provider's name.
        provider: &'static str,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// A file of a bundle cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A manifest, vocabulary or prompt file does not say what it must.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the value found.
        reason: String,
    },
    /// A file of a bundle is not the one the manifest names.
    #[error("{path} has {what} {found}, but its manifest says {expected}")]
    FileDiffers {
        /// The file.
        path: PathBuf,
        /// `size in bytes` or `sha256`.
        what: &'static str,
        /// The manifest's value.
        expected: String,
        /// The file's value.
        found: String,
    },
    /// A part of a bundle needs more memory than there is.
    #[error(
        "bundle {bundle}'s {part} needs {} of {place} memory ({plan}), but {} are available",
        memory::shown(plan.total_bytes()),
        memory::shown(*available_bytes)
    )]
    TooLarge {
        /// The bundle's name.
        bundle: String,
        /// `reasoner` or `backbone`.
        part: &'static str,
        /// `host` or `device`.
        place: &'static str,
        /// What it would take.
        plan: Box<MemoryPlan>,
        /// What there is.
        available_bytes: u64,
    },
    /// A bundle lacks the part asked of it.
    #[error("bundle {bundle} has no [{part}]")]
    PartMissing {
        /// The bundle's name.
        bundle: String,
        /// `reasoner` or `backbone`.
        part: &'static str,
    },
    /// ONNX Runtime refuses a graph.
    #[error("cannot load graph {path}: {reason}")]
    Load {
        /// The ONNX file.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// A graph does not fit its manifest.
    #[error("graph {path} has {found}, but its manifest asks for {expected}")]
    GraphDiffers {
        /// The ONNX file.
        path: PathBuf,
        /// What the manifest asks for.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// A run failed.
    #[error("graph {graph} failed: {reason}")]
    Run {
        /// The graph's name.
        graph: String,
        /// What went wrong.
        reason: String,
    },
    /// A graph's queue is full.
    #[error("graph {graph} already has {length} runs waiting")]
    Overloaded {
        /// The graph's name.
        graph: String,
        /// The queue's length.
        length: usize,
    },
    /// The caller asked to stop, or the deadline passed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Kind for RuntimeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::LibraryMissing { .. }
            | Self::LibraryUnusable { .. }
            | Self::LibraryTooOld { .. }
            | Self::LibraryTwice { .. }
            | Self::ProviderUnavailable { .. }
            | Self::Read { .. }
            | Self::Malformed { .. }
            | Self::FileDiffers { .. }
            | Self::PartMissing { .. }
            | Self::TooLarge { .. }
            | Self::Load { .. }
            | Self::GraphDiffers { .. } => ErrorKind::Unavailable,
            Self::Run { .. } => ErrorKind::Internal,
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::Stopped(_) => ErrorKind::Cancelled,
        }
    }
}
