//! WADO-RS: rendered resources (PS3.18 §10.4.1.1.3) and thumbnails (§10.4.1.1.5).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use dicom_dictionary_std::uids;
use image::ImageFormat;

use super::conditional::Etag;
use super::frames::frame_numbers;
use super::multipart::{self, Part, Source};
use super::picture::{Rendering, Viewport};
use super::resource::{ROOT, Resource};
use super::{RecentFrames, wado, with_warning};
use crate::archive::{Archive, ArchiveError, InstanceRecord, Scope, StoredFrames};
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{FramesPath, Parameters, ScopePath, accepted, base_url, header_text};
use crate::http::media::MediaType;
use crate::threads::{run_blocking, run_cpu};

const PARAMETERS: &[(&str, &str)] = &[
    ("window", "Centre, width and linear, linear-exact or sigmoid, joined by commas"),
    (
        "viewport",
        "Width and height of the picture, and maybe left, top, width and height of a region of the \
         frame, joined by commas; a negative width or height mirrors",
    ),
    ("quality", "Of JPEG, from 1 to 100"),
];
/// Edge of a thumbnail without a viewport.
const THUMBNAIL_SIDE: u32 = 200;
/// Instances that are tried for one that can be shown.
const TRIES_MAX: usize = 16;

/// Pictures of studies, series, instances and frames.
pub(super) fn resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let frames =
        ("frames", "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}");
    let levels = wado::LEVELS.into_iter().chain([frames]);
    levels.flat_map(|(name, path)| [picture(name, path), thumbnail(name, path)]).collect()
}

fn picture(name: &'static str, path: &str) -> (Resource, MethodRouter<Server>) {
    let what = match name {
        "frames" => "frames of an instance".to_owned(),
        name => wado::article(name),
    };
    let resource = Resource {
        transaction: "Retrieve",
        description: "One picture where a picture is accepted: of the middle frame of the middle \
                      instance. In multipart/related one picture for each instance or frame.",
        gives: &["image/png", "image/jpeg", "multipart/related"],
        parameters: PARAMETERS,
        ..Resource::get(
            format!("{ROOT}{path}/rendered"),
            format!("rendered_{name}"),
            format!("Renders {what} as it is shown."),
        )
    };
    let handler = match name {
        "frames" => get(async |State(server), path: FramesPath, parameters, headers| {
            let numbers = frame_numbers(&path.list)?;
            render(Request { server, scope: path.scope, numbers, parameters, headers }, false).await
        }),
        _ => get(async |State(server), ScopePath(scope), parameters, headers| {
            let numbers = Vec::new();
            render(Request { server, scope, numbers, parameters, headers }, false).await
        }),
    };
    (resource, handler)
}

fn thumbnail(name: &'static str, path: &str) -> (Resource, MethodRouter<Server>) {
    let what = match name {
        "frames" => "a frame".to_owned(),
        name => wado::article(name),
    };
    let resource = Resource {
        transaction: "Retrieve",
        description: "At most 200 pixels wide and high without a viewport.",
        gives: &["image/png", "image/jpeg"],
        parameters: PARAMETERS,
        ..Resource::get(
            format!("{ROOT}{path}/thumbnail"),
            format!("thumbnail_{name}"),
            format!("Shows {what} in a small picture."),
        )
    };
    let handler = match name {
        "frames" => get(async |State(server), path: FramesPath, parameters, headers| {
            let numbers = frame_numbers(&path.list)?;
            render(Request { server, scope: path.scope, numbers, parameters, headers }, true).await
        }),
        _ => get(async |State(server), ScopePath(scope), parameters, headers| {
            let numbers = Vec::new();
            render(Request { server, scope, numbers, parameters, headers }, true).await
        }),
    };
    (resource, handler)
}

struct Request {
    server: Server,
    scope: Scope,
    /// Frames asked for; empty for the middle one.
    numbers: Vec<u32>,
    parameters: Parameters,
    headers: HeaderMap,
}

/// Whether a picture is the whole body or each is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Parts,
}

