//! An order walks through the rooms, step by step, durably.
//!
//! An order is a record in SQLite: inputs, state, step, findings, times. It is acknowledged after
//! it is on disk. After a crash, orders that were queued or running start again; the UIDs of
//! their results derive from the order's id, so running twice never makes two results.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::answer::Refusal;
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::error::{ErrorKind, Finding, Kind};

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrder {
    /// The study to look at.
    pub study_uid: StudyUid,
    /// The series, or the most suitable one of the study.
    pub series_uid: Option<SeriesUid>,
    /// Free text.
    pub text: String,
    /// Higher goes first; 0 is routine.
    pub priority: i32,
    /// The same key within this server names the same order.
    pub idempotency_key: Option<String>,
    /// Leave frames without any inside pixel out of the SEG.
    pub drop_empty_frames: bool,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Durable and waiting.
    Queued,
    /// A worker walks it.
    Running,
    /// Done: there is a SEG and a reasoning record.
    Completed,
    /// Done: the reasoner refused; there is a reasoning record and no SEG.
    Refused,
    /// Could not be done; the error says why.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl OrderState {
    /// Whether the order will not change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Completed | Self::Refused | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A step of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Choosing and reading the series.
    Series,
    /// Decoding and stacking the frames.
    Volume,
    /// Rendering the views.
    Views,
    /// The reasoner writes its trace.
    Reason,
    /// The backbone computes the masks.
    Segment,
    /// Writing and storing the SEG and the record.
    Store,
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// What was asked.
    pub new: NewOrder,
    /// Where it stands.
    pub state: OrderState,
    /// The step at hand, while running.
    pub step: Option<Step>,
    /// Done part of the whole walk, 0 to 1.
    pub progress: f32,
    /// What the walk noticed.
    pub findings: Vec<Finding>,
    /// Kind and sentence, when failed.
    pub error: Option<OrderFailure>,
    /// Why it was refused, when refused.
    pub refusal: Option<Refusal>,
    /// What came out, when completed.
    pub result: Option<OrderResult>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// How often a worker has started it.
    pub attempt_count: u32,
}

/// Why an order failed, safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderFailure {
    /// Snake-case kind, for example `invalid` or `internal`.
    pub kind: String,
    /// One sentence naming the thing and the value found.
    pub message: String,
}

/// What a completed order made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderResult {
    /// The series that was segmented.
    pub source_series_uid: SeriesUid,
    /// Series Instance UID of the SEG.
    pub seg_series_uid: SeriesUid,
    /// SOP Instance UID of the SEG.
    pub seg_sop_instance_uid: SopInstanceUid,
}

/// A change of an order, for subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderEvent {
    /// The order.
    pub order_id: Uuid,
    /// Its state now.
    pub state: OrderState,
    /// Its step now.
    pub step: Option<Step>,
    /// Done part of the walk, 0 to 1.
    pub progress: f32,
}

/// Which orders to list; newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrderQuery {
    /// Only of this study.
    pub study_uid: Option<StudyUid>,
    /// Only in this state.
    pub state: Option<OrderState>,
    /// At most this many.
    pub limit: usize,
    /// Skip this many.
    pub offset: usize,
}

/// The durable queue and its workers. Cheap to clone. Methods block on SQLite: call them through
/// `threads::run_blocking` from async code.
#[derive(Clone)]
pub struct Orders {}

/// A created order, or the one that the idempotency key already names.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It is new.
    New(Order),
    /// The key was used before with the same inputs.
    Existing(Order),
}

impl Orders {
    /// Accepts an order; returns after it is durable.
    ///
    /// # Errors
    /// Empty or too long text, a full queue ([`ErrorKind::Overloaded`]), an idempotency key used
    /// with other inputs ([`ErrorKind::Conflict`]), an unknown study.
    pub fn create(&self, new: NewOrder) -> Result<Created, OrderError> {
        let _ = new;
        unimplemented!("orders room")
    }

    /// One order.
    ///
    /// # Errors
    /// [`OrderError::Unknown`].
    pub fn get(&self, id: Uuid) -> Result<Order, OrderError> {
        let _ = id;
        unimplemented!("orders room")
    }

    /// Orders, newest first, and how many match in all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn list(&self, query: &OrderQuery) -> Result<(Vec<Order>, u64), OrderError> {
        let _ = query;
        unimplemented!("orders room")
    }

    /// Asks an order to stop; final orders stay as they are.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], or [`ErrorKind::Conflict`] when it is already final.
    pub fn cancel(&self, id: Uuid) -> Result<Order, OrderError> {
        let _ = id;
        unimplemented!("orders room")
    }

    /// The reasoning record of a completed or refused order, as the stored JSON text.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], or [`ErrorKind::Conflict`] while there is none yet.
    pub fn reasoning_record(&self, id: Uuid) -> Result<String, OrderError> {
        let _ = id;
        unimplemented!("orders room")
    }

    /// A stored artefact of an order: `view-1.png` … or `overlay.png`.
    ///
    /// # Errors
    /// [`OrderError::Unknown`] or [`OrderError::NoArtefact`].
    pub fn artefact(&self, id: Uuid, name: &str) -> Result<Vec<u8>, OrderError> {
        let _ = (id, name);
        unimplemented!("orders room")
    }

    /// Changes of all orders from now on; a slow receiver misses some and should ask again.
    pub fn subscribe(&self) -> broadcast::Receiver<OrderEvent> {
        unimplemented!("orders room")
    }

    /// How many orders wait and how many run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn depth(&self) -> Result<(u64, u64), OrderError> {
        unimplemented!("orders room")
    }
}

/// Why an order request cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No such order.
    #[error("order {0} does not exist")]
    Unknown(Uuid),
    /// No such artefact.
    #[error("order {id} has no artefact {name}")]
    NoArtefact {
        /// The order.
        id: Uuid,
        /// The name asked for.
        name: String,
    },
}

impl Kind for OrderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_) | Self::NoArtefact { .. } => ErrorKind::NotFound,
        }
    }
}
