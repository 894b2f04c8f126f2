//! Rounds: immutable, numbered states of the bank.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Skill, SkillId, SkillSet};

/// What is said of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoundHeader {
    /// Counts from 0, which has no skills.
    pub number: u64,
    /// The round it was made from; absent for round 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// Who published it.
    pub author: String,
    /// The report of the evolution round behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_id: Option<String>,
    /// One sentence about it.
    pub note: String,
    /// Skills of the parent that it leaves out.
    pub retired: Vec<SkillId>,
    /// How many skills it holds.
    pub skill_count: u64,
    /// SHA-256 of its skills, in order.
    pub sha256: String,
    /// When it was published.
    #[serde(with = "time::serde::rfc3339")]
    pub published_at: OffsetDateTime,
}

/// A published round with its skills.
#[derive(Debug)]
pub struct Round {
    /// What is said of it.
    pub header: RoundHeader,
    /// Its skills, by id.
    pub skills: SkillSet,
}

impl Round {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// One of its skills.
    pub fn skill(&self, id: &SkillId) -> Option<&Arc<Skill>> {
        self.skills.get(id)
    }
}

/// A round to publish.
#[derive(Debug, Clone, Default)]
pub struct RoundDraft {
    /// The round it was made from.
    pub parent: u64,
    /// Who publishes it.
    pub author: String,
    /// The report of the evolution round behind it.
    pub report_id: Option<String>,
    /// One sentence about it, without patient text.
    pub note: String,
    /// All its skills; an id counts once.
    pub skills: Vec<Skill>,
}
