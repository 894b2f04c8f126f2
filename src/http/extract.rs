//! What handlers take from a request, with refusals in our own words.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Server;
use super::error::ApiError;
use super::media::MediaType;
use crate::archive::Scope;
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::error::ErrorKind;

/// `{study}`, `{series}` and `{instance}` of the path, checked.
pub(super) struct ScopePath(pub(super) Scope);

impl<S: Send + Sync> FromRequestParts<S> for ScopePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names = path_names(parts, state).await?;
        let name = |key| names.get(key).map(String::as_str);
        let study = StudyUid::parse(name("study").unwrap_or_default())?;
        let series = name("series").map(SeriesUid::parse).transpose()?;
        let instance = name("instance").map(SopInstanceUid::parse).transpose()?;
        Ok(Self(Scope { study, series, instance }))
    }
}

/// `{id}` of the path: an order.
pub(super) struct OrderPath(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for OrderPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names = path_names(parts, state).await?;
        let id = names.get("id").map(String::as_str).unwrap_or_default();
        let parsed = Uuid::try_parse(id);
        parsed.map(Self).map_err(|_| {
            ApiError::invalid(format!("order id of {} characters is not a UUID", id.len()))
        })
    }
}

/// An instance and `{frames}` of it.
pub(super) struct FramesPath {
    pub(super) scope: Scope,
    pub(super) list: String,
}

impl<S: Send + Sync> FromRequestParts<S> for FramesPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let ScopePath(scope) = ScopePath::from_request_parts(parts, state).await?;
        let list = path_names(parts, state).await?.remove("frames").unwrap_or_default();
        Ok(Self { scope, list })
    }
}

/// An instance and `{bulk}` of it.
pub(super) struct BulkPath {
    pub(super) scope: Scope,
    pub(super) bulk: String,
}

impl<S: Send + Sync> FromRequestParts<S> for BulkPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let ScopePath(scope) = ScopePath::from_request_parts(parts, state).await?;
        let bulk = path_names(parts, state).await?.remove("bulk").unwrap_or_default();
        Ok(Self { scope, bulk })
    }
}

/// An order and `{name}` of one of its artefacts.
pub(super) struct ArtefactPath {
    pub(super) id: Uuid,
    pub(super) name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for ArtefactPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let OrderPath(id) = OrderPath::from_request_parts(parts, state).await?;
        let name = path_names(parts, state).await?.remove("name").unwrap_or_default();
        Ok(Self { id, name })
    }
}

async fn path_names<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<HashMap<String, String>, ApiError> {
    let names = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
    names.map(|Path(names)| names).map_err(|_| ApiError::invalid("path is not UTF-8"))
}

/// The query string as pairs, in order.
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let bad = |_| ApiError::invalid("query string is not a list of name=value pairs");
        pairs.map(|Query(pairs)| Self(pairs)).map_err(bad)
    }
}

impl Parameters {
    /// A parameter's number, or a default.
    pub(super) fn number(&self, name: &str, default: usize) -> Result<usize, ApiError> {
        match self.0.iter().find(|(key, _)| key == name) {
            None => Ok(default),
            Some((_, value)) => value.parse().map_err(|_| {
                ApiError::invalid(format!("{name} of {} characters is not a number", value.len()))
            }),
        }
    }
}

/// A header's text, or nothing.
pub(super) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// All `Accept` headers, best type first.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<MediaType> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    MediaType::parse_list(&values.collect::<Vec<_>>().join(","))
}

/// Where clients reach this server, without a slash at the end.
pub(super) fn base_url(server: &Server, headers: &HeaderMap) -> String {
    match &server.settings().public_base_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => match header_text(headers, header::HOST) {
            "" => String::new(),
            host => format!("http://{host}"),
        },
    }
}

/// Refuses a body that says it is too long before reading any of it.
pub(super) fn check_length(headers: &HeaderMap, max: u64) -> Result<(), ApiError> {
    let declared = header_text(headers, header::CONTENT_LENGTH).parse::<u64>().ok();
    if declared.is_some_and(|length| length > max) {
        return Err(ApiError::body_too_large(max));
    }
    Ok(())
}

/// Reads a whole body of at most `max` bytes.
pub(super) async fn read_body(body: Body, max: u64) -> Result<Bytes, ApiError> {
    let limit = usize::try_from(max).unwrap_or(usize::MAX);
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::body_too_large(max)),
        Err(_) => Err(ApiError::invalid("request body ended early")),
    }
}

/// Reads a JSON body; what is wrong is told with line and column, never with the text found.
pub(super) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    max: u64,
) -> Result<T, ApiError> {
    check_length(headers, max)?;
    let bytes = read_body(body, max).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => describe(&error),
            serde_json::error::Category::Syntax => "is not JSON".to_owned(),
            serde_json::error::Category::Eof => "ends early".to_owned(),
            serde_json::error::Category::Io => "cannot be read".to_owned(),
        };
        let (line, column) = (error.line(), error.column());
        let detail = format!("request body at line {line} column {column} {problem}");
        ApiError::new(ErrorKind::Invalid, detail)
    })
}

/// Serde's words for a missing, unknown or mistyped field, without the value it quotes.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match text.split_once(": ") {
        Some(("invalid type" | "invalid value", rest)) => {
            let expected = rest.rsplit_once("expected ").map_or("something else", |(_, e)| e);
            format!("has a value of the wrong type, expected {expected}")
        }
        _ => format!("is refused: {text}"),
    }
}
