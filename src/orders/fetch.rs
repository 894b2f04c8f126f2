//! Fetching the images of orders whose study another node keeps, before their walk.
//!
//! Fetching has threads of its own, so that a slow archive does not keep the models idle. A fetch
//! that fails is tried again later with growing waits; the order waits in the queue meanwhile,
//! and all of this survives a stop of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, info_span, warn};
use uuid::Uuid;

use super::queue::Shared;
use super::routing::Fetch;
use super::store::{Store, milliseconds};
use super::walk::WalkError;
use super::{NewOrder, Order, OrderError, OrderFailure, OrderState, Orders, Step};
use crate::error::Kind;
use crate::pacs::{Pacs, PacsError, Wanted};
use crate::telemetry::{error_chain, metrics};
use crate::threads::{Cancel, LaneError, Progress};

/// Fetches at the same time.
pub(super) const FETCHER_COUNT: usize = 2;
/// How often the queue is looked at for orders whose wait is over.
const TICK: Duration = Duration::from_millis(250);

/// How far the images of an order are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FetchStatus {
    /// Whether they are still to come.
    #[serde(deserialize_with = "zero_or_one")]
    pub wanted: bool,
    /// How often fetching was tried.
    pub attempt_count: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OrderFailure>,
}

/// SQLite has no booleans.
fn zero_or_one<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(from)? != 0)
}

impl Orders {
    /// Whether an order's images must be fetched, or why it can never be done.
    pub(super) fn needs_fetch(&self, new: &NewOrder) -> Result<Fetch, OrderError> {
        if new.routing.source.is_some() {
            return Ok(Fetch::First);
        }
        let has_sources = self.shared.pacs.as_ref().is_some_and(Pacs::has_sources);
        match self.check_series(new) {
            Ok(()) => Ok(Fetch::Nothing),
            // What is not here, or not all of it, may be elsewhere.
            Err(error) if has_sources && is_missing(&error) => Ok(Fetch::First),
            Err(error) => Err(error),
        }
    }
}

fn is_missing(error: &OrderError) -> bool {
    match error {
        OrderError::UnknownStudy(_) | OrderError::UnknownSeries { .. } => true,
        OrderError::Unsuitable(_) => true,
        OrderError::Archive(error) => matches!(error, crate::archive::ArchiveError::Unknown { .. }),
        _ => false,
    }
}

impl Shared {
    /// A fetcher's life: take an order that needs its images, fetch them, until the queue stops.
    pub(super) fn serve_fetches(self: &Arc<Self>, pacs: &Pacs) {
        while !self.stopping.load(Ordering::Relaxed) {
            match self.claim_fetch() {
                Ok(Some((order, cancel))) => {
                    let span = info_span!("fetch", order.id = %order.id);
                    let _entered = span.enter();
                    self.fetch(pacs, order, &cancel);
                }
                Ok(None) => std::thread::sleep(TICK),
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "Cannot take an order to fetch"
                    );
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Claims under the lock of `running`, as the walk's workers do.
    fn claim_fetch(&self) -> Result<Option<(Order, Cancel)>, OrderError> {
        let mut running = self.lock_running();
        let Some(order) = self.store.claim_fetch(self.clock.now())? else { return Ok(None) };
        let cancel = Cancel::new().with_deadline(Instant::now() + self.settings.deadline);
        running.insert(order.id, cancel.clone());
        Ok(Some((order, cancel)))
    }

    fn fetch(self: &Arc<Self>, pacs: &Pacs, order: Order, cancel: &Cancel) {
        let id = order.id;
        self.report(id, Step::Fetch, 0.0);
        let wanted =
            Wanted { study: order.new.study_uid.clone(), series: order.new.series_uid.clone() };
        let reporting = Arc::clone(self);
        let progress = Progress::new(move |done, total| {
            reporting.report(id, Step::Fetch, done as f32 / total.max(1) as f32);
        });
        let source = order.new.routing.source.as_deref();
        let fetched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pacs.fetch(source, &wanted, cancel, &progress)
        }))
        .unwrap_or(Err(PacsError::Lane(LaneError::Panicked)));
        let kept = match fetched {
            Ok(fetched) => {
                let (node, instance_count) = (fetched.node, fetched.instance_count);
                info!(node, instance_count, "Fetched {instance_count} instances from {node}");
                metrics::fetch_tried("done");
                self.store.fetched(id, self.clock.now())
            }
            Err(error) => self.note_failed_fetch(pacs, order, error),
        };
        self.lock_running().remove(&id);
        match kept.and_then(|()| self.store.get(id)) {
            Ok(order) => {
                self.tell(&order);
                self.work.notify_all();
            }
            // The order stays running in the database and starts again at the next opening.
            Err(error) => warn!(error = &error as &dyn std::error::Error, "Cannot note a fetch"),
        }
    }

    fn note_failed_fetch(
        &self,
        pacs: &Pacs,
        order: Order,
        error: PacsError,
    ) -> Result<(), OrderError> {
        let tried = order.fetch.as_ref().map_or(0, |fetch| fetch.attempt_count);
        let (kind, now) = (error.kind(), self.clock.now());
        let failure = OrderFailure { kind: kind.word().to_owned(), message: error_chain(&error) };
        let settings = pacs.settings();
        if error.may_pass() && tried < settings.fetch_attempt_count_max {
            let wait = wait_before(tried, settings);
            // The sentence may name UIDs; it is with the order, not in the log.
            warn!(error.kind = kind.word(), attempt_count = tried, "Fetching failed; trying again");
            metrics::fetch_tried("waiting");
            return self.store.fetch_later(order.id, &failure, now + wait, now);
        }
        metrics::fetch_tried("failed");
        let mut order = self.conclude(order, Err(WalkError::Fetch(error)));
        if order.state == OrderState::Failed {
            order.error = Some(failure);
        }
        self.store.finish(&order).map(|_| ())
    }
}

