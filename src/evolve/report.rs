//! What a round found and decided, for people and for programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::gate::{Difference, Pair, Verdict};
use super::merge::Retired;
use super::settings::RoundSettings;
use super::split::Parts;
use crate::bank::{Gain, SkillId};

/// Version of the report's layout.
pub const SCHEMA_VERSION: u32 = 1;

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There was nothing to change, so there was nothing to judge.
    NothingHarvested,
    /// The candidate did not pass; the bank is as it was.
    GateFailed,
    /// The candidate passed; it was a dry run, so the bank is as it was.
    WouldPublish,
    /// The candidate passed and waits to be adopted.
    Offered,
    /// The candidate is a round of the bank and active.
    Published,
}

/// What practice gave, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PracticeSummary {
    /// Requests.
    pub requests: usize,
    /// Rollouts.
    pub rollouts: usize,
    /// Episodes that beat the direct prompt by the margin: Ξ+.
    pub positive_episodes: usize,
    /// Mean reward.
    pub mean_reward: f64,
    /// Rewards in twenty bins from 0 to 1.
    pub reward_bins: Vec<usize>,
    /// Mean Dice of rollouts.
    pub mean_dice: f64,
    /// Mean Dice of the direct prompts.
    pub direct_dice: f64,
    /// Requests for which a skill was withheld by chance.
    pub reduced_requests: usize,
    /// Phrasings that fell short of their group's best answer.
    pub lessons: usize,
    /// Lessons that became no skill, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Skills worded by the reasoner.
    pub worded_by_reasoner: usize,
    /// Skills worded by rules.
    pub worded_by_rules: usize,
}

/// A harvested skill and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SkillReport {
    /// Its id.
    pub id: SkillId,
    /// Its tag.
    pub tag: String,
    /// Words that call for it.
    pub trigger: String,
    /// What they mean.
    pub target: String,
    /// What became of it: `added`, `merged`, `against_pinned`, `outbid`, `rehearsal_failed`,
    /// `not_on_heldout`, `no_gain_on_heldout`, `over_the_limit` or `refused`.
    pub fate: String,
    /// Lessons behind it.
    pub lessons: usize,
    /// Patients of those lessons.
    pub patients: usize,
    /// Dice of the teachers less Dice of the failing phrasings.
    pub gain_at_birth: f64,
    /// Dice with it less Dice without it on its own lessons, greedily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal_gain: Option<f64>,
    /// Held-out requests for which the candidate offers it.
    pub heldout_offers: usize,
    /// Paired Dice difference on those, Δ(s) of the gate, with its interval over patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heldout_gain: Option<Difference>,
}

/// A skill that the bank had, and what practice says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldReport {
    /// Its id.
    pub id: SkillId,
    /// Its tag.
    pub tag: String,
    /// Words that call for it.
    pub trigger: String,
    /// What they mean.
    pub target: String,
    /// Δ(s) from randomised withholding, this round's practice included unless it was a dry run.
    pub gain: Gain,
    /// Practice requests of this round for which retrieval brought it.
    pub retrieved: usize,
    /// Of these, how often chance withheld it.
    pub withheld: usize,
}

/// Everything a round rests on and says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// Layout of this document.
    pub schema_version: u32,
    /// The evolution round.
    pub id: Uuid,
    /// What the requests are called.
    pub material: String,
    /// SHA-256 of requests and patients.
    pub material_sha256: String,
    /// The settings, seeds among them.
    pub settings: RoundSettings,
    /// Models, role to bundle, version and hash.
    pub models: BTreeMap<String, String>,
    /// The bank's round that practice and gate started from.
    pub base_round: u64,
    /// `K_t` of the rounds up to the base, by number.
    pub sizes: Vec<(u64, u64)>,
    /// Skills of the base.
    pub base_size: usize,
    /// Skills of the candidate.
    pub candidate_size: usize,
    /// Who is in practice and who is held out.
    pub parts: Parts,
    /// Practice in numbers.
    pub practice: PracticeSummary,
    /// Harvested skills.
    pub harvested: Vec<SkillReport>,
    /// Skills of the base.
    pub held: Vec<HeldReport>,
    /// Skills of the base that the candidate leaves out.
    pub retired: Vec<Retired>,
    /// The gate on the candidate before single skills were taken back, when some were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_verdict: Option<Verdict>,
    /// The gate on the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Paired Dice difference on the held-out requests that are offered a harvested skill, all of them
    /// together, with its interval over patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled_gain: Option<Difference>,
    /// Paired held-out requests behind the verdict.
    pub pairs: Vec<Pair>,
    /// How it ended.
    pub outcome: Outcome,
    /// The bank's round that was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_round: Option<u64>,
    /// Seconds by stage; not part of what is repeated.
    pub seconds: BTreeMap<String, f64>,
}

impl Report {
    /// SHA-256 over all but times, id and publication: equal seeds, requests and banks give equal
    /// digests, whether the round was interrupted or not.
    pub fn digest(&self) -> String {
        let same = Self {
            id: Uuid::nil(),
            seconds: BTreeMap::new(),
            outcome: match self.outcome {
                Outcome::Offered | Outcome::Published => Outcome::WouldPublish,
                other => other,
            },
            published_round: None,
            settings: RoundSettings {
                publication: super::settings::Publication::DryRun,
                ..self.settings.clone()
            },
            ..self.clone()
        };
        let text = serde_json::to_string(&same).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }
}

/// Rewards in twenty bins from 0 to 1.
pub(super) fn bins(rewards: impl Iterator<Item = f64>) -> Vec<usize> {
    let mut bins = vec![0; 20];
    for reward in rewards {
        let place = (reward.clamp(0.0, 1.0) * 20.0) as usize;
        bins[place.min(19)] += 1;
    }
    bins
}
