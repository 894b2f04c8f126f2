//! WADO-RS: bulk data by the URLs that the metadata name, and pixel data (PS3.18 §10.4.1.1.7 and
//! §10.4.1.1.8).

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use dicom_dictionary_std::uids;

use super::conditional::{Asked, Etag, asked_range};
use super::frames::Stored;
use super::multipart::{self, Making, Part, Source};
use super::resource::{ROOT, Resource};
use super::{OCTETS, wado};
use crate::archive::{Archive, ArchiveError, Bulk, BulkSource, Scope, StoredFrames};
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{BulkPath, ScopePath, accepted, base_url, header_text};
use crate::http::media::MediaType;
use crate::threads::run_blocking;

/// One bulk value.
pub(super) fn resource() -> (Resource, MethodRouter<Server>) {
    let (_, path) = wado::LEVELS[2];
    let resource = Resource {
        transaction: "Retrieve",
        description: "The URL of a BulkDataURI. Ranges of bytes can be asked for, but of compressed \
                      pixel data, whose frames come in parts.",
        gives: &[OCTETS, "multipart/related"],
        ..Resource::get(
            format!("{ROOT}{path}/bulkdata/{{bulk}}"),
            "bulkdata".to_owned(),
            "Retrieves one bulk value of an instance.".to_owned(),
        )
    };
    (resource, get(one))
}

/// All bulk values, or all pixel data, of a study, a series or an instance.
pub(super) fn resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let resource = |(name, path): (&str, &str), kind: Kind| {
        let (last, what) = match kind {
            Kind::Bulk => ("bulkdata", "every bulk value"),
            Kind::Pixels => ("pixeldata", "the pixel data"),
        };
        let summary = format!("Retrieves {what} of {}.", wado::article(name));
        let id = format!("{name}_{last}");
        let resource = Resource {
            transaction: "Retrieve",
            description: "One part for each value; compressed pixel data in one part for each frame.",
            gives: &["multipart/related"],
            ..Resource::get(format!("{ROOT}{path}/{last}"), id, summary)
        };
        let handler = get(async move |State(server), ScopePath(scope), headers: HeaderMap| {
            all(server, scope, headers, kind).await
        });
        (resource, handler)
    };
    let levels = wado::LEVELS.into_iter();
    levels.flat_map(|level| [resource(level, Kind::Bulk), resource(level, Kind::Pixels)]).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bulk,
    Pixels,
}

async fn one(
    State(server): State<Server>,
    path: BulkPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let BulkPath { scope, bulk: path } = path;
    let (archive, asked) = (server.app.archive.clone(), scope.clone());
    let (fingerprint, bulk) = run_blocking(move || {
        Ok::<_, ArchiveError>((archive.fingerprint(&asked)?, archive.bulk(&asked, &path)?))
    })
    .await??;
    let in_parts = |media: &MediaType| {
        media.essence == "multipart/related"
            && (media.root_covers(OCTETS) || media.root_covers(&bulk.media_type))
    };
    let whole = |media: &MediaType| media.covers(OCTETS) || media.covers(&bulk.media_type);
    let is_frames = matches!(bulk.source, BulkSource::Frames(_));
    let media = accepted(&headers);
    let as_parts = media.iter().find_map(|media| {
        if in_parts(media) { Some(true) } else { whole(media).then_some(is_frames) }
    });
    let video = match &bulk.source {
        BulkSource::Frames(frames) => video_of(frames),
        BulkSource::File { .. } | BulkSource::Memory(_) => None,
    };
    let Some(as_parts) = as_parts.or(video.as_ref().map(|_| false)) else {
        let offered = format!("{OCTETS}, {} and multipart/related of them", bulk.media_type);
        return Err(ApiError::not_acceptable(header_text(&headers, header::ACCEPT), &offered));
    };
    let etag = Etag::of(&fingerprint, &[&bulk.path, if as_parts { "parts" } else { "whole" }]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let response = match (video, as_parts) {
        (Some((media_type, bytes)), _) => {
            let bytes = run_blocking(bytes).await??;
            ranged(media_type.to_owned(), BulkSource::Memory(bytes), &headers)
        }
        (None, false) => ranged(bulk.media_type, bulk.source, &headers),
        (None, true) => {
            let location = location(&base_url(&server, &headers), &scope);
            let root_type = root_type(&bulk);
            multipart::reply(&root_type, bulk_parts(Pending { bulk, again: None }, &location))
        }
    };
    Ok(etag.put_on(response))
}

type ReadVideo = Box<dyn FnOnce() -> Result<Vec<u8>, ArchiveError> + Send>;

/// A video is one stream, whatever Number of Frames says; its fragments together are a file.
fn video_of(frames: &StoredFrames) -> Option<(&'static str, ReadVideo)> {
    let media_type = Stored::of(frames).media_type;
    let is_video = media_type.starts_with("video/") && frames.count() == 1;
    let frames = frames.clone();
    is_video.then(|| {
        let read: ReadVideo = Box::new(move || Ok(frames.stored(1)?.unwrap_or_default()));
        (media_type, read)
    })
}

/// A value as the whole body, or the range of it that is asked for.
fn ranged(media_type: String, source: BulkSource, headers: &HeaderMap) -> Response {
    let size = match &source {
        BulkSource::File { length, .. } => *length,
        BulkSource::Memory(bytes) => bytes.len() as u64,
        BulkSource::Frames(_) => 0,
    };
    let (status, first, length) = match asked_range(headers, size) {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::Part(first, length) => (StatusCode::PARTIAL_CONTENT, first, length),
        Asked::Beyond => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            let detail = format!("the range asked for is not within {size} bytes");
            let refusal = ApiError::status(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                detail,
            );
            return (range, refusal).into_response();
        }
    };
    let source = match source {
        BulkSource::File { path, start, .. } => Source::Range(path, start + first, length),
        BulkSource::Memory(bytes) => {
            let end = (first + length) as usize;
            Source::Memory(bytes::Bytes::from(bytes).slice(first as usize..end))
        }
        BulkSource::Frames(_) => Source::Memory(bytes::Bytes::new()),
    };
    let mut response = (status, multipart::body(source)).into_response();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, media_type);
    put(header::CONTENT_LENGTH, length.to_string());
    put(header::ACCEPT_RANGES, "bytes".to_owned());
    if status == StatusCode::PARTIAL_CONTENT {
        put(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + length - 1));
    }
    response
}

