//! Bundles into loaded graphs on named threads. The only room that names `ort`.

pub mod vocabulary;

use std::path::Path;

use crate::error::{ErrorKind, Kind};

/// Where graphs run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime's CPU execution provider.
    Cpu,
    /// ONNX Runtime's CUDA execution provider.
    Cuda,
}

/// ONNX Runtime, loaded once per process.
pub struct Runtime {}

impl Runtime {
    /// Loads ONNX Runtime's library and makes its environment.
    ///
    /// # Errors
    /// One sentence that says what to run when the library is missing, too old, or lacks the
    /// provider.
    pub fn open(library: &Path, provider: Provider) -> Result<Self, RuntimeError> {
        let _ = (library, provider);
        unimplemented!("runtime room")
    }
}

/// A bundle's manifest with its folder; hashes checked.
pub struct Bundle {}

/// Why graphs cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library file is missing.
    #[error("ONNX Runtime is not at {path}; run `seer setup`")]
    LibraryMissing {
        /// Where it was looked for.
        path: String,
    },
}

impl Kind for RuntimeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