/// The wait after `tried` attempts: it doubles each time, up to the configured most.
pub(super) fn wait_before(tried: u32, settings: &crate::config::PacsSettings) -> Duration {
    let doubled = settings.retry_seconds.saturating_mul(1 << tried.saturating_sub(1).min(20));
    Duration::from_secs(doubled.min(settings.retry_seconds_max))
}

impl Store {
    /// Takes the next order whose images are to be fetched now; it is running afterwards.
    fn claim_fetch(&self, now: OffsetDateTime) -> Result<Option<Order>, OrderError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let id: Option<String> = transaction
                .query_row(
                    "SELECT orders.id FROM orders JOIN order_routing r ON r.id = orders.id \
                     WHERE r.fetch = 'wanted' AND r.fetch_after <= ?1 AND state = 'queued' \
                     ORDER BY priority DESC, sequence LIMIT 1",
                    [milliseconds(now)],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(id) = id else { return Ok(None) };
            transaction.execute(
                "UPDATE orders SET state = 'running', step = 'fetch', progress = 0, \
                 updated_at = ?2 WHERE id = ?1",
                params![id, milliseconds(now)],
            )?;
            transaction.execute(
                "UPDATE order_routing SET fetch_attempt_count = fetch_attempt_count + 1 \
                 WHERE id = ?1",
                [&id],
            )?;
            let order = super::store::select(&transaction, super::store::parse_id(&id)?)?;
            transaction.commit()?;
            Ok(Some(order))
        })
    }

    /// Puts an order back into the queue, for the walk.
    fn fetched(&self, id: Uuid, now: OffsetDateTime) -> Result<(), OrderError> {
        self.back_to_queue(
            id,
            "UPDATE order_routing SET fetch = 'done', fetch_error = NULL \
             WHERE id = ?1",
            &[],
            now,
        )
    }

    /// Puts an order back into the queue, for another fetch.
    fn fetch_later(
        &self,
        id: Uuid,
        failure: &OrderFailure,
        at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), OrderError> {
        let failure = serde_json::to_string(failure)?;
        self.back_to_queue(
            id,
            "UPDATE order_routing SET fetch_after = ?2, fetch_error = ?3 WHERE id = ?1",
            &[&milliseconds(at), &failure],
            now,
        )
    }

    fn back_to_queue(
        &self,
        id: Uuid,
        routing: &str,
        more: &[&dyn rusqlite::ToSql],
        now: OffsetDateTime,
    ) -> Result<(), OrderError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let id = id.to_string();
            let parameters: Vec<&dyn rusqlite::ToSql> =
                std::iter::once(&id as &dyn rusqlite::ToSql).chain(more.iter().copied()).collect();
            transaction.execute(routing, &parameters[..])?;
            transaction.execute(
                "UPDATE orders SET state = 'queued', step = NULL, progress = 0, updated_at = ?2 \
                 WHERE id = ?1 AND state = 'running'",
                params![id, milliseconds(now)],
            )?;
            Ok(transaction.commit()?)
        })
    }
}
