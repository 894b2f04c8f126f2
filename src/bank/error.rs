//! Why a bank cannot do what was asked.

use uuid::Uuid;

use super::SkillId;
use super::privacy::PrivacyFault;
use crate::error::{ErrorKind, Kind};

/// Why a bank cannot do what was asked. Texts of skills and orders are never quoted.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// Not a skill id.
    #[error("skill id of {length} characters is not seer: and hexadecimal digits")]
    SkillId {
        /// Its characters.
        length: usize,
    },
    /// Not a tag.
    #[error("tag of {length} characters is not 2 to 48 capital letters, digits and underscores")]
    Tag {
        /// Its characters.
        length: usize,
    },
    /// A part of a skill is empty or too long.
    #[error("{part} has a length of {length}; it must be 1 to {max}")]
    TextLength {
        /// Which part.
        part: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A part may say who a patient is.
    #[error("{part} is refused")]
    Privacy {
        /// Which part.
        part: &'static str,
        /// What it holds.
        #[source]
        source: PrivacyFault,
    },
    /// A number is out of its range.
    #[error("{what} is {value}; it must lie between 0 and 1")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// No such round.
    #[error("round {number} does not exist")]
    UnknownRound {
        /// The number asked for.
        number: u64,
    },
    /// No such skill.
    #[error("skill {id} does not exist")]
    UnknownSkill {
        /// The id asked for.
        id: SkillId,
    },
    /// No such episode.
    #[error("episode {id} does not exist")]
    UnknownEpisode {
        /// The id asked for.
        id: Uuid,
    },
    /// A pinned skill cannot be left out or retired.
    #[error("skill {id} is pinned")]
    Pinned {
        /// The skill.
        id: SkillId,
    },
    /// A line of an import is not a skill.
    #[error("line {line} is not a skill: {reason}")]
    ImportLine {
        /// Counts from 1.
        line: usize,
        /// What is wrong, without the text.
        reason: String,
    },
    /// Another process has the bank open.
    #[error("bank {folder} is in use by another process")]
    InUse {
        /// Its folder.
        folder: String,
    },
    /// The journal is damaged before its end.
    #[error("journal of the bank is damaged at byte {offset}")]
    JournalDamaged {
        /// Where the damaged line begins.
        offset: u64,
    },
    /// The journal lost lines that the database has.
    #[error("journal of the bank has {length} bytes, the database was built from {expected}")]
    JournalShort {
        /// Its length.
        length: u64,
        /// What the database knows.
        expected: u64,
    },
    /// The skills of a round are not those that were published.
    #[error("skills of round {number} are missing or changed")]
    RoundDamaged {
        /// The round.
        number: u64,
    },
    /// sled failed.
    #[error("bank database failed")]
    Database(#[from] sled::Error),
    /// sled panicked while it opened the database.
    #[error("bank database panicked while it was opened")]
    Panicked,
    /// A stored value is not what it should be.
    #[error("bank holds a malformed value")]
    Malformed(#[from] serde_json::Error),
    /// The disk refused.
    #[error("files of the bank cannot be used")]
    Io(#[from] std::io::Error),
}

impl BankError {
    /// Whether building the database again may help.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Database(_) | Self::Panicked | Self::Malformed(_) | Self::RoundDamaged { .. }
        )
    }
}

impl Kind for BankError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::SkillId { .. }
            | Self::Tag { .. }
            | Self::TextLength { .. }
            | Self::Privacy { .. }
            | Self::Range { .. }
            | Self::ImportLine { .. } => ErrorKind::Invalid,
            Self::UnknownRound { .. } | Self::UnknownSkill { .. } | Self::UnknownEpisode { .. } => {
                ErrorKind::NotFound
            }
            Self::Pinned { .. } => ErrorKind::Conflict,
            Self::InUse { .. } | Self::Io(_) => ErrorKind::Unavailable,
            Self::JournalDamaged { .. }
            | Self::JournalShort { .. }
            | Self::RoundDamaged { .. }
            | Self::Database(_)
            | Self::Panicked
            | Self::Malformed(_) => ErrorKind::Internal,
        }
    }
}
