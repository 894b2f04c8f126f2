//! Delivering results to other nodes, durably: a row per order and node, tried with growing waits
//! until it is taken or was tried often enough. Sending a result twice does no harm, because its
//! instances keep their UIDs.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, info_span, warn};
use uuid::Uuid;

use super::fetch::wait_before;
use super::queue::Shared;
use super::store::{Store, count, from_milliseconds, milliseconds};
use super::{Order, OrderError, OrderFailure, OrderState, Orders};
use crate::archive::Scope;
use crate::dicom::{SeriesUid, SopInstanceUid};
use crate::error::Kind;
use crate::pacs::{Pacs, PacsError};
use crate::telemetry::{error_chain, metrics};
use crate::threads::LaneError;

/// Deliveries at the same time, each to another node.
pub(super) const DELIVERER_COUNT: usize = 2;
const TICK: Duration = Duration::from_millis(250);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be tried, or tried again.
    Waiting,
    /// The node has the result.
    Delivered,
    /// The node did not take it, or was tried too often; [`Orders::retry_delivery`] starts anew.
    Failed,
}

impl DeliveryState {
    /// The state as a snake-case word, as clients see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One result on its way to one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// The order whose result it is.
    pub order_id: Uuid,
    /// The node.
    pub node: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempt_count: u32,
    /// When it is tried next, while it waits.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub next_at: Option<OffsetDateTime>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OrderFailure>,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Which deliveries to list; newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliveryQuery {
    /// Only of this order.
    pub order_id: Option<Uuid>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only to this node.
    pub node: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// Skip this many.
    pub offset: usize,
}

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS deliveries (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id      TEXT NOT NULL,
    node          TEXT NOT NULL,
    state         TEXT NOT NULL,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    next_at       INTEGER NOT NULL,
    error         TEXT,
    updated_at    INTEGER NOT NULL,
    UNIQUE (order_id, node)
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state, next_at);
";

const COLUMNS: &str = "id, order_id, node, state, attempt_count, next_at, error, updated_at";

impl Orders {
    /// Deliveries, newest first, and how many match in all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn deliveries(&self, query: &DeliveryQuery) -> Result<(Vec<Delivery>, u64), OrderError> {
        self.shared.store.deliveries(query)
    }

    /// Tries a delivery that failed or waits again at once, with as many attempts as a new one.
    ///
    /// # Errors
    /// [`OrderError::UnknownDelivery`]; [`OrderError::Delivered`] when there is nothing to do.
    pub fn retry_delivery(&self, id: i64) -> Result<Delivery, OrderError> {
        let delivery = self.shared.store.delivery(id)?;
        if delivery.state == DeliveryState::Delivered {
            return Err(OrderError::Delivered { id });
        }
        self.shared.store.restart_delivery(id, self.shared.clock.now())?;
        self.shared.store.delivery(id)
    }
}

impl Shared {
    /// Makes a row for each node that gets the result of an order, once.
    pub(super) fn plan_deliveries(&self, order: &Order) -> Result<(), OrderError> {
        let Some(pacs) = &self.pacs else { return Ok(()) };
        if order.state != OrderState::Completed {
            return Ok(());
        }
        let nodes = pacs.settings().deliver_to.iter().chain(&order.new.routing.deliver_to);
        self.store.plan_deliveries(order.id, nodes, self.clock.now())
    }

