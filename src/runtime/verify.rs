//! `seer models verify`: hashes, graphs against the manifest, and a warm-up run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use ndarray::{ArrayD, IxDyn};
use serde::Serialize;

use super::contract::{self, Dim, GraphSpec};
use super::graph::{Element, Graph};
use super::memory::{MemoryPlan, shown};
use super::{Bundle, Inputs, Runtime, RuntimeError, Tensor};
use crate::telemetry::error_chain;
use crate::threads::Cancel;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it was as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok" } else { "FAILED" };
        write!(f, "{verdict:<6} {}: {} ({:.2} s)", self.name, self.detail, self.seconds)
    }
}

/// Everything that was looked at in one bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The bundle's folder.
    pub folder: String,
    /// Name and version, when the manifest can be read.
    pub bundle: Option<String>,
    /// Where the warm-up ran.
    pub provider: super::Provider,
    /// In the order in which they were made; the first failure of a part ends that part.
    pub checks: Vec<Check>,
}

impl VerifyReport {
    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Checks the bundle in `folder`: hashes, graph inputs and outputs, and a run of every graph on
/// zeros of the smallest sensible size.
#[tracing::instrument(skip_all, fields(bundle.folder = %folder.display()))]
pub fn verify(folder: &Path, runtime: &Runtime) -> VerifyReport {
    let mut report = VerifyReport {
        folder: folder.display().to_string(),
        bundle: None,
        provider: runtime.provider(),
        checks: Vec::new(),
    };
    let opened = report.check("files and hashes", || {
        let bundle = Bundle::open(folder)?;
        let detail = format!("{} files as listed", bundle.manifest().files.len());
        Ok((bundle, detail))
    });
    let Some(bundle) = opened else { return report };
    report.bundle = Some(format!("{} {}", bundle.manifest().name, bundle.manifest().version));
    let on_cpu = !runtime.provider().has_device_memory();
    for role in bundle.manifest().roles() {
        report.check(&format!("{role}'s memory"), || {
            let plan = MemoryPlan::of(&bundle, role, on_cpu)?;
            runtime.check_fits(&bundle, role, &plan)?;
            Ok(((), format!("{} ({plan})", shown(plan.total_bytes()))))
        });
    }
    if !report.passed() {
        return report;
    }
    for specs in parts(&bundle) {
        let mut flowing = BTreeMap::new();
        for spec in specs {
            let warmed = report.check(&spec.file, || {
                let graph = runtime.load_checked(&bundle, &spec)?;
                let detail = warm_up(&graph, &spec, &mut flowing)?;
                Ok(((), detail))
            });
            if warmed.is_none() {
                break;
            }
        }
    }
    report
}

fn parts(bundle: &Bundle) -> Vec<Vec<GraphSpec>> {
    let manifest = bundle.manifest();
    let reasoner = manifest.reasoner.as_ref().map(|m| contract::reasoner(m).to_vec());
    let backbone = manifest.backbone.as_ref().map(contract::backbone);
    reasoner.into_iter().chain(backbone).collect()
}

impl VerifyReport {
    fn check<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(T, String), RuntimeError>,
    ) -> Option<T> {
        let start = Instant::now();
        let (value, ok, detail) = match work() {
            Ok((value, detail)) => (Some(value), true, detail),
            Err(error) => (None, false, error_chain(&error)),
        };
        let seconds = start.elapsed().as_secs_f64();
        self.checks.push(Check { name: name.to_owned(), ok, detail, seconds });
        value
    }
}

/// Runs a graph once; inputs come from earlier graphs' outputs of the same name, or are zeros.
fn warm_up(
    graph: &Graph,
    spec: &GraphSpec,
    flowing: &mut BTreeMap<String, Tensor>,
) -> Result<String, RuntimeError> {
    let mut inputs = Inputs::new();
    for port in graph.inputs() {
        let wired = spec.wired.iter().any(|prefix| port.name.starts_with(prefix));
        let tensor = match flowing.get(&port.name) {
            Some(tensor) if wired => fed(tensor, port),
            _ if wired => {
                return Err(RuntimeError::GraphDiffers {
                    path: graph.path().to_owned(),
                    expected: "inputs that an earlier graph gives".to_owned(),
                    found: format!("input {}", port.name),
                });
            }
            _ => zeros(port.element, &warm_up_shape(spec, port)),
        };
        inputs.push(&port.name, tensor);
    }
    let start = Instant::now();
    let mut outputs =
        graph.run_keeping(inputs, &["features_", "mask_embedding_"], &Cancel::new())?;
    let seconds = start.elapsed().as_secs_f64();
    flowing.extend(outputs.take_all(""));
    let (inputs, outputs) = (graph.inputs().len(), graph.outputs().len());
    Ok(format!("{inputs} inputs and {outputs} outputs as the manifest asks, ran in {seconds:.3} s"))
}

/// What an earlier graph gave; zeros for one prompt where a mask decoder takes one and was given two.
fn fed(tensor: &Tensor, port: &super::Port) -> Tensor {
    let mut shape = tensor.shape();
    let is_single = port.name.starts_with("mask_embedding_") && port.dims.get(1) == Some(&Some(1));
    match shape.get_mut(1) {
        Some(prompts) if is_single && *prompts > 1 => {
            *prompts = 1;
            zeros(port.element, &shape)
        }
        _ => tensor.clone(),
    }
}

/// Shapes that fit together: four patches make one token, two tokens follow an empty past. What a
/// graph fixes is kept.
pub(super) fn warm_up_shape(spec: &GraphSpec, port: &super::Port) -> Vec<usize> {
    let wanted = spec.inputs.iter().find(|p| p.name == port.name);
    let dims = wanted.map(|p| p.dims.as_slice()).unwrap_or_default();
    dims.iter()
        .zip(&port.dims)
        .map(|(dim, fixed)| match (dim, fixed) {
            (Dim::Is(count), _) => *count,
            (Dim::One, _) => 1,
            (Dim::Many(_), Some(fixed)) => *fixed,
            (Dim::Free("patches"), _) => 16,
            (Dim::Free("past"), _) => 0,
            (Dim::Free(_) | Dim::Many(_), _) => 2,
        })
        .collect()
}

fn zeros(element: Element, shape: &[usize]) -> Tensor {
    match element {
        Element::Float => Tensor::F32(ArrayD::zeros(IxDyn(shape))),
        Element::Integer | Element::Other => Tensor::I64(ArrayD::zeros(IxDyn(shape))),
    }
}
