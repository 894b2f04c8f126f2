//! The changes of an evolution round as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::evolve::{Evolution, EvolutionEvent, RoundView};
use crate::http::Server;
use crate::http::error::{ApiError, ReadProblems};
use crate::http::extract::OrderPath;

/// Proxies cut connections that are silent for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Follows a round: where it stands now, then each change, until it has ended.
///
/// Every event is named `round` and carries an `EvolutionEvent` as JSON.
#[utoipa::path(
    get,
    path = "/api/v1/evolution/rounds/{id}/events",
    tag = "evolution",
    params(("id" = Uuid, Path, description = "The round")),
    responses(
        (status = 200, description = "The changes; the stream ends after a final state", content_type = "text/event-stream", body = EvolutionEvent),
        ReadProblems,
    )
)]
pub(super) async fn events(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let evolution = server.app.evolution.clone();
    // Subscribing comes first, so that no change falls between the state and the changes.
    let changes = evolution.subscribe();
    let round: RoundView = evolution.get(id)?;
    let next = Some(EvolutionEvent::of(&round));
    let follower = Follower { id, evolution, changes, next, last: None };
    let stream = futures_util::stream::unfold(follower, Follower::step);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One client's place in the changes of one round.
struct Follower {
    id: Uuid,
    evolution: Evolution,
    changes: Receiver<EvolutionEvent>,
    next: Option<EvolutionEvent>,
    last: Option<EvolutionEvent>,
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
        let sent = Event::default().event("round").json_data(&event).ok()?;
        self.last = Some(event);
        Some((Ok(sent), self))
    }

    async fn wait(&mut self) -> Option<EvolutionEvent> {
        loop {
            let event = match self.changes.recv().await {
                Ok(event) if event.round_id != self.id => continue,
                Ok(event) => event,
                // This client was slow and missed some; the list says how the round stands.
                Err(RecvError::Lagged(_)) => EvolutionEvent::of(&self.evolution.get(self.id).ok()?),
                Err(RecvError::Closed) => return None,
            };
            if self.last.as_ref() != Some(&event) {
                return Some(event);
            }
        }
    }
}
