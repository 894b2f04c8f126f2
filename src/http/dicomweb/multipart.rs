//! Writing `multipart/related` (RFC 2387) as viewers read it.
//!
//! Cornerstone wants the body to begin with the boundary line, the header name spelled
//! `Content-Type`, and a boundary that cannot occur in pixels: a random one.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// One part: its content type and where its bytes are.
pub(super) struct Part {
    pub(super) content_type: String,
    pub(super) source: Source,
}

/// Where a part's bytes are.
pub(super) enum Source {
    /// In a file, read while sending.
    File(PathBuf),
    /// In memory.
    Memory(Bytes),
}

/// Streams parts of one root type, for example `application/dicom`.
pub(super) fn reply(root_type: &str, parts: Vec<Part>) -> Response {
    let boundary = Uuid::new_v4().simple().to_string();
    let content_type = format!("multipart/related; type=\"{root_type}\"; boundary={boundary}");
    let end = Bytes::from(format!("--{boundary}--\r\n"));
    let body = stream::iter(parts)
        .flat_map(move |part| {
            let head = format!("--{boundary}\r\nContent-Type: {}\r\n\r\n", part.content_type);
            once(Bytes::from(head)).chain(bytes_of(part.source)).chain(once("\r\n".into()))
        })
        .chain(once(end));
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response()
}

/// Streams one file as the whole body.
pub(super) fn file(path: PathBuf) -> Body {
    Body::from_stream(bytes_of(Source::File(path)))
}

fn once(bytes: Bytes) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::iter([Ok(bytes)])
}

/// A file that fails in the middle cuts the connection, so that nobody takes the reply for whole.
fn bytes_of(source: Source) -> stream::BoxStream<'static, std::io::Result<Bytes>> {
    match source {
        Source::Memory(bytes) => once(bytes).boxed(),
        Source::File(path) => stream::once(tokio::fs::File::open(path))
            .map_ok(|file| ReaderStream::with_capacity(file, READ_BUFFER_BYTES))
            .try_flatten()
            .boxed(),
    }
}
