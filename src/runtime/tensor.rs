//! What goes into a graph and comes out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;
use ort::value::{DynValue, TensorElementType};

use super::RuntimeError;

/// A tensor on its way into a graph or out of it.
#[derive(Debug, Clone)]
pub enum Tensor {
    /// 32-bit floats; converted when a graph wants 16-bit ones.
    F32(ArrayD<f32>),
    /// 64-bit integers; converted when a graph wants 32-bit ones.
    I64(ArrayD<i64>),
    /// A value that stays where ONNX Runtime put it, on its way from one run to another.
    Held(Held),
}

/// A value owned by ONNX Runtime, perhaps in a device's memory. Cloning shares it.
#[derive(Clone)]
pub struct Held(pub(super) Arc<DynValue>);

impl Held {
    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        let shape = self.0.dtype().tensor_shape();
        shape.map(|s| s.iter().map(|&d| d.max(0) as usize).collect()).unwrap_or_default()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?})", self.shape())
    }
}

impl Tensor {
    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::F32(array) => array.shape().to_vec(),
            Self::I64(array) => array.shape().to_vec(),
            Self::Held(held) => held.shape(),
        }
    }
}

/// The inputs of one run, by name.
#[derive(Debug, Clone, Default)]
pub struct Inputs(pub(super) Vec<(String, Tensor)>);

impl Inputs {
    /// No inputs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: Tensor) -> Self {
        self.push(name, tensor);
        self
    }

    /// Adds an input in place.
    pub fn push(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.push((name.into(), tensor));
    }
}

/// The outputs of one run, by name.
#[derive(Debug, Clone)]
pub struct Outputs {
    pub(super) graph: String,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Outputs {
    /// The graph that gave them.
    pub fn graph(&self) -> &str {
        &self.graph
    }

    /// Takes an output as it is.
    ///
    /// # Errors
    /// When the graph gave no such output, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<Tensor, RuntimeError> {
        self.tensors.remove(name).ok_or_else(|| self.fault(format!("there is no output {name}")))
    }

    /// Takes an output as floats.
    ///
    /// # Errors
    /// When it is missing, integer, or was kept.
    pub fn take_f32(&mut self, name: &str) -> Result<ArrayD<f32>, RuntimeError> {
        match self.take(name)? {
            Tensor::F32(array) => Ok(array),
            Tensor::I64(_) => Err(self.fault(format!("output {name} holds integers, not floats"))),
            Tensor::Held(_) => Err(self.fault(format!("output {name} was kept, not fetched"))),
        }
    }

    /// Takes all outputs whose name starts with `prefix`, with the rest of their names.
    pub fn take_all(&mut self, prefix: &str) -> Vec<(String, Tensor)> {
        let names: Vec<String> =
            self.tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names
            .into_iter()
            .filter_map(|name| {
                let tensor = self.tensors.remove(&name)?;
                Some((name[prefix.len()..].to_owned(), tensor))
            })
            .collect()
    }

    fn fault(&self, reason: String) -> RuntimeError {
        RuntimeError::Run { graph: self.graph.clone(), reason }
    }
}

/// Makes an ONNX Runtime value of the element type that the graph wants, in host memory.
pub(super) fn to_value(tensor: Tensor, wanted: TensorElementType) -> Result<DynValue, String> {
    match (tensor, wanted) {
        (Tensor::F32(array), TensorElementType::Float32) => value_of(array),
        (Tensor::F32(array), TensorElementType::Float16) => {
            value_of(array.mapv(half::f16::from_f32))
        }
        (Tensor::F32(array), TensorElementType::Bfloat16) => {
            value_of(array.mapv(half::bf16::from_f32))
        }
        (Tensor::I64(array), TensorElementType::Int64) => value_of(array),
        (Tensor::I64(array), TensorElementType::Int32) => {
            if array.iter().any(|&x| i32::try_from(x).is_err()) {
                return Err("an integer does not fit 32 bits".to_owned());
            }
            value_of(array.mapv(|x| x as i32))
        }
        (Tensor::F32(_), other) => Err(format!("floats were given where {other} is wanted")),
        (Tensor::I64(_), other) => Err(format!("integers were given where {other} is wanted")),
        (Tensor::Held(_), _) => Err("a held value needs no conversion".to_owned()),
    }
}

fn value_of<T>(array: ArrayD<T>) -> Result<DynValue, String>
where
    T: ort::value::PrimitiveTensorElementType + fmt::Debug + Clone + 'static,
{
    let array =
        if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
    let value = ort::value::Tensor::from_array(array).map_err(|e| e.to_string())?;
    Ok(value.into_dyn())
}

/// Copies a value in host memory into our own array.
pub(super) fn from_value(value: &DynValue) -> Result<Tensor, String> {
    let text = |e: ort::Error| e.to_string();
    let element = value.dtype().tensor_type().ok_or("it is not a tensor")?;
    if element == TensorElementType::Float32 {
        Ok(Tensor::F32(value.try_extract_array::<f32>().map_err(text)?.to_owned()))
    } else if element == TensorElementType::Float16 {
        let view = value.try_extract_array::<half::f16>().map_err(text)?;
        Ok(Tensor::F32(view.mapv(half::f16::to_f32)))
    } else if element == TensorElementType::Bfloat16 {
        let view = value.try_extract_array::<half::bf16>().map_err(text)?;
        Ok(Tensor::F32(view.mapv(half::bf16::to_f32)))
    } else if element == TensorElementType::Int64 {
        Ok(Tensor::I64(value.try_extract_array::<i64>().map_err(text)?.to_owned()))
    } else if element == TensorElementType::Int32 {
        Ok(Tensor::I64(value.try_extract_array::<i32>().map_err(text)?.mapv(i64::from)))
    } else {
        Err(format!("element type {element} is not handled"))
    }
}
