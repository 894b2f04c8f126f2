//! The worklist over DICOMweb: UPS-RS (PS3.18 §11) under `/dicom-web/workitems`.
//!
//! Work items travel as DICOM JSON. How one becomes an order is said in `orders::worklist`.

mod channel;
mod read;
mod subscribers;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::error::{ApiError, Problem, ReadProblems, SearchProblems};
use super::extract::{Parameters, base_url};
use crate::orders::worklist::{State as StepState, WorklistError};
use crate::threads::run_blocking;
use read::{DICOM_JSON, WorkitemPath, read_attributes};

/// Most work items in one answer when the client names no limit …
const LIMIT_DEFAULT: usize = 100;
/// … and when it does.
const LIMIT_MAX: usize = 1000;

const STATE: &str = "00741000";
const TRANSACTION_UID: &str = "00081195";

/// Routes that answer at once.
pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(create, search))
        .routes(routes!(retrieve, update))
        .routes(routes!(change_state))
        .routes(routes!(request_cancel))
        .routes(routes!(subscribers::subscribe, subscribers::unsubscribe))
        .routes(routes!(subscribers::suspend))
}

/// The event channel, which stays open.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(channel::open))
}

/// Creates a work item (PS3.18 §11.4). One that is addressed to this server becomes an order.
#[utoipa::path(
    post,
    path = "/dicom-web/workitems",
    tag = "worklist",
    params(("AffectedSOPInstanceUID" = Option<String>, Query, description = "The work item's UID; made here when absent")),
    request_body(content = Object, content_type = "application/dicom+json", description = "The work item, alone or in an array"),
    responses(
        (status = 201, description = "Created; `Location` names it", headers(("Location" = String))),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "There is one with this UID", content_type = "application/problem+json", body = Problem),
        (status = 415, description = "The body is not DICOM JSON", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
async fn create(
    State(server): State<Server>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let uid = read::affected_uid(&parameters)?;
    let attributes = read_attributes(&server, &headers, body).await?;
    let worklist = server.app.worklist.clone();
    let uid = run_blocking(move || worklist.create(uid, attributes)).await?.map_err(problem)?;
    let location = format!("{}/dicom-web/workitems/{uid}", base_url(&server, &headers));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// Searches for work items (PS3.18 §11.9): any attribute, also within sequences
/// (`00404025.00080100=SEER`), with wildcards and ranges.
#[utoipa::path(
    get,
    path = "/dicom-web/workitems",
    tag = "worklist",
    params(
        ("limit" = Option<usize>, Query, description = "Most work items, 1000 at most"),
        ("offset" = Option<usize>, Query, description = "Work items to skip"),
        ("includefield" = Option<String>, Query, description = "Accepted; every attribute is included"),
        ("ProcedureStepState" = Option<String>, Query, description = "Any attribute by keyword or tag"),
    ),
    responses(
        (status = 200, description = "The work items, oldest first; `Warning` when there are more", content_type = "application/dicom+json", body = Object),
        SearchProblems,
    )
)]
async fn search(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let query = read::query(&parameters)?;
    let worklist = server.app.worklist.clone();
    let (found, more) = run_blocking(move || worklist.search(&query)).await?.map_err(problem)?;
    let found: Vec<Value> = found.into_iter().map(Value::Object).collect();
    let mut response = json(&Value::Array(found));
    if more {
        // PS3.18 §8.3.4.3.
        warn(&mut response, "There are additional results that can be requested");
    }
    Ok(response)
}

/// Retrieves a work item, without its Transaction UID (PS3.18 §11.5).
#[utoipa::path(
    get,
    path = "/dicom-web/workitems/{workitem}",
    tag = "worklist",
    params(("workitem" = String, Path, description = "Its SOP Instance UID")),
    responses(
        (status = 200, description = "The work item", content_type = "application/dicom+json", body = Object),
        ReadProblems,
    )
)]
async fn retrieve(
    State(server): State<Server>,
    WorkitemPath(uid): WorkitemPath,
) -> Result<Response, ApiError> {
    let worklist = server.app.worklist.clone();
    let attributes = run_blocking(move || worklist.retrieve(&uid)).await?.map_err(problem)?;
    Ok(json(&Value::Array(vec![Value::Object(attributes)])))
}

