//! One ONNX graph, owned by one named thread.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ort::session::RunOptions;
use ort::value::TensorElementType;

use super::library::one_line;
use super::owner::{Command, Owner};
use super::{Inputs, Outputs, Provider, Runtime, RuntimeError};
use crate::threads::Cancel;

/// How often a waiting caller looks at its [`Cancel`].
const CANCEL_POLL: Duration = Duration::from_millis(20);

/// Element types that graphs may have at their borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit, 16-bit or brain float.
    Float,
    /// 64-bit or 32-bit integer.
    Integer,
    /// Anything else.
    Other,
}

impl Element {
    pub(super) fn of(element: TensorElementType) -> Self {
        if matches!(
            element,
            TensorElementType::Float32 | TensorElementType::Float16 | TensorElementType::Bfloat16
        ) {
            Self::Float
        } else if matches!(element, TensorElementType::Int64 | TensorElementType::Int32) {
            Self::Integer
        } else {
            Self::Other
        }
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub element: Element,
    /// Its dimensions; `None` is free.
    pub dims: Vec<Option<usize>>,
}

/// A loaded graph. One thread owns its session; runs wait in a bounded queue.
#[derive(Debug)]
pub struct Graph {
    name: String,
    path: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    provider: Provider,
    queue_length: usize,
    commands: SyncSender<Command>,
}

impl Graph {
    /// Starts the graph's thread, which loads the file.
    pub(super) fn load(runtime: &Runtime, path: &Path) -> Result<Self, RuntimeError> {
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let queue_length = runtime.settings().queue_length;
        let (commands, waiting) = sync_channel(queue_length);
        let (ready, started) = sync_channel(1);
        let owner = Owner { name: name.clone(), runtime: runtime.clone() };
        let file = path.to_owned();
        std::thread::Builder::new()
            .name(format!("graph {name}"))
            .spawn(move || owner.serve(&file, &ready, &waiting))
            .map_err(|source| RuntimeError::Read { path: path.to_owned(), source })?;
        let (inputs, outputs) = started
            .recv()
            .unwrap_or_else(|_| Err("its thread ended".to_owned()))
            .map_err(|reason| RuntimeError::Load { path: path.to_owned(), reason })?;
        let (path, provider) = (path.to_owned(), runtime.provider());
        Ok(Self { name, path, inputs, outputs, provider, queue_length, commands })
    }

    /// The file's name without its extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ONNX file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it runs.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Its inputs, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Its outputs, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The input of this name, if the graph has it.
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// The output of this name, if the graph has it.
    pub fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|port| port.name == name)
    }

    /// Runs the graph and fetches every output into our own arrays.
    ///
    /// # Errors
    /// When stopped, overloaded, or the inputs do not fit the graph.
    pub fn run(&self, inputs: Inputs, cancel: &Cancel) -> Result<Outputs, RuntimeError> {
        self.run_keeping(inputs, &[], cancel)
    }

    /// Runs the graph; outputs whose name starts with one of `keep` stay where they are, as
    /// [`Tensor::Held`](super::Tensor::Held), to be fed to a later run without a copy.
    ///
    /// # Errors
    /// When stopped, overloaded, or the inputs do not fit the graph.
    pub fn run_keeping(
        &self,
        inputs: Inputs,
        keep: &[&str],
        cancel: &Cancel,
    ) -> Result<Outputs, RuntimeError> {
        cancel.check()?;
        let options = Arc::new(RunOptions::new().map_err(|e| self.fault(&e.to_string()))?);
        let (reply, answer) = sync_channel(1);
        let command = Command {
            inputs,
            keep: keep.iter().map(|&prefix| prefix.to_owned()).collect(),
            options: Arc::clone(&options),
            cancel: cancel.clone(),
            span: tracing::Span::current(),
            reply,
        };
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => {
                RuntimeError::Overloaded { graph: self.name.clone(), length: self.queue_length }
            }
            TrySendError::Disconnected(_) => self.fault("its thread ended"),
        })?;
        loop {
            match answer.recv_timeout(CANCEL_POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(self.fault("its thread ended")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(stopped) = cancel.check() {
                // The session stops at its next operation; nobody waits for that.
                options.terminate().map_err(|e| self.fault(&e.to_string()))?;
                return Err(stopped.into());
            }
        }
    }

    fn fault(&self, reason: &str) -> RuntimeError {
        RuntimeError::Run { graph: self.name.clone(), reason: one_line(reason) }
    }
}

/// Dimensions as messages show them: `(batch free, 3)` becomes `(?, 3)`.
pub(super) fn shown(dims: &[Option<usize>]) -> Cow<'static, str> {
    if dims.is_empty() {
        return "()".into();
    }
    let dims: Vec<String> =
        dims.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |d| d.to_string())).collect();
    format!("({})", dims.join(", ")).into()
}
