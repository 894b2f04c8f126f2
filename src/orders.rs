//! An order walks through the rooms, step by step, durably.
//!
//! An order is a record in SQLite: inputs, state, step, findings, times. It is acknowledged after
//! it is on disk. After a crash, orders that were queued or running start again; the UIDs of
//! their results derive from the order's id, so running twice never makes two results.

mod chain;
mod corrections;
mod delivery;
mod engine;
mod feedback;
mod fetch;
mod labelled;
mod nifti;
mod outputs;
mod pictures;
mod queue;
mod record;
mod replay;
mod routing;
mod run;
mod seg;
mod skills;
mod stability;
mod standing;
mod store;
mod texts;
mod walk;
pub mod worklist;

pub use chain::{ChainFault, RecordChain, verify_records};
pub use delivery::{Delivery, DeliveryQuery, DeliveryState};
pub use engine::{Engine, EngineError, EngineSettings};
pub use feedback::{
    Feedback, FeedbackEntry, FeedbackError, SegmentAgreement, Verdict, VerdictWord,
};
pub use fetch::FetchStatus;
pub use nifti::NiftiLabels;
pub use outputs::{DocumentKind, Outputs, ResultDocument};
pub use pictures::{keep_pictures, write_whole};
pub use queue::{OrderParts, Orders, OrdersSettings};
pub use record::{
    ReasoningRecord, RecordAnswer, RecordBackbone, RecordBundle, RecordModels, RecordOrder,
    RecordResult, RecordSegment, RecordSource, RecordTarget, RecordTrace, RecordView,
    SCHEMA_VERSION,
};
pub use replay::{Replay, ReplayedAnswer, ReplayedSegment, replay};
pub use routing::Routing;
pub use run::volume_of_record;
pub use seg::{SegIdentity, write_seg};
pub use skills::{OrderSkills, RecordSkill, SkillPolicy};
pub use stability::{RecordRephrasing, RecordStability, Rephrasing};
pub use standing::Arrivals;
pub use texts::TextLimits;
pub use walk::{Asked, Report, WalkError, Walked, source_of, source_of_series, walk, walk_asked};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::answer::Refusal;
use crate::archive::ArchiveError;
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::error::{ErrorKind, Finding, Kind};
use crate::series::SeriesError;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrder {
    /// The study to look at.
    pub study_uid: StudyUid,
    /// The series, or the most suitable one of the study.
    pub series_uid: Option<SeriesUid>,
    /// Free text.
    pub text: String,
    /// Other wordings of the text, by which the record says how stable the answer is.
    pub rephrasings: Vec<String>,
    /// Higher goes first; 0 is routine.
    pub priority: i32,
    /// The same key within this server names the same order.
    pub idempotency_key: Option<String>,
    /// Leave frames without any inside pixel out of the SEG.
    pub drop_empty_frames: bool,
    /// How the masks are written and what is wanted beside them.
    pub outputs: Outputs,
    /// Where the images come from and where the result goes.
    pub routing: Routing,
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
    /// The state as a snake-case word, as clients see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the order will not change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Completed | Self::Refused | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A step of the walk, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Fetching the study from another node; progress counts this step alone.
    Fetch,
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

impl Step {
    /// The step as a snake-case word, as clients see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Series => "series",
            Self::Volume => "volume",
            Self::Views => "views",
            Self::Reason => "reason",
            Self::Segment => "segment",
            Self::Store => "store",
        }
    }
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
    /// How far its images are, when another node keeps them.
    pub fetch: Option<FetchStatus>,
    /// Its result on the way to other nodes.
    pub deliveries: Vec<Delivery>,
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
    /// What was made beside it.
    pub documents: Vec<ResultDocument>,
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

