//! Orders under `/api/v1`.

mod create;
mod events;
mod feedback;
mod replay;
mod results;
mod wire;

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::error::{ApiError, Problem, ReadProblems, SearchProblems};
use super::extract::{OrderPath, Parameters};
use crate::dicom::StudyUid;
use crate::orders::{OrderQuery, OrderState};
use crate::threads::run_blocking;
use wire::{OrderList, OrderView};

/// Most orders in one list when the client names no limit …
const LIMIT_DEFAULT: usize = 50;
/// … and when it does.
const LIMIT_MAX: usize = 200;

/// Routes that answer at once.
pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(cancel))
        .routes(routes!(feedback::list))
        .routes(routes!(results::reasoning))
        .routes(routes!(results::segmentation))
        .routes(routes!(results::segmentation_nifti))
        .routes(routes!(results::artefact))
        .routes(routes!(replay::chain))
}

/// Uploads and streams.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(create::create))
        .routes(routes!(events::events))
        .routes(routes!(feedback::give))
        .routes(routes!(replay::replay))
}

/// Lists orders, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/orders",
    tag = "orders",
    params(
        ("study_uid" = Option<String>, Query, description = "Only of this study"),
        ("state" = Option<OrderState>, Query, description = "Only in this state"),
        ("limit" = Option<usize>, Query, description = "Most orders, 200 at most"),
        ("offset" = Option<usize>, Query, description = "Orders to skip"),
    ),
    responses((status = 200, description = "The orders", body = OrderList), SearchProblems)
)]
async fn list(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Json<OrderList>, ApiError> {
    let query = read_query(&parameters)?;
    let orders = server.app.orders.clone();
    let (orders, total) = run_blocking(move || orders.list(&query)).await??;
    Ok(Json(OrderList { orders: orders.into_iter().map(OrderView::of).collect(), total }))
}

fn read_query(parameters: &Parameters) -> Result<OrderQuery, ApiError> {
    let mut query = OrderQuery {
        limit: parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX),
        offset: parameters.number("offset", 0)?,
        ..OrderQuery::default()
    };
    for (name, value) in &parameters.0 {
        match name.as_str() {
            "limit" | "offset" => {}
            "study_uid" => query.study_uid = Some(StudyUid::parse(value)?),
            "state" => query.state = Some(read_state(value)?),
            name => {
                return Err(ApiError::invalid(format!(
                    "query parameter of {} characters is none of study_uid, state, limit, offset",
                    name.len()
                )));
            }
        }
    }
    Ok(query)
}

fn read_state(word: &str) -> Result<OrderState, ApiError> {
    let quoted = serde_json::Value::String(word.to_owned());
    serde_json::from_value(quoted).map_err(|_| {
        ApiError::invalid("state is none of queued, running, completed, refused, failed, cancelled")
    })
}

/// Tells where one order stands.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses((status = 200, description = "The order", body = OrderView), ReadProblems)
)]
async fn read(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Json<OrderView>, ApiError> {
    let orders = server.app.orders.clone();
    let order = run_blocking(move || orders.get(id)).await??;
    Ok(Json(OrderView::of(order)))
}

/// Asks an order to stop.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/cancel",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "It stops, or has stopped", body = OrderView),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is done already", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn cancel(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Json<OrderView>, ApiError> {
    let orders = server.app.orders.clone();
    let order = run_blocking(move || orders.cancel(id)).await??;
    Ok(Json(OrderView::of(order)))
}
