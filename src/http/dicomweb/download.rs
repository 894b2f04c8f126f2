//! Replies that are made while they are sent: zip files, and compressed texts for clients that do
//! not take them compressed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::ZIP;
use super::multipart::{self, Source};
use crate::archive::{InstanceRecord, Scope};
use crate::http::extract::header_text;

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for a slow client.
const CHUNKS_AHEAD: usize = 8;

/// Instances in folders by series, without compression: pixels hardly shrink, and a zip that is
/// only copied keeps up with the network.
pub(super) fn zip(records: Vec<InstanceRecord>, scope: &Scope) -> Response {
    let name = match (&scope.instance, &scope.series) {
        (Some(instance), _) => instance.to_string(),
        (None, Some(series)) => series.to_string(),
        (None, None) => scope.study.to_string(),
    };
    let headers = [
        (header::CONTENT_TYPE, ZIP.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.zip\"")),
    ];
    (headers, written(move |out| write_zip(&records, out))).into_response()
}

fn write_zip(records: &[InstanceRecord], out: ChannelWriter) -> io::Result<()> {
    let mut zip = ZipWriter::new_stream(out);
    for record in records {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(record.size_bytes > u64::from(u32::MAX) - (1 << 20));
        let name = format!("{}/{}.dcm", record.series, record.sop_instance);
        zip.start_file(name, options).map_err(io::Error::other)?;
        io::copy(&mut File::open(&record.path)?, &mut zip)?;
    }
    zip.finish().map_err(io::Error::other)?.into_inner().flush()
}

/// A gzip file, as it is to clients that take gzip and as text to others.
pub(super) fn gzipped(path: PathBuf, content_type: &str, headers: &HeaderMap) -> Response {
    let content_type = (header::CONTENT_TYPE, content_type.to_owned());
    if takes_gzip(headers) {
        let encoding = (header::CONTENT_ENCODING, "gzip".to_owned());
        let body = multipart::body(Source::File(path));
        return ([content_type, encoding], body).into_response();
    }
    let body = written(move |mut out| {
        let mut text = flate2::read::GzDecoder::new(File::open(path)?);
        io::copy(&mut text, &mut out)?;
        out.flush()
    });
    ([content_type], body).into_response()
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = header_text(headers, header::ACCEPT_ENCODING).split(',');
    accepted.map(|coding| coding.trim().split(';').collect::<Vec<_>>()).any(|coding| {
        let refused = coding.iter().skip(1).any(|p| p.trim().replace(' ', "") == "q=0");
        matches!(coding.first(), Some(&"gzip" | &"*")) && !refused
    })
}

/// A body that `write` writes on a thread of its own, no faster than the client reads.
fn written(write: impl FnOnce(ChannelWriter) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let out = BufWriter::with_capacity(CHUNK_BYTES, Channel(sender.clone()));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(out) {
            // A client that left is no fault. Anything else cuts the body off.
            if error.kind() != io::ErrorKind::BrokenPipe {
                tracing::error!(%error, "A reply broke off");
            }
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::from_stream(stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

type ChannelWriter = BufWriter<Channel>;

/// Sends what is written.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
