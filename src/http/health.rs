//! Health in the style of the Open Inference Protocol (KServe v2), and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::error::{ApiError, Problem, SearchProblems};
use crate::error::ErrorKind;
use crate::telemetry::metrics;
use crate::threads::run_blocking;

/// What orchestrators ask without a key.
pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// What needs a key where keys are configured.
pub(super) fn guarded_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(show_metrics))
}

/// The server answers.
#[derive(Serialize, ToSchema)]
struct Live {
    /// Always true.
    live: bool,
}

/// The server can work.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// Always true.
    ready: bool,
}

/// Says that the server answers.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    tag = "operations",
    responses((status = 200, description = "It answers", body = Live))
)]
async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Says whether orders can be worked on: models are loaded and the store answers.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "operations",
    responses(
        (status = 200, description = "Orders can be worked on", body = Ready),
        (status = 503, description = "Models are missing or the store does not answer", content_type = "application/problem+json", body = Problem),
    )
)]
async fn ready(State(server): State<Server>) -> Result<Json<Ready>, ApiError> {
    let has_role = |role: &str| {
        server.app.models.bundles.iter().any(|bundle| bundle.roles.iter().any(|r| r == role))
    };
    for role in ["reasoner", "backbone"] {
        if !has_role(role) {
            let detail = format!("no {role} is loaded");
            return Err(ApiError::new(ErrorKind::Overloaded, detail));
        }
    }
    let orders = server.app.orders.clone();
    run_blocking(move || orders.depth()).await??;
    Ok(Json(Ready { ready: true }))
}

/// Shows counters and times in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, description = "Metrics", content_type = "text/plain", body = String),
        SearchProblems,
    )
)]
async fn show_metrics(State(server): State<Server>) -> Result<Response, ApiError> {
    let orders = server.app.orders.clone();
    let (queued, running) = run_blocking(move || orders.depth()).await??;
    metrics::order_depth(queued, running);
    let bank = server.app.bank.clone();
    run_blocking(move || bank.show_metrics()).await?;
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, metrics::recorder().render()).into_response())
}
