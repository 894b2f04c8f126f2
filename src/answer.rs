//! Trace text into a typed answer and findings.

use serde::{Deserialize, Serialize};

use crate::runtime::vocabulary::Concept;

/// What the reasoner wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `Segment the <target>[; the <target>…].`
    Segment(Vec<Target>),
    /// `Reject: <reason>.`
    Refuse(Refusal),
}

/// One thing to segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// As the answer says it.
    pub phrase: String,
    /// What the backbone is asked.
    pub prompt: String,
    /// The vocabulary's concept; absent when the phrase is unknown and passes through.
    pub concept: Option<Concept>,
}

/// A first-class result without a mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The words of the answer.
    pub text: String,
}

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The target is not in the scanned region.
    OutOfRegion,
    /// The target cannot be seen in this modality.
    UnsupportedModality,
    /// The target should be there but is not visible.
    NotVisible,
    /// The text can mean several things.
    Ambiguous,
    /// The text does not ask for a segmentation.
    NotASegmentationRequest,
}
