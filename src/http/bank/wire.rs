//! Skills, rounds and offers as clients see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bank::{
    AuditEntry, Bank, Counts, Episode, Gain, Offer, RoundHeader, Skill, Standing, Why,
};

/// A skill with what it is worth.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SkillView {
    /// The skill.
    #[serde(flatten)]
    pub(super) skill: Skill,
    /// How it stands.
    pub(super) standing: Standing,
    /// How often it was offered, withheld, named and of help.
    pub(super) counts: Counts,
    /// What it is worth: mean reward with less mean reward without.
    pub(super) gain: Gain,
    /// Whether the active round has it.
    pub(super) active: bool,
}

impl SkillView {
    pub(super) fn of(bank: &Bank, skill: &Skill) -> Self {
        Self {
            standing: bank.standing(&skill.id),
            counts: bank.counts(skill),
            gain: bank.gain(skill),
            active: bank.active().skill(&skill.id).is_some(),
            skill: skill.clone(),
        }
    }
}

/// A skill with its evidence.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SkillDetail {
    /// The skill.
    #[serde(flatten)]
    pub(super) view: SkillView,
    /// Its content as a prompt shows it for its trigger.
    #[schema(example = "\"lt hippo\" means left hippocampus.")]
    pub(super) content: String,
    /// The last episodes it was part of, newest first.
    pub(super) evidence: Vec<Episode>,
}

/// A page of skills.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SkillList {
    /// The round they are of.
    pub(super) round: u64,
    /// By id.
    pub(super) skills: Vec<SkillView>,
    /// How many match in all.
    pub(super) total: u64,
}

/// How a skill stands after a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct StandingView {
    /// The skill.
    #[schema(example = "seer:4f0c9a1be27d")]
    pub(super) id: String,
    /// How it stands.
    pub(super) standing: Standing,
}

/// All rounds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RoundList {
    /// The active one.
    pub(super) active: u64,
    /// Oldest first.
    pub(super) rounds: Vec<RoundHeader>,
}

/// A round with its skills.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RoundView {
    /// What is said of it.
    #[serde(flatten)]
    pub(super) header: RoundHeader,
    /// Whether it is the active one.
    pub(super) active: bool,
    /// Skills that its parent lacks.
    pub(super) added: Vec<String>,
    /// Ids of its skills.
    pub(super) skills: Vec<String>,
}

/// An order to try on the bank.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewRequest {
    /// Its free text; it is not kept.
    #[schema(example = "pls outline L hippo")]
    pub(super) text: String,
    /// Modality code; any when absent.
    #[serde(default)]
    #[schema(example = "MR")]
    pub(super) modality: String,
    /// Body part; any when absent.
    #[serde(default)]
    #[schema(example = "BRAIN")]
    pub(super) body_part: String,
    /// Cues of the views.
    #[serde(default)]
    pub(super) cues: Vec<String>,
    /// The round to try; the active one when absent.
    #[serde(default)]
    pub(super) round: Option<u64>,
}

/// What an order would be offered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PreviewView {
    /// The round that was tried.
    pub(super) round: u64,
    /// How long retrieval took.
    pub(super) milliseconds: f64,
    /// Best first.
    pub(super) offers: Vec<OfferView>,
}

/// One offer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OfferView {
    /// The skill.
    #[schema(example = "seer:4f0c9a1be27d")]
    id: String,
    /// Its tag.
    #[schema(example = "ABBR_DISAMBIGUATE")]
    tag: String,
    /// Its content as the prompt would show it.
    content: String,
    /// The structure that is meant.
    #[schema(example = "left hippocampus")]
    target: String,
    /// How well it fits, 0 to 1.
    #[schema(example = 0.93)]
    score: f32,
    /// Why.
    why: Why,
}

impl OfferView {
    pub(super) fn of(offer: Offer) -> Self {
        Self {
            id: offer.skill.id.to_string(),
            tag: offer.skill.tag.to_string(),
            content: offer.for_prompt().content,
            target: offer.skill.target.clone(),
            score: offer.score,
            why: offer.why,
        }
    }
}

/// What an import did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ImportView {
    /// The round that was published, without being activated; absent for a dry run or when nothing
    /// is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) round: Option<RoundHeader>,
    /// Skills that the active round lacked.
    pub(super) added: u64,
    /// Skills that it had already.
    pub(super) known: u64,
    /// Lines that were refused.
    pub(super) refused: Vec<RefusedLine>,
}

/// A line that is no skill, or may hold patient text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RefusedLine {
    /// Counts from 1.
    pub(super) line: usize,
    /// Why, without the text.
    pub(super) reason: String,
}

/// The audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct AuditList {
    /// Newest first.
    pub(super) entries: Vec<AuditEntry>,
}
