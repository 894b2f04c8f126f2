//! What can happen to a bank: every change is one line of the journal.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Evidence, RoundHeader, SkillId};

/// One change, with who made it and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Counts from 1 without gaps.
    pub sequence: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// A person's key name, or the part of the server that acted.
    pub actor: String,
    pub change: Change,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// A round was published; its skills are in the file of that round.
    Publish(RoundHeader),
    /// A round became the active one.
    Activate { round: u64 },
    /// A skill's standing changed.
    Stand { skill: SkillId, standing: Standing, action: StandingAction },
    /// Evidence was appended.
    Evidence(Vec<Evidence>),
}

/// How a skill stands apart from the rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Standing {
    /// Never offered, whichever round is active.
    pub retired: bool,
    /// No round may leave it out, and evolution does not retire it.
    pub pinned: bool,
}

/// What an administrator did to a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandingAction {
    /// Took it out of all offers.
    Retire,
    /// Took the retirement back.
    Restore,
    /// Pinned it.
    Pin,
    /// Took the pin away.
    Unpin,
}

/// A line of the bank's audit log: who did what, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Counts up; gaps are evidence, which has a log of its own.
    pub sequence: u64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// A person's key name, or the part of the server that acted.
    pub actor: String,
    /// `publish`, `activate`, `retire`, `restore`, `pin` or `unpin`.
    #[schema(example = "activate")]
    pub action: String,
    /// The round or skill.
    #[schema(example = "round 3")]
    pub subject: String,
}

impl Entry {
    /// The audit log's line for this change; evidence has none.
    pub fn audit(&self) -> Option<AuditEntry> {
        let (action, subject) = match &self.change {
            Change::Publish(header) => ("publish", format!("round {}", header.number)),
            Change::Activate { round } => ("activate", format!("round {round}")),
            Change::Stand { skill, action, .. } => (action.word(), skill.to_string()),
            Change::Evidence(_) => return None,
        };
        Some(AuditEntry {
            sequence: self.sequence,
            at: self.at,
            actor: self.actor.clone(),
            action: action.to_owned(),
            subject,
        })
    }
}

impl StandingAction {
    /// The action as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Retire => "retire",
            Self::Restore => "restore",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
        }
    }

    /// How a skill stands after it.
    pub(super) fn applied(self, before: Standing) -> Standing {
        match self {
            Self::Retire => Standing { retired: true, ..before },
            Self::Restore => Standing { retired: false, ..before },
            Self::Pin => Standing { pinned: true, ..before },
            Self::Unpin => Standing { pinned: false, ..before },
        }
    }
}
