//! STOW-RS of DICOM JSON with bulk data in parts of their own (PS3.18 §10.5.2, §8.7.3.2).

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::DICOM_JSON;
use super::stow::Storing;
use super::stow_response::Failure;
use crate::archive::{ArchiveError, Upload as Bytes};
use crate::dicom::{
    BulkParts, DicomError, JsonDataSet, json_data_sets, part10_from_json, read_json_data_set,
};
use crate::error::{ErrorKind, Kind};
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::media::MediaType;
use crate::http::store_permits;
use crate::http::upload::{IN_MEMORY_BYTES_MAX, Received, Upload};
use crate::threads::run_blocking;

/// Most bytes of metadata in one request; they are held in memory as text.
pub(super) const METADATA_BYTES_MAX: usize = 32 << 20;

/// Bulk data by their Content-Location, on disk.
#[derive(Default)]
struct Bulks(HashMap<String, Vec<Bulk>>);

/// A file by its path: open ones would be as many as the request has parts.
struct Bulk {
    path: tempfile::TempPath,
    size_bytes: u64,
    transfer_syntax_uid: Option<String>,
}

/// Texts of DICOM JSON, and where the data sets lie in each. One data set at a time becomes values,
/// which take many times the memory of their text.
#[derive(Default)]
struct Metadata(Vec<(String, Vec<JsonDataSet>)>);

/// Receives metadata and bulk data, and stores each data set once everything is there.
pub(super) async fn receive(
    server: &Server,
    mut upload: Upload,
    storing: &mut Storing,
) -> Result<(), ApiError> {
    let mut metadata = Metadata::default();
    let mut bulks = Bulks::default();
    while let Some(field) = upload.next().await? {
        let media = field.content_type().map(|mime| mime.to_string()).unwrap_or_default();
        let media = MediaType::parse(&media);
        if media.as_ref().is_some_and(|media| is_json(&media.essence)) {
            let left = METADATA_BYTES_MAX - metadata.size_bytes();
            metadata.add(upload.text_up_to(field, left).await?, server)?;
            continue;
        }
        let location = header_value(field.headers(), "content-location");
        match (location, upload.spool(server, field).await?) {
            (Some(location), Received::Spooled(bytes)) => {
                let file = on_disk(server, bytes).await?;
                let syntax = media.and_then(|m| m.parameter("transfer-syntax").map(str::to_owned));
                let size_bytes = file.as_file().metadata().map_or(u64::MAX, |m| m.len());
                let path = file.into_temp_path();
                let bulk = Bulk { path, size_bytes, transfer_syntax_uid: syntax };
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
    store_all(server, metadata, bulks, storing).await
}

/// Stores the data sets of a body that is nothing but DICOM JSON.
pub(super) async fn store_body(
    server: &Server,
    body: &[u8],
    storing: &mut Storing,
) -> Result<(), ApiError> {
    let text = String::from_utf8(body.to_vec());
    let text = text.map_err(|_| ApiError::invalid("DICOM JSON is not UTF-8"))?;
    let mut metadata = Metadata::default();
    metadata.add(text, server)?;
    store_all(server, metadata, Bulks::default(), storing).await
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

impl Metadata {
    fn size_bytes(&self) -> usize {
        self.0.iter().map(|(text, _)| text.len()).sum()
    }

    /// Adds a text with an array of data sets, or a single one.
    fn add(&mut self, text: String, server: &Server) -> Result<(), ApiError> {
        let before: usize = self.0.iter().map(|(_, data_sets)| data_sets.len()).sum();
        let left = server.settings().upload_part_count_max.saturating_sub(before as u64);
        let data_sets = json_data_sets(&text, left).map_err(|error| match error.kind() {
            ErrorKind::TooLarge => ApiError::of(&error),
            _ => ApiError::invalid(error.to_string()),
        })?;
        self.0.push((text, data_sets));
        Ok(())
    }
}

async fn store_all(
    server: &Server,
    metadata: Metadata,
    bulks: Bulks,
    storing: &mut Storing,
) -> Result<(), ApiError> {
    let bulks = Arc::new(bulks);
    for (text, data_sets) in metadata.0 {
        let text = Arc::new(text);
        for data_set in data_sets {
            match build(server, &text, data_set, &bulks).await? {
                Ok(file) => storing.store(Received::Spooled(file)).await,
                Err(error) if error.kind() == ErrorKind::TooLarge => {
                    storing.refuse(Failure::of(ArchiveError::Dicom(error)));
                }
                Err(error) => storing.refuse(Failure::unreadable(error.to_string())),
            }
        }
    }
    Ok(())
}

/// Builds the file of one data set, once there is memory for what that takes: its values, and its
/// bulk data, of which at most all are its own. What is built waits as an upload does, in memory
/// when it is small.
async fn build(
    server: &Server,
    text: &Arc<String>,
    data_set: JsonDataSet,
    bulks: &Arc<Bulks>,
) -> Result<Result<Bytes, DicomError>, ApiError> {
    let closed = |_| ApiError::new(ErrorKind::Internal, "store permits are gone");
    let limits = server.app.config.dicom.limits();
    let bulk_bytes = bulks.size_bytes().min(limits.instance_size_bytes_max);
    let permits = store_permits(data_set.values_bytes.saturating_add(bulk_bytes));
    let _permit = server.stores.acquire_many(permits).await.map_err(closed)?;
    let (text, bulks) = (Arc::clone(text), Arc::clone(bulks));
    let built = run_blocking(move || {
        let values = read_json_data_set(&text, &data_set)?;
        bulks.check_size(&values, limits.instance_size_bytes_max)?;
        part10_from_json(&values, &mut |uri| bulks.find(uri), &limits)
    });
    match built.await? {
        Ok(bytes) if bytes.len() > IN_MEMORY_BYTES_MAX => {
            Ok(Ok(Bytes::File(on_disk(server, Bytes::Memory(bytes)).await?)))
        }
        built => Ok(built.map(Bytes::Memory)),
    }
}

impl Bulks {
    fn size_bytes(&self) -> u64 {
        self.0.values().flatten().map(|bulk| bulk.size_bytes).fold(0, u64::saturating_add)
    }

    fn find(&self, uri: &str) -> Option<BulkParts> {
        let bulks = self.0.get(uri.trim())?;
        let read = bulks.iter().map(|bulk| std::fs::read(&bulk.path));
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
                found = found.saturating_add(bulk.size_bytes);
            }
        }
        match found > max {
            true => Err(DicomError::TooLarge { what: "bulk data in bytes", found, max }),
            false => Ok(()),
        }
    }
}
