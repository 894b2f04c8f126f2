//! Logs, spans and metrics, without anything of the patient in them.
//!
//! Spans nest request > order > room. UIDs appear only as a keyed hash ([`uid_hash`]); names,
//! dates, order text and answers appear nowhere.

pub mod metrics;

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, TelemetrySettings};
use crate::error::{ErrorKind, Kind};

/// Whose messages are logged: ours, and those of ONNX Runtime, which knows no patient.
///
/// Other crates quote what they read: paths with UIDs, header lines, element values. Whatever
/// the filter says, they stay silent; what matters of theirs comes back to us as errors.
const LOGGED: [&str; 2] = ["seer", "ort"];

static UID_KEY: OnceLock<[u8; 32]> = OnceLock::new();

/// Sends logs to standard error for the rest of the process and starts the metrics.
///
/// # Errors
/// [`TelemetryError`] when the filter cannot be read or a subscriber is installed already.
pub fn init(settings: &TelemetrySettings) -> Result<(), TelemetryError> {
    init_with(settings, std::io::stderr, std::io::stderr().is_terminal())
}

/// As [`init`], writing to `writer`.
///
/// # Errors
/// As [`init`].
pub fn init_with<W>(
    settings: &TelemetrySettings,
    writer: W,
    ansi: bool,
) -> Result<(), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    if let Some(key) = &settings.uid_key {
        // A second call keeps the first key; hashes then stay comparable within the process.
        let _ = UID_KEY.set(Sha256::digest(key).into());
    }
    metrics::recorder();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.log)?)
        .with_writer(writer)
        .with_ansi(ansi);
    let ours = FilterFn::new(|metadata| {
        let crate_name = metadata.target().split("::").next().unwrap_or_default();
        LOGGED.contains(&crate_name)
    });
    let installed = match settings.format {
        LogFormat::Text => builder.finish().with(ours).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(ours).try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)
}

/// ONNX Runtime tells of every session and operator at `info`; unless the filter names it, only
/// its warnings are logged.
fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let whole = match text.contains("ort=") {
        true => text.to_owned(),
        false => format!("{text},ort=warn"),
    };
    EnvFilter::try_new(whole).map_err(|error| TelemetryError::Filter {
        text: text.to_owned(),
        message: error.to_string(),
    })
}

/// A UID as logs show it: 16 hexadecimal digits of a keyed hash.
///
/// The key is `telemetry.uid_key`, or random for this process; without it, nobody can try out
/// which UID a hash stands for.
pub fn uid_hash(uid: impl fmt::Display) -> String {
    let key = UID_KEY.get_or_init(|| {
        let mut hasher = Sha256::new();
        hasher.update(uuid::Uuid::new_v4().as_bytes());
        hasher.update(uuid::Uuid::new_v4().as_bytes());
        hasher.finalize().into()
    });
    let mut hasher = Sha256::new();
    hasher.update(key);
    hasher.update(uid.to_string());
    hex::encode(&hasher.finalize()[..8])
}

/// Writes an error and its causes as one line: `a: b: c`.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Transparent variants repeat their cause's sentence.
        if !chain.ends_with(&text) {
            chain.push_str(": ");
            chain.push_str(&text);
        }
        cause = error.source();
    }
    chain
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("telemetry.log is {text:?}: {message}")]
    Filter {
        /// The filter.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// Logging was started before.
    #[error("logging is already started")]
    Installed,
}

impl Kind for TelemetryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Filter { .. } => ErrorKind::Invalid,
            Self::Installed => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_has_one_hash_that_does_not_show_it() {
        let uid = "1.2.840.113619.2.55";
        assert_eq!(uid_hash(uid), uid_hash(uid));
        assert_ne!(uid_hash(uid), uid_hash("1.2.840.113619.2.56"));
        assert_eq!(uid_hash(uid).len(), 16);
    }

    #[test]
    fn refuses_a_filter_that_is_none() {
        let refused = filter("seer=loud").map(|_| ()).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.contains("seer=loud")));
    }
}
