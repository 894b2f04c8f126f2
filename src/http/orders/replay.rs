//! Orders again, from their records.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::http::Server;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::OrderPath;
use crate::orders::{RecordChain, Replay, Report};
use crate::threads::{Cancel, run_blocking};

/// Stops the walk when the client is gone.
struct StopWhenDropped(Cancel);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs an order again from its record and says whether answer and masks are the same.
///
/// The text, the skills that were shown, the seed and the images are those of the record; the
/// models are those that are loaded now. Nothing is stored. One replay runs at a time.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/replay",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "What came out, beside what the record says", body = Replay),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "The order has no record", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn replay(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Json<Replay>, ApiError> {
    let orders = server.app.orders.clone();
    let stop = StopWhenDropped(Cancel::new());
    let cancel = stop.0.clone();
    let silent: Report = Arc::new(|_, _| {});
    Ok(Json(run_blocking(move || orders.replay(id, &cancel, &silent)).await??))
}

/// Checks the chain of all reasoning records: each names the SHA-256 of the one before.
#[utoipa::path(
    get,
    path = "/api/v1/records/chain",
    tag = "orders",
    responses((status = 200, description = "Whether the chain is whole", body = RecordChain), ReadProblems)
)]
pub(super) async fn chain(State(server): State<Server>) -> Result<Json<RecordChain>, ApiError> {
    let orders = server.app.orders.clone();
    Ok(Json(run_blocking(move || orders.verify_records()).await??))
}
