//! The bank of skills under `/api/v1/bank`. Reading takes any key; changing takes an
//! administrator's.

mod exchange;
mod rounds;
mod skills;
mod wire;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::error::{ApiError, Problem, SearchProblems};
use super::extract::{Parameters, read_json};
use crate::bank::{AuditEntry, BankMetrics, RetrievalQuery};
use crate::threads::run_blocking;
use wire::{AuditList, OfferView, PreviewRequest, PreviewView};

/// Most lines of one list when the client names no limit …
const LIMIT_DEFAULT: usize = 100;
/// … and when it does.
const LIMIT_MAX: usize = 1000;

/// Routes that answer at once.
pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(skills::list))
        .routes(routes!(skills::read))
        .routes(routes!(skills::retire))
        .routes(routes!(skills::restore))
        .routes(routes!(skills::pin))
        .routes(routes!(skills::unpin))
        .routes(routes!(rounds::list))
        .routes(routes!(rounds::read))
        .routes(routes!(rounds::activate))
        .routes(routes!(exchange::export))
        .routes(routes!(exchange::import))
        .routes(routes!(preview))
        .routes(routes!(metrics))
        .routes(routes!(audit))
}

/// Shows which skills an order would be offered, with scores and why. Nothing is recorded.
///
/// Only what a live order has plays a part: its text, the modality, the body part and cues of the
/// views.
#[utoipa::path(
    post,
    path = "/api/v1/bank/retrieval",
    tag = "bank",
    request_body = PreviewRequest,
    responses(
        (status = 200, description = "The offers, best first", body = PreviewView),
        (status = 404, description = "There is no such round", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
async fn preview(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PreviewView>, ApiError> {
    let max = server.settings().json_size_bytes_max;
    let request: PreviewRequest = read_json(&headers, body, max).await?;
    let limit = server.app.config.orders.text_size_bytes_max;
    if request.text.len() > limit {
        let detail = format!("text has {} bytes; the limit is {limit}", request.text.len());
        return Err(ApiError::new(crate::error::ErrorKind::TooLarge, detail));
    }
    let bank = server.app.bank.clone();
    let view = run_blocking(move || {
        let round = match request.round {
            Some(number) => bank.round(number)?,
            None => bank.active(),
        };
        let query = RetrievalQuery {
            text: request.text,
            modality: request.modality,
            body_part: request.body_part,
            cues: request.cues,
        };
        let started = std::time::Instant::now();
        let offers = bank.retrieve_from(&round.skills, &query);
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let offers = offers.into_iter().map(OfferView::of).collect();
        Ok::<_, crate::bank::BankError>(PreviewView { round: round.number(), milliseconds, offers })
    })
    .await??;
    Ok(Json(view))
}

/// Tells size, retrieval frequency by tag, and how often skills were offered, named and of help.
#[utoipa::path(
    get,
    path = "/api/v1/bank/metrics",
    tag = "bank",
    responses((status = 200, description = "The figures", body = BankMetrics), SearchProblems)
)]
async fn metrics(State(server): State<Server>) -> Result<Json<BankMetrics>, ApiError> {
    let bank = server.app.bank.clone();
    Ok(Json(run_blocking(move || bank.metrics()).await?))
}

/// Lists who changed what in the bank, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/bank/audit",
    tag = "bank",
    params(("limit" = Option<usize>, Query, description = "Most lines, 1000 at most")),
    responses((status = 200, description = "The lines", body = AuditList), SearchProblems)
)]
async fn audit(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Json<AuditList>, ApiError> {
    let limit = parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX);
    let bank = server.app.bank.clone();
    let entries: Vec<AuditEntry> = run_blocking(move || bank.audit(limit)).await??;
    Ok(Json(AuditList { entries }))
}
