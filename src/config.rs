//! `config.toml` into checked settings.
//!
//! Built-in defaults, then the file, then the environment (`SEER_<SECTION>__<KEY>`), then checks;
//! each room gets its own section and nothing else. Unknown keys are refused by name.
//!
//! ```
//! use seer::config::Config;
//!
//! let environment = [("SEER_ORDERS__QUEUE_LENGTH".to_owned(), "5".to_owned())];
//! let config = Config::load(None, environment)?;
//! assert_eq!(config.orders.queue_length, 5);
//! # Ok::<(), seer::config::ConfigError>(())
//! ```

mod bank;
mod evolution;
mod overlay;
mod pacs;
mod sections;
mod worklist;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use bank::BankSettings;
pub use evolution::EvolutionSection;
pub use pacs::{ArrivalRule, DicomwebNode, DimseNode, PacsSettings, Retrieve};
pub use sections::{
    ApiKey, AuthSettings, DicomSettings, HttpSettings, LogFormat, ModelSettings, OrderSettings,
    ReasonerSettings, Role, RuntimeSettings, StorageSettings, TelemetrySettings,
};
pub use worklist::WorklistSettings;

use crate::error::{ErrorKind, Kind};

/// Checked settings, one field per section of `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How the server is reached.
    pub http: HttpSettings,
    /// Who may use it.
    pub auth: AuthSettings,
    /// Where it keeps what it stores.
    pub storage: StorageSettings,
    /// Limits that DICOM from outside must keep.
    pub dicom: DicomSettings,
    /// The order queue.
    pub orders: OrderSettings,
    /// Skills that orders are offered.
    pub bank: BankSettings,
    /// Other nodes.
    pub pacs: PacsSettings,
    /// The UPS-RS worklist.
    pub worklist: WorklistSettings,
    /// ONNX Runtime.
    pub runtime: RuntimeSettings,
    /// Which bundles are loaded.
    pub models: ModelSettings,
    /// Overrides of the reasoner bundle's own settings.
    pub reasoner: ReasonerSettings,
    /// Rounds of SEER-Loop.
    pub evolution: EvolutionSection,
    /// Logs and metrics.
    pub telemetry: TelemetrySettings,
}

