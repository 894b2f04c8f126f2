//! Where graphs run, and how ONNX Runtime is told so.

use std::path::PathBuf;

use ort::ep::{self, ExecutionProviderDispatch};

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
    /// ONNX Runtime's TensorRT execution provider; what TensorRT cannot run, CUDA does.
    TensorRt,
}

impl Provider {
    /// The name that records, metrics and the configuration carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// Whether weights and kept tensors lie in the memory of a device of its own.
    pub fn has_device_memory(self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Cuda | Self::TensorRt => true,
        }
    }
}

/// How a device is used; the CPU needs none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Which GPU, counted from 0.
    pub id: i32,
    /// Most memory of ONNX Runtime's arena on the device; all of it when absent.
    pub memory_bytes_max: Option<u64>,
    /// TensorRT computes in half precision where it can.
    pub tensorrt_fp16: bool,
    /// Where TensorRT keeps built engines and timings; nowhere when absent.
    pub tensorrt_cache: Option<PathBuf>,
}

impl DeviceSettings {
    /// The execution providers of a session, first choice first.
    ///
    /// Each fails when it cannot be had: ONNX Runtime's own habit is to go on silently without.
    pub(super) fn execution_providers(&self, provider: Provider) -> Vec<ExecutionProviderDispatch> {
        match provider {
            Provider::Cpu => Vec::new(),
            Provider::Cuda => vec![self.cuda()],
            Provider::TensorRt => vec![self.tensorrt(), self.cuda()],
        }
    }

    fn cuda(&self) -> ExecutionProviderDispatch {
        let mut cuda = ep::CUDA::default()
            .with_device_id(self.id)
            // Runs differ in shape; doubling the arena would take far more than they need.
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested);
        if let Some(limit) = self.memory_bytes_max {
            cuda = cuda.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        cuda.build().error_on_failure()
    }

    fn tensorrt(&self) -> ExecutionProviderDispatch {
        let mut tensorrt =
            ep::TensorRT::default().with_device_id(self.id).with_fp16(self.tensorrt_fp16);
        if let Some(limit) = self.memory_bytes_max {
            let workspace = usize::try_from(limit / 4).unwrap_or(usize::MAX);
            tensorrt = tensorrt.with_max_workspace_size(workspace);
        }
        if let Some(folder) = &self.tensorrt_cache {
            let folder = folder.display().to_string();
            tensorrt = tensorrt
                .with_engine_cache(true)
                .with_engine_cache_path(&folder)
                .with_timing_cache(true)
                .with_timing_cache_path(&folder);
        }
        tensorrt.build().error_on_failure()
    }
}
