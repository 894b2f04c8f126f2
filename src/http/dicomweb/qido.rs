//! QIDO-RS: searching (PS3.18 §10.6).

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use dicom_dictionary_std::tags;
use serde_json::{Map, Value, json};

use super::{dicom_json, with_warning};
use crate::archive::{Attribute, Condition, Level, Query, Scope, json_key};
use crate::http::Server;
use crate::http::error::{ApiError, SearchProblems};
use crate::http::extract::{Parameters, ScopePath, base_url};
use crate::threads::run_blocking;

/// Most results of one search when the client names no limit …
const LIMIT_DEFAULT: usize = 1000;
/// … and when it does.
const LIMIT_MAX: usize = 10_000;

/// What the query string of every search may hold.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documents parameters that are read as pairs")]
struct SearchParameters {
    /// Most results.
    limit: Option<usize>,
    /// Results to skip.
    offset: Option<usize>,
    /// Tolerated; every indexed attribute is always in the results.
    includefield: Option<String>,
    /// Tolerated with a warning; names are matched by wildcards instead.
    fuzzymatching: Option<bool>,
    /// One of the attributes that can be searched, by keyword or tag, for example
    /// `PatientName=A*`, `StudyDate=20200101-20201231` or `00080060=CT`.
    #[param(rename = "PatientName")]
    attribute: Option<String>,
}

/// Searches for studies.
#[utoipa::path(
    get,
    path = "/dicom-web/studies",
    tag = "dicomweb",
    params(SearchParameters),
    responses(
        (status = 200, description = "Studies that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_studies(
    State(server): State<Server>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Study, scope: None };
    search(server, headers, parameters, within).await
}

/// Searches for series of any study.
#[utoipa::path(
    get,
    path = "/dicom-web/series",
    tag = "dicomweb",
    params(SearchParameters),
    responses(
        (status = 200, description = "Series that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_all_series(
    State(server): State<Server>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Series, scope: None };
    search(server, headers, parameters, within).await
}

/// Searches for instances of any study.
#[utoipa::path(
    get,
    path = "/dicom-web/instances",
    tag = "dicomweb",
    params(SearchParameters),
    responses(
        (status = 200, description = "Instances that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_all_instances(
    State(server): State<Server>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Instance, scope: None };
    search(server, headers, parameters, within).await
}

/// Searches for series of a study.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID"), SearchParameters),
    responses(
        (status = 200, description = "Series that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_series(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Series, scope: Some(scope) };
    search(server, headers, parameters, within).await
}

/// Searches for instances of a study.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/instances",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID"), SearchParameters),
    responses(
        (status = 200, description = "Instances that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_study_instances(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Instance, scope: Some(scope) };
    search(server, headers, parameters, within).await
}

/// Searches for instances of a series.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/instances",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID"), ("series" = String, Path, description = "Series Instance UID"), SearchParameters),
    responses(
        (status = 200, description = "Instances that match, possibly none", content_type = "application/dicom+json", body = Vec<Object>),
        SearchProblems,
    )
)]
pub(super) async fn search_instances(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let within = Within { level: Level::Instance, scope: Some(scope) };
    search(server, headers, parameters, within).await
}

/// What a search looks for, and where.
struct Within {
    level: Level,
    scope: Option<Scope>,
}

async fn search(
    server: Server,
    headers: HeaderMap,
    parameters: Parameters,
    within: Within,
) -> Result<Response, ApiError> {
    let base = base_url(&server, &headers);
    let (mut query, warnings) = read_query(&parameters, within)?;
    let (level, limit) = (query.level, query.limit);
    // One more than asked for tells whether there are more.
    query.limit += 1;
    let archive = server.app.archive.clone();
    let mut found = run_blocking(move || archive.search(&query)).await??;
    let more = found.len() > limit;
    found.truncate(limit);
    let results: Vec<Value> =
        found.into_iter().map(|result| Value::Object(with_url(result, level, &base))).collect();
    let mut response = dicom_json(Value::Array(results).to_string());
    for warning in &warnings {
        response = with_warning(response, warning);
    }
    if more {
        // The words of PS3.18 §8.3.4.4.
        response = with_warning(response, "There are additional results that can be requested");
    }
    Ok(response)
}

/// The query, and what of it is not done as asked.
fn read_query(parameters: &Parameters, within: Within) -> Result<(Query, Vec<String>), ApiError> {
    let mut warnings = Vec::new();
    let mut conditions = Vec::new();
    for (name, value) in &parameters.0 {
        match name.as_str() {
            "limit" | "offset" | "includefield" => {}
            "fuzzymatching" if value == "true" => warnings.push(
                "The fuzzymatching parameter is not supported. Only literal matching has been \
                 performed."
                    .to_owned(),
            ),
            "fuzzymatching" => {}
            "ModalitiesInStudy" | "00080061" => {
                let any_of = value.split(['\\', ',']).map(str::trim);
                let any_of = any_of.filter(|modality| !modality.is_empty());
                conditions.extend(any_of.map(|m| Condition::ModalityInStudy(m.to_owned())));
            }
            name => match Attribute::find(name) {
                Some(attribute) => {
                    conditions.push(Condition::Matches { attribute, value: value.clone() });
                }
                None => warnings.push(format!(
                    "One of the parameters, {} characters long, names no attribute that can be \
                     searched, and was ignored",
                    name.len()
                )),
            },
        }
    }
    let limit = parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX);
    let offset = parameters.number("offset", 0)?;
    let (study, series) = match within.scope {
        Some(scope) => (Some(scope.study), scope.series),
        None => (None, None),
    };
    let level = within.level;
    Ok((Query { level, study, series, conditions, limit, offset }, warnings))
}

/// Adds Retrieve URL (0008,1190) of the result itself.
fn with_url(mut result: Map<String, Value>, level: Level, base: &str) -> Map<String, Value> {
    let uid = |tag| result[&json_key(tag)]["Value"][0].as_str().unwrap_or_default().to_owned();
    let mut url = format!("{base}/dicom-web/studies/{}", uid(tags::STUDY_INSTANCE_UID));
    if level >= Level::Series {
        url.push_str("/series/");
        url.push_str(&uid(tags::SERIES_INSTANCE_UID));
    }
    if level >= Level::Instance {
        url.push_str("/instances/");
        url.push_str(&uid(tags::SOP_INSTANCE_UID));
    }
    result.insert(json_key(tags::RETRIEVE_URL), json!({ "vr": "UR", "Value": [url] }));
    result
}
