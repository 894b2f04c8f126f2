//! DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS under `/dicom-web`.
//!
//! Each file lists its resources as data beside what answers them; see [`resource`].

mod bulkdata;
mod capabilities;
mod conditional;
mod conformance;
mod delete;
mod download;
mod frames;
mod multipart;
mod picture;
mod qido;
mod recent;
mod rendered;
mod resource;
mod stow;
mod stow_json;
mod stow_response;
mod wado;
mod xml;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use utoipa_axum::router::OpenApiRouter;

use super::Server;
use resource::Resource;

pub(super) use capabilities::answer as answer_capabilities;
pub use conformance::statement as conformance_statement;
pub(super) use delete::log_deleted;
pub(super) use recent::RecentFrames;
pub(super) use wado::whole_body;

const DICOM: &str = "application/dicom";
const DICOM_JSON: &str = "application/dicom+json";
const DICOM_XML: &str = "application/dicom+xml";
const OCTETS: &str = "application/octet-stream";
const ZIP: &str = "application/zip";

/// A resource and what answers it.
type Answered = (Resource, MethodRouter<Server>);

/// Searches, metadata and single things.
pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    router(quick_resources())
}

/// Uploads and downloads, which take as long as they take.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    router(long_resources())
}

fn quick_resources() -> Vec<Answered> {
    let mut all = qido::resources();
    all.extend(wado::metadata_resources());
    all.extend(rendered::resources());
    all.push(frames::resource());
    all.extend(delete::resources());
    all
}

fn long_resources() -> Vec<Answered> {
    let mut all = stow::resources();
    all.extend(wado::instance_resources());
    all.push(bulkdata::resource());
    all.extend(bulkdata::resources());
    all
}

/// Everything the service can do, for those who want to know.
fn all_resources() -> Vec<Resource> {
    let answered = quick_resources().into_iter().chain(long_resources());
    answered.map(|(resource, _)| resource).collect()
}

fn router(resources: Vec<Answered>) -> OpenApiRouter<Server> {
    resources.into_iter().fold(OpenApiRouter::new(), |router, (resource, handler)| {
        router.routes(resource.route(handler))
    })
}

/// A reply in DICOM JSON.
fn dicom_json(text: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(DICOM_JSON))], text).into_response()
}

/// Adds a warning that a client may show (PS3.18 §8.5.1.2, RFC 7234 §5.5).
fn with_warning(mut response: Response, text: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(&format!("299 seer \"{}\"", text.replace('"', "'"))) {
        response.headers_mut().append(header::WARNING, value);
    }
    response
}
