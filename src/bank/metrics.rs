//! The figures of a bank: size, retrieval frequency, rewards.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::gain::Entry;
use super::{Counts, Episode, Round, SkillId, Tag};

/// The figures of a bank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BankMetrics {
    /// The active round.
    pub active_round: u64,
    /// Its size `K_t`, retired skills left out.
    pub skill_count: u64,
    /// Skills of the active round that were retired since.
    pub retired_count: u64,
    /// Episodes in the evidence log.
    pub episode_count: u64,
    /// Episodes for which retrieval brought at least one skill.
    pub retrieved_count: u64,
    /// Episodes with a reward.
    pub rewarded_count: u64,
    /// Mean of those rewards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_reward: Option<f64>,
    /// By tag.
    pub tags: BTreeMap<String, TagMetrics>,
}

/// The figures of the skills of one tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TagMetrics {
    /// Skills of the active round.
    pub skill_count: u64,
    /// What the evidence log says.
    #[serde(flatten)]
    pub counts: Counts,
    /// The share of episodes for which retrieval brought a skill of this tag.
    pub retrieval_frequency: f64,
    #[serde(skip)]
    retrieved_count: u64,
}

/// Running sums behind [`BankMetrics`].
#[derive(Debug, Clone, Default)]
pub(super) struct Frequency {
    episode_count: u64,
    retrieved_count: u64,
    rewarded_count: u64,
    reward_sum: f64,
    tags: BTreeMap<Tag, TagMetrics>,
}

impl Frequency {
    pub fn see(&mut self, episode: &Episode) {
        self.episode_count += 1;
        self.retrieved_count += u64::from(!episode.exposures.is_empty());
        let mut seen = HashSet::new();
        for exposure in &episode.exposures {
            let tag = self.tags.entry(exposure.tag.clone()).or_default();
            tag.retrieved_count += u64::from(seen.insert(&exposure.tag));
            if exposure.withheld {
                tag.counts.withheld += 1;
            } else {
                tag.counts.offered += 1;
            }
        }
        if let Some(named) = episode.named.as_ref().and_then(|id| episode.exposure(id)) {
            self.tags.entry(named.tag.clone()).or_default().counts.named += 1;
        }
    }

    pub fn reward(&mut self, episode: &Episode, value: f64, entry: Entry) {
        let sign = entry.sign();
        self.rewarded_count = self.rewarded_count.saturating_add_signed(sign);
        self.reward_sum += sign as f64 * value;
        let named = episode.named.as_ref().and_then(|id| episode.exposure(id));
        if let Some(named) = named.filter(|_| super::gain::helps(value)) {
            let helped = &mut self.tags.entry(named.tag.clone()).or_default().counts.helped;
            *helped = helped.saturating_add_signed(sign);
        }
    }

    pub fn metrics(&self, active: &Round, retired: &HashSet<SkillId>) -> BankMetrics {
        let mut tags = self.tags.clone();
        let (mut skill_count, mut retired_count) = (0, 0);
        for skill in active.skills.iter() {
            if retired.contains(&skill.id) {
                retired_count += 1;
            } else {
                skill_count += 1;
                tags.entry(skill.tag.clone()).or_default().skill_count += 1;
            }
        }
        let episodes = self.episode_count.max(1) as f64;
        let tags = tags.into_iter().map(|(tag, mut metrics)| {
            metrics.retrieval_frequency = metrics.retrieved_count as f64 / episodes;
            (tag.to_string(), metrics)
        });
        BankMetrics {
            active_round: active.number(),
            skill_count,
            retired_count,
            episode_count: self.episode_count,
            retrieved_count: self.retrieved_count,
            rewarded_count: self.rewarded_count,
            mean_reward: (self.rewarded_count > 0)
                .then(|| self.reward_sum / self.rewarded_count as f64),
            tags: tags.collect(),
        }
    }
}
