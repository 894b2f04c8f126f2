//! The thread that owns a graph's session.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{RunOptions, Session};
use ort::value::{DynValue, Outlet};

use super::graph::{Element, Port};
use super::library::one_line;
use super::tensor::{Held, from_value, to_value};
use super::{Inputs, Outputs, Provider, Runtime, RuntimeError, Tensor};
use crate::threads::Cancel;

/// One run on its way to the graph's thread.
pub(super) struct Command {
    pub(super) inputs: Inputs,
    pub(super) keep: Vec<String>,
    pub(super) options: Arc<RunOptions>,
    pub(super) cancel: Cancel,
    pub(super) span: tracing::Span,
    pub(super) reply: SyncSender<Result<Outputs, RuntimeError>>,
}

/// What the graph's thread owns besides the session.
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) runtime: Runtime,
}

pub(super) type Ports = (Vec<Port>, Vec<Port>);

impl Owner {
    /// Loads the session, tells its ports, then runs commands until the graph is dropped.
    pub(super) fn serve(
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
            memory(self.runtime.provider(), self.runtime.settings().device.id).map_err(text)?;
        let kept = |name: &str| keep.iter().any(|prefix| name.starts_with(prefix.as_str()));
        for outlet in session.outputs() {
            let place = if kept(outlet.name()) { &device } else { &host };
            binding.bind_output_to_device(outlet.name(), place).map_err(text)?;
        }
        // Copies to and from a device may still be on their way; on the CPU this is nothing.
        binding.synchronize_inputs().map_err(text)?;
        let outputs = session.run_binding_with_options(&binding, options).map_err(text)?;
        binding.synchronize_outputs().map_err(text)?;
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
        // TensorRT computes in CUDA memory.
        Provider::Cuda | Provider::TensorRt => (AllocationDevice::CUDA, device_id),
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
