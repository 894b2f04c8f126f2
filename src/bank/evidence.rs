//! Episodes and rewards: the append-only evidence that skills are judged by.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{BankError, SkillId, Tag, privacy};

/// Where an episode was lived through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeSource {
    /// An order of a user.
    Serving,
    /// A practice case of an evolution round.
    Practice,
    /// A held-out case of an evolution round.
    HeldOut,
}

/// One skill that retrieval brought for an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Exposure {
    /// The skill.
    pub skill: SkillId,
    /// Its tag.
    pub tag: Tag,
    /// Its score, 0 to 1.
    pub score: f32,
    /// Its place in the prompt, counted from 1; absent when it was withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Chosen by chance not to be shown, so that its gain can be estimated.
    pub withheld: bool,
}

/// Who or what gave a reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardSource {
    /// A reviewer accepted the result.
    Accepted,
    /// A reviewer rejected the result.
    Rejected,
    /// A reviewer's corrected segmentation was compared with the result.
    Corrected,
    /// A reference segmentation was compared with the result.
    Reference,
}

/// Why a reviewer rejected a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Another structure than was asked for.
    WrongStructure,
    /// The other side.
    WrongSide,
    /// Part of the structure is missing.
    Incomplete,
    /// It reaches into its neighbours.
    TooLarge,
    /// It should have been refused.
    ShouldRefuse,
    /// It was refused and should not have been.
    WronglyRefused,
    /// Something else.
    Other,
}

/// How good an episode was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reward {
    /// 0 to 1.
    pub value: f64,
    /// Who or what gave it.
    pub source: RewardSource,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RejectReason>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// One execution with its reward, when known. No patient text: targets are the vocabulary's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Episode {
    /// The order's id, or the rollout's.
    pub id: Uuid,
    /// When it was lived through.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Where.
    pub source: EpisodeSource,
    /// The round that skills came from.
    pub round: u64,
    /// Modality code of the images.
    pub modality: String,
    /// Body part of the images, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_part: Option<String>,
    /// What retrieval brought, best first, withheld ones included.
    pub exposures: Vec<Exposure>,
    /// The chance of each skill to be withheld.
    pub withhold_rate: f64,
    /// The skill that the rationale names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<SkillId>,
    /// What was segmented, by the vocabulary's names; `unresolved` for a phrase outside it.
    pub targets: Vec<String>,
    /// The code of the refusal, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// How good it was, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
}

/// Something to append to the evidence log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// An episode. The first one of an id counts; the same id again changes nothing.
    Episode(Episode),
    /// A reward of an episode. The last one counts; earlier ones stay in the log.
    Reward {
        /// The episode.
        episode: Uuid,
        /// How good it was.
        reward: Reward,
    },
}

impl Evidence {
    /// Refuses numbers out of range and words that may be patient text.
    pub(super) fn check(&self) -> Result<(), BankError> {
        match self {
            Self::Reward { reward, .. } => unit("reward", reward.value),
            Self::Episode(episode) => episode.check(),
        }
    }
}

impl Episode {
    fn check(&self) -> Result<(), BankError> {
        unit("withholding rate", self.withhold_rate)?;
        if let Some(reward) = &self.reward {
            unit("reward", reward.value)?;
        }
        let words = self.targets.iter().chain(&self.body_part).chain(&self.refusal);
        for word in words.chain([&self.modality]) {
            privacy::check(word)
                .map_err(|source| BankError::Privacy { part: "episode", source })?;
        }
        Ok(())
    }

    /// The exposure of a skill.
    pub fn exposure(&self, skill: &SkillId) -> Option<&Exposure> {
        self.exposures.iter().find(|exposure| exposure.skill == *skill)
    }
}

fn unit(what: &'static str, value: f64) -> Result<(), BankError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(BankError::Range { what, value }) }
}
