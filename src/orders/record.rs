//! The reasoning record: one JSON document per order that says what was seen, thought and done.
//!
//! Fields that do not apply (a refused order has no result) are absent, never faked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::stability::RecordStability;
use super::{RecordSkill, ResultDocument, Step};
use crate::answer::{Answer, Refusal, Target};
use crate::error::Finding;
use crate::reason::{Decoding, Trace};
use crate::runtime::vocabulary::Code;
use crate::telemetry::metrics;
use crate::view::{Plane, View};

/// Version of the record's layout; grows when a reader must know.
pub const SCHEMA_VERSION: u32 = 1;

/// What an order saw, thought and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReasoningRecord {
    /// Layout of this document.
    pub schema_version: u32,
    /// The order; absent for `seer segment`, which runs without a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<RecordOrder>,
    /// The free text that was reasoned about.
    pub text: String,
    /// What was looked at.
    pub source: RecordSource,
    /// What the reasoner was shown.
    pub views: Vec<RecordView>,
    /// Skills that the bank brought for the order, best first, withheld ones included.
    #[serde(default)]
    pub skills: Vec<RecordSkill>,
    /// What the reasoner wrote.
    pub trace: RecordTrace,
    /// How the trace was decoded.
    pub decoding: Decoding,
    /// The answer as it was understood.
    pub answer: RecordAnswer,
    /// Which models ran, and where.
    pub models: RecordModels,
    /// What the backbone was asked; absent when refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<RecordBackbone>,
    /// What came out; absent when refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RecordResult>,
    /// How rephrasings of the order agree with it; absent when none were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<RecordStability>,
    /// What a reader of the result should know.
    pub findings: Vec<Finding>,
    /// Seconds by step.
    pub seconds: BTreeMap<String, f64>,
    /// Version of the server.
    pub server_version: String,
    /// SHA-256 of the record that the server wrote before this one, in lower-case hex: a chain
    /// that shows whether a record was changed. Absent in the first, and without a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<String>,
}

/// The order behind a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordOrder {
    /// Its id.
    pub id: Uuid,
    /// When it was accepted (RFC 3339, UTC).
    pub created_at: String,
    /// Its priority.
    pub priority: i32,
}

/// The images behind a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordSource {
    /// Study Instance UID; absent for NIfTI input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study_instance_uid: Option<String>,
    /// Series Instance UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_instance_uid: Option<String>,
    /// SOP Instance UIDs in the order of the frames.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sop_instance_uids: Vec<String>,
    /// Modality code.
    pub modality: String,
    /// `[slices, rows, columns]` of the volume.
    pub shape: [usize; 3],
    /// `[slice, row, column]` spacing in millimetres.
    pub spacing_mm: [f64; 3],
}

/// One view of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordView {
    /// Counts from 1; the trace speaks of views by this number.
    pub number: usize,
    /// Its plane.
    pub plane: Plane,
    /// Position along the plane's axis, LPS millimetres.
    pub position_mm: f64,
    /// SHA-256 of the pixels.
    pub sha256: String,
    /// Where the picture can be fetched; absent without a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What the reasoner wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordTrace {
    /// As decoded.
    pub raw: String,
    /// The evidence part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The rationale part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// The answer part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The three parts are there, in order, with nothing outside them.
    pub format_ok: bool,
}

/// The answer as it was understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordAnswer {
    /// What is segmented, in segment order; empty when refused.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub targets: Vec<RecordTarget>,
    /// Why not, when refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// One target of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordTarget {
    /// As the answer says it.
    pub phrase: String,
    /// The vocabulary's name for it; absent when it is not in the vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concept: Option<String>,
    /// Segmented Property Type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Segmented Property Type Modifier (the side).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modifier: Option<Code>,
}

/// The models behind a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordModels {
    /// The reasoner's bundle.
    pub reasoner: RecordBundle,
    /// The backbone's bundle.
    pub backbone: RecordBundle,
    /// Version of ONNX Runtime.
    pub onnx_runtime: String,
    /// The execution provider actually used.
    pub provider: String,
}

/// One bundle of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordBundle {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 by file.
    pub files: BTreeMap<String, String>,
}

/// What the backbone was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordBackbone {
    /// One per target, in order.
    pub prompts: Vec<String>,
    /// How many patches were encoded.
    pub patch_count: usize,
    /// A voxel is inside when its logit is above this.
    pub threshold_logit: f32,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordResult {
    /// Series Instance UID of the SEG; absent for NIfTI output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seg_series_instance_uid: Option<String>,
    /// SOP Instance UID of the SEG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seg_sop_instance_uid: Option<String>,
    /// Report and key images, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<ResultDocument>,
    /// One per target, in order.
    pub segments: Vec<RecordSegment>,
}

/// One segment of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordSegment {
    /// Segment Number, counts from 1.
    pub number: u16,
    /// Segment Label.
    pub label: String,
    /// Voxels inside.
    pub voxel_count: usize,
    /// Volume inside, millilitres.
    pub volume_ml: f64,
    /// SHA-256 of the mask.
    pub mask_sha256: String,
}

impl From<&Trace> for RecordTrace {
    fn from(trace: &Trace) -> Self {
        Self {
            raw: trace.raw.clone(),
            evidence: trace.evidence.clone(),
            rationale: trace.rationale.clone(),
            answer: trace.answer.clone(),
            format_ok: trace.format_ok,
        }
    }
}

impl From<&Target> for RecordTarget {
    fn from(target: &Target) -> Self {
        let concept = target.concept.as_ref();
        Self {
            phrase: target.phrase.clone(),
            concept: concept.map(|c| c.name.clone()),
            code: concept.map(|c| c.property_type.clone()),
            modifier: concept.and_then(|c| c.modifier.clone()),
        }
    }
}

impl From<&Answer> for RecordAnswer {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Segment(targets) => {
                Self { targets: targets.iter().map(RecordTarget::from).collect(), refusal: None }
            }
            Answer::Refuse(refusal) => Self { targets: Vec::new(), refusal: Some(refusal.clone()) },
        }
    }
}

impl RecordView {
    /// Describes a view; `url` says where its picture can be fetched.
    pub fn new(view: &View, url: Option<String>) -> Self {
        Self {
            number: view.number,
            plane: view.plane,
            position_mm: view.position_mm,
            sha256: view.sha256.clone(),
            url,
        }
    }
}

/// Puts `seconds` under a step's name, in the record and in the metrics.
pub(crate) fn note_seconds(seconds: &mut BTreeMap<String, f64>, step: Step, elapsed: f64) {
    // Milliseconds are enough to compare steps and keep the record readable.
    metrics::step_finished(step.word(), std::time::Duration::from_secs_f64(elapsed.max(0.0)));
    seconds.insert(step.word().to_owned(), (elapsed * 1000.0).round() / 1000.0);
}
