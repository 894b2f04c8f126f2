//! What reviewers say of results, and what it is worth.
//!
//! A reviewer accepts, rejects with a reason, or gives a corrected segmentation, which is compared
//! with ours. All of it is kept with the order; the bank's evidence gets the reward alone.

mod compare;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, warn};
use uuid::Uuid;

use super::store::{from_milliseconds, from_word, milliseconds};
use super::{Order, OrderError, OrderResult, OrderState, Orders, ReasoningRecord};
use crate::archive::{ArchiveError, Scope};
use crate::bank::{BankError, Evidence, RejectReason, Reward, RewardSource};
use crate::dicom::{DicomError, SeriesUid, SopInstanceUid};
use crate::dicom_seg::SegError;
use crate::error::{ErrorKind, Kind};
use crate::series::SeriesError;
use crate::telemetry::metrics;

pub use compare::SegmentAgreement;

/// Longest comment, in characters.
const COMMENT_LENGTH_MAX: usize = 2_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS feedback (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id    TEXT NOT NULL,
    verdict     TEXT NOT NULL,
    reason      TEXT,
    comment     TEXT,
    seg_sop     TEXT,
    reward      REAL NOT NULL,
    actor       TEXT NOT NULL,
    given_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS feedback_by_order ON feedback (order_id, sequence);
";

/// What a reviewer says of an order's result.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is right: a reward of 1.
    Accept,
    /// It is wrong: a reward of 0.
    Reject(RejectReason),
    /// It should be this stored segmentation: the reward is their agreement.
    Corrected(SopInstanceUid),
}

/// Feedback to an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// What is said.
    pub verdict: Verdict,
    /// In words; stays with the order.
    pub comment: Option<String>,
    /// Who says it.
    pub actor: String,
}

/// Feedback as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FeedbackEntry {
    /// The order.
    pub order_id: Uuid,
    /// What was said.
    pub verdict: VerdictWord,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<RejectReason>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// SOP Instance UID of the corrected segmentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sop_instance_uid: Option<String>,
    /// How good the result is by this feedback, 0 to 1; the last one counts.
    pub reward: f64,
    /// Who said it.
    pub actor: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub given_at: OffsetDateTime,
    /// Agreement by segment, where a corrected segmentation was compared just now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentAgreement>,
}

/// A verdict as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// The result is right.
    Accept,
    /// The result is wrong.
    Reject,
    /// The result should be another segmentation.
    Corrected,
}

impl VerdictWord {
    fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Corrected => "corrected",
        }
    }
}

/// Why feedback cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The order cannot be used.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// There is no result to judge.
    #[error("order {id} is {state} and has no result to judge")]
    NoResult {
        /// The order.
        id: Uuid,
        /// Its state.
        state: String,
    },
    /// The comment is too long.
    #[error("comment has {length} characters; the limit is {max}")]
    CommentTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The corrected segmentation is not in the order's study.
    #[error("segmentation {0} is not in the study of the order")]
    UnknownSegmentation(SopInstanceUid),
    /// The corrected segmentation is the order's own.
    #[error("segmentation {0} is the result of the order itself")]
    OwnSegmentation(SopInstanceUid),
    /// Nothing in the corrected segmentation is what the order segmented.
    #[error("segmentation has no segment that the order has, by code or by label")]
    NothingInCommon,
    /// The archive failed.
    #[error("archive failed")]
    Archive(#[from] ArchiveError),
    /// The source series cannot be stacked.
    #[error("source series cannot be read")]
    Series(#[from] SeriesError),
    /// One of the segmentations cannot be read.
    #[error("segmentation cannot be compared")]
    Seg(#[from] SegError),
    /// A stored UID is malformed.
    #[error("stored identity is malformed")]
    Dicom(#[from] DicomError),
}

impl Kind for FeedbackError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Order(error) => error.kind(),
            Self::NoResult { .. } | Self::OwnSegmentation(_) => ErrorKind::Conflict,
            Self::CommentTooLong { .. } | Self::NothingInCommon => ErrorKind::Invalid,
            Self::UnknownSegmentation(_) => ErrorKind::NotFound,
            Self::Archive(error) => error.kind(),
            Self::Series(error) => error.kind(),
            Self::Seg(error) => error.kind(),
            Self::Dicom(error) => error.kind(),
        }
    }
}