async fn render(request: Request, is_thumbnail: bool) -> Result<Response, ApiError> {
    let Request { server, scope, numbers, parameters, headers } = request;
    let media = accepted(&headers);
    let chosen = media.iter().find_map(|media| choose(media, is_thumbnail || numbers.len() == 1));
    let Some((form, format)) = chosen else {
        let found = header_text(&headers, header::ACCEPT);
        let offered = "image/png and image/jpeg, whole or in multipart/related";
        return Err(ApiError::not_acceptable(found, offered));
    };
    let mut rendering = Rendering::read(&parameters, format)?;
    if is_thumbnail && rendering.viewport.is_none() {
        rendering.viewport = Some(Viewport::square(THUMBNAIL_SIDE));
    }
    let (archive, asked) = (server.app.archive.clone(), scope.clone());
    let fingerprint = run_blocking(move || archive.fingerprint(&asked)).await??;
    let etag = Etag::of(&fingerprint, &[&format!("{form:?} {numbers:?} {rendering:?}")]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let response = match form {
        Form::One => one(&server, scope, numbers, rendering).await?,
        Form::Parts => {
            let base = base_url(&server, &headers);
            parts(&server, scope, numbers, rendering, &base).await?
        }
    };
    let response = match parameters.0.iter().any(|(name, _)| name == "annotation") {
        true => with_warning(response, "The annotation parameter is not supported"),
        false => response,
    };
    Ok(etag.put_on(response))
}

/// PS3.18 makes JPEG the default; where both are as good, PNG keeps every grey.
fn choose(media: &MediaType, prefers_one: bool) -> Option<(Form, ImageFormat)> {
    let one = if media.essence == "image/jpeg" {
        Some(ImageFormat::Jpeg)
    } else {
        media.covers("image/png").then_some(ImageFormat::Png)
    };
    if let Some(format) = one {
        return Some((Form::One, format));
    }
    let form = if prefers_one { Form::One } else { Form::Parts };
    let of_parts = media.essence == "multipart/related";
    let root = |essence| of_parts && media.root_covers(essence);
    if media.parameter("type") == Some("image/jpeg") {
        return of_parts.then_some((form, ImageFormat::Jpeg));
    }
    root("image/png").then_some((form, ImageFormat::Png))
}

async fn one(
    server: &Server,
    scope: Scope,
    numbers: Vec<u32>,
    rendering: Rendering,
) -> Result<Response, ApiError> {
    let (archive, recent) = (server.app.archive.clone(), Arc::clone(&server.recent));
    let frames = run_blocking(move || representative(&archive, &recent, &scope)).await??;
    let number = numbers.first().copied().unwrap_or_else(|| middle(&frames));
    let content_type = rendering.format.to_mime_type();
    let picture = run_cpu(move || rendering.picture(&frames, number)).await??;
    Ok(([(header::CONTENT_TYPE, content_type)], picture).into_response())
}

fn middle(frames: &StoredFrames) -> u32 {
    frames.count().div_ceil(2).max(1)
}

/// The frames of the instance in the middle of a scope, or of one near it that can be shown.
/// Segmentations stand for nothing but themselves.
fn representative(
    archive: &Archive,
    recent: &RecentFrames,
    scope: &Scope,
) -> Result<StoredFrames, ArchiveError> {
    let open = |record: &InstanceRecord| recent.open(archive, &of_record(scope, record));
    let records = archive.instances(scope)?;
    let middle = records.len() / 2;
    let mut nearest: Vec<usize> = (0..records.len()).collect();
    nearest.sort_by_key(|index| index.abs_diff(middle));
    let mut segmentation = None;
    for index in nearest.into_iter().take(TRIES_MAX) {
        match open(&records[index]) {
            Ok(frames) if records.len() > 1 && is_segmentation(&frames) => {
                segmentation.get_or_insert(frames);
            }
            Ok(frames) => return Ok(frames),
            Err(ArchiveError::Dicom(_)) => {}
            Err(error) => return Err(error),
        }
    }
    match segmentation {
        Some(frames) => Ok(frames),
        // Says why the middle one cannot be shown.
        None => open(&records[middle]).and_then(|frames| frames.grey(1).map(|_| frames)),
    }
}

fn is_segmentation(frames: &StoredFrames) -> bool {
    let class = &*frames.instance().identity().sop_class_uid;
    class == uids::SEGMENTATION_STORAGE || class == "1.2.840.10008.5.1.4.1.1.66.7"
}

fn of_record(scope: &Scope, record: &InstanceRecord) -> Scope {
    Scope::instance(scope.study.clone(), record.series.clone(), record.sop_instance.clone())
}

/// One picture for each frame asked for, or for each instance that has pixels.
async fn parts(
    server: &Server,
    scope: Scope,
    numbers: Vec<u32>,
    rendering: Rendering,
    base: &str,
) -> Result<Response, ApiError> {
    let (archive, recent) = (server.app.archive.clone(), Arc::clone(&server.recent));
    let asked = scope.clone();
    let shown = run_blocking(move || {
        let mut shown = Vec::new();
        for record in archive.instances(&asked)? {
            match recent.open(&archive, &of_record(&asked, &record)) {
                Ok(frames) if frames.count() > 0 => shown.push(frames),
                Ok(_) | Err(ArchiveError::Dicom(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(shown)
    })
    .await??;
    let content_type = rendering.format.to_mime_type();
    let mut parts = Vec::new();
    for frames in shown {
        let record = frames.record();
        let location = format!(
            "{base}{ROOT}/studies/{}/series/{}/instances/{}",
            scope.study, record.series, record.sop_instance
        );
        let of_instance = if numbers.is_empty() { vec![middle(&frames)] } else { numbers.clone() };
        for number in of_instance {
            let (frames, rendering) = (frames.clone(), rendering.clone());
            // A frame that does not exist is told before the reply begins.
            if number > frames.count() {
                let count = frames.count();
                return Err(crate::dicom::DicomError::NoSuchFrame { number, count }.into());
            }
            let made = Source::made(move || {
                let picture = rendering.picture(&frames, number);
                picture
                    .map(|picture| Source::Memory(picture.into()))
                    .map_err(|e| e.detail().to_owned())
            });
            parts.push(Part {
                content_type: content_type.to_owned(),
                location: Some(format!("{location}/frames/{number}/rendered")),
                source: made,
            });
        }
    }
    Ok(multipart::reply(content_type, parts))
}
