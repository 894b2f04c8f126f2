//! The event channel: a WebSocket on which a subscriber gets its event reports (PS3.18 §8.10.5,
//! §11.13).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use tokio::sync::broadcast::error::RecvError;

use super::read::check_aet;
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::error::{ApiError, ReadProblems};

/// Proxies cut connections that are silent for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A subscriber sends nothing but control frames.
const INCOMING_BYTES_MAX: usize = 4096;

/// Opens the event channel of a subscriber: a WebSocket with one event report in DICOM JSON a
/// message. What happens while no channel is open is not told later; the work items say it.
#[utoipa::path(
    get,
    path = "/dicom-web/subscribers/{aetitle}",
    tag = "worklist",
    params(("aetitle" = String, Path, description = "The subscriber's application entity title")),
    responses((status = 101, description = "The channel is open"), ReadProblems)
)]
pub(super) async fn open(
    State(server): State<Server>,
    Path(aet): Path<String>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let aet = check_aet(&aet)?;
    let upgrade = upgrade.map_err(|_| ApiError::invalid("request does not open a WebSocket"))?;
    let full = |_| {
        let max = server.app.config.worklist.channel_count_max;
        ApiError::new(ErrorKind::Overloaded, format!("{max} event channels are open already"))
    };
    let permit = Arc::clone(&server.channels).try_acquire_owned().map_err(full)?;
    let worklist = server.app.worklist.clone();
    // Subscribing comes before the answer, so that nothing is missed after it.
    let events = worklist.events();
    let upgrade = upgrade.max_message_size(INCOMING_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(socket, &aet, events).await;
        drop((permit, worklist));
    }))
}

type Events = tokio::sync::broadcast::Receiver<crate::orders::worklist::Event>;

/// Sends events until the subscriber leaves.
async fn serve(mut socket: WebSocket, aet: &str, mut events: Events) {
    let mut alive = tokio::time::interval(KEEP_ALIVE);
    loop {
        let sent = tokio::select! {
            event = events.recv() => match event {
                Ok(event) if event.is_for(aet) => {
                    send(&mut socket, Message::text(event.message().to_string())).await
                }
                Ok(_) => true,
                // The subscriber was too slow; it can ask where things stand.
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => false,
            },
            _ = alive.tick() => send(&mut socket, Message::Ping(Default::default())).await,
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => false,
                Some(Ok(_)) => true,
            },
        };
        if !sent {
            return;
        }
    }
}

/// A subscriber that takes nothing for a while is gone.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(KEEP_ALIVE, socket.send(message)).await, Ok(Ok(())))
}
