//! WADO-RS: retrieving instances and their metadata (PS3.18 §10.4).

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::multipart::{self, Part, Source};
use super::{DICOM, DICOM_JSON, dicom_json};
use crate::archive::{InstanceRecord, Scope};
use crate::http::Server;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::{ScopePath, accepted, header_text};
use crate::http::media::MediaType;
use crate::threads::run_blocking;

/// Retrieves every instance of a study, as stored.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID")),
    responses(
        (status = 200, description = "One part per instance", content_type = "multipart/related", body = Vec<u8>),
        (status = 406, description = "No accepted type is offered", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn study(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    retrieve(server, scope, headers).await
}

/// Retrieves every instance of a series, as stored.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
    ),
    responses(
        (status = 200, description = "One part per instance", content_type = "multipart/related", body = Vec<u8>),
        (status = 406, description = "No accepted type is offered", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn series(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    retrieve(server, scope, headers).await
}

/// Retrieves one instance, as stored.
///
/// In one part of `multipart/related`, or as the whole body where `application/dicom` is accepted
/// and `multipart/related` is not.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/instances/{instance}",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
        ("instance" = String, Path, description = "SOP Instance UID"),
    ),
    responses(
        (status = 200, description = "The instance", content(
            (Vec<u8> = "multipart/related"),
            (Vec<u8> = "application/dicom"),
        )),
        (status = 406, description = "No accepted type is offered", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn instance(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    retrieve(server, scope, headers).await
}

/// Retrieves the metadata of every instance of a study, without bulk data.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/metadata",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID")),
    responses(
        (status = 200, description = "One object per instance", content_type = "application/dicom+json", body = Vec<Object>),
        (status = 406, description = "DICOM JSON is not accepted", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn study_metadata(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    metadata(server, scope, headers).await
}

/// Retrieves the metadata of every instance of a series, without bulk data.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/metadata",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
    ),
    responses(
        (status = 200, description = "One object per instance", content_type = "application/dicom+json", body = Vec<Object>),
        (status = 406, description = "DICOM JSON is not accepted", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn series_metadata(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    metadata(server, scope, headers).await
}

/// Retrieves the metadata of one instance, without bulk data.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/instances/{instance}/metadata",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
        ("instance" = String, Path, description = "SOP Instance UID"),
    ),
    responses(
        (status = 200, description = "One object", content_type = "application/dicom+json", body = Vec<Object>),
        (status = 406, description = "DICOM JSON is not accepted", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn instance_metadata(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    metadata(server, scope, headers).await
}

/// How instances are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Multipart,
    WholeBody,
}

async fn retrieve(server: Server, scope: Scope, headers: HeaderMap) -> Result<Response, ApiError> {
    let is_one = scope.instance.is_some();
    let archive = server.app.archive.clone();
    let records = run_blocking(move || archive.instances(&scope)).await??;
    let chosen = accepted(&headers).iter().find_map(|media| form(media, is_one, &records));
    let Some(form) = chosen else {
        let offered = "multipart/related; type=\"application/dicom\", and application/dicom for \
                       one instance, in the transfer syntax that is stored";
        return Err(ApiError::not_acceptable(header_text(&headers, header::ACCEPT), offered));
    };
    let mut records = records.into_iter();
    match (form, records.next()) {
        (Form::WholeBody, Some(record)) => Ok(whole_body(record)),
        (_, first) => {
            Ok(multipart::reply(DICOM, first.into_iter().chain(records).map(part).collect()))
        }
    }
}

/// What a range of the Accept header asks for, if it can be had. Instances are sent as stored, so
/// a range that asks for one transfer syntax must name theirs.
fn form(media: &MediaType, is_one: bool, records: &[InstanceRecord]) -> Option<Form> {
    let wanted = media.parameter("transfer-syntax").filter(|wanted| *wanted != "*");
    let same = |record: &InstanceRecord| Some(&*record.transfer_syntax_uid) == wanted;
    if wanted.is_some() && !records.iter().all(same) {
        return None;
    }
    if media.covers("multipart/related") {
        return media.root_covers(DICOM).then_some(Form::Multipart);
    }
    (is_one && media.covers(DICOM)).then_some(Form::WholeBody)
}

fn part(record: InstanceRecord) -> Part {
    let content_type = format!("{DICOM}; transfer-syntax={}", record.transfer_syntax_uid);
    Part { content_type, source: Source::File(record.path) }
}

/// One instance as the whole body.
pub(in crate::http) fn whole_body(record: InstanceRecord) -> Response {
    let name = format!("attachment; filename=\"{}.dcm\"", record.sop_instance);
    let headers = [
        (header::CONTENT_TYPE, DICOM.to_owned()),
        (header::CONTENT_LENGTH, record.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    (headers, multipart::file(record.path)).into_response()
}

/// OHIF accepts several types in one header, so any range that covers JSON will do.
async fn metadata(server: Server, scope: Scope, headers: HeaderMap) -> Result<Response, ApiError> {
    let json = |media: &MediaType| media.covers(DICOM_JSON) || media.covers("application/json");
    if !accepted(&headers).iter().any(json) {
        let found = header_text(&headers, header::ACCEPT);
        return Err(ApiError::not_acceptable(found, DICOM_JSON));
    }
    let archive = server.app.archive.clone();
    let objects = run_blocking(move || archive.metadata(&scope)).await??;
    Ok(dicom_json(format!("[{}]", objects.join(","))))
}
