//! STOW-RS of DICOM JSON with bulk data in parts of their own (PS3.18 §10.5.2, §8.7.3.2).

use std::collections::HashMap;
use std::io::Write;

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::DICOM_JSON;
use super::stow::Storing;
use super::stow_response::Failure;
use crate::archive::{ArchiveError, Upload as Bytes};
use crate::dicom::{BulkParts, DicomError, part10_from_json};
use crate::error::{ErrorKind, Kind};
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::media::MediaType;
use crate::http::upload::{Received, Upload};
use crate::threads::run_blocking;

/// Most bytes of metadata in one request; they are held in memory.
pub(super) const METADATA_BYTES_MAX: usize = 32 << 20;

/// Bulk data by their Content-Location, on disk.
#[derive(Default)]
struct Bulks(HashMap<String, Vec<Bulk>>);

struct Bulk {
    file: tempfile::NamedTempFile,
    transfer_syntax_uid: Option<String>,
}

/// Receives metadata and bulk data, and stores each data set once everything is there.
pub(super) async fn receive(
    server: &Server,
    mut upload: Upload,
    storing: &mut Storing,
) -> Result<(), ApiError> {
    let mut data_sets = Vec::new();
    let mut bulks = Bulks::default();
    let mut metadata_bytes = 0;
    while let Some(field) = upload.next().await? {
        let media = field.content_type().map(|mime| mime.to_string()).unwrap_or_default();
        let media = MediaType::parse(&media);
        if media.as_ref().is_some_and(|media| is_json(&media.essence)) {
            let text = upload.text_up_to(field, METADATA_BYTES_MAX - metadata_bytes).await?;
            metadata_bytes += text.len();
            data_sets.extend(read_data_sets(text.as_bytes())?);
            continue;
        }
        let location = header_value(field.headers(), "content-location");
        match (location, upload.spool(server, field).await?) {
            (Some(location), Received::Spooled(bytes)) => {
                let file = on_disk(server, bytes).await?;
                let syntax = media.and_then(|m| m.parameter("transfer-syntax").map(str::to_owned));
                let bulk = Bulk { file, transfer_syntax_uid: syntax };
                bulks.0.entry(location).or_default().push(bulk);
            }
            (None, Received::Spooled(_)) => {
                let sentence = "a part with bulk data has no Content-Location".to_owned();
                storing.refuse(Failure::unreadable(sentence));
            }
            (_, Received::TooLarge) => {
                let max = server.app.config.dicom.instance_size_bytes_max;
                storing.refuse(Failure::too_large(max));
            }
        }
    }
    store_all(server, data_sets, bulks, storing).await
}

/// Stores the data sets of a body that is nothing but DICOM JSON.
pub(super) async fn store_body(
    server: &Server,
    body: &[u8],
    storing: &mut Storing,
) -> Result<(), ApiError> {
    store_all(server, read_data_sets(body)?, Bulks::default(), storing).await
}

pub(super) fn is_json(essence: &str) -> bool {
    essence == DICOM_JSON || essence == "application/json"
}

/// Bulk data wait on disk, because all of a request may wait together.
async fn on_disk(server: &Server, bytes: Bytes) -> Result<tempfile::NamedTempFile, ApiError> {
    let archive = server.app.archive.clone();
    let written = run_blocking(move || match bytes {
        Bytes::File(file) => Ok(file),
        Bytes::Memory(bytes) => {
            let mut file = archive.spool()?;
            let disk = |source| ArchiveError::Io { doing: "write an upload", source };
            file.write_all(&bytes).map_err(disk)?;
            Ok::<_, ArchiveError>(file)
        }
    });
    Ok(written.await??)
}

fn header_value(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|text| text.trim().to_owned())
}

/// An array of data sets, or a single one.
fn read_data_sets(text: &[u8]) -> Result<Vec<Map<String, Value>>, ApiError> {
    let not = |what: &str| ApiError::invalid(format!("DICOM JSON of {} bytes {what}", text.len()));
    let value: Value = serde_json::from_slice(text).map_err(|_| not("is no JSON"))?;
    let items = match value {
        Value::Array(items) => items,
        single => vec![single],
    };
    let objects = items.into_iter().map(|item| match item {
        Value::Object(members) => Ok(members),
        _ => Err(not("has an item that is no object")),
    });
    objects.collect()
}

async fn store_all(
    server: &Server,
    data_sets: Vec<Map<String, Value>>,
    bulks: Bulks,
    storing: &mut Storing,
) -> Result<(), ApiError> {
    let bulks = std::sync::Arc::new(bulks);
    for data_set in data_sets {
        let (limits, bulks) = (server.app.config.dicom.limits(), std::sync::Arc::clone(&bulks));
        let built = run_blocking(move || {
            bulks.check_size(&data_set, limits.instance_size_bytes_max)?;
            part10_from_json(&data_set, &mut |uri| bulks.find(uri), &limits)
        });
        match built.await? {
            Ok(bytes) => storing.store(Received::Spooled(Bytes::Memory(bytes))).await,
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                storing.refuse(Failure::of(ArchiveError::Dicom(error)));
            }
            Err(error) => storing.refuse(Failure::unreadable(error.to_string())),
        }
    }
    Ok(())
}

impl Bulks {
    fn find(&self, uri: &str) -> Option<BulkParts> {
        let bulks = self.0.get(uri.trim())?;
        let read = bulks.iter().map(|bulk| std::fs::read(bulk.file.path()));
        let transfer_syntax_uid = bulks.first()?.transfer_syntax_uid.clone();
        Some(BulkParts { parts: read.collect::<Result<_, _>>().ok()?, transfer_syntax_uid })
    }

    /// Refuses a data set whose bulk data together are too large, before any of them is read. One
    /// part may be named many times.
    fn check_size(&self, data_set: &Map<String, Value>, max: u64) -> Result<(), DicomError> {
        let mut found = 0_u64;
        let mut open: Vec<&Value> = data_set.values().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => open.extend(members.values()),
                Value::Array(values) => open.extend(values),
                _ => continue,
            }
            let bulks = value["BulkDataURI"].as_str().and_then(|uri| self.0.get(uri.trim()));
            for bulk in bulks.into_iter().flatten() {
                let size = bulk.file.as_file().metadata().map_or(0, |metadata| metadata.len());
                found = found.saturating_add(size);
            }
        }
        match found > max {
            true => Err(DicomError::TooLarge { what: "bulk data in bytes", found, max }),
            false => Ok(()),
        }
    }
}
