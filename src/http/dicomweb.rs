//! DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS under `/dicom-web`.

mod frames;
mod multipart;
mod qido;
mod recent;
mod rendered;
mod stow;
mod stow_response;
mod wado;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;

pub(super) use recent::RecentInstances;
pub(super) use wado::whole_body;

const DICOM: &str = "application/dicom";
const DICOM_JSON: &str = "application/dicom+json";
const OCTETS: &str = "application/octet-stream";

/// Searches and metadata.
pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(qido::search_studies))
        .routes(routes!(qido::search_all_series))
        .routes(routes!(qido::search_all_instances))
        .routes(routes!(qido::search_series))
        .routes(routes!(qido::search_study_instances))
        .routes(routes!(qido::search_instances))
        .routes(routes!(wado::study_metadata))
        .routes(routes!(wado::series_metadata))
        .routes(routes!(wado::instance_metadata))
        .routes(routes!(frames::frames))
        .routes(routes!(rendered::rendered))
}

/// Uploads and downloads, which take as long as they take.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(stow::store))
        .routes(routes!(stow::store_in_study))
        .routes(routes!(wado::study))
        .routes(routes!(wado::series))
        .routes(routes!(wado::instance))
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
