//! One ONNX graph, owned by one named thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{RunOptions, Session};
use ort::value::{DynValue, Outlet, TensorElementType};

use super::library::one_line;
use super::tensor::{Held, from_value, to_value};
use super::{Inputs, Outputs, Provider, Runtime, RuntimeError, Tensor};
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
    fn of(element: TensorElementType) -> Self {
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

/// One run on its way to the graph's thread.
struct Command {
    inputs: Inputs,
    keep: Vec<String>,
    options: Arc<RunOptions>,
    cancel: Cancel,
    span: tracing::Span,
    reply: SyncSender<Result<Outputs, RuntimeError>>,
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

    /// Runs the graph and fetches every output into our own arrays.
    ///
    /// # Errors
    /// When stopped, overloaded, or the inputs do not fit the graph.
    pub fn run(&self, inputs: Inputs, cancel: &Cancel) -> Result<Outputs, RuntimeError> {
        self.run_keeping(inputs, &[], cancel)
    }

    /// Runs the graph; outputs whose name starts with one of `keep` stay where they are, as
    /// [`Tensor::Held`], to be fed to a later run without a copy.
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

/// What the graph's thread owns besides the session.
struct Owner {
    name: String,
    runtime: Runtime,
}

type Ports = (Vec<Port>, Vec<Port>);

impl Owner {
    /// Loads the session, tells its ports, then runs commands until the graph is dropped.
    fn serve(
        &self,
        path: &Path,
        ready: &SyncSender<Result<Ports, String>>,
        waiting: &Receiver<Command>,
    ) {
        let session = self
            .runtime
            .session_builder()
            .and_then(|mut builder| builder.commit_from_file(path))
            .map_err(|error| one_line(&error.to_string()))
            .and_then(|s| Ok((ports(s.inputs())?, ports(s.outputs())?, s)));
        let mut session = match session {
            Ok((inputs, outputs, session)) => {
                if ready.send(Ok((inputs, outputs))).is_err() {
                    return;
                }
                session
            }
            Err(reason) => {
                // The loader may have gone; there is nobody else to tell.
                let _ = ready.send(Err(reason));
                return;
            }
        };
        while let Ok(command) = waiting.recv() {
            let Command { inputs, keep, options, cancel, span, reply } = command;
            let result = match cancel.check() {
                Err(stopped) => Err(stopped.into()),
                Ok(()) => span.in_scope(|| self.run(&mut session, inputs, &keep, &options)),
            };
            // A caller that was cancelled no longer listens.
            let _ = reply.send(result);
        }
    }

    /// Runs once; a panic costs this run only.
    fn run(
        &self,
        session: &mut Session,
        inputs: Inputs,
        keep: &[String],
        options: &RunOptions,
    ) -> Result<Outputs, RuntimeError> {
        let attempt = AssertUnwindSafe(|| self.bind_and_run(session, inputs, keep, options));
        match catch_unwind(attempt) {
            Ok(Ok(tensors)) => Ok(Outputs { graph: self.name.clone(), tensors }),
            Ok(Err(reason)) => Err(self.fault(&reason)),
            Err(_) => Err(self.fault("it panicked")),
        }
    }

    fn fault(&self, reason: &str) -> RuntimeError {
        RuntimeError::Run { graph: self.name.clone(), reason: one_line(reason) }
    }

    /// Binds inputs and outputs anew each time, so that kept outputs are never written over.
    fn bind_and_run(
        &self,
        session: &mut Session,
        inputs: Inputs,
        keep: &[String],
        options: &RunOptions,
    ) -> Result<BTreeMap<String, Tensor>, String> {
        let text = |error: ort::Error| error.to_string();
        let mut binding = session.create_binding().map_err(text)?;
        for (name, tensor) in inputs.0 {
            let value = self.input_value(session, &name, tensor)?;
            binding.bind_input(name, value.as_ref()).map_err(text)?;
        }
        let host = memory(Provider::Cpu, 0).map_err(text)?;
        let device =
            memory(self.runtime.provider(), self.runtime.settings().device_id).map_err(text)?;
        let kept = |name: &str| keep.iter().any(|prefix| name.starts_with(prefix.as_str()));
        for outlet in session.outputs() {
            let place = if kept(outlet.name()) { &device } else { &host };
            binding.bind_output_to_device(outlet.name(), place).map_err(text)?;
        }
        let outputs = session.run_binding_with_options(&binding, options).map_err(text)?;
        outputs
            .into_iter()
            .map(|(name, value)| {
                let tensor = if kept(name) {
                    Tensor::Held(Held(Arc::new(value)))
                } else {
                    from_value(&value).map_err(|reason| format!("output {name}: {reason}"))?
                };
                Ok((name.to_owned(), tensor))
            })
            .collect()
    }

    fn input_value(
        &self,
        session: &Session,
        name: &str,
        tensor: Tensor,
    ) -> Result<Arc<DynValue>, String> {
        if let Tensor::Held(Held(value)) = tensor {
            return Ok(value);
        }
        let outlet = session.inputs().iter().find(|outlet| outlet.name() == name);
        let wanted = outlet
            .and_then(|outlet| outlet.dtype().tensor_type())
            .ok_or_else(|| format!("it has no input {name}"))?;
        let value = to_value(tensor, wanted).map_err(|reason| format!("input {name}: {reason}"))?;
        Ok(Arc::new(value))
    }
}

fn memory(provider: Provider, device_id: i32) -> ort::Result<MemoryInfo<'static>> {
    let (device, id) = match provider {
        Provider::Cpu => (AllocationDevice::CPU, 0),
        Provider::Cuda => (AllocationDevice::CUDA, device_id),
    };
    MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
}

fn ports(outlets: &[Outlet]) -> Result<Vec<Port>, String> {
    outlets
        .iter()
        .map(|outlet| {
            let dtype = outlet.dtype();
            let shape = dtype.tensor_shape().zip(dtype.tensor_type());
            let (shape, element) =
                shape.ok_or_else(|| format!("{} is not a tensor", outlet.name()))?;
            let dims = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
            Ok(Port { name: outlet.name().to_owned(), element: Element::of(element), dims })
        })
        .collect()
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
