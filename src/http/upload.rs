//! Multipart bodies onto the archive's disk, part by part, in bounded memory.
//!
//! `multer` is made for `multipart/form-data`; given the boundary it reads `multipart/related`
//! (RFC 2387) as well.

mod paced;

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::Server;
use super::error::ApiError;
use super::extract::{check_length, header_text};
use super::media::MediaType;
use crate::archive::{self, ArchiveError, Outcome, Stored};
use crate::dicom::StudyUid;
use crate::error::ErrorKind;
use crate::telemetry::metrics;
use crate::threads::run_blocking;
use paced::{EndlessHeader, Paced, Unread};

const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// Uploads up to this size stay in memory until they are stored; larger ones go to disk at once.
pub(super) const IN_MEMORY_BYTES_MAX: usize = 4 << 20;
/// RFC 2046 §5.1.1 allows 70 characters; Orthanc sends 73.
const BOUNDARY_LENGTH_MAX: usize = 200;
const TEXT_PART_BYTES_MAX: usize = 1 << 20;

/// A multipart body being read, part after part.
///
/// What it holds in memory is the chunk that came last, and at most 4 MiB that have not yet become
/// a part or data of one, whatever the body's length.
pub struct Upload {
    parts: Multipart<'static>,
    unread: Unread,
    limits: UploadLimits,
    part_count: u64,
}

/// What one upload may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Longest body, in bytes.
    pub body_size_bytes_max: u64,
    /// Longest part that is kept, in bytes.
    pub part_size_bytes_max: u64,
    /// Most parts.
    pub part_count_max: u64,
    /// Longest silence of the client.
    pub idle_timeout: Duration,
}

/// What became of one part, or of a single-part body.
pub(super) enum Received {
    /// In memory or on disk, not yet looked at.
    Spooled(archive::Upload),
    /// Larger than an instance may be; the rest of it was skipped.
    TooLarge,
}

impl Upload {
    /// Starts reading a body with the boundary of its content type.
    ///
    /// # Errors
    /// When the boundary is missing or the body says it is too long.
    pub(super) fn start(
        server: &Server,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, ApiError> {
        Self::open(UploadLimits::of(server), headers, body)
    }

    /// Starts reading a body within limits of the caller's. Of the headers, Content-Type and
    /// Content-Length count.
    ///
    /// # Errors
    /// When the boundary is missing or the body says it is too long.
    pub fn open(limits: UploadLimits, headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        check_length(headers, limits.body_size_bytes_max)?;
        let content_type = header_text(headers, header::CONTENT_TYPE);
        let media = MediaType::parse(content_type);
        let boundary = media.as_ref().and_then(|media| media.parameter("boundary"));
        let boundary = boundary
            .filter(|boundary| (1..=BOUNDARY_LENGTH_MAX).contains(&boundary.len()))
            .ok_or_else(|| ApiError::invalid("multipart content type has no usable boundary"))?;
        let constraints = Constraints::new()
            .size_limit(SizeLimit::new().whole_stream(limits.body_size_bytes_max));
        let unread = Unread::default();
        let body = Paced::new(body.into_data_stream(), unread.clone());
        let parts = Multipart::with_constraints(body, boundary, constraints);
        Ok(Self { parts, unread, limits, part_count: 0 })
    }

    /// The next part, or none after the last.
    ///
    /// # Errors
    /// When the body is broken, too long, silent for too long or has too many parts; what was
    /// stored before stays stored.
    pub async fn next(&mut self) -> Result<Option<Field<'static>>, ApiError> {
        let next = self.limits.wait(self.parts.next_field()).await?;
        let field = next.map_err(|error| self.limits.broken(&error))?;
        self.unread.reset();
        self.part_count += u64::from(field.is_some());
        if self.part_count > self.limits.part_count_max {
            let detail = format!("request has more than {} parts", self.limits.part_count_max);
            return Err(ApiError::new(ErrorKind::TooLarge, detail));
        }
        Ok(field)
    }

    /// Writes a part to disk.
    ///
    /// # Errors
    /// As [`Upload::next`], and when the disk refuses.
    pub(super) async fn spool(
        &self,
        server: &Server,
        field: Field<'static>,
    ) -> Result<Received, ApiError> {
        spool_chunks(server, self.limits, self.chunks(field)).await
    }

    /// Reads a part to its end without keeping it.
    ///
    /// # Errors
    /// As [`Upload::next`].
    pub async fn skip(&self, field: Field<'static>) -> Result<(), ApiError> {
        let mut chunks = std::pin::pin!(self.chunks(field));
        while self.limits.wait(chunks.next()).await?.transpose()?.is_some() {}
        Ok(())
    }

    /// A part's data, as they come.
    pub fn chunks(
        &self,
        field: Field<'static>,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + use<> {
        let (limits, unread) = (self.limits, self.unread.clone());
        field.map(move |chunk| {
            unread.reset();
            chunk.map_err(|error| limits.broken(&error))
        })
    }

    /// Reads a part that holds a short text.
    ///
    /// # Errors
    /// As [`Upload::next`], and when it is longer than any text may be or not UTF-8.
    pub(super) async fn text(&self, field: Field<'static>) -> Result<String, ApiError> {
        self.text_up_to(field, TEXT_PART_BYTES_MAX).await
    }