impl Orders {
    /// Keeps what a reviewer says and gives the bank the reward.
    ///
    /// # Errors
    /// [`FeedbackError`]: an order without result, a segmentation that cannot be compared.
    pub fn give_feedback(
        &self,
        id: Uuid,
        feedback: Feedback,
    ) -> Result<FeedbackEntry, FeedbackError> {
        let order = self.get(id)?;
        let length = feedback.comment.as_ref().map_or(0, |comment| comment.chars().count());
        if length > COMMENT_LENGTH_MAX {
            return Err(FeedbackError::CommentTooLong { length, max: COMMENT_LENGTH_MAX });
        }
        if !matches!(order.state, OrderState::Completed | OrderState::Refused) {
            let state = order.state.word().to_owned();
            return Err(FeedbackError::NoResult { id, state });
        }
        let mut entry = FeedbackEntry {
            order_id: id,
            verdict: VerdictWord::Accept,
            reason: None,
            comment: feedback.comment,
            sop_instance_uid: None,
            reward: 1.0,
            actor: feedback.actor,
            given_at: self.shared.clock.now(),
            segments: Vec::new(),
        };
        match feedback.verdict {
            Verdict::Accept => {}
            Verdict::Reject(reason) => {
                (entry.verdict, entry.reason, entry.reward) =
                    (VerdictWord::Reject, Some(reason), 0.0);
            }
            Verdict::Corrected(corrected) => {
                entry.verdict = VerdictWord::Corrected;
                entry.segments = self.agreement(&order, &corrected)?;
                entry.reward = compare::reward(&entry.segments);
                entry.sop_instance_uid = Some(corrected.to_string());
            }
        }
        self.keep_feedback(&entry)?;
        Ok(entry)
    }

    /// Keeps the comparison with a segmentation that came into the archive on its own.
    pub(super) fn keep_correction(
        &self,
        order: &Order,
        corrected: &SopInstanceUid,
    ) -> Result<(), FeedbackError> {
        let segments = self.agreement(order, corrected)?;
        self.keep_feedback(&FeedbackEntry {
            order_id: order.id,
            verdict: VerdictWord::Corrected,
            reason: None,
            comment: None,
            sop_instance_uid: Some(corrected.to_string()),
            reward: compare::reward(&segments),
            actor: "archive".to_owned(),
            given_at: self.shared.clock.now(),
            segments,
        })
    }

    fn keep_feedback(&self, entry: &FeedbackEntry) -> Result<(), FeedbackError> {
        self.shared.store.insert_feedback(entry)?;
        let source = match entry.verdict {
            VerdictWord::Accept => RewardSource::Accepted,
            VerdictWord::Reject => RewardSource::Rejected,
            VerdictWord::Corrected => RewardSource::Corrected,
        };
        metrics::order_rewarded(entry.verdict.word());
        info!(order.id = %entry.order_id, verdict = entry.verdict.word(), "Took feedback");
        let (value, reason, at) = (entry.reward, entry.reason, entry.given_at);
        self.reward(entry.order_id, Reward { value, source, reason, at }, &entry.actor);
        Ok(())
    }

