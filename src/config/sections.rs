//! The sections of `config.toml`. What a key means is said once more, for its reader, in the file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dicom::DicomLimits;
use crate::orders::TextLimits;
use crate::runtime::Provider;

/// `[http]`: how the server is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What clients see in front of the paths, without a slash at the end; from the request's
    /// `Host` when absent.
    pub public_base_url: Option<String>,
    /// Origins whose pages may use the server from a browser.
    pub cors_origins: Vec<String>,
    /// Largest JSON body.
    pub json_size_bytes_max: u64,
    /// Largest body of a STOW-RS or multipart order request.
    pub upload_size_bytes_max: u64,
    /// Most parts in one multipart body.
    pub upload_part_count_max: u64,
    /// Longest time a request without upload or stream may take.
    pub request_timeout_seconds: u64,
    /// Longest silence inside an upload.
    pub upload_idle_timeout_seconds: u64,
    /// How long open requests may go on after the server was asked to stop.
    pub shutdown_timeout_seconds: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8042)),
            public_base_url: None,
            cors_origins: vec!["http://localhost:3000".into(), "http://127.0.0.1:3000".into()],
            json_size_bytes_max: 1 << 20,
            upload_size_bytes_max: 8 << 30,
            upload_part_count_max: 10_000,
            request_timeout_seconds: 60,
            upload_idle_timeout_seconds: 60,
            shutdown_timeout_seconds: 10,
        }
    }
}

/// `[auth]`: who may use the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Keys that clients send as `Authorization: Bearer <key>`; none means open, on loopback only.
    pub api_keys: Vec<ApiKey>,
}

/// One API key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose it is, for the log.
    pub name: String,
    /// SHA-256 of the key, in hexadecimal; the key itself is nowhere.
    pub sha256: String,
    /// What it allows.
    pub role: Role,
}

impl ApiKey {
    /// The digest as bytes; absent when it is not 64 hexadecimal digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut digest).ok().map(|()| digest)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).field("role", &self.role).finish()
    }
}

/// What a key allows; each role may also do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at studies, orders and results.
    Viewer,
    /// Store studies and give orders.
    Orderer,
    /// Everything.
    Admin,
}

/// `[storage]`: where the server keeps what it stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// Folder for instances, index and orders; made when missing.
    pub path: PathBuf,
    /// Most bytes of all instances together.
    pub quota_bytes: Option<u64>,
    /// Studies of which nothing was received for so many days are deleted.
    pub retention_days: Option<u32>,
    /// Let an instance replace a stored one that has its UID but other bytes.
    pub replace_instances: bool,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            path: ".seer/data".into(),
            quota_bytes: None,
            retention_days: None,
            replace_instances: false,
        }
    }
}

/// `[dicom]`: limits that DICOM from outside must keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DicomSettings {
    /// Largest Part 10 file.
    pub instance_size_bytes_max: u64,
    /// Largest data set after inflation.
    pub inflated_size_bytes_max: u64,
    /// Largest decoded pixel data of one instance.
    pub pixel_size_bytes_max: u64,
    /// Deepest nesting of sequences.
    pub nesting_depth_max: usize,
    /// Most elements in one instance, nested ones included.
    pub element_count_max: usize,
}

impl DicomSettings {
    /// The limits as the `dicom` room takes them.
    pub fn limits(&self) -> DicomLimits {
        DicomLimits {
            instance_size_bytes_max: self.instance_size_bytes_max,
            inflated_size_bytes_max: self.inflated_size_bytes_max,
            pixel_size_bytes_max: self.pixel_size_bytes_max,
            nesting_depth_max: self.nesting_depth_max,
            element_count_max: self.element_count_max,
        }
    }
}

impl Default for DicomSettings {
    fn default() -> Self {
        let limits = DicomLimits::default();
        Self {
            instance_size_bytes_max: limits.instance_size_bytes_max,
            inflated_size_bytes_max: limits.inflated_size_bytes_max,
            pixel_size_bytes_max: limits.pixel_size_bytes_max,
            nesting_depth_max: limits.nesting_depth_max,
            element_count_max: limits.element_count_max,
        }
    }
}

