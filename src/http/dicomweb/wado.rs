//! WADO-RS: retrieving instances and their metadata (PS3.18 §10.4).

use std::io::{Seek, SeekFrom};

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use dicom_dictionary_std::uids;
use serde_json::{Map, Value};

use super::conditional::Etag;
use super::multipart::{self, Part, Source};
use super::resource::{ROOT, Resource};
use super::{DICOM, DICOM_JSON, DICOM_XML, ZIP, dicom_json, download, qido, xml};
use crate::archive::{Archive, ArchiveError, InstanceRecord, Scope};
use crate::dicom::{TranscodeError, is_decodable};
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{ScopePath, accepted, base_url, header_text};
use crate::http::media::MediaType;
use crate::threads::{run_blocking, run_cpu};

/// The levels that have instances and metadata: name and path.
pub(super) const LEVELS: [(&str, &str); 3] = [
    ("study", "/studies/{study}"),
    ("series", "/studies/{study}/series/{series}"),
    ("instance", "/studies/{study}/series/{series}/instances/{instance}"),
];

/// Metadata, which come quickly.
pub(super) fn metadata_resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let resource = |(name, path): (&str, &str)| {
        let summary = format!("Retrieves the metadata of every instance of {}.", article(name));
        let (path, id) = (format!("{ROOT}{path}/metadata"), format!("{name}_metadata"));
        let resource = Resource {
            transaction: "Retrieve",
            description: "Bulk data are told by URL. Texts are UTF-8; DS and IS are JSON numbers.",
            gives: &[DICOM_JSON, DICOM_XML],
            ..Resource::get(path, id, summary)
        };
        (resource, get(metadata))
    };
    LEVELS.map(resource).into()
}

/// Instances, which take as long as they take.
pub(super) fn instance_resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let resource = |(name, path): (&str, &str)| {
        let summary = format!("Retrieves every instance of {}.", article(name));
        let resource = Resource {
            transaction: "Retrieve",
            description: "As stored, where transfer-syntax is * or the stored one, or the type is \
                          not named. In Explicit VR Little Endian where the type is named and \
                          transfer-syntax is that or missing: compressed pixels are then decoded. \
                          application/zip gives files in folders.",
            gives: match name {
                "instance" => &["multipart/related", DICOM, ZIP],
                _ => &["multipart/related", ZIP],
            },
            ..Resource::get(format!("{ROOT}{path}"), name.to_owned(), summary)
        };
        (resource, get(retrieve))
    };
    LEVELS.map(resource).into()
}

pub(super) fn article(name: &str) -> String {
    let article = if name == "instance" { "an" } else { "a" };
    format!("{article} {name}")
}

/// How instances are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Multipart(Encoding),
    WholeBody(Encoding),
    Zip,
}

/// In which transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    AsStored,
    /// Explicit VR Little Endian, for certain.
    Explicit,
    /// What PS3.18 §8.7.3.5.2 gives a client that names no transfer syntax: compressed pixels are
    /// decoded where that can be done; all else is as stored.
    Default,
}

impl Encoding {
    fn keeps(self, record: &InstanceRecord) -> bool {
        let uid = &*record.transfer_syntax_uid;
        match self {
            Self::AsStored => true,
            Self::Explicit => uid == uids::EXPLICIT_VR_LITTLE_ENDIAN,
            Self::Default => !is_compressed(uid) || !is_decodable(uid),
        }
    }
}

/// Every transfer syntax but the native ones compresses pixels.
fn is_compressed(uid: &str) -> bool {
    !matches!(
        uid,
        "1.2.840.10008.1.2"
            | "1.2.840.10008.1.2.1"
            | "1.2.840.10008.1.2.2"
            | "1.2.840.10008.1.2.1.99"
    )
}

