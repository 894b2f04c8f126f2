//! What UPS-RS requests say.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::dicom::SopInstanceUid;
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{Parameters, header_text, read_json};
use crate::http::media::MediaType;
use crate::orders::worklist::{Attributes, Target, WorkitemQuery};

pub(super) const DICOM_JSON: &str = "application/dicom+json";

/// `{workitem}` of the path.
pub(super) struct WorkitemPath(pub(super) SopInstanceUid);

impl<S: Send + Sync> FromRequestParts<S> for WorkitemPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names = names(parts, state).await?;
        let uid = names.get("workitem").map(String::as_str).unwrap_or_default();
        Ok(Self(SopInstanceUid::parse(uid)?))
    }
}

/// `{workitem}` and `{aetitle}` of the path: what is subscribed to, and by whom.
pub(super) struct SubscriberPath {
    pub(super) target: Target,
    pub(super) aet: String,
}

impl<S: Send + Sync> FromRequestParts<S> for SubscriberPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names = names(parts, state).await?;
        let name = |key| names.get(key).map(String::as_str).unwrap_or_default();
        let target = match name("workitem") {
            Target::WORKLIST_UID => Target::Worklist,
            Target::FILTERED_UID => Target::Filtered(String::new()),
            uid => Target::Item(SopInstanceUid::parse(uid)?),
        };
        Ok(Self { target, aet: check_aet(name("aetitle"))? })
    }
}

/// Checks an application entity title (PS3.5 §6.2).
pub(super) fn check_aet(title: &str) -> Result<String, ApiError> {
    let title = title.trim();
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'\\';
    match (1..=16).contains(&title.len()) && title.bytes().all(plain) {
        true => Ok(title.to_owned()),
        false => Err(ApiError::invalid(format!(
            "application entity title of {} bytes is not 1 to 16 plain characters",
            title.len()
        ))),
    }
}

async fn names<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<HashMap<String, String>, ApiError> {
    let names = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
    names.map(|Path(names)| names).map_err(|_| ApiError::invalid("path is not UTF-8"))
}

/// Reads a body with one set of attributes, alone or in an array.
pub(super) async fn read_attributes(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<Attributes, ApiError> {
    let content_type = header_text(headers, header::CONTENT_TYPE);
    let essence = MediaType::parse(content_type).map(|media| media.essence).unwrap_or_default();
    if essence != DICOM_JSON && essence != "application/json" {
        return Err(ApiError::unsupported_media_type(content_type, DICOM_JSON));
    }
    let value: Value = read_json(headers, body, server.settings().json_size_bytes_max).await?;
    let mut values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let count = values.len();
    match values.pop() {
        Some(Value::Object(attributes)) if count == 1 => Ok(attributes),
        Some(_) if count == 1 => Err(ApiError::invalid("request body is not a data set")),
        _ => Err(ApiError::invalid(format!("request body has {count} data sets, not 1"))),
    }
}

/// The same, or nothing when the body is empty.
pub(super) async fn read_optional_attributes(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<Attributes, ApiError> {
    let is_empty = header_text(headers, header::CONTENT_LENGTH) == "0"
        || !headers.contains_key(header::CONTENT_TYPE);
    match is_empty {
        true => Ok(Attributes::new()),
        false => read_attributes(server, headers, body).await,
    }
}

/// `AffectedSOPInstanceUID`, or the bare UID that PS3.18 §11.4.1 shows.
pub(super) fn affected_uid(parameters: &Parameters) -> Result<Option<SopInstanceUid>, ApiError> {
    let named = parameters
        .0
        .iter()
        .find(|(name, _)| matches!(name.as_str(), "AffectedSOPInstanceUID" | "workitem"));
    let bare = parameters.0.iter().find(|(_, value)| value.is_empty());
    let uid = named.map(|(_, value)| value).or(bare.map(|(name, _)| name));
    Ok(uid.map(|uid| SopInstanceUid::parse(uid)).transpose()?)
}

/// `transaction`, or the bare UID.
pub(super) fn transaction(parameters: &Parameters) -> Option<String> {
    let named = parameters.0.iter().find(|(name, _)| {
        matches!(name.as_str(), "transaction" | "transaction-uid" | "transactionUID")
    });
    let bare = parameters.0.iter().find(|(_, value)| value.is_empty());
    named.map(|(_, value)| value.clone()).or(bare.map(|(name, _)| name.clone()))
}

/// A search.
pub(super) fn query(parameters: &Parameters) -> Result<WorkitemQuery, ApiError> {
    let limit = parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX);
    let mut query = WorkitemQuery::page(limit, parameters.number("offset", 0)?);
    for (name, value) in &parameters.0 {
        match name.as_str() {
            "limit" | "offset" | "includefield" | "fuzzymatching" => {}
            name if query.require(name, value) => {}
            name => {
                let length = name.len();
                return Err(ApiError::invalid(format!(
                    "query parameter of {length} characters is no attribute"
                )));
            }
        }
    }
    Ok(query)
}