/// `[orders]`: the order queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderSettings {
    /// Most orders that wait; one more is answered 503.
    pub queue_length: usize,
    /// How many orders are walked at the same time.
    pub worker_count: usize,
    /// Longest order text, in bytes of UTF-8.
    pub text_size_bytes_max: usize,
    /// Most rephrasings of one order.
    pub rephrasing_count_max: usize,
    /// Longest time from start to end of one order.
    pub deadline_seconds: u64,
    /// How often an order is started again after the server died under it.
    pub attempt_count_max: u32,
}

impl OrderSettings {
    /// [`OrderSettings::deadline_seconds`] as a duration.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    /// What an order may say.
    pub fn texts(&self) -> TextLimits {
        TextLimits {
            size_bytes_max: self.text_size_bytes_max,
            rephrasing_count_max: self.rephrasing_count_max,
        }
    }
}

impl Default for OrderSettings {
    fn default() -> Self {
        Self {
            queue_length: 64,
            worker_count: 1,
            text_size_bytes_max: 8 << 10,
            rephrasing_count_max: 8,
            deadline_seconds: 1800,
            attempt_count_max: 5,
        }
    }
}

/// `[runtime]`: ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// The shared library; looked for in the usual places when absent.
    pub library: Option<PathBuf>,
    /// Where graphs run.
    pub provider: Provider,
    /// Run on the CPU when the provider cannot be used, instead of refusing to start.
    pub allow_cpu_fallback: bool,
    /// Threads inside one graph; 0 takes one per core.
    pub intra_threads: usize,
    /// Which GPU.
    pub device_id: i32,
    /// Most device memory that ONNX Runtime's arena may take; all of it when absent.
    pub device_memory_bytes_max: Option<u64>,
    /// Most host memory that models may plan for; what the machine or its cgroup has when absent.
    pub host_memory_bytes_max: Option<u64>,
    /// TensorRT computes in half precision where it can.
    pub tensorrt_fp16: bool,
    /// Folder where TensorRT keeps the engines it built; built anew at each start when absent.
    pub tensorrt_cache: Option<PathBuf>,
    /// Working memory of one segmentation on the host, besides the volume, the masks and the graphs.
    pub segment_memory_bytes_max: u64,
    /// Most prompts of which the text embedding is remembered.
    pub embeddings_cached_max: usize,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            library: None,
            provider: Provider::Cpu,
            allow_cpu_fallback: false,
            intra_threads: 0,
            device_id: 0,
            device_memory_bytes_max: None,
            host_memory_bytes_max: None,
            tensorrt_fp16: false,
            tensorrt_cache: None,
            segment_memory_bytes_max: 8 << 30,
            embeddings_cached_max: 4096,
        }
    }
}

/// `[models]`: which bundles are loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Folder with one folder per bundle.
    pub folder: PathBuf,
    /// The bundle whose reasoner is used.
    pub reasoner: String,
    /// The bundle whose backbone is used.
    pub backbone: String,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { folder: "models".into(), reasoner: "seer-mini".into(), backbone: "seer-mini".into() }
    }
}

/// `[reasoner]`: overrides of the reasoner bundle's own settings; absent ones are the bundle's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReasonerSettings {
    /// Decode under the grammar of the trace.
    pub constrained: Option<bool>,
    /// Allow only targets of the vocabulary.
    pub closed_vocabulary: Option<bool>,
    /// Most tokens written.
    pub max_new_tokens: Option<usize>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Seed of the sampler.
    pub seed: u64,
}

/// `[telemetry]`: logs and metrics.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Log filter, for example `info` or `seer=debug,ort=warn`.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Key of the hash that stands for UIDs in logs; random per process when absent.
    pub uid_key: Option<String>,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log: "info".into(), format: LogFormat::Text, uid_key: None }
    }
}

impl std::fmt::Debug for TelemetrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelemetrySettings")
            .field("log", &self.log)
            .field("format", &self.format)
            .field("uid_key", &self.uid_key.as_ref().map(|_| "set"))
            .finish()
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
