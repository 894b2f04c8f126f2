//! Sending instances to a DICOMweb node (STOW-RS, PS3.18 §10.5).

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::{DICOM_JSON, authorized, body, url, within};
use crate::config::DicomwebNode;
use crate::pacs::{Outgoing, PacsError, SLOW_STORAGE, Shared};

/// Failure Reason (0008,1197) of an instance that the node has already: Duplicate SOP Instance
/// (PS3.7 §C.5.8), and what Microsoft's server says instead.
const HAS_ALREADY: [u64; 2] = [0x0111, 45070];

/// A node that takes less is given up.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// Sends instances in one request, one file in memory at a time. Sending one again does no harm.
///
/// # Errors
/// What did not answer, or the first instance that was not taken.
pub(in crate::pacs) async fn send(
    shared: &Shared,
    node: &DicomwebNode,
    instances: &[Outgoing],
) -> Result<(), PacsError> {
    let boundary = format!("seer-{}", uuid::Uuid::new_v4().simple());
    let head = part_head(&boundary);
    let size: u64 =
        instances.iter().map(|instance| head.len() as u64 + instance.size_bytes + 2).sum();
    let tail = format!("--{boundary}--\r\n");
    let content_type =
        format!("multipart/related; type=\"application/dicom\"; boundary={boundary}");
    let request = shared
        .client
        .post(url(node, "studies"))
        .header(ACCEPT, DICOM_JSON)
        .header(CONTENT_TYPE, content_type)
        // Some servers take no chunked bodies.
        .header(CONTENT_LENGTH, size + tail.len() as u64)
        .body(reqwest::Body::wrap_stream(parts(instances.to_vec(), head, tail)));
    let limit = SLOW_STORAGE + Duration::from_secs(size / SLOWEST_BYTES_PER_SECOND);
    let response = within(node, limit, authorized(node, request).send()).await?;
    let status = response.status();
    let bytes = body(shared, node, response).await?;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match status {
        StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
        StatusCode::ACCEPTED | StatusCode::CONFLICT if had_all(&answer, instances.len()) => Ok(()),
        status => Err(PacsError::HttpStatus {
            node: node.name.clone(),
            operation: "STOW-RS",
            status: status.as_u16(),
        }),
    }
}

fn part_head(boundary: &str) -> String {
    format!("--{boundary}\r\nContent-Type: application/dicom\r\n\r\n")
}

fn parts(
    instances: Vec<Outgoing>,
    head: String,
    tail: String,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let files = futures_util::stream::iter(instances).then(move |instance| {
        let head = head.clone();
        async move {
            let file = tokio::fs::File::open(&instance.path).await?;
            // Its size was announced; the archive never changes a file.
            let file = tokio::io::AsyncReadExt::take(file, instance.size_bytes);
            let content = ReaderStream::with_capacity(file, 64 << 10);
            let around = |text: Bytes| futures_util::stream::iter([Ok(text)]);
            Ok::<_, std::io::Error>(
                around(Bytes::from(head)).chain(content).chain(around(Bytes::from_static(b"\r\n"))),
            )
        }
    });
    files.try_flatten().chain(futures_util::stream::iter([Ok(Bytes::from(tail))]))
}

/// Whether every instance that failed is one that the node has already, or was taken with a
/// warning.
fn had_all(answer: &Value, sent: usize) -> bool {
    let list = |key: &str| answer.get(key)?.get("Value")?.as_array().cloned();
    let failed = list("00081198").unwrap_or_default();
    let taken = list("00081199").unwrap_or_default();
    let has_already = |item: &Value| {
        let reason = item.pointer("/00081197/Value/0").and_then(Value::as_u64);
        reason.is_some_and(|reason| HAS_ALREADY.contains(&reason))
    };
    failed.len() + taken.len() == sent && failed.iter().all(has_already)
}