/// A created order, or the one that the idempotency key already names.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It is new.
    New(Order),
    /// The key was used before with the same inputs.
    Existing(Order),
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
        /// The name asked for, if it is one we could have.
        name: String,
    },
    /// No text to reason about.
    #[error("order text is empty")]
    EmptyText,
    /// Too many other wordings.
    #[error("order has {count} rephrasings; the limit is {limit}")]
    TooManyRephrasings {
        /// How many came.
        count: usize,
        /// `orders.rephrasing_count_max`.
        limit: usize,
    },
    /// Nothing to compare with.
    #[error("rephrasing {number} is empty")]
    EmptyRephrasing {
        /// Which, counted from 1.
        number: usize,
    },
    /// Too much text.
    #[error("order text has {size_bytes} bytes; the limit is {limit_bytes}")]
    TextTooLong {
        /// What came.
        size_bytes: usize,
        /// `orders.text_size_bytes_max`.
        limit_bytes: usize,
    },
    /// The study is not in the archive.
    #[error("study {0} is not in the archive")]
    UnknownStudy(StudyUid),
    /// The series is not in the study.
    #[error("series {series} is not in study {study}")]
    UnknownSeries {
        /// The study.
        study: StudyUid,
        /// The series.
        series: SeriesUid,
    },
    /// A node of the routing is not configured.
    #[error("node {name} is not configured")]
    UnknownNode {
        /// Its name.
        name: String,
    },
    /// No such delivery.
    #[error("delivery {id} does not exist")]
    UnknownDelivery {
        /// Its number.
        id: i64,
    },
    /// Nothing to deliver any more.
    #[error("delivery {id} has arrived already")]
    Delivered {
        /// Its number.
        id: i64,
    },
    /// Nothing in the study can be segmented.
    #[error("study has no series to segment")]
    Unsuitable(#[from] SeriesError),
    /// Too many orders wait.
    #[error("{waiting} orders wait already; the limit is {queue_length}")]
    QueueFull {
        /// How many wait.
        waiting: u64,
        /// `orders.queue_length`.
        queue_length: u64,
    },
    /// The idempotency key names another order.
    #[error("idempotency key belongs to order {id}, which has other inputs")]
    KeyReused {
        /// The order of that key.
        id: Uuid,
    },
    /// Nothing to cancel.
    #[error("order {id} is already {state}")]
    AlreadyFinal {
        /// The order.
        id: Uuid,
        /// Its state.
        state: String,
    },
    /// Only a completed order has one.
    #[error("order {id} has no segmentation, it is {state}")]
    NoSegmentation {
        /// The order.
        id: Uuid,
        /// Its state.
        state: String,
    },
    /// The record is written when the order is completed or refused.
    #[error("order {id} is {state} and has no reasoning record")]
    NoRecord {
        /// The order.
        id: Uuid,
        /// Its state.
        state: String,
    },
    /// A record of a file that no archive holds.
    #[error("the record names no stored series")]
    NoSource,
    /// Images of a record were deleted.
    #[error("{missing} of the {wanted} instances that the record names are not stored any more")]
    ImagesGone {
        /// How many are gone.
        missing: usize,
        /// How many it names.
        wanted: usize,
    },
    /// The server runs without models.
    #[error("no models are loaded")]
    NoModels,
    /// One replay at a time.
    #[error("another replay is running")]
    ReplayRunning,
    /// SQLite failed.
    #[error("order database failed")]
    Database(#[from] rusqlite::Error),
    /// A stored value is not what it should be.
    #[error("order database holds a malformed value")]
    Malformed(#[from] serde_json::Error),
    /// The archive failed.
    #[error("archive failed")]
    Archive(#[from] ArchiveError),
    /// Files of an order cannot be read or written.
    #[error("files of an order cannot be used")]
    Io(#[from] std::io::Error),
}

impl Kind for OrderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_)
            | Self::NoArtefact { .. }
            | Self::UnknownStudy(_)
            | Self::UnknownDelivery { .. }
            | Self::ImagesGone { .. }
            | Self::UnknownSeries { .. } => ErrorKind::NotFound,
            Self::EmptyText
            | Self::EmptyRephrasing { .. }
            | Self::TooManyRephrasings { .. }
            | Self::NoSource
            | Self::UnknownNode { .. } => ErrorKind::Invalid,
            Self::NoModels => ErrorKind::Unavailable,
            Self::Delivered { .. } => ErrorKind::Conflict,
            Self::TextTooLong { .. } => ErrorKind::TooLarge,
            Self::QueueFull { .. } | Self::ReplayRunning => ErrorKind::Overloaded,
            Self::KeyReused { .. }
            | Self::AlreadyFinal { .. }
            | Self::NoSegmentation { .. }
            | Self::NoRecord { .. } => ErrorKind::Conflict,
            Self::Archive(error) => error.kind(),
            Self::Unsuitable(error) => error.kind(),
            Self::Database(_) | Self::Malformed(_) | Self::Io(_) => ErrorKind::Internal,
        }
    }
}
