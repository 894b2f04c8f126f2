//! Writing `multipart/related` (RFC 2387) as viewers read it.
//!
//! Cornerstone wants the body to begin with the boundary line, the header name spelled
//! `Content-Type`, and a boundary that cannot occur in pixels: a random one.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::telemetry::error_chain;
use crate::threads::{run_blocking, run_cpu};

const READ_BUFFER_BYTES: usize = 512 << 10;
/// Files up to this size are read in one go …
const WHOLE_FILE_BYTES_MAX: u64 = 8 << 20;
/// … and this many parts ahead of the client.
const PARTS_AHEAD: usize = 4;

/// One part: its content type and where its bytes are.
pub(super) struct Part {
    pub(super) content_type: String,
    /// Content-Location, where the part has a URL of its own.
    pub(super) location: Option<String>,
    pub(super) source: Source,
}

/// Makes bytes when their turn comes.
pub(super) type Making = Box<dyn FnOnce() -> Result<Source, BoxError> + Send>;
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a part's bytes are.
pub(super) enum Source {
    /// In a file, read while sending.
    File(PathBuf),
    /// In an open file, which may have no name any more.
    Open(File),
    /// A range of a file: start and length.
    Range(PathBuf, u64, u64),
    /// In memory.
    Memory(Bytes),
    /// Nowhere yet.
    Made(Making),
}

impl Source {
    /// Makes the bytes when their turn comes.
    pub(super) fn made<E: Into<BoxError>>(
        make: impl FnOnce() -> Result<Self, E> + Send + 'static,
    ) -> Self {
        Self::Made(Box::new(move || make().map_err(Into::into)))
    }
}

/// Streams parts of one root type, for example `application/dicom`.
pub(super) fn reply(
    root_type: &str,
    parts: impl IntoIterator<Item = Part, IntoIter: Send + 'static>,
) -> Response {
    let boundary = Uuid::new_v4().simple().to_string();
    let content_type = format!("multipart/related; type=\"{root_type}\"; boundary={boundary}");
    let end = Bytes::from(format!("--{boundary}--\r\n"));
    let parts = stream::iter(parts).map(|part| async {
        let Part { content_type, location, source } = part;
        (content_type, location, ready(source).await)
    });
    let body = parts
        .buffered(PARTS_AHEAD)
        .flat_map(move |(content_type, location, source)| {
            let location =
                location.map_or(String::new(), |url| format!("\r\nContent-Location: {url}"));
            let head = format!("--{boundary}\r\nContent-Type: {content_type}{location}\r\n\r\n");
            let bytes = match source {
                Ok(source) => bytes_of(source),
                Err(error) => stream::iter([Err(error)]).boxed(),
            };
            once(Bytes::from(head)).chain(bytes).chain(once("\r\n".into()))
        })
        .chain(once(end));
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response()
}

/// Streams one source as the whole body.
pub(super) fn body(source: Source) -> Body {
    let bytes = stream::once(ready(source)).map_ok(bytes_of).try_flatten();
    Body::from_stream(bytes)
}

/// What is there to be sent: small files in memory, everything else made.
async fn ready(source: Source) -> io::Result<Source> {
    match source {
        Source::Made(make) => {
            let made = run_cpu(make).await.map_err(io::Error::other)?;
            made.map_err(|error| {
                // The status is long sent; the client sees a body that breaks off.
                tracing::error!("Cannot make a part of a reply: {}", error_chain(&*error));
                io::Error::other("a part cannot be made")
            })
        }
        Source::File(path) => {
            let opened = run_blocking(move || {
                let mut file = File::open(path)?;
                let size = file.metadata()?.len();
                if size > WHOLE_FILE_BYTES_MAX {
                    return Ok(Source::Open(file));
                }
                let mut bytes = Vec::with_capacity(size as usize);
                file.read_to_end(&mut bytes)?;
                Ok(Source::Memory(bytes.into()))
            });
            opened.await.map_err(io::Error::other)?
        }
        ready => Ok(ready),
    }
}

fn once(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::iter([Ok(bytes)])
}

/// A file that fails in the middle cuts the connection, so that nobody takes the reply for whole.
fn bytes_of(source: Source) -> BoxStream<'static, io::Result<Bytes>> {
    match source {
        Source::Memory(bytes) => once(bytes).boxed(),
        Source::Open(file) => {
            let file = tokio::fs::File::from_std(file);
            ReaderStream::with_capacity(file, READ_BUFFER_BYTES).boxed()
        }
        Source::File(path) => stream::once(tokio::fs::File::open(path))
            .map_ok(|file| ReaderStream::with_capacity(file, READ_BUFFER_BYTES))
            .try_flatten()
            .boxed(),
        Source::Range(path, start, length) => {
            let open = move || {
                let mut file = File::open(path)?;
                file.seek(io::SeekFrom::Start(start))?;
                Ok::<_, io::Error>(file)
            };
            stream::once(async move { run_blocking(open).await.map_err(io::Error::other)? })
                .map_ok(move |file| {
                    let file = tokio::fs::File::from_std(file);
                    let part = tokio::io::AsyncReadExt::take(file, length);
                    ReaderStream::with_capacity(part, READ_BUFFER_BYTES)
                })
                .try_flatten()
                .boxed()
        }
        Source::Made(make) => {
            stream::once(ready(Source::Made(make))).map_ok(bytes_of).try_flatten().boxed()
        }
    }
}
