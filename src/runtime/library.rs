//! ONNX Runtime's library, loaded once per process.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::graph::Graph;
use super::{DeviceSettings, MemoryLimits, Provider, RuntimeError};

/// The oldest ONNX Runtime that serves (the `api-24` feature of `ort`).
const OLDEST_VERSION: &str = "1.24";

/// `y = x + x` in one ONNX file: proves that a provider can really run something.
const PROBE_GRAPH: &[u8] = b"\x08\t:5\n\x0e\n\x01x\n\x01x\x12\x01y\"\x03Add\x12\x01p\
Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01\
b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x12";

/// How graphs run. Comes from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// ONNX Runtime's library file.
    pub library: PathBuf,
    /// Where graphs should run.
    pub provider: Provider,
    /// Run on the CPU, with a warning, when `provider` cannot be had.
    pub fall_back_to_cpu: bool,
    /// Threads within one operation; 0 takes one per core.
    pub threads: usize,
    /// Runs that may wait for one graph before it says that it is overloaded.
    pub queue_length: usize,
    /// Which GPU, and how it is used.
    pub device: DeviceSettings,
    /// Most memory that models may plan for; what is not set is asked of the machine.
    pub memory: MemoryLimits,
}

impl RuntimeSettings {
    /// A library and provider with the defaults for everything else.
    pub fn new(library: impl Into<PathBuf>, provider: Provider) -> Self {
        Self {
            library: library.into(),
            provider,
            fall_back_to_cpu: false,
            threads: 0,
            queue_length: 64,
            device: DeviceSettings::default(),
            memory: MemoryLimits::default(),
        }
    }
}

/// ONNX Runtime, loaded once per process; cloning shares it.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    settings: RuntimeSettings,
    provider: Provider,
    /// Bytes that loaded parts have planned for.
    planned: Arc<AtomicU64>,
}

/// The one library of this process. It is never unloaded: ONNX Runtime keeps global state.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// Loads ONNX Runtime's library and makes its environment, with default settings.
    ///
    /// # Errors
    /// One sentence that says what to run when the library is missing, too old, or lacks the
    /// provider.
    pub fn open(library: &Path, provider: Provider) -> Result<Self, RuntimeError> {
        Self::open_with(RuntimeSettings::new(library, provider))
    }

    /// Loads ONNX Runtime's library and proves that the provider runs.
    ///
    /// Opening it again with the same library shares what is loaded.
    ///
    /// # Errors
    /// As [`Runtime::open`]; also when another library is already loaded.
    #[tracing::instrument(skip_all, fields(runtime.library = %settings.library.display()))]
    pub fn open_with(settings: RuntimeSettings) -> Result<Self, RuntimeError> {
        let environment = load(&settings.library)?;
        let planned = Arc::default();
        let mut runtime = Self { environment, provider: settings.provider, settings, planned };
        match runtime.probe() {
            Ok(()) => {}
            Err(error) if runtime.settings.fall_back_to_cpu => {
                tracing::warn!(%error, "Running on the CPU because the configured provider is not available");
                runtime.provider = Provider::Cpu;
            }
            Err(error) => return Err(error),
        }
        Ok(runtime)
    }

    /// The provider that graphs really run on.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &RuntimeSettings {
        &self.settings
    }

    pub(super) fn planned(&self) -> &Arc<AtomicU64> {
        &self.planned
    }

    /// What ONNX Runtime says about its build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// Loads a graph onto a thread of its own.
    ///
    /// # Errors
    /// When the file is missing or ONNX Runtime refuses it.
    pub fn load(&self, path: &Path) -> Result<Graph, RuntimeError> {
        Graph::load(self, path)
    }

    /// A session builder with this runtime's provider, threads and determinism.
    pub(super) fn session_builder(&self) -> ort::Result<SessionBuilder> {
        let threads = match self.settings.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let builder = Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_deterministic_compute(true)?
            // Several graphs share the machine; waiting threads must not burn it.
            .with_intra_op_spinning(false)?;
        let providers = self.settings.device.execution_providers(self.provider);
        Ok(builder.with_execution_providers(providers)?)
    }

    fn probe(&self) -> Result<(), RuntimeError> {
        let run = || -> ort::Result<()> {
            let mut session = self.session_builder()?.commit_from_memory(PROBE_GRAPH)?;
            let one = ort::value::Tensor::from_array(([1_usize], vec![1.0_f32]))?;
            session.run(ort::inputs!["x" => one])?;
            Ok(())
        };
        run().map_err(|error| RuntimeError::ProviderUnavailable {
            path: self.settings.library.display().to_string(),
            provider: self.provider.name(),
            reason: one_line(&error.to_string()),
        })
    }
}

/// ONNX Runtime's messages in one line.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn load(library: &Path) -> Result<Environment, RuntimeError> {
    let shown = library.display().to_string();
    let path = match std::path::absolute(library) {
        Ok(path) if path.is_file() => path,
        _ => return Err(RuntimeError::LibraryMissing { path: shown }),
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((other, environment)) = loaded.as_ref() {
        if *other == path {
            return Ok(environment.clone());
        }
        let loaded = other.display().to_string();
        return Err(RuntimeError::LibraryTwice { loaded, asked: shown });
    }
    // Never the implicit path of `ort`: it panics when the library is missing.
    let builder = ort::init_from(&path).map_err(|error| match error {
        LoadDynamicError::BadVersion { version_str, .. } => RuntimeError::LibraryTooOld {
            path: shown.clone(),
            found: version_str,
            required: OLDEST_VERSION.to_owned(),
        },
        LoadDynamicError::Dlopen { .. }
        | LoadDynamicError::MissingApi { .. }
        | LoadDynamicError::InvalidVersionString => RuntimeError::LibraryUnusable {
            path: shown.clone(),
            reason: one_line(&error.to_string()),
        },
    })?;
    let environment = builder.with_name("seer").with_telemetry(false).build().map_err(|error| {
        RuntimeError::LibraryUnusable { path: shown, reason: one_line(&error.to_string()) }
    })?;
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}
