//! DICOMweb nodes: QIDO-RS, WADO-RS and STOW-RS as user agent (PS3.18 §10).

mod multipart;
mod store;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use serde_json::{Map, Value};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{PacsError, RemoteSeries, SLOW_STORAGE, Shared, same_data_set, stopped};
use crate::archive::ArchiveError;
use crate::config::DicomwebNode;
use crate::dicom::{SeriesUid, StudyUid};
use crate::telemetry::metrics;
use crate::threads::{Cancel, Progress, run_blocking};

pub use multipart::{Broken, Part, Parts};
pub(super) use store::send;

/// A search for the series of one study answers with some keys each.
const JSON_BYTES_MAX: usize = 32 << 20;
const DICOM_JSON: HeaderValue = HeaderValue::from_static("application/dicom+json");
/// `transfer-syntax=*` asks for instances as they are stored (PS3.18 §8.7.3.5.2).
const DICOM_PARTS: HeaderValue =
    HeaderValue::from_static("multipart/related; type=\"application/dicom\"; transfer-syntax=*");

/// Starts a request to a node, with its credentials.
fn authorized(node: &DicomwebNode, mut request: RequestBuilder) -> RequestBuilder {
    if let Some(token) = &node.bearer {
        request = request.bearer_auth(token);
    } else if let Some(user) = &node.user {
        request = request.basic_auth(user, node.password.as_ref());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &node.headers {
        if let (Ok(name), Ok(mut value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    request.headers(headers)
}

fn url(node: &DicomwebNode, path: &str) -> String {
    format!("{}/{path}", node.url.trim_end_matches('/'))
}

async fn get(
    shared: &Shared,
    node: &DicomwebNode,
    path: &str,
    accept: HeaderValue,
    operation: &'static str,
) -> Result<Response, PacsError> {
    let request = shared.client.get(url(node, path)).header(ACCEPT, accept);
    let waited = SLOW_STORAGE.max(shared.settings.idle_timeout());
    let response = within(node, waited, authorized(node, request).send()).await?;
    let status = response.status();
    match status.is_success() {
        true => Ok(response),
        false => Err(PacsError::HttpStatus {
            node: node.name.clone(),
            operation,
            status: status.as_u16(),
        }),
    }
}

/// Waits for a node, but not for ever.
async fn within<T>(
    node: &DicomwebNode,
    limit: Duration,
    answer: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, PacsError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| http(node, error)),
        Err(_) => Err(PacsError::Silent {
            node: node.name.clone(),
            doing: "answering a request",
            seconds: limit.as_secs(),
        }),
    }
}

fn http(node: &DicomwebNode, error: reqwest::Error) -> PacsError {
    PacsError::Http { node: node.name.clone(), source: error.without_url() }
}

fn protocol(node: &DicomwebNode, what: impl Into<String>) -> PacsError {
    PacsError::Protocol { node: node.name.clone(), what: what.into() }
}

/// Asks a node whether it searches.
///
/// # Errors
/// [`PacsError`] that says what did not answer.
pub(super) async fn echo(shared: &Shared, node: &DicomwebNode) -> Result<(), PacsError> {
    search(shared, node, "studies?limit=1").await.map(|_| ())
}

/// The series that a node has of a study.
///
/// # Errors
/// [`PacsError`] that says what did not answer.
pub(super) async fn series_of(
    shared: &Shared,
    node: &DicomwebNode,
    study: &StudyUid,
) -> Result<Vec<RemoteSeries>, PacsError> {
    let path = format!("studies/{study}/series?includefield=00201209");
    match search(shared, node, &path).await {
        Ok(found) => Ok(found.iter().filter_map(read_series).collect()),
        // Some servers answer so for a study they do not have.
        Err(PacsError::HttpStatus { status: 404, .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn search(
    shared: &Shared,
    node: &DicomwebNode,
    path: &str,
) -> Result<Vec<Map<String, Value>>, PacsError> {
    let response = get(shared, node, path, DICOM_JSON, "QIDO-RS").await?;
    let bytes = body(shared, node, response).await?;
    if bytes.is_empty() {
        // 204 is what PS3.18 used to say for no match.
        return Ok(Vec::new());
    }
    serde_json::from_slice(&bytes).map_err(|_| protocol(node, "an answer that is not DICOM JSON"))
}

/// Reads a small body whole.
async fn body(
    shared: &Shared,
    node: &DicomwebNode,
    response: Response,
) -> Result<Vec<u8>, PacsError> {
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    let idle = shared.settings.idle_timeout();
    while let Some(chunk) = within(node, idle, chunks.try_next()).await? {
        if bytes.len() + chunk.len() > JSON_BYTES_MAX {
            return Err(protocol(node, format!("an answer larger than {JSON_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_series(found: &Map<String, Value>) -> Option<RemoteSeries> {
    let value = |key: &str| found.get(key)?.get("Value")?.get(0);
    let count = value("00201209").and_then(|count| match count {
        Value::String(text) => text.trim().parse().ok(),
        count => count.as_u64(),
    });
    Some(RemoteSeries {
        series: SeriesUid::parse(value("0020000E")?.as_str()?).ok()?,
        modality: value("00080060").and_then(Value::as_str).unwrap_or_default().trim().to_owned(),
        instance_count: count,
    })
}

/// Retrieves one series into the archive; every instance that came is durable.
///
/// # Errors
/// [`PacsError`] that says what did not answer, or what could not be stored.
pub(super) async fn retrieve(
    shared: &Arc<Shared>,
    node: &DicomwebNode,
    study: &StudyUid,
    listed: &RemoteSeries,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(), PacsError> {
    // What is half received when somebody cancels goes away with its file.
    tokio::select! {
        retrieved = receive(shared, node, study, listed, progress) => retrieved,
        stopped = stopped(cancel) => Err(stopped),
    }
}

async fn receive(
    shared: &Arc<Shared>,
    node: &DicomwebNode,
    study: &StudyUid,
    listed: &RemoteSeries,
    progress: &Progress,
) -> Result<(), PacsError> {
    let path = format!("studies/{study}/series/{}", listed.series);
    let response = get(shared, node, &path, DICOM_PARTS, "WADO-RS").await?;
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multipart::boundary(content_type)
        .ok_or_else(|| protocol(node, "a series that is not multipart/related"))?;
    let mut parts = Parts::new(response.bytes_stream(), &boundary, shared.settings.idle_timeout());
    let broken = |error: multipart::Broken| match error {
        multipart::Broken::EndlessHead => protocol(node, error.to_string()),
        multipart::Broken::BreaksOff => {
            PacsError::Aborted { node: node.name.clone(), doing: "sending a series" }
        }
        multipart::Broken::Silent { seconds } => {
            PacsError::Silent { node: node.name.clone(), doing: "sending a series", seconds }
        }
    };
    let mut count = 0;
    while let Some(mut part) = parts.next().await.map_err(broken)? {
        let archive = shared.archive.clone();
        let spooled = run_blocking(move || archive.spool()).await??;
        let disk = |source| PacsError::Io { doing: "write an instance", source };
        let file = tokio::fs::File::from_std(spooled.reopen().map_err(disk)?);
        let mut file = BufWriter::with_capacity(256 << 10, file);
        let mut left = shared.instance_size_bytes_max;
        while let Some(chunk) = parts.chunk(&mut part).await.map_err(broken)? {
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                protocol(
                    node,
                    format!("an instance larger than {}", shared.instance_size_bytes_max),
                )
            })?;
            file.write_all(&chunk).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        store(shared, spooled, study).await?;
        count += 1;
        progress.report(count, listed.instance_count.unwrap_or(0).max(count));
    }
    Ok(())
}

/// Stores what came. An instance that is here with other content stays as it is here.
async fn store(
    shared: &Arc<Shared>,
    spooled: tempfile::NamedTempFile,
    study: &StudyUid,
) -> Result<(), PacsError> {
    let closed = |_| PacsError::Lane(crate::threads::LaneError::Panicked);
    let _permit = shared.stores.acquire().await.map_err(closed)?;
    let (archive, study) = (shared.archive.clone(), study.clone());
    let copy = spooled.reopen();
    let stored = run_blocking(move || {
        let stored = archive.store_spooled(spooled, Some(&study));
        if let (Err(ArchiveError::Conflict(identity)), Ok(copy)) = (&stored, copy)
            && !same_data_set(&archive, identity, copy)
        {
            tracing::warn!("A node has an instance with other content than is stored here");
        }
        stored
    });
    match stored.await? {
        Ok(_) => metrics::instance_received("new"),
        Err(ArchiveError::Conflict(_)) => metrics::instance_received("already_stored"),
        Err(error) => {
            metrics::instance_received("refused");
            return Err(error.into());
        }
    }
    Ok(())
}
