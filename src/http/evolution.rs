//! Rounds of SEER-Loop under `/api/v1/evolution`. Reading takes any key; starting, steering and
//! adopting takes an administrator's.

mod events;
mod wire;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::auth::Caller;
use super::error::{ApiError, Problem, ReadProblems, SearchProblems};
use super::extract::{OrderPath, read_json};
use crate::evolve::{Evolution, EvolveError, NewRound, Report, RoundSource, RoundView};
use crate::threads::run_blocking;
use wire::{RoundList, RoundRequest};

/// A report page loads nothing and runs nothing.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'";

/// Routes that answer at once.
pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(start, list))
        .routes(routes!(read))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(cancel))
        .routes(routes!(adopt))
        .routes(routes!(report))
        .routes(routes!(page))
}

/// Streams.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(events::events))
}

/// Starts a round; it waits for its turn and gives way to orders.
///
/// What is not said is as `[evolution]` of the configuration says. With `dry_run` nothing changes:
/// the report says what would be published.
#[utoipa::path(
    post,
    path = "/api/v1/evolution/rounds",
    tag = "evolution",
    request_body = RoundRequest,
    responses(
        (status = 202, description = "It is queued", body = RoundView, headers(("location" = String))),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 404, description = "There is no such suite", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "No folder of suites is configured", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
async fn start(
    State(server): State<Server>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller.admin()?;
    let max = server.settings().json_size_bytes_max;
    let request: RoundRequest = read_json(&headers, body, max).await?;
    let settings = request.settings(server.app.config.evolution.round());
    let (app, author) = (server.app.clone(), caller.name);
    let round = run_blocking(move || match (request.suite, request.from_archive) {
        (Some(suite), false) => {
            let source = RoundSource::Suite(suite);
            Ok(app.evolution.start(NewRound { source, settings, author })?)
        }
        (None, true) => {
            let orders = app.orders.labelled()?;
            Ok(app.evolution.start_from_archive(&app.archive, &orders, settings, author)?)
        }
        _ => Err(ApiError::invalid("body names neither a suite nor from_archive, or both")),
    })
    .await??;
    let location = format!("/api/v1/evolution/rounds/{}", round.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(round)).into_response())
}

/// Lists rounds, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/evolution/rounds",
    tag = "evolution",
    responses((status = 200, description = "The rounds", body = RoundList), SearchProblems)
)]
async fn list(State(server): State<Server>) -> Result<Json<RoundList>, ApiError> {
    let evolution = server.app.evolution.clone();
    Ok(Json(RoundList { rounds: run_blocking(move || evolution.list()).await? }))
}

/// Tells where one round stands.
#[utoipa::path(
    get,
    path = "/api/v1/evolution/rounds/{id}",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses((status = 200, description = "The round", body = RoundView), ReadProblems)
)]
async fn read(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Json<RoundView>, ApiError> {
    on(&server, move |evolution| evolution.get(id)).await
}

/// Makes a round wait after the rollout at hand.
#[utoipa::path(
    post,
    path = "/api/v1/evolution/rounds/{id}/pause",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "It waits", body = RoundView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It has ended", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn pause(
    State(server): State<Server>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<RoundView>, ApiError> {
    caller.admin()?;
    on(&server, move |evolution| evolution.pause(id)).await
}

/// Lets a paused round go on, or one that failed or was cancelled try again from where it stopped.
#[utoipa::path(
    post,
    path = "/api/v1/evolution/rounds/{id}/resume",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "It goes on, or is queued to", body = RoundView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is complete", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn resume(
    State(server): State<Server>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<RoundView>, ApiError> {
    caller.admin()?;
    on(&server, move |evolution| evolution.resume(id)).await
}

/// Stops a round; what it has done is kept, and it can be resumed.
#[utoipa::path(
    post,
    path = "/api/v1/evolution/rounds/{id}/cancel",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "It stops, or has stopped", body = RoundView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It has ended", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn cancel(
    State(server): State<Server>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<RoundView>, ApiError> {
    caller.admin()?;
    on(&server, move |evolution| evolution.cancel(id)).await
}

/// Makes the candidate of a round that passed its gate the bank's active round.
#[utoipa::path(
    post,
    path = "/api/v1/evolution/rounds/{id}/adopt",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "It is active", body = RoundView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It was not offered, or another round of the bank became active since its gate", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn adopt(
    State(server): State<Server>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<RoundView>, ApiError> {
    let author = caller.admin()?.name;
    on(&server, move |evolution| evolution.adopt(id, &author)).await
}

/// Gives the report of a completed round: split, seeds, cases, paired differences, verdict.
#[utoipa::path(
    get,
    path = "/api/v1/evolution/rounds/{id}/report",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "The report", body = Report),
        (status = 409, description = "It is not complete", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn report(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Response, ApiError> {
    let evolution = server.app.evolution.clone();
    let text = run_blocking(move || evolution.report(id)).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Gives the report as a page with plots that needs nothing else.
#[utoipa::path(
    get,
    path = "/api/v1/evolution/rounds/{id}/report.html",
    tag = "evolution",
    params(("id" = uuid::Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 409, description = "It is not complete", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn page(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Response, ApiError> {
    let evolution = server.app.evolution.clone();
    let text = run_blocking(move || evolution.page(id)).await??;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
    ];
    Ok((headers, text).into_response())
}

async fn on(
    server: &Server,
    work: impl FnOnce(Evolution) -> Result<RoundView, EvolveError> + Send + 'static,
) -> Result<Json<RoundView>, ApiError> {
    let evolution = server.app.evolution.clone();
    Ok(Json(run_blocking(move || work(evolution)).await??))
}
