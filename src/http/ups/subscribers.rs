//! Subscribing to work items (PS3.18 §11.10 to §11.12).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem;
use super::read::SubscriberPath;
use crate::http::Server;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::{Parameters, base_url};
use crate::orders::worklist::Target;
use crate::threads::run_blocking;

/// Subscribes to a work item, to the whole worklist (1.2.840.10008.5.1.4.34.5) or to those that
/// match a filter (1.2.840.10008.5.1.4.34.5.1). `Content-Location` names the event channel.
#[utoipa::path(
    post,
    path = "/dicom-web/workitems/{workitem}/subscribers/{aetitle}",
    tag = "worklist",
    params(
        ("workitem" = String, Path, description = "The work item, or one of the two well-known UIDs"),
        ("aetitle" = String, Path, description = "The subscriber's application entity title"),
        ("deletionlock" = Option<bool>, Query, description = "Keep work items until unsubscribed"),
        ("filter" = Option<String>, Query, description = "attribute=value, joined by commas; for the filtered worklist"),
    ),
    responses(
        (status = 201, description = "Subscribed", headers(("Content-Location" = String))),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn subscribe(
    State(server): State<Server>,
    SubscriberPath { target, aet }: SubscriberPath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let lock = match parameter(&parameters, "deletionlock") {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => {
            let length = other.len();
            let detail = format!("deletionlock of {length} characters is neither true nor false");
            return Err(ApiError::invalid(detail));
        }
    };
    let target = match target {
        Target::Filtered(_) => Target::Filtered(read_filter(&parameters)?),
        target => target,
    };
    let (worklist, subscriber) = (server.app.worklist.clone(), aet.clone());
    run_blocking(move || worklist.subscribe(&subscriber, &target, lock)).await?.map_err(problem)?;
    let base = base_url(&server, &headers);
    let channel = base.replacen("http", "ws", 1);
    // A title may hold a space.
    let aet = aet.replace(' ', "%20");
    let channel = format!("{channel}/dicom-web/subscribers/{aet}");
    Ok((StatusCode::CREATED, [(header::CONTENT_LOCATION, channel)]).into_response())
}

fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    let found = parameters.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// The filter, or the other parameters as one, as some clients send it.
fn read_filter(parameters: &Parameters) -> Result<String, ApiError> {
    if let Some(filter) = parameter(parameters, "filter") {
        return Ok(filter.to_owned());
    }
    let others = parameters.0.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("deletionlock"));
    let filter: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    match filter.is_empty() {
        true => Err(ApiError::invalid("filter is missing")),
        false => Ok(filter.join(",")),
    }
}

/// Ends a subscription.
#[utoipa::path(
    delete,
    path = "/dicom-web/workitems/{workitem}/subscribers/{aetitle}",
    tag = "worklist",
    params(
        ("workitem" = String, Path, description = "The work item, or one of the two well-known UIDs"),
        ("aetitle" = String, Path, description = "The subscriber's application entity title"),
    ),
    responses(
        (status = 200, description = "Ended"),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn unsubscribe(
    State(server): State<Server>,
    SubscriberPath { target, aet }: SubscriberPath,
) -> Result<StatusCode, ApiError> {
    let worklist = server.app.worklist.clone();
    run_blocking(move || worklist.unsubscribe(&aet, &target)).await?.map_err(problem)?;
    Ok(StatusCode::OK)
}

/// Subscribes to no further work items of the worklist; those that are there stay subscribed.
#[utoipa::path(
    post,
    path = "/dicom-web/workitems/{workitem}/subscribers/{aetitle}/suspend",
    tag = "worklist",
    params(
        ("workitem" = String, Path, description = "One of the two well-known UIDs"),
        ("aetitle" = String, Path, description = "The subscriber's application entity title"),
    ),
    responses(
        (status = 200, description = "Suspended"),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn suspend(
    State(server): State<Server>,
    SubscriberPath { target, aet }: SubscriberPath,
) -> Result<StatusCode, ApiError> {
    if let Target::Item(_) = target {
        return Err(ApiError::invalid("only a subscription to the worklist can be suspended"));
    }
    let worklist = server.app.worklist.clone();
    run_blocking(move || worklist.suspend(&aet, &target)).await?.map_err(problem)?;
    Ok(StatusCode::OK)
}
