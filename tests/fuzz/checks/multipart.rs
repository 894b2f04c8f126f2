//! Any bytes as an upload, and as what another node answers: the same parts and the same end, however
//! the body is cut into chunks.
//!
//! The input is a byte that says how to cut, a line that is the Content-Type, and the body.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use futures_util::StreamExt;
use seer::http::{ApiError, Upload, UploadLimits};
use seer::pacs::{BrokenParts, ReceivedParts};

const LIMITS: UploadLimits = UploadLimits {
    body_size_bytes_max: 256 << 10,
    part_size_bytes_max: 64 << 10,
    part_count_max: 200,
    idle_timeout: Duration::from_secs(60),
};
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Most heap that the check may take: the body and its parts, twice; the parser's buffer, which may
/// have twice the size it needs; and the headers of a part, in a table.
pub fn heap_bytes_max(input: &[u8]) -> usize {
    (128 << 10) + 16 * input.len()
}

/// What came of a body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    parts: Vec<Part>,
    /// Whether the last boundary was seen.
    is_whole: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    name: Option<String>,
    content_type: Option<String>,
    content: Option<Vec<u8>>,
}

/// Panics when the parts depend on how the body is cut, or a limit is passed.
pub fn check(input: &[u8]) {
    let Some((&cut, rest)) = input.split_first() else { return };
    let line_end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (content_type, body) = rest.split_at(line_end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(content_type) = HeaderValue::from_bytes(content_type) else { return };
    let whole = read(&content_type, vec![Bytes::copy_from_slice(body)], cut);
    let pieces = read(&content_type, chunks(body, cut), cut);
    assert_eq!(whole, pieces, "cut in pieces, the body is another");
    check_received(body, cut);
    let Some(outcome) = whole else { return };
    assert!(outcome.parts.len() as u64 <= LIMITS.part_count_max);
    let content = outcome.parts.iter().filter_map(|part| part.content.as_ref());
    assert!(content.map(Vec::len).sum::<usize>() <= body.len(), "more came out than went in");
}

/// The same for the parser of what we asked another node for.
fn check_received(body: &[u8], cut: u8) {
    let whole = received(vec![Bytes::copy_from_slice(body)]);
    let pieces = received(chunks(body, cut));
    assert_eq!(whole, pieces, "cut in pieces, what is received is another");
    assert!(whole.0.iter().map(Vec::len).sum::<usize>() <= body.len(), "more came out than in");
}

fn received(chunks: Vec<Bytes>) -> (Vec<Vec<u8>>, Result<(), BrokenParts>) {
    let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    let mut parts = ReceivedParts::new(chunks, "b", LIMITS.idle_timeout);
    let mut contents = Vec::new();
    let ended = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            while let Some(mut part) = parts.next().await? {
                let mut content = Vec::new();
                while let Some(chunk) = parts.chunk(&mut part).await? {
                    content.extend_from_slice(&chunk);
                }
                contents.push(content);
            }
            Ok(())
        })
    });
    (contents, ended)
}

/// Cuts a body: into single bytes, into pieces of one size, or into ones of changing size.
fn chunks(body: &[u8], cut: u8) -> Vec<Bytes> {
    let mut state = u32::from(cut);
    let mut rest = body;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = match cut {
            0..64 => 1 + usize::from(cut),
            64..128 => 1 + (state >> 29) as usize,
            128..192 => 1 + (state >> 26) as usize,
            192.. => 1 + (state >> 22) as usize,
        };
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = after;
    }
    chunks
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads");
}

fn read(content_type: &HeaderValue, chunks: Vec<Bytes>, cut: u8) -> Option<Outcome> {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.clone())]);
    let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    let mut upload = Upload::open(LIMITS, &headers, Body::from_stream(chunks)).ok()?;
    let mut outcome = Outcome::default();
    let ended =
        RUNTIME.with(|runtime| runtime.block_on(read_parts(&mut upload, &mut outcome, cut)));
    outcome.is_whole = ended.is_ok();
    Some(outcome)
}

/// Reads some parts whole, some as text, and passes others over.
async fn read_parts(upload: &mut Upload, outcome: &mut Outcome, cut: u8) -> Result<(), ApiError> {
    while let Some(field) = upload.next().await? {
        let name = field.name().map(str::to_owned);
        let content_type = field.content_type().map(|mime| mime.essence_str().to_owned());
        let content = match (usize::from(cut) + outcome.parts.len()) % 8 {
            0 => {
                upload.skip(field).await?;
                None
            }
            1 => Some(upload.text_up_to(field, TEXT_BYTES_MAX).await?.into_bytes()),
            2 => {
                drop(field);
                None
            }
            _ => {
                let mut content = Vec::new();
                let mut chunks = std::pin::pin!(upload.chunks(field));
                while let Some(chunk) = chunks.next().await {
                    content.extend_from_slice(&chunk?);
                }
                Some(content)
            }
        };
        outcome.parts.push(Part { name, content_type, content });
    }
    Ok(())
}
