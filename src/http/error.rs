//! Errors of all rooms into replies: the only place that turns kinds into statuses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::error::{ErrorKind, Kind};
use crate::telemetry::error_chain;

/// What a client is told when the fault is ours; the chain goes to the log.
const OUR_FAULT: &str = "the server could not do this; its log has the cause under the request id";
const UNAVAILABLE: &str =
    "something the server needs is missing or busy; its log has the cause under the request id";

/// A problem details document (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`; `kind` is the machine-readable name.
    #[serde(rename = "type")]
    pub type_uri: &'static str,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// Snake-case kind, for example `not_found`.
    #[schema(example = "not_found")]
    pub kind: &'static str,
    /// One sentence that names the thing and the value found.
    #[schema(example = "study 1.2.3 is not stored here")]
    pub detail: String,
    /// What to quote when asking the administrator.
    pub request_id: String,
}

/// The problems of every route that searches.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants document statuses")]
pub(super) enum SearchProblems {
    /// A UID or a parameter is malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The API key is missing or unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The server cannot answer now.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The problems of every route that reads one thing.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants document statuses")]
pub(super) enum ReadProblems {
    /// A UID, an id or a parameter is malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The API key is missing or unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// It does not exist here.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The server cannot answer now.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The problems of every route that stores an upload.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants document statuses")]
pub(super) enum UploadProblems {
    /// The body or a UID is malformed, or there is nothing in the body.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The API key is missing or unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The API key may only read.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The upload was silent for too long.
    #[response(status = 408, content_type = "application/problem+json")]
    Silent(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The content type is not one that is taken.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(Problem),
    /// The server cannot store now, or the queue is full; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// An error on its way to the client; `middleware` writes the document, because it knows the
/// request id, and logs the chain.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    chain: Option<String>,
    warning: Option<&'static str>,
}

impl ApiError {
    /// An error of a kind with its sentence.
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let status = status_of(kind);
        let hidden = match kind {
            ErrorKind::Internal => Some(OUR_FAULT),
            ErrorKind::Unavailable => Some(UNAVAILABLE),
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unsupported
            | ErrorKind::TooLarge
            | ErrorKind::Overloaded
            | ErrorKind::Cancelled => None,
        };
        match hidden {
            Some(fixed) => Self {
                status,
                kind: kind.word(),
                detail: fixed.to_owned(),
                chain: Some(detail),
                warning: None,
            },
            None => Self { status, kind: kind.word(), detail, chain: None, warning: None },
        }
    }

    /// A room's error, with its causes.
    pub(super) fn of(error: &(impl Kind + 'static)) -> Self {
        Self::new(error.kind(), error_chain(error))
    }

    /// The request is malformed.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// A status that HTTP has and the rooms do not know.
    pub(super) fn status(
        status: StatusCode,
        kind: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, kind, detail: detail.into(), chain: None, warning: None }
    }

    /// The same with a `Warning` header, where DICOM wants one beside the status.
    pub(super) fn with_warning(self, warning: &'static str) -> Self {
        Self { warning: Some(warning), ..self }
    }

    pub(super) fn unsupported_media_type(found: &str, wanted: &str) -> Self {
        let detail = match found {
            "" => format!("content type is missing but must be {wanted}"),
            found => format!("content type {found} is not {wanted}"),
        };
        Self::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    pub(super) fn not_acceptable(found: &str, offered: &str) -> Self {
        let detail = format!("none of the accepted types {found} is offered, which are {offered}");
        Self::status(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    }

    pub(super) fn body_too_large(max: u64) -> Self {
        Self::new(ErrorKind::TooLarge, format!("request body is larger than {max} bytes"))
    }

    /// The sentence for the client.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// What goes to the log instead of to the client.
    pub(super) fn chain(&self) -> Option<&str> {
        self.chain.as_deref()
    }

    /// The document and its status.
    pub(super) fn document(&self, request_id: &str) -> Response {
        let problem = Problem {
            type_uri: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            kind: self.kind,
            detail: self.detail.clone(),
            request_id: request_id.to_owned(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        let problem_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_type);
        if let Some(warning) = self.warning
            && let Ok(value) = HeaderValue::from_str(&format!("299 seer \"{warning}\""))
        {
            headers.insert(header::WARNING, value);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl<E: Kind + Send + Sync + 'static> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::Cancelled => StatusCode::CONFLICT,
        ErrorKind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Overloaded | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
