//! Creating orders, from JSON or from one upload with the images.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::wire::{OrderRequest, OrderView, order_path};
use crate::dicom::{Identity, StudyUid};
use crate::dicom_seg::SegmentationType;
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::error::{ApiError, Problem, UploadProblems};
use crate::http::extract::{header_text, read_json};
use crate::http::media::MediaType;
use crate::http::upload::{self, Received, Upload};
use crate::orders::Created;
use crate::threads::run_blocking;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 200;

/// A request that brings its images along, as form fields.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "documents form fields that are read one by one")]
struct OrderUpload {
    /// What to segment, in free text.
    text: String,
    /// Another wording of the text, to compare with; the field may be repeated.
    rephrasing: Option<Vec<String>>,
    /// The study; that of the files when absent.
    study_uid: Option<String>,
    /// The series; the most suitable one when absent.
    series_uid: Option<String>,
    /// Higher goes first; 0 is routine.
    priority: Option<i32>,
    /// Leave frames without any inside pixel out of the segmentation.
    drop_empty_frames: Option<bool>,
    /// `binary` or `labelmap`.
    segmentation_type: Option<SegmentationType>,
    /// Also store a structured report of the volumes.
    structured_report: Option<bool>,
    /// Also store key images.
    key_images: Option<bool>,
    /// DICOM files, stored as by STOW-RS.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<u8>,
}

/// Accepts an order; it is durable once this answers.
///
/// The body names a stored study, or is a form with DICOM files of one study and the text. The
/// header `Idempotency-Key` makes repeating a request harmless: the same key with the same inputs
/// answers 200 with the order that exists.
#[utoipa::path(
    post,
    path = "/api/v1/orders",
    tag = "orders",
    params(
        ("idempotency-key" = Option<String>, Header, description = "Names this request; up to 200 characters"),
    ),
    request_body(content(
        (OrderRequest = "application/json"),
        (OrderUpload = "multipart/form-data"),
    )),
    responses(
        (status = 202, description = "Accepted; `Location` names the order", body = OrderView, headers(("Location" = String))),
        (status = 200, description = "The idempotency key names this order already", body = OrderView, headers(("Location" = String))),
        (status = 404, description = "The study or series is not stored here", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "The idempotency key was used with other inputs, or a file contradicts a stored one", content_type = "application/problem+json", body = Problem),
        UploadProblems,
    )
)]
pub(super) async fn create(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let content_type = header_text(&headers, header::CONTENT_TYPE);
    let essence = MediaType::parse(content_type).map(|media| media.essence).unwrap_or_default();
    let request = match essence.as_str() {
        "application/json" => {
            read_json(&headers, body, server.settings().json_size_bytes_max).await?
        }
        "multipart/form-data" => read_form(&server, &headers, body).await?,
        _ => {
            let wanted = "application/json or multipart/form-data";
            return Err(ApiError::unsupported_media_type(content_type, wanted));
        }
    };
    let new = request.into_new(key)?;
    let orders = server.app.orders.clone();
    let (status, order) = match run_blocking(move || orders.create(new)).await?? {
        Created::New(order) => (StatusCode::ACCEPTED, order),
        Created::Existing(order) => (StatusCode::OK, order),
    };
    let location = [(header::LOCATION, order_path(order.id))];
    Ok((status, location, Json(OrderView::of(order))).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_LENGTH_MAX).contains(&key.len()) => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(ApiError::invalid(format!(
            "idempotency key of {} bytes is not 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} ASCII characters",
            value.len()
        ))),
    }
}

/// Reads a form: files are stored at once, fields make the request.
async fn read_form(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<OrderRequest, ApiError> {
    let mut upload = Upload::start(server, headers, body)?;
    let mut request = OrderRequest {
        study_uid: String::new(),
        series_uid: None,
        text: String::new(),
        rephrasings: Vec::new(),
        priority: 0,
        drop_empty_frames: false,
        segmentation_type: SegmentationType::default(),
        structured_report: false,
        key_images: false,
        source: None,
        deliver_to: Vec::new(),
    };
    let mut of_files: Option<StudyUid> = None;
    while let Some(field) = upload.next().await? {
        match field.name().unwrap_or_default() {
            "text" => request.text = upload.text(field).await?,
            "rephrasing" => request.rephrasings.push(upload.text(field).await?),
            "study_uid" => request.study_uid = upload.text(field).await?,
            "series_uid" => request.series_uid = Some(upload.text(field).await?),
            "priority" => request.priority = parse("priority", &upload.text(field).await?)?,
            "drop_empty_frames" => {
                let text = upload.text(field).await?;
                request.drop_empty_frames = parse("drop_empty_frames", &text)?;
            }
            "segmentation_type" => {
                request.segmentation_type = parse_word(&upload.text(field).await?)?;
            }
            "structured_report" => {
                let text = upload.text(field).await?;
                request.structured_report = parse("structured_report", &text)?;
            }
            "key_images" => {
                request.key_images = parse("key_images", &upload.text(field).await?)?;
            }
            "deliver_to" => request.deliver_to.push(upload.text(field).await?),
            "file" => {
                let received = upload.spool(server, field).await?;
                of_files = Some(store(server, received, of_files).await?.study);
            }
            name => {
                return Err(ApiError::invalid(format!(
                    "form field name of {} characters is unknown",
                    name.len()
                )));
            }
        }
    }
    if let (true, Some(study)) = (request.study_uid.is_empty(), of_files) {
        request.study_uid = study.to_string();
    }
    Ok(request)
}

/// Stores one file; all files of a form belong to one study.
pub(super) async fn store(
    server: &Server,
    received: Received,
    study: Option<StudyUid>,
) -> Result<Identity, ApiError> {
    match received {
        Received::Spooled(spooled) => Ok(upload::store(server, spooled, study).await??.identity),
        Received::TooLarge => {
            let max = server.app.config.dicom.instance_size_bytes_max;
            Err(ApiError::new(ErrorKind::TooLarge, format!("file is larger than {max} bytes")))
        }
    }
}

fn parse<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, ApiError> {
    let bad = |_| {
        let length = text.len();
        ApiError::invalid(format!("form field {name} of {length} characters has the wrong type"))
    };
    text.trim().parse().map_err(bad)
}

fn parse_word(text: &str) -> Result<SegmentationType, ApiError> {
    match text.trim() {
        "binary" => Ok(SegmentationType::Binary),
        "labelmap" => Ok(SegmentationType::Labelmap),
        other => Err(ApiError::invalid(format!(
            "form field segmentation_type of {} characters is neither binary nor labelmap",
            other.len()
        ))),
    }
}
