//! What orders made.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::archive::Scope;
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::dicomweb::whole_body;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::{ArtefactPath, OrderPath, Parameters};
use crate::orders::ReasoningRecord;
use crate::threads::run_blocking;

/// Retrieves the reasoning record: everything needed to audit and replay the order.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/reasoning",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The record", content_type = "application/json", body = ReasoningRecord),
        (status = 409, description = "There is none: the order is not done, failed or was cancelled", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn reasoning(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Response, ApiError> {
    let orders = server.app.orders.clone();
    let record = run_blocking(move || orders.reasoning_record(id)).await??;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], record).into_response())
}

/// Retrieves the segmentation as a DICOM file.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/segmentation",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The DICOM SEG", content_type = "application/dicom", body = Vec<u8>),
        (status = 409, description = "There is none: the order is not completed", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn segmentation(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Response, ApiError> {
    let orders = server.app.orders.clone();
    let order = run_blocking(move || orders.get(id)).await??;
    let Some(result) = order.result else {
        let detail = format!("order {id} has no segmentation, it is {}", order.state.word());
        return Err(ApiError::new(ErrorKind::Conflict, detail));
    };
    let (series, instance) = (result.seg_series_uid, result.seg_sop_instance_uid);
    let scope = Scope::instance(order.new.study_uid, series, instance);
    let archive = server.app.archive.clone();
    let records = run_blocking(move || archive.instances(&scope)).await??;
    let none = || ApiError::new(ErrorKind::Internal, "a completed order's SEG is not stored");
    records.into_iter().next().map(whole_body).ok_or_else(none)
}

/// Retrieves the masks as a NIfTI label map for research: label n is segment n, on the grid of the
/// source; where segments overlap the later has the voxel, and a `Warning` header says so.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/segmentation.nii.gz",
    tag = "orders",
    params(
        ("id" = uuid::Uuid, Path, description = "The order"),
        ("segment" = Option<u16>, Query, description = "Only this segment, as label 1"),
    ),
    responses(
        (status = 200, description = "The label map", content_type = "application/gzip", body = Vec<u8>),
        (status = 409, description = "There is none: the order is not completed", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn segmentation_nifti(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let number = parameters.number("segment", 0)?;
    let too_large = |_| ApiError::invalid(format!("segment {number} is more than 65535"));
    let segment = u16::try_from(number).map_err(too_large)?;
    let orders = server.app.orders.clone();
    let segment = (segment > 0).then_some(segment);
    let labels = run_blocking(move || orders.segmentation_nifti(id, segment)).await??;
    let disposition = "attachment; filename=\"segmentation.nii.gz\"";
    let mut response = (
        [(header::CONTENT_TYPE, "application/gzip"), (header::CONTENT_DISPOSITION, disposition)],
        labels.bytes,
    )
        .into_response();
    if labels.overlap_count > 0 {
        let count = labels.overlap_count;
        let warning =
            format!("299 seer \"{count} voxels lie in several segments; the later has them\"");
        if let Ok(warning) = HeaderValue::from_str(&warning) {
            response.headers_mut().insert(header::WARNING, warning);
        }
    }
    Ok(response)
}

/// Retrieves a picture of an order: `view-1.png` and so on, as the reasoner saw them, or
/// `overlay.png`, the segmentation over the images.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/artefacts/{name}",
    tag = "orders",
    params(
        ("id" = uuid::Uuid, Path, description = "The order"),
        ("name" = String, Path, description = "The picture"),
    ),
    responses(
        (status = 200, description = "The picture", content_type = "image/png", body = Vec<u8>),
        ReadProblems,
    )
)]
pub(super) async fn artefact(
    State(server): State<Server>,
    path: ArtefactPath,
) -> Result<Response, ApiError> {
    let ArtefactPath { id, name } = path;
    let letters = name.strip_suffix(".png").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if letters.is_empty() || name.len() > 64 || !letters.bytes().all(plain) {
        let detail = format!("artefact name of {} characters is not like view-1.png", name.len());
        return Err(ApiError::invalid(detail));
    }
    let orders = server.app.orders.clone();
    let picture = run_blocking(move || orders.artefact(id, &name)).await??;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/png"))], picture).into_response())
}
