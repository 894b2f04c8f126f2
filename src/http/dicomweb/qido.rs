//! QIDO-RS: searching (PS3.18 §10.6).

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use dicom_dictionary_std::tags;
use serde_json::{Map, Value, json};

use super::resource::{ROOT, Resource, SEARCH_STATUSES};
use super::{DICOM_JSON, DICOM_XML, dicom_json, with_warning, xml};
use crate::archive::{Attribute, Condition, Include, Level, Query, Scope, json_key, tag_named};
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{Parameters, ScopePath, accepted, base_url, header_text};
use crate::http::media::MediaType;
use crate::threads::run_blocking;

/// Most results of one search when the client names no limit …
const LIMIT_DEFAULT: usize = 1000;
/// … and when it does.
const LIMIT_MAX: usize = 10_000;

/// How many results there are in all, when that is known.
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

const PARAMETERS: &[(&str, &str)] = &[
    ("limit", "Most results; 1000 without it, 10000 at most"),
    ("offset", "Results to skip"),
    ("includefield", "Attributes to tell besides the indexed ones: keywords, tags or all"),
    ("fuzzymatching", "true: words of names match by their beginning or sound, in any order"),
    (
        "PatientName",
        "One of the attributes that can be searched, by keyword or tag, for example PatientName=A*, \
         StudyDate=20200101-20201231, 00080060=CT or 00400275.00400009=SPS1",
    ),
];

/// The six resources of PS3.18 Table 10.6.1-1.
pub(super) fn resources() -> Vec<(Resource, MethodRouter<Server>)> {
    use Level::{Instance, Series, Study};
    let table = [
        (Study, "/studies", "search_studies", "Searches for studies."),
        (Series, "/series", "search_all_series", "Searches for series of any study."),
        (Instance, "/instances", "search_all_instances", "Searches for instances of any study."),
        (Series, "/studies/{study}/series", "search_series", "Searches for series of a study."),
        (
            Instance,
            "/studies/{study}/instances",
            "search_study_instances",
            "Searches for instances of a study.",
        ),
        (
            Instance,
            "/studies/{study}/series/{series}/instances",
            "search_instances",
            "Searches for instances of a series.",
        ),
    ];
    let resource = |(level, path, id, summary): (Level, &str, &str, &str)| {
        let resource = Resource {
            transaction: "Search",
            description: "Answers 200 with an empty array when nothing matches.",
            gives: &[DICOM_JSON, DICOM_XML],
            parameters: PARAMETERS,
            statuses: SEARCH_STATUSES,
            ..Resource::get(format!("{ROOT}{path}"), id.to_owned(), summary.to_owned())
        };
        (resource, handler(level, path.contains("{study}")))
    };
    table.into_iter().map(resource).collect()
}

fn handler(level: Level, has_scope: bool) -> MethodRouter<Server> {
    match has_scope {
        true => get(
            async move |State(server): State<Server>,
                        ScopePath(scope): ScopePath,
                        parameters: Parameters,
                        headers: HeaderMap| {
                search(server, headers, parameters, Within { level, scope: Some(scope) }).await
            },
        ),
        false => get(
            async move |State(server): State<Server>,
                        parameters: Parameters,
                        headers: HeaderMap| {
                search(server, headers, parameters, Within { level, scope: None }).await
            },
        ),
    }
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
    let as_xml = wants_xml(&headers)?;
    let base = base_url(&server, &headers);
    let (query, mut warnings) = read_query(&parameters, within)?;
    let (level, limit, offset) = (query.level, query.limit, query.offset);
    let archive = server.app.archive.clone();
    let (found, total) = run_blocking(move || {
        // One more than asked for tells whether there are more; only then are they counted.
        let mut found = archive.search(&Query { limit: limit + 1, ..query.clone() })?;
        let total = match found.len() > limit || (found.is_empty() && offset > 0) {
            true => archive.count(&query)?,
            false => (offset + found.len()) as u64,
        };
        found.truncate(limit);
        Ok::<_, crate::archive::ArchiveError>((found, total))
    })
    .await??;
    let remaining = total.saturating_sub((offset + found.len()) as u64);
    if remaining > 0 {
        // The words of PS3.18 §8.3.4.4.
        warnings.push(format!("There are {remaining} additional results that can be requested"));
    }
    let results = found.into_iter().map(|result| with_url(result, level, &base));
    let mut response = match as_xml {
        true => xml::reply(results)?,
        false => dicom_json(Value::Array(results.map(Value::Object).collect()).to_string()),
    };
    response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(total));
    Ok(warnings.iter().fold(response, |response, warning| with_warning(response, warning)))
}

