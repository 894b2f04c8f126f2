//! The changes of an order as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::http::Server;
use crate::http::error::{ApiError, ReadProblems};
use crate::http::extract::OrderPath;
use crate::orders::{Order, OrderError, OrderEvent, Orders};
use crate::threads::run_blocking;

/// Proxies cut connections that are silent for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Follows an order: where it stands now, then each change, until it is final.
///
/// Every event is named `order` and carries an `OrderEvent` as JSON.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/events",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The changes; the stream ends after a final state", content_type = "text/event-stream", body = OrderEvent),
        ReadProblems,
    )
)]
pub(super) async fn events(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let orders = server.app.orders.clone();
    // Subscribing comes first, so that no change falls between the state and the changes.
    let changes = orders.subscribe();
    let order = get(&orders, id).await??;
    let follower = Follower { id, orders, changes, next: Some(event_of(&order)), last: None };
    let stream = futures_util::stream::unfold(follower, Follower::step);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn get(orders: &Orders, id: Uuid) -> Result<Result<Order, OrderError>, ApiError> {
    let orders = orders.clone();
    Ok(run_blocking(move || orders.get(id)).await?)
}

fn event_of(order: &Order) -> OrderEvent {
    OrderEvent {
        order_id: order.id,
        state: order.state,
        step: order.step,
        progress: order.progress,
    }
}

/// One client's place in the changes of one order.
struct Follower {
    id: Uuid,
    orders: Orders,
    changes: Receiver<OrderEvent>,
    next: Option<OrderEvent>,
    last: Option<OrderEvent>,
}

impl Follower {
    /// The next event, or the end after a final state.
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.last.as_ref().is_some_and(|last| last.state.is_final()) {
            return None;
        }
        let event = match self.next.take() {
            Some(event) => event,
            None => self.wait().await?,
        };
        let sent = Event::default().event("order").json_data(&event).ok()?;
        self.last = Some(event);
        Some((Ok(sent), self))
    }

    async fn wait(&mut self) -> Option<OrderEvent> {
        loop {
            let event = match self.changes.recv().await {
                Ok(event) if event.order_id != self.id => continue,
                Ok(event) => event,
                // This client was slow and missed some; the order itself says where it stands.
                Err(RecvError::Lagged(_)) => {
                    event_of(&get(&self.orders, self.id).await.ok()?.ok()?)
                }
                Err(RecvError::Closed) => return None,
            };
            if self.last.as_ref() != Some(&event) {
                return Some(event);
            }
        }
    }
}