async fn retrieve(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let is_one = scope.instance.is_some();
    let (archive, asked) = (server.app.archive.clone(), scope.clone());
    let (records, fingerprint) = run_blocking(move || {
        let records = archive.instances(&asked)?;
        Ok::<_, ArchiveError>((records, archive.fingerprint(&asked)?))
    })
    .await??;
    let chosen = accepted(&headers).iter().find_map(|media| form(media, is_one, &records));
    let Some(form) = chosen else {
        let offered = "multipart/related; type=\"application/dicom\", application/zip, and \
                       application/dicom for one instance, in the transfer syntax that is stored \
                       or 1.2.840.10008.1.2.1";
        return Err(ApiError::not_acceptable(header_text(&headers, header::ACCEPT), offered));
    };
    let etag = Etag::of(&fingerprint, &[&format!("{form:?}")]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let archive = server.app.archive.clone();
    let response = match form {
        Form::Zip => download::zip(records, &scope),
        Form::WholeBody(encoding) => match records.into_iter().next() {
            Some(record) if encoding.keeps(&record) => whole_body(record),
            Some(record) => transcoded_body(archive, scope, record).await?,
            None => return Err(ApiError::new(ErrorKind::Internal, "a scope has no instance")),
        },
        Form::Multipart(encoding) => {
            let parts =
                records.into_iter().map(move |record| part(&archive, &scope, encoding, record));
            multipart::reply(DICOM, parts)
        }
    };
    Ok(etag.put_on(response))
}

/// What a range of the Accept header asks for, if it can be had.
fn form(media: &MediaType, is_one: bool, records: &[InstanceRecord]) -> Option<Form> {
    if media.essence == ZIP {
        return Some(Form::Zip);
    }
    let names_dicom = media.essence == DICOM
        || media.essence == "multipart/related" && media.parameter("type").is_some();
    let encoding = match media.parameter("transfer-syntax") {
        Some("*") => Encoding::AsStored,
        Some(wanted) if records.iter().all(|record| record.transfer_syntax_uid == wanted) => {
            Encoding::AsStored
        }
        Some(uids::EXPLICIT_VR_LITTLE_ENDIAN) => Encoding::Explicit,
        Some(_) => return None,
        None if names_dicom => Encoding::Default,
        None => Encoding::AsStored,
    };
    let can = |record: &InstanceRecord| {
        encoding.keeps(record) || is_decodable(&record.transfer_syntax_uid)
    };
    if !records.iter().all(can) {
        return None;
    }
    if media.covers("multipart/related") {
        return media.root_covers(DICOM).then_some(Form::Multipart(encoding));
    }
    (is_one && media.covers(DICOM)).then_some(Form::WholeBody(encoding))
}

fn part(archive: &Archive, scope: &Scope, encoding: Encoding, record: InstanceRecord) -> Part {
    if encoding.keeps(&record) {
        let content_type = format!("{DICOM}; transfer-syntax={}", record.transfer_syntax_uid);
        return Part { content_type, location: None, source: Source::File(record.path) };
    }
    let content_type = format!("{DICOM}; transfer-syntax={}", uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let scope = Scope::instance(scope.study.clone(), record.series, record.sop_instance);
    let archive = archive.clone();
    let source = Source::made(move || transcoded(&archive, &scope).map(Source::Open));
    Part { content_type, location: None, source }
}

/// One instance in Explicit VR Little Endian, in a file without a name.
fn transcoded(archive: &Archive, scope: &Scope) -> Result<std::fs::File, TranscodeFailure> {
    let instance = archive.load_instance(scope)?;
    let file = archive.spool()?.into_file();
    let mut writer = std::io::BufWriter::with_capacity(256 << 10, file);
    instance.write_explicit(&mut writer)?;
    let mut file = writer.into_inner().map_err(|error| TranscodeError::Io(error.into_error()))?;
    file.seek(SeekFrom::Start(0)).map_err(TranscodeError::Io)?;
    Ok(file)
}

/// Why an instance is not sent in another transfer syntax.
#[derive(Debug, thiserror::Error)]
enum TranscodeFailure {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
}

impl crate::error::Kind for TranscodeFailure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::Transcode(TranscodeError::Dicom(_)) => ErrorKind::Unsupported,
            Self::Transcode(TranscodeError::Io(_)) => ErrorKind::Unavailable,
            Self::Transcode(TranscodeError::Write(_)) => ErrorKind::Internal,
        }
    }
}

async fn transcoded_body(
    archive: Archive,
    scope: Scope,
    record: InstanceRecord,
) -> Result<Response, ApiError> {
    let file = run_cpu(move || transcoded(&archive, &scope)).await??;
    let name = format!("attachment; filename=\"{}.dcm\"", record.sop_instance);
    let content_type = format!("{DICOM}; transfer-syntax={}", uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let headers = [(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, multipart::body(Source::Open(file))).into_response())
}

/// One instance as the whole body, as stored.
pub(in crate::http) fn whole_body(record: InstanceRecord) -> Response {
    let name = format!("attachment; filename=\"{}.dcm\"", record.sop_instance);
    let headers = [
        (header::CONTENT_TYPE, DICOM.to_owned()),
        (header::CONTENT_LENGTH, record.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    (headers, multipart::body(Source::File(record.path))).into_response()
}

/// OHIF accepts several types in one header, so any range that covers JSON will do.
async fn metadata(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let as_xml = qido::wants_xml(&headers)?;
    let root = format!("{}{ROOT}", base_url(&server, &headers));
    let (archive, asked) = (server.app.archive.clone(), scope.clone());
    let fingerprint = run_blocking(move || archive.fingerprint(&asked)).await??;
    let etag = Etag::of(&fingerprint, &["metadata", &root, if as_xml { "xml" } else { "json" }]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let archive = server.app.archive.clone();
    let response = match (as_xml, &scope.instance) {
        (true, _) => {
            let texts = run_blocking(move || archive.metadata(&scope, &root)).await??;
            xml::reply(texts.iter().map(|text| parsed(text)))?
        }
        (false, Some(_)) => {
            let texts = run_blocking(move || archive.metadata(&scope, &root)).await??;
            dicom_json(format!("[{}]", texts.join(",")))
        }
        (false, None) => {
            let make = move || archive.metadata_file(&scope, &fingerprint, &root);
            download::gzipped(run_blocking(make).await??, DICOM_JSON, &headers)
        }
    };
    Ok(etag.put_on(response))
}

fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