/// JSON wherever it is accepted, XML in `multipart/related` otherwise.
pub(super) fn wants_xml(headers: &HeaderMap) -> Result<bool, ApiError> {
    let json = |media: &MediaType| media.covers(DICOM_JSON) || media.covers("application/json");
    let xml = |media: &MediaType| {
        media.covers("multipart/related") && media.root_covers(DICOM_XML) || media.covers(DICOM_XML)
    };
    let media = accepted(headers);
    match media.iter().find_map(
        |media| {
            if json(media) { Some(false) } else { xml(media).then_some(true) }
        },
    ) {
        Some(as_xml) => Ok(as_xml),
        None => {
            let offered = "application/dicom+json and multipart/related; \
                           type=\"application/dicom+xml\"";
            Err(ApiError::not_acceptable(header_text(headers, header::ACCEPT), offered))
        }
    }
}

/// The query, and what of it is not done as asked.
fn read_query(parameters: &Parameters, within: Within) -> Result<(Query, Vec<String>), ApiError> {
    let mut warnings = Vec::new();
    let mut conditions = Vec::new();
    let mut include = Include::Indexed;
    let is_fuzzy = parameters
        .0
        .iter()
        .any(|(name, value)| name == "fuzzymatching" && value.eq_ignore_ascii_case("true"));
    for (name, value) in &parameters.0 {
        match name.as_str() {
            "limit" | "offset" | "fuzzymatching" => {}
            "includefield" => add_fields(value, &mut include, &mut warnings),
            "ModalitiesInStudy" | "00080061" => conditions.extend(modalities(value)),
            name => match Attribute::find(name) {
                Some(attribute) => conditions.push(condition(attribute, value, is_fuzzy)),
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
    Ok((Query { level, study, series, conditions, include, limit, offset }, warnings))
}

fn condition(attribute: &'static Attribute, value: &str, is_fuzzy: bool) -> Condition {
    let value = value.to_owned();
    match is_fuzzy && attribute.vr == dicom_core::VR::PN {
        true => Condition::Fuzzy { attribute, value },
        false => Condition::Matches { attribute, value },
    }
}

/// Viewers join modalities by commas or backslashes, and mean any of them.
fn modalities(value: &str) -> Option<Condition> {
    let any_of = value.split(['\\', ',']).map(|modality| modality.trim().to_owned());
    let any_of: Vec<String> = any_of.filter(|modality| !modality.is_empty()).collect();
    (!any_of.is_empty()).then_some(Condition::ModalityInStudy(any_of))
}

/// Adds the attributes of one `includefield`, of which there may be several.
fn add_fields(value: &str, include: &mut Include, warnings: &mut Vec<String>) {
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if name.eq_ignore_ascii_case("all") {
            *include = Include::All;
            continue;
        }
        // Of an attribute inside a sequence the whole sequence is told.
        let top = name.split('.').next().unwrap_or_default();
        match (tag_named(top), &mut *include) {
            (Some(_), Include::All) => {}
            (Some(tag), Include::Tags(tags)) => tags.push(tag),
            (Some(tag), Include::Indexed) => *include = Include::Tags(vec![tag]),
            (None, _) => warnings.push(format!(
                "One of the fields to include, {} characters long, names no attribute, and was \
                 ignored",
                name.len()
            )),
        }
    }
}

/// Adds Retrieve URL (0008,1190) of the result itself.
fn with_url(mut result: Map<String, Value>, level: Level, base: &str) -> Map<String, Value> {
    let uid = |tag| result[&json_key(tag)]["Value"][0].as_str().unwrap_or_default().to_owned();
    let mut url = format!("{base}{ROOT}/studies/{}", uid(tags::STUDY_INSTANCE_UID));
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