    /// Reads a part that holds a text of at most so many bytes.
    ///
    /// # Errors
    /// As [`Upload::next`], and when it is longer or not UTF-8.
    pub async fn text_up_to(
        &self,
        field: Field<'static>,
        bytes_max: usize,
    ) -> Result<String, ApiError> {
        let mut bytes = Vec::new();
        let mut chunks = std::pin::pin!(self.chunks(field));
        while let Some(chunk) = self.limits.wait(chunks.next()).await?.transpose()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > bytes_max {
                return Err(ApiError::new(
                    ErrorKind::TooLarge,
                    format!("text part is larger than {bytes_max} bytes"),
                ));
            }
        }
        String::from_utf8(bytes).map_err(|_| ApiError::invalid("text part is not UTF-8"))
    }
}

/// Writes a whole single-part body to disk.
///
/// # Errors
/// When the body is too long, breaks off or is silent for too long, or the disk refuses.
pub(super) async fn spool_body(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received, ApiError> {
    let limits = UploadLimits::of(server);
    check_length(headers, limits.body_size_bytes_max)?;
    let ended = |_| ApiError::invalid("request body ended early");
    let chunks = body.into_data_stream().map(move |chunk| chunk.map_err(ended));
    spool_chunks(server, limits, chunks).await
}

/// Parses and stores what was received. Few run at the same time, and fewer when they are large,
/// since each may need its own size in memory.
pub(super) async fn store(
    server: &Server,
    upload: archive::Upload,
    only_study: Option<StudyUid>,
) -> Result<Result<Stored, ArchiveError>, ApiError> {
    let size_bytes = match &upload {
        archive::Upload::Memory(bytes) => bytes.len() as u64,
        archive::Upload::File(file) => file.as_file().metadata().map_or(u64::MAX, |m| m.len()),
    };
    let closed = |_| ApiError::new(ErrorKind::Internal, "store permits are gone");
    let permits = super::store_permits(size_bytes);
    let _permit = server.stores.acquire_many(permits).await.map_err(closed)?;
    let archive = server.app.archive.clone();
    let stored = run_blocking(move || archive.store_upload(upload, only_study.as_ref())).await?;
    metrics::instance_received(match &stored {
        Ok(Stored { outcome: Outcome::New, .. }) => "new",
        Ok(Stored { outcome: Outcome::AlreadyStored, .. }) => "already_stored",
        Ok(Stored { outcome: Outcome::Replaced, .. }) => "replaced",
        Err(_) => "refused",
    });
    Ok(stored)
}

impl UploadLimits {
    fn of(server: &Server) -> Self {
        let settings = server.settings();
        Self {
            body_size_bytes_max: settings.upload_size_bytes_max,
            part_size_bytes_max: server.app.config.dicom.instance_size_bytes_max,
            part_count_max: settings.upload_part_count_max,
            idle_timeout: Duration::from_secs(settings.upload_idle_timeout_seconds),
        }
    }

    /// Waits for the client, but not for ever.
    async fn wait<T>(&self, next: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::time::timeout(self.idle_timeout, next).await.map_err(|_| {
            ApiError::status(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                format!("upload was silent for {} seconds", self.idle_timeout.as_secs()),
            )
        })
    }

    fn broken(&self, error: &multer::Error) -> ApiError {
        match error {
            multer::Error::StreamSizeExceeded { .. } => {
                ApiError::body_too_large(self.body_size_bytes_max)
            }
            multer::Error::StreamReadFailed(cause) if cause.is::<EndlessHeader>() => {
                ApiError::invalid(cause.to_string())
            }
            multer::Error::IncompleteFieldData { .. }
            | multer::Error::IncompleteHeaders
            | multer::Error::IncompleteStream
            | multer::Error::StreamReadFailed(_) => {
                ApiError::invalid("multipart body ends before its last boundary")
            }
            _ => ApiError::invalid("multipart body has a part whose headers cannot be read"),
        }
    }
}

async fn spool_chunks(
    server: &Server,
    limits: UploadLimits,
    chunks: impl Stream<Item = Result<Bytes, ApiError>>,
) -> Result<Received, ApiError> {
    let disk = |source| ArchiveError::Io { doing: "write an upload", source };
    let mut held = Vec::new();
    let mut on_disk = None;
    let mut size_bytes = 0_u64;
    let mut chunks = std::pin::pin!(chunks);
    loop {
        let Some(chunk) = limits.wait(chunks.next()).await?.transpose()? else { break };
        size_bytes += chunk.len() as u64;
        if size_bytes > limits.body_size_bytes_max {
            return Err(ApiError::body_too_large(limits.body_size_bytes_max));
        }
        // What is too large is read to its end without being kept, so that the parts after it
        // are still seen.
        if size_bytes > limits.part_size_bytes_max {
            continue;
        }
        if on_disk.is_none() && held.len() + chunk.len() <= IN_MEMORY_BYTES_MAX {
            held.extend_from_slice(&chunk);
            continue;
        }
        if on_disk.is_none() {
            let archive = server.app.archive.clone();
            let spooled = run_blocking(move || archive.spool()).await??;
            let file = tokio::fs::File::from_std(spooled.reopen().map_err(disk)?);
            let mut writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
            writer.write_all(&std::mem::take(&mut held)).await.map_err(disk)?;
            on_disk = Some((spooled, writer));
        }
        if let Some((_, writer)) = &mut on_disk {
            writer.write_all(&chunk).await.map_err(disk)?;
        }
    }
    if size_bytes > limits.part_size_bytes_max {
        return Ok(Received::TooLarge);
    }
    match on_disk {
        Some((spooled, mut writer)) => {
            writer.flush().await.map_err(disk)?;
            Ok(Received::Spooled(archive::Upload::File(spooled)))
        }
        None => Ok(Received::Spooled(archive::Upload::Memory(held))),
    }
}
