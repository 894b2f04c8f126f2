//! Other nodes, and results on their way to them.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Server;
use super::error::{ApiError, Problem, ReadProblems, SearchProblems};
use super::extract::Parameters;
use crate::archive::Stored;
use crate::error::ErrorKind;
use crate::orders::{Delivery, DeliveryQuery, DeliveryState};
use crate::pacs::{Arrival, NodeSummary};
use crate::threads::run_blocking;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;

/// What [`Arrival::from`] says of instances stored over DICOMweb.
const STOW: &str = "stow";

pub(super) fn quick_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(nodes)).routes(routes!(deliveries)).routes(routes!(retry))
}

/// Routes that wait for another node.
pub(super) fn long_routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(echo))
}

/// The configured nodes.
#[derive(Serialize, ToSchema)]
struct NodeList {
    /// In the order in which they are asked for studies.
    nodes: Vec<NodeSummary>,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
struct DeliveryList {
    /// Newest first.
    deliveries: Vec<Delivery>,
    /// How many match in all.
    total: u64,
}

/// Whether a node answered.
#[derive(Serialize, ToSchema)]
struct EchoResult {
    /// The node.
    node: String,
    /// How long it took.
    milliseconds: u64,
}

/// Lists the configured nodes, without addresses and secrets.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    tag = "nodes",
    responses((status = 200, description = "The nodes", body = NodeList), SearchProblems)
)]
async fn nodes(State(server): State<Server>) -> Json<NodeList> {
    Json(NodeList { nodes: server.app.pacs.nodes() })
}

/// Asks a node whether it is there: C-ECHO, or a search over DICOMweb.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/echo",
    tag = "nodes",
    params(("name" = String, Path, description = "The node's name")),
    responses(
        (status = 200, description = "It answered", body = EchoResult),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn echo(
    State(server): State<Server>,
    Path(node): Path<String>,
) -> Result<Json<EchoResult>, ApiError> {
    let (pacs, name) = (server.app.pacs.clone(), node.clone());
    let start = std::time::Instant::now();
    run_blocking(move || pacs.echo(&name)).await??;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(EchoResult { node, milliseconds }))
}

/// Lists results on their way to other nodes, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/deliveries",
    tag = "nodes",
    params(
        ("order_id" = Option<Uuid>, Query, description = "Only of this order"),
        ("state" = Option<DeliveryState>, Query, description = "Only in this state"),
        ("node" = Option<String>, Query, description = "Only to this node"),
        ("limit" = Option<usize>, Query, description = "Most deliveries, 200 at most"),
        ("offset" = Option<usize>, Query, description = "Deliveries to skip"),
    ),
    responses((status = 200, description = "The deliveries", body = DeliveryList), SearchProblems)
)]
async fn deliveries(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Json<DeliveryList>, ApiError> {
    let query = read_query(&parameters)?;
    let orders = server.app.orders.clone();
    let (deliveries, total) = run_blocking(move || orders.deliveries(&query)).await??;
    Ok(Json(DeliveryList { deliveries, total }))
}

fn read_query(parameters: &Parameters) -> Result<DeliveryQuery, ApiError> {
    let mut query = DeliveryQuery {
        limit: parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX),
        offset: parameters.number("offset", 0)?,
        ..DeliveryQuery::default()
    };
    for (name, value) in &parameters.0 {
        match name.as_str() {
            "limit" | "offset" => {}
            "node" => query.node = Some(value.clone()),
            "order_id" => {
                let id = Uuid::try_parse(value).map_err(|_| {
                    let length = value.len();
                    ApiError::invalid(format!("order_id of {length} characters is not a UUID"))
                })?;
                query.order_id = Some(id);
            }
            "state" => {
                let quoted = serde_json::Value::String(value.clone());
                let state = serde_json::from_value(quoted).map_err(|_| {
                    ApiError::invalid("state is none of waiting, delivered, failed")
                })?;
                query.state = Some(state);
            }
            name => {
                return Err(ApiError::invalid(format!(
                    "query parameter of {} characters is none of order_id, state, node, limit, \
                     offset",
                    name.len()
                )));
            }
        }
    }
    Ok(query)
}

/// Tries a delivery again at once, with as many attempts as a new one has.
#[utoipa::path(
    post,
    path = "/api/v1/deliveries/{id}/retry",
    tag = "nodes",
    params(("id" = i64, Path, description = "The delivery")),
    responses(
        (status = 200, description = "It is due", body = Delivery),
        (status = 403, description = "The API key may only read", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It has arrived already", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
async fn retry(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<Delivery>, ApiError> {
    let id: i64 = id.parse().map_err(|_| {
        ApiError::invalid(format!("delivery id of {} characters is not a number", id.len()))
    })?;
    let orders = server.app.orders.clone();
    Ok(Json(run_blocking(move || orders.retry_delivery(id)).await??))
}

/// Notes that a client stored an instance, for standing orders.
///
/// # Errors
/// When that cannot be made durable; the client is to store the instance again.
pub(super) async fn note_arrival(server: &Server, stored: &Stored) -> Result<(), ApiError> {
    let arrival = Arrival {
        study: stored.identity.study.clone(),
        series: stored.identity.series.clone(),
        from: STOW.to_owned(),
    };
    let arrivals = server.app.arrivals.clone();
    match run_blocking(move || arrivals.note(&arrival)).await? {
        true => Ok(()),
        false => Err(ApiError::new(ErrorKind::Unavailable, "an arrival cannot be noted")),
    }
}
