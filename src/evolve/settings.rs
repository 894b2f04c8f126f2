//! What a round is told.

use serde::{Deserialize, Serialize};

use super::distil::DistilSettings;
use super::gate::GateSettings;
use super::harvest::HarvestSettings;
use super::reward::Weights;

/// Who words a harvested skill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distiller {
    /// The reasoner where it can, rules where its words do not pass the check. A reasoner whose
    /// first drafts all fail is not asked again in the round.
    #[default]
    Reasoner,
    /// Rules alone.
    Rules,
}

/// What is done with a candidate that passed the gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publication {
    /// It waits until somebody adopts it.
    #[default]
    Offer,
    /// It is published and made active at once.
    Publish,
    /// Nothing, and no evidence is recorded either: a dry run.
    DryRun,
}

/// Settings of one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoundSettings {
    /// Seed of the split, the sampling, the withholding and the intervals.
    pub seed: u64,
    /// K: sampled rollouts of each practice request.
    pub rollout_count: usize,
    /// Temperature of the rollouts.
    pub temperature: f32,
    /// The chance of each skill to be withheld in practice.
    pub withhold_rate: f64,
    /// Share of patients held out, where the requests do not say it themselves.
    pub heldout_share: f64,
    /// Weights of the reward.
    pub reward: Weights,
    /// What counts as worth learning.
    pub harvest: HarvestSettings,
    /// When a term is taken for jargon.
    pub distil: DistilSettings,
    /// Who words the skills.
    pub distiller: Distiller,
    /// Most skills harvested in one round: small steps are easier to judge.
    pub harvest_count_max: usize,
    /// Most skills of a bank.
    pub bank_size_max: usize,
    /// What the gate asks for.
    pub gate: GateSettings,
    /// What is done with a candidate that passed.
    pub publication: Publication,
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            rollout_count: 4,
            temperature: 0.8,
            withhold_rate: 0.3,
            heldout_share: 0.4,
            reward: Weights::default(),
            harvest: HarvestSettings::default(),
            distil: DistilSettings::default(),
            distiller: Distiller::default(),
            harvest_count_max: 24,
            bank_size_max: 5_000,
            gate: GateSettings::default(),
            publication: Publication::default(),
        }
    }
}

impl RoundSettings {
    /// Refuses numbers that make no round.
    ///
    /// # Errors
    /// The name of the setting, the value found and what it must be.
    pub fn check(&self) -> Result<(), super::EvolveError> {
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        let rows = [
            (
                "rollout_count",
                self.rollout_count as f64,
                (1..=64).contains(&self.rollout_count),
                "1 to 64",
            ),
            (
                "temperature",
                f64::from(self.temperature),
                self.temperature > 0.0 && self.temperature <= 2.0,
                "above 0 and at most 2",
            ),
            (
                "withhold_rate",
                self.withhold_rate,
                unit(self.withhold_rate) && self.withhold_rate < 1.0,
                "from 0 to below 1",
            ),
            ("heldout_share", self.heldout_share, unit(self.heldout_share), "0 to 1"),
            ("reward.dice", self.reward.dice, unit(self.reward.dice), "0 to 1"),
            ("reward.stability", self.reward.stability, unit(self.reward.stability), "0 to 1"),
            ("reward.format", self.reward.format, unit(self.reward.format), "0 to 1"),
            (
                "sum of the reward's weights",
                self.reward.dice + self.reward.stability + self.reward.format,
                self.reward.dice + self.reward.stability + self.reward.format <= 1.0 + 1e-9,
                "at most 1",
            ),
            ("harvest.margin", self.harvest.margin, unit(self.harvest.margin), "0 to 1"),
            ("harvest.dice_min", self.harvest.dice_min, unit(self.harvest.dice_min), "0 to 1"),
            ("distil.purity_min", self.distil.purity_min, unit(self.distil.purity_min), "0 to 1"),
            (
                "gate.variance_weight",
                self.gate.variance_weight,
                self.gate.variance_weight >= 0.0,
                "at least 0",
            ),
            (
                "gate.objective_gain_min",
                self.gate.objective_gain_min,
                self.gate.objective_gain_min >= 0.0,
                "at least 0",
            ),
            (
                "gate.resamples",
                self.gate.resamples as f64,
                (100..=100_000).contains(&self.gate.resamples),
                "100 to 100000",
            ),
        ];
        match rows.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((name, found, _, wanted)) => {
                Err(super::EvolveError::Setting { name, found, wanted })
            }
            None => Ok(()),
        }
    }
}