    /// Tells the bank. The feedback is kept already: an order that is no episode (it was walked
    /// without a bank) or a bank that cannot be written does not undo it.
    fn reward(&self, episode: Uuid, reward: Reward, actor: &str) {
        let Some(policy) = &self.shared.settings.skills else { return };
        match policy.bank.record_evidence(vec![Evidence::Reward { episode, reward }], actor) {
            Ok(()) => {}
            Err(BankError::UnknownEpisode { .. }) => info!("The order is no episode of the bank"),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Cannot reward the episode");
            }
        }
    }

    /// Feedback to an order, oldest first.
    ///
    /// # Errors
    /// [`OrderError::Unknown`]; when the database fails.
    pub fn feedback(&self, id: Uuid) -> Result<Vec<FeedbackEntry>, OrderError> {
        self.get(id)?;
        self.shared.store.feedback(id)
    }

    /// Compares an order's own segmentation with another one of its study; one that was refused
    /// has none, and lacks every segment of the other.
    fn agreement(
        &self,
        order: &Order,
        corrected: &SopInstanceUid,
    ) -> Result<Vec<SegmentAgreement>, FeedbackError> {
        let result = order.result.as_ref();
        if result.is_some_and(|result| result.seg_sop_instance_uid == *corrected) {
            return Err(FeedbackError::OwnSegmentation(corrected.clone()));
        }
        let archive = &self.shared.archive;
        let study = &order.new.study_uid;
        let unknown = || FeedbackError::UnknownSegmentation(corrected.clone());
        let everything = archive.instances(&Scope::study(study.clone()))?;
        let other = everything.iter().find(|record| record.sop_instance == *corrected);
        let other = other.ok_or_else(unknown)?;
        let scope = |series, instance| Scope::instance(study.clone(), series, instance);
        let theirs = archive.load_instance(&scope(other.series.clone(), corrected.clone()))?;
        let own = |result: &OrderResult| {
            let (series, instance) = (&result.seg_series_uid, &result.seg_sop_instance_uid);
            archive.load_instance(&scope(series.clone(), instance.clone()))
        };
        let ours = result.map(own).transpose()?;
        let source = self.source_series(order)?;
        compare::agreement(archive, (study, &source), ours.as_ref(), &theirs)
    }

    /// The series that a completed or refused order looked at.
    pub(super) fn source_series(&self, order: &Order) -> Result<SeriesUid, FeedbackError> {
        if let Some(result) = &order.result {
            return Ok(result.source_series_uid.clone());
        }
        let record = self.reasoning_record(order.id)?;
        let record: ReasoningRecord = serde_json::from_str(&record).map_err(OrderError::from)?;
        let series = record.source.series_instance_uid.ok_or(OrderError::NoSource)?;
        Ok(SeriesUid::parse(&series)?)
    }
}

impl super::store::Store {
    fn insert_feedback(&self, entry: &FeedbackEntry) -> Result<(), OrderError> {
        let reason = entry.reason.map(serde_json::to_value).transpose()?;
        self.with(|connection| {
            connection.execute(
                "INSERT INTO feedback (order_id, verdict, reason, comment, seg_sop, reward, actor, \
                 given_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    entry.order_id.to_string(),
                    entry.verdict.word(),
                    reason.as_ref().and_then(serde_json::Value::as_str),
                    entry.comment,
                    entry.sop_instance_uid,
                    entry.reward,
                    entry.actor,
                    milliseconds(entry.given_at),
                ],
            )?;
            Ok(())
        })
    }

    fn feedback(&self, id: Uuid) -> Result<Vec<FeedbackEntry>, OrderError> {
        self.with(|connection| {
            let mut statement = connection.prepare(
                "SELECT verdict, reason, comment, seg_sop, reward, actor, given_at \
                 FROM feedback WHERE order_id = ?1 ORDER BY sequence",
            )?;
            let entries = statement.query_map([id.to_string()], |row| read_entry(id, row))?;
            Ok(entries.collect::<Result<_, _>>()?)
        })
    }
}

fn read_entry(order_id: Uuid, row: &Row<'_>) -> rusqlite::Result<FeedbackEntry> {
    let reason = row.get::<_, Option<String>>(1)?;
    Ok(FeedbackEntry {
        order_id,
        verdict: from_word(&row.get::<_, String>(0)?)?,
        reason: reason.map(|word| from_word(&word)).transpose()?,
        comment: row.get(2)?,
        sop_instance_uid: row.get(3)?,
        reward: row.get(4)?,
        actor: row.get(5)?,
        given_at: from_milliseconds(row.get(6)?)?,
        segments: Vec::new(),
    })
}