async fn all(
    server: Server,
    scope: Scope,
    headers: HeaderMap,
    kind: Kind,
) -> Result<Response, ApiError> {
    if !accepted(&headers).iter().any(|media| media.covers("multipart/related")) {
        let found = header_text(&headers, header::ACCEPT);
        return Err(ApiError::not_acceptable(found, "multipart/related"));
    }
    let (archive, asked) = (server.app.archive.clone(), scope.clone());
    let fingerprint = run_blocking(move || archive.fingerprint(&asked)).await??;
    let etag = Etag::of(&fingerprint, &[&format!("{kind:?}")]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let base = base_url(&server, &headers);
    let archive = server.app.archive.clone();
    let parts = run_blocking(move || {
        let mut parts = Vec::new();
        for record in archive.instances(&scope)? {
            let scope = Scope::instance(scope.study.clone(), record.series, record.sop_instance);
            let location = location(&base, &scope);
            // An instance without pixel data, or with broken ones, has none to give.
            let bulks = match bulks_of(&archive, &scope, kind) {
                Err(ArchiveError::Dicom(_) | ArchiveError::UnknownBulk { .. }) => Vec::new(),
                bulks => bulks?,
            };
            for bulk in bulks {
                parts.extend(bulk_parts(read_again(&archive, &scope, bulk), &location));
            }
        }
        Ok::<_, ArchiveError>(parts)
    });
    Ok(etag.put_on(multipart::reply(OCTETS, parts.await??)))
}

/// A bulk value, and how its bytes are had when their turn comes.
struct Pending {
    bulk: Bulk,
    again: Option<Making>,
}

/// Lets go of bytes in memory, to read them again when their turn comes: all of a study's at once
/// could be too many.
fn read_again(archive: &Archive, scope: &Scope, mut bulk: Bulk) -> Pending {
    let BulkSource::Memory(bytes) = &mut bulk.source else { return Pending { bulk, again: None } };
    *bytes = Vec::new();
    let (archive, scope, path) = (archive.clone(), scope.clone(), bulk.path.clone());
    let again: Making = Box::new(move || match archive.bulk(&scope, &path)?.source {
        BulkSource::Memory(bytes) => Ok(Source::Memory(bytes.into())),
        BulkSource::File { path, start, length } => Ok(Source::Range(path, start, length)),
        BulkSource::Frames(_) => Err("bulk data became frames".into()),
    });
    Pending { bulk, again: Some(again) }
}

fn bulks_of(archive: &Archive, scope: &Scope, kind: Kind) -> Result<Vec<Bulk>, ArchiveError> {
    match kind {
        Kind::Bulk => archive.bulks(scope),
        Kind::Pixels => Ok(vec![archive.bulk(scope, "7FE00010")?]),
    }
}

fn location(base: &str, scope: &Scope) -> String {
    let part =
        |name: &str, uid: Option<&str>| uid.map_or(String::new(), |uid| format!("/{name}/{uid}"));
    let study = &scope.study;
    let series = part("series", scope.series.as_ref().map(|uid| uid.as_str()));
    let instance = part("instances", scope.instance.as_ref().map(|uid| uid.as_str()));
    format!("{base}{ROOT}/studies/{study}{series}{instance}")
}

fn root_type(bulk: &Bulk) -> String {
    match &bulk.source {
        BulkSource::Frames(frames) => Stored::of(frames).media_type.to_owned(),
        BulkSource::File { .. } | BulkSource::Memory(_) => bulk.media_type.clone(),
    }
}

fn bulk_parts(pending: Pending, location: &str) -> Vec<Part> {
    let Pending { bulk, again } = pending;
    let url = format!("{location}/bulkdata/{}", bulk.path);
    let octets = || match bulk.media_type.as_str() {
        OCTETS => format!("{OCTETS}; transfer-syntax={}", uids::EXPLICIT_VR_LITTLE_ENDIAN),
        other => other.to_owned(),
    };
    let single =
        |source| vec![Part { content_type: octets(), location: Some(url.clone()), source }];
    match bulk.source {
        BulkSource::File { path, start, length } => single(Source::Range(path, start, length)),
        BulkSource::Memory(bytes) => {
            single(again.map_or_else(|| Source::Memory(bytes.into()), Source::Made))
        }
        BulkSource::Frames(frames) => {
            let content_type = Stored::of(&frames).content_type(true);
            let part = |number: u32| {
                let frames = frames.clone();
                let as_stored = Stored::of(&frames).media_type != OCTETS;
                let made = Source::made(move || {
                    let stored = if as_stored { frames.stored(number)? } else { None };
                    let bytes = stored.map_or_else(|| frames.native(number), Ok)?;
                    Ok::<_, ArchiveError>(Source::Memory(bytes.into()))
                });
                let location = Some(format!("{location}/frames/{number}"));
                Part { content_type: content_type.clone(), location, source: made }
            };
            (1..=frames.count()).map(part).collect()
        }
    }
}