impl Config {
    /// Reads the defaults, a file where one is given, and the environment, and checks the result.
    ///
    /// `environment` is every variable of the process (`std::env::vars()`); only names of the
    /// form `SEER_<SECTION>__<KEY>` are looked at.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key or variable and the value found.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_table(path)?,
            None => toml::Table::new(),
        };
        overlay::apply(&mut table, environment)?;
        let config = Self::from_table(table)?;
        config.check()?;
        Ok(config)
    }

    /// Builds settings section by section, so that an error can say which one it is in.
    fn from_table(mut table: toml::Table) -> Result<Self, ConfigError> {
        let config = Self {
            http: section(&mut table, "http")?,
            auth: section(&mut table, "auth")?,
            storage: section(&mut table, "storage")?,
            dicom: section(&mut table, "dicom")?,
            orders: section(&mut table, "orders")?,
            bank: section(&mut table, "bank")?,
            pacs: section(&mut table, "pacs")?,
            worklist: section(&mut table, "worklist")?,
            runtime: section(&mut table, "runtime")?,
            models: section(&mut table, "models")?,
            reasoner: section(&mut table, "reasoner")?,
            evolution: section(&mut table, "evolution")?,
            telemetry: section(&mut table, "telemetry")?,
        };
        match table.into_iter().next() {
            Some((key, _)) => Err(ConfigError::UnknownSection { section: key }),
            None => Ok(config),
        }
    }

    /// Refuses settings that parse but cannot work, or would be unsafe.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key and the value found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.http.bind.ip().is_loopback() && self.auth.api_keys.is_empty() {
            return Err(ConfigError::OpenToOthers { bind: self.http.bind });
        }
        self.check_counts()?;
        self.check_keys()?;
        self.evolution.round().check().map_err(|_| {
            bad("evolution", "a setting out of its range", "within what its comment says")
        })?;
        self.bank.check()?;
        self.pacs.check()?;
        for origin in &self.http.cors_origins {
            let plausible = origin == "*" || origin.starts_with("http");
            if !plausible || http::HeaderValue::from_str(origin).is_err() {
                return Err(bad(
                    "http.cors_origins",
                    origin,
                    "an origin like https://viewer.local",
                ));
            }
        }
        match self.reasoner.temperature {
            Some(temperature) if !(0.0..=2.0).contains(&temperature) => {
                Err(bad("reasoner.temperature", temperature, "between 0 and 2"))
            }
            _ => Ok(()),
        }
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        let counts = [
            ("http.json_size_bytes_max", self.http.json_size_bytes_max),
            ("http.upload_size_bytes_max", self.http.upload_size_bytes_max),
            ("http.upload_part_count_max", self.http.upload_part_count_max),
            ("http.request_timeout_seconds", self.http.request_timeout_seconds),
            ("http.upload_idle_timeout_seconds", self.http.upload_idle_timeout_seconds),
            ("dicom.instance_size_bytes_max", self.dicom.instance_size_bytes_max),
            ("dicom.inflated_size_bytes_max", self.dicom.inflated_size_bytes_max),
            ("dicom.pixel_size_bytes_max", self.dicom.pixel_size_bytes_max),
            ("dicom.nesting_depth_max", self.dicom.nesting_depth_max as u64),
            ("dicom.element_count_max", self.dicom.element_count_max as u64),
            ("orders.queue_length", self.orders.queue_length as u64),
            ("orders.worker_count", self.orders.worker_count as u64),
            ("orders.text_size_bytes_max", self.orders.text_size_bytes_max as u64),
            ("orders.deadline_seconds", self.orders.deadline_seconds),
            ("orders.attempt_count_max", u64::from(self.orders.attempt_count_max)),
            ("evolution.queue_length", self.evolution.queue_length as u64),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((key, count)) => Err(bad(key, count, "at least 1")),
            None => Ok(()),
        }
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        let mut names = BTreeSet::new();
        for key in &self.auth.api_keys {
            if !names.insert(&key.name) {
                return Err(bad("auth.api_keys.name", &key.name, "used once"));
            }
            if key.digest().is_none() {
                let found = format!("{} characters", key.sha256.len());
                return Err(bad("auth.api_keys.sha256", found, "64 hexadecimal digits"));
            }
        }
        Ok(())
    }
}

fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(0, |span| text[..span.start].lines().count().max(1)),
        message: one_line(error.message()),
    })
}

fn section<T>(table: &mut toml::Table, name: &'static str) -> Result<T, ConfigError>
where
    T: serde::de::DeserializeOwned + Default,
{
    match table.remove(name) {
        None => Ok(T::default()),
        Some(value) => value.try_into().map_err(|error: toml::de::Error| ConfigError::Section {
            section: name,
            message: one_line(&error.to_string()),
        }),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bad(key: &'static str, found: impl ToString, wanted: &'static str) -> ConfigError {
    ConfigError::Value { key, found: found.to_string(), wanted }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration {path} is not valid TOML at line {line}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Counts from 1; 0 when unknown.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A section that does not exist.
    #[error("configuration section [{section}] is unknown")]
    UnknownSection {
        /// Its name.
        section: String,
    },
    /// A key that does not exist, or a value of the wrong type.
    #[error("configuration section [{section}]: {message}")]
    Section {
        /// Its name.
        section: &'static str,
        /// What is wrong, with the key.
        message: String,
    },
    /// An environment variable that names no key.
    #[error("environment variable {name} names no configuration key")]
    UnknownVariable {
        /// Its name.
        name: String,
    },
    /// A value that parses but cannot work.
    #[error("{key} is {found} but must be {wanted}")]
    Value {
        /// Section and key.
        key: &'static str,
        /// The value found.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Other machines could use the server without a key.
    #[error(
        "http.bind {bind} is reachable from other machines but auth.api_keys is empty; \
         configure a key or bind to 127.0.0.1"
    )]
    OpenToOthers {
        /// The address.
        bind: std::net::SocketAddr,
    },
}

impl Kind for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::Syntax { .. }
            | Self::UnknownSection { .. }
            | Self::Section { .. }
            | Self::UnknownVariable { .. }
            | Self::Value { .. }
            | Self::OpenToOthers { .. } => ErrorKind::Invalid,
        }
    }
}