    /// A deliverer's life: take a delivery that is due, send it, until the queue stops.
    pub(super) fn serve_deliveries(self: &Arc<Self>, pacs: &Pacs) {
        while !self.stopping.load(Ordering::Relaxed) {
            match self.claim_delivery() {
                Ok(Some(delivery)) => {
                    let span = info_span!("delivery", order.id = %delivery.order_id);
                    let _entered = span.enter();
                    self.deliver(pacs, &delivery);
                    self.lock_busy().remove(&delivery.node);
                }
                Ok(None) => std::thread::sleep(TICK),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "Cannot take a delivery");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    fn lock_busy(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.busy_nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next delivery that is due to a node that none is on its way to.
    fn claim_delivery(&self) -> Result<Option<Delivery>, OrderError> {
        let mut busy = self.lock_busy();
        let due = self.store.due_deliveries(self.clock.now())?;
        let next = due.into_iter().find(|delivery| !busy.contains(&delivery.node));
        if let Some(delivery) = &next {
            busy.insert(delivery.node.clone());
        }
        Ok(next)
    }

    fn deliver(&self, pacs: &Pacs, delivery: &Delivery) {
        let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let order = self.store.get(delivery.order_id)?;
            Ok(pacs.send(&delivery.node, &objects_of(&order)))
        }))
        .unwrap_or(Ok(Err(PacsError::Lane(LaneError::Panicked))));
        let noted = sent.and_then(|sent| self.note_delivery(pacs, delivery, sent));
        if let Err(error) = noted {
            warn!(error = &error as &dyn std::error::Error, "Cannot note a delivery");
            // It stays waiting, and due: not at once again.
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn note_delivery(
        &self,
        pacs: &Pacs,
        delivery: &Delivery,
        sent: Result<(), PacsError>,
    ) -> Result<(), OrderError> {
        let (now, node) = (self.clock.now(), delivery.node.as_str());
        let tried = delivery.attempt_count + 1;
        let mut outcome = Outcome {
            id: delivery.id,
            tried,
            state: DeliveryState::Delivered,
            next_at: now,
            error: None,
        };
        if let Err(error) = sent {
            let kind = error.kind().word();
            outcome.error = Some(OrderFailure { kind: kind.into(), message: error_chain(&error) });
            let settings = pacs.settings();
            if error.may_pass() && tried < settings.delivery_attempt_count_max {
                outcome.state = DeliveryState::Waiting;
                outcome.next_at = now + wait_before(tried, settings);
            } else {
                outcome.state = DeliveryState::Failed;
            }
            warn!(node, attempt_count = tried, error.kind = kind, "Cannot deliver a result");
        } else {
            info!(node, attempt_count = tried, "Delivered a result to {node}");
        }
        metrics::delivery_tried(outcome.state.word());
        self.store.note_delivery(&outcome, now)
    }
}

/// How an attempt ended.
struct Outcome {
    id: i64,
    tried: u32,
    state: DeliveryState,
    next_at: OffsetDateTime,
    error: Option<OrderFailure>,
}

/// Every instance of an order's result.
pub(super) fn objects_of(order: &Order) -> Vec<Scope> {
    let study = &order.new.study_uid;
    let Some(result) = &order.result else { return Vec::new() };
    let seg = (result.seg_series_uid.clone(), result.seg_sop_instance_uid.clone());
    let documents = result.documents.iter().filter_map(|document| {
        let series = SeriesUid::parse(&document.series_uid).ok()?;
        Some((series, SopInstanceUid::parse(&document.sop_instance_uid).ok()?))
    });
    std::iter::once(seg)
        .chain(documents)
        .map(|(series, sop)| Scope::instance(study.clone(), series, sop))
        .collect()
}

impl Store {
    fn plan_deliveries<'a>(
        &self,
        order_id: Uuid,
        nodes: impl Iterator<Item = &'a String>,
        now: OffsetDateTime,
    ) -> Result<(), OrderError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            for node in nodes {
                transaction.execute(
                    "INSERT OR IGNORE INTO deliveries (order_id, node, state, next_at, updated_at) \
                     VALUES (?1, ?2, 'waiting', ?3, ?3)",
                    params![order_id.to_string(), node, milliseconds(now)],
                )?;
            }
            Ok(transaction.commit()?)
        })
    }

    fn due_deliveries(&self, now: OffsetDateTime) -> Result<Vec<Delivery>, OrderError> {
        self.with(|connection| {
            // Planned rows of an order that is not completed yet wait for it.
            let sql = format!(
                "SELECT {COLUMNS} FROM deliveries WHERE state = 'waiting' AND next_at <= ?1 \
                 AND (SELECT o.state FROM orders o WHERE o.id = order_id) = 'completed' \
                 ORDER BY next_at, id LIMIT 64"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([milliseconds(now)], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn note_delivery(&self, outcome: &Outcome, now: OffsetDateTime) -> Result<(), OrderError> {
        let error = outcome.error.as_ref().map(serde_json::to_string).transpose()?;
        self.with(|connection| {
            connection.execute(
                "UPDATE deliveries SET state = ?2, attempt_count = ?3, next_at = ?4, error = ?5, \
                 updated_at = ?6 WHERE id = ?1",
                params![
                    outcome.id,
                    outcome.state.word(),
                    outcome.tried,
                    milliseconds(outcome.next_at),
                    error,
                    milliseconds(now),
                ],
            )?;
            Ok(())
        })
    }

    fn restart_delivery(&self, id: i64, now: OffsetDateTime) -> Result<(), OrderError> {
        self.with(|connection| {
            connection.execute(
                "UPDATE deliveries SET state = 'waiting', attempt_count = 0, next_at = ?2, \
                 updated_at = ?2 WHERE id = ?1 AND state != 'delivered'",
                params![id, milliseconds(now)],
            )?;
            Ok(())
        })
    }

    fn delivery(&self, id: i64) -> Result<Delivery, OrderError> {
        self.with(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1");
            let found = connection.query_row(&sql, [id], read).optional()?;
            found.ok_or(OrderError::UnknownDelivery { id })
        })
    }

    fn deliveries(&self, query: &DeliveryQuery) -> Result<(Vec<Delivery>, u64), OrderError> {
        self.with(|connection| select(connection, query))
    }
}

fn select(
    connection: &Connection,
    query: &DeliveryQuery,
) -> Result<(Vec<Delivery>, u64), OrderError> {
    let filter = "WHERE (?1 IS NULL OR order_id = ?1) AND (?2 IS NULL OR state = ?2) \
         AND (?3 IS NULL OR node = ?3)";
    let order = query.order_id.map(|id| id.to_string());
    let state = query.state.map(DeliveryState::word);
    let total = connection.query_row(
        &format!("SELECT count(*) FROM deliveries {filter}"),
        params![order, state, query.node],
        |row| count(row, 0),
    )?;
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM deliveries {filter} ORDER BY id DESC LIMIT ?4 OFFSET ?5"
    ))?;
    let (limit, offset) = (query.limit as i64, query.offset as i64);
    let rows = statement.query_map(params![order, state, query.node, limit, offset], read)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    use super::store::{broken, from_json, from_word};
    let state = from_word(&row.get::<_, String>("state")?)?;
    let next_at = from_milliseconds(row.get("next_at")?)?;
    let error: Option<String> = row.get("error")?;
    Ok(Delivery {
        id: row.get("id")?,
        order_id: Uuid::parse_str(&row.get::<_, String>("order_id")?).map_err(broken)?,
        node: row.get("node")?,
        state,
        attempt_count: row.get("attempt_count")?,
        next_at: (state == DeliveryState::Waiting).then_some(next_at),
        error: error.map(|text| from_json(&text)).transpose()?,
        updated_at: from_milliseconds(row.get("updated_at")?)?,
    })
}