/// Changes attributes of a work item (PS3.18 §11.6). One in progress needs the Transaction UID of
/// its performer, as `transaction` in the query or (0008,1195) in the body.
#[utoipa::path(
    post,
    path = "/dicom-web/workitems/{workitem}",
    tag = "worklist",
    params(
        ("workitem" = String, Path, description = "Its SOP Instance UID"),
        ("transaction" = Option<String>, Query, description = "The performer's Transaction UID"),
    ),
    request_body(content = Object, content_type = "application/dicom+json", description = "The attributes that change"),
    responses(
        (status = 200, description = "Changed"),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is completed or cancelled", content_type = "application/problem+json", body = Problem),
        (status = 415, description = "The body is not DICOM JSON", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn update(
    State(server): State<Server>,
    WorkitemPath(uid): WorkitemPath,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let mut changes = read_attributes(&server, &headers, body).await?;
    let in_body = changes.remove(TRANSACTION_UID);
    let in_body = in_body.as_ref().and_then(|uid| uid.pointer("/Value/0")?.as_str());
    let transaction = read::transaction(&parameters).or(in_body.map(str::to_owned));
    let worklist = server.app.worklist.clone();
    run_blocking(move || worklist.update(&uid, transaction.as_deref(), changes))
        .await?
        .map_err(problem)?;
    Ok(StatusCode::OK)
}

/// Changes the state of a work item (PS3.18 §11.7): claims it with a Transaction UID of the
/// performer's own, completes or cancels it with the same.
#[utoipa::path(
    put,
    path = "/dicom-web/workitems/{workitem}/state",
    tag = "worklist",
    params(("workitem" = String, Path, description = "Its SOP Instance UID")),
    request_body(content = Object, content_type = "application/dicom+json", description = "Transaction UID (0008,1195) and Procedure Step State (0074,1000)"),
    responses(
        (status = 200, description = "Changed; `Warning` when it was so already"),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "Its state does not allow this, or a final state lacks an attribute", content_type = "application/problem+json", body = Problem),
        (status = 415, description = "The body is not DICOM JSON", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn change_state(
    State(server): State<Server>,
    WorkitemPath(uid): WorkitemPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let request = read_attributes(&server, &headers, body).await?;
    let text = |key: &str| request.get(key)?.pointer("/Value/0")?.as_str().map(str::trim);
    let target = text(STATE).and_then(StepState::parse);
    let target = target.ok_or_else(|| {
        ApiError::invalid("attribute 00741000 is none of IN PROGRESS, COMPLETED, CANCELED")
    })?;
    let transaction = text(TRANSACTION_UID).ok_or(WorklistError::NoTransaction).map_err(problem)?;
    let (worklist, transaction) = (server.app.worklist.clone(), transaction.to_owned());
    let changed = run_blocking(move || worklist.change_state(&uid, target, &transaction));
    let mut response = StatusCode::OK.into_response();
    if let Some(warning) = changed.await?.map_err(problem)? {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// Asks that a work item be cancelled (PS3.18 §11.8): one that is scheduled is cancelled, the
/// performer of one in progress is told.
#[utoipa::path(
    post,
    path = "/dicom-web/workitems/{workitem}/cancelrequest",
    tag = "worklist",
    params(("workitem" = String, Path, description = "Its SOP Instance UID")),
    request_body(content = Object, content_type = "application/dicom+json", description = "Reason and contact, or nothing"),
    responses(
        (status = 202, description = "Taken on; `Warning` when it is cancelled already"),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is completed, or its performer cannot be told", content_type = "application/problem+json", body = Problem),
        (status = 415, description = "The body is not DICOM JSON", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn request_cancel(
    State(server): State<Server>,
    WorkitemPath(uid): WorkitemPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let request = read::read_optional_attributes(&server, &headers, body).await?;
    let worklist = server.app.worklist.clone();
    let asked = run_blocking(move || worklist.request_cancel(&uid, &request)).await?;
    let mut response = StatusCode::ACCEPTED.into_response();
    if let Some(warning) = asked.map_err(problem)? {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// A reply in DICOM JSON.
fn json(value: &Value) -> Response {
    let json = HeaderValue::from_static(DICOM_JSON);
    ([(header::CONTENT_TYPE, json)], value.to_string()).into_response()
}

fn warn(response: &mut Response, text: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("299 seer \"{text}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// A worklist error with the warning that PS3.18 §11 wants beside the status.
fn problem(error: WorklistError) -> ApiError {
    let warning = match &error {
        WorklistError::NoTransaction => Some("The Transaction UID is missing."),
        WorklistError::WrongTransaction => Some("The Transaction UID is incorrect."),
        WorklistError::WrongState { .. } => Some(
            "The submitted request is inconsistent with the current state of the UPS Instance.",
        ),
        WorklistError::Unfinished { .. } => {
            Some("The UPS Instance does not meet the requirements of the final state.")
        }
        WorklistError::Unreachable { .. } => Some("The performer cannot be contacted."),
        _ => None,
    };
    let problem = ApiError::of(&error);
    match warning {
        Some(warning) => problem.with_warning(warning),
        None => problem,
    }
}
