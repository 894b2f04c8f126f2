//! Segmentations that arrive in the archive on their own: a reviewer's correction of our result.
//!
//! The archive tells of every stored instance; a thread of its own looks at segmentations later, so that nobody waits for a comparison. What is lost by a stop can be
//! brought back by feedback that names the stored segmentation.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use dicom_dictionary_std::{tags, uids};
use tracing::{info, warn};

use super::feedback::FeedbackError;
use super::{Order, OrderError, OrderQuery, OrderState, Orders};
use crate::archive::Scope;
use crate::dicom::{Attributes, Identity, Instance};
use crate::error::Kind;

/// Most segmentations that wait to be looked at; further ones are left to explicit feedback.
const QUEUE_LENGTH: usize = 256;
/// Most orders of one study that a segmentation is compared with.
const ORDERS_MAX: usize = 64;

/// Where segmentations that may be corrections wait.
pub(super) type Corrections = SyncSender<Identity>;

/// The waiting line and its end.
pub(super) fn corrections() -> (Corrections, Receiver<Identity>) {
    sync_channel(QUEUE_LENGTH)
}

impl Orders {
    /// Takes note of a stored instance; a segmentation that is not ours may be a correction.
    fn note_stored(&self, identity: &Identity) {
        let classes = [uids::SEGMENTATION_STORAGE, uids::LABEL_MAP_SEGMENTATION_STORAGE];
        if !classes.contains(&identity.sop_class_uid.as_str()) {
            return;
        }
        if self.shared.corrections.try_send(identity.clone()).is_err() {
            warn!("Too many segmentations arrive to compare them all");
        }
    }

    /// Looks at what arrives in the archive until the queue is gone.
    pub(super) fn watch_corrections(&self, waiting: Receiver<Identity>) -> std::io::Result<()> {
        let weak = std::sync::Arc::downgrade(&self.shared);
        self.shared.archive.on_stored(std::sync::Arc::new(move |identity| {
            if let Some(shared) = weak.upgrade() {
                Self { shared }.note_stored(identity);
            }
        }));
        // Weak, so that the thread ends with the last handle of the queue.
        let shared = std::sync::Arc::downgrade(&self.shared);
        let thread = std::thread::Builder::new().name("order-corrections".to_owned());
        thread.spawn(move || {
            while let Ok(identity) = waiting.recv() {
                let Some(shared) = shared.upgrade() else { return };
                let orders = Self { shared };
                let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    orders.look_at(&identity)
                }));
                match looked {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => info!(
                        error.kind = error.kind().word(),
                        "A segmentation that arrived cannot be compared"
                    ),
                    Err(_) => warn!("Comparing a segmentation that arrived panicked"),
                }
            }
        })?;
        Ok(())
    }

    /// Compares a segmentation with every completed order of the series that it references.
    fn look_at(&self, identity: &Identity) -> Result<(), FeedbackError> {
        let query = OrderQuery {
            study_uid: Some(identity.study.clone()),
            state: Some(OrderState::Completed),
            limit: ORDERS_MAX,
            offset: 0,
        };
        let (orders, _) = self.list(&query)?;
        if orders.is_empty() || self.shared.store.wrote(identity)? {
            return Ok(());
        }
        let scope = Scope::instance(
            identity.study.clone(),
            identity.series.clone(),
            identity.sop_instance.clone(),
        );
        let sources = referenced_series(&self.shared.archive.load_instance(&scope)?);
        let is_source = |order: &&Order| {
            let result = order.result.as_ref();
            result.is_some_and(|result| sources.contains(&result.source_series_uid.to_string()))
        };
        for order in orders.iter().filter(is_source) {
            let uid = identity.sop_instance.as_str();
            if self.feedback(order.id)?.iter().any(|e| e.sop_instance_uid.as_deref() == Some(uid)) {
                continue;
            }
            match self.keep_correction(order, &identity.sop_instance) {
                Ok(()) | Err(FeedbackError::NothingInCommon) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl super::store::Store {
    /// Whether an instance is the result of an order. The record with its UID is durable before
    /// the instance appears.
    fn wrote(&self, identity: &Identity) -> Result<bool, OrderError> {
        self.with(|connection| {
            // The column of `orders` holds the records of releases that had no chain.
            let written = connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM orders o LEFT JOIN records r ON r.id = o.id \
                 WHERE o.study_uid = ?1 AND instr(coalesce(r.record, o.record, ''), ?2) > 0)",
                [identity.study.as_str(), identity.sop_instance.as_str()],
                |row| row.get(0),
            )?;
            Ok(written)
        })
    }
}

/// Series Instance UIDs in the Referenced Series Sequence (0008,1115).
fn referenced_series(seg: &Instance) -> Vec<String> {
    let items = seg.items(tags::REFERENCED_SERIES_SEQUENCE);
    items.iter().filter_map(|item| item.string_opt(tags::SERIES_INSTANCE_UID)).collect()
}
