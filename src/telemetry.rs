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
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, TelemetrySettings};
use crate::error::{ErrorKind, Kind};

/// Crates whose messages quote what they read: element values, header lines, bytes.
const SILENCED: [&str; 8] = [
    "dicom_core",
    "dicom_encoding",
    "dicom_json",
    "dicom_object",
    "dicom_parser",
    "dicom_pixeldata",
    "dicom_transfer_syntax_registry",
    "hyper",
];

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
    let filter = filter(&settings.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_span_events(FmtSpan::NONE);
    let installed = match settings.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |error: tracing_subscriber::filter::ParseError| TelemetryError::Filter {
        text: text.to_owned(),
        message: error.to_string(),
    };
    let mut filter = EnvFilter::try_new(text).map_err(bad)?;
    for silenced in SILENCED {
        filter = filter.add_directive(format!("{silenced}=off").parse().map_err(bad)?);
    }
    Ok(filter)
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
