//! The section `[evolution]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evolve::{Distiller, GateSettings, HarvestSettings, Publication, RoundSettings};

/// `[evolution]`: rounds of SEER-Loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvolutionSection {
    /// Folder with one folder per suite, for rounds that are started over HTTP.
    pub suites: Option<PathBuf>,
    /// Most rounds that wait.
    pub queue_length: usize,
    /// How long a rollout waits for orders at most.
    pub patience_seconds: u64,
    /// What is done with a candidate that passed its gate.
    pub publication: Publication,
    /// Who words the skills.
    pub distiller: Distiller,
    /// Seed of the split, the sampling, the withholding and the intervals.
    pub seed: u64,
    /// Sampled rollouts of each practice request.
    pub rollout_count: usize,
    /// Their temperature.
    pub temperature: f32,
    /// The chance of each skill to be withheld in practice.
    pub withhold_rate: f64,
    /// Share of patients held out, where a suite does not say it itself.
    pub heldout_share: f64,
    /// How much better a phrasing's siblings must be for it to be a lesson.
    pub harvest_margin: f64,
    /// Most skills harvested in one round.
    pub harvest_count_max: usize,
    /// Most skills of a bank.
    pub bank_size_max: usize,
    /// Weight of the variance in the gate's objective.
    pub variance_weight: f64,
}

impl EvolutionSection {
    /// What a round is told when it is not told otherwise.
    pub fn round(&self) -> RoundSettings {
        let usual = RoundSettings::default();
        RoundSettings {
            seed: self.seed,
            rollout_count: self.rollout_count,
            temperature: self.temperature,
            withhold_rate: self.withhold_rate,
            heldout_share: self.heldout_share,
            harvest: HarvestSettings { margin: self.harvest_margin, ..usual.harvest },
            distiller: self.distiller,
            harvest_count_max: self.harvest_count_max,
            bank_size_max: self.bank_size_max,
            gate: GateSettings { variance_weight: self.variance_weight, ..usual.gate },
            publication: self.publication,
            ..usual
        }
    }

    /// [`EvolutionSection::patience_seconds`] as a duration.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }
}

impl Default for EvolutionSection {
    fn default() -> Self {
        let round = RoundSettings::default();
        Self {
            suites: None,
            queue_length: 8,
            patience_seconds: 30,
            publication: round.publication,
            distiller: round.distiller,
            seed: round.seed,
            rollout_count: round.rollout_count,
            temperature: round.temperature,
            withhold_rate: round.withhold_rate,
            heldout_share: round.heldout_share,
            harvest_margin: round.harvest.margin,
            harvest_count_max: round.harvest_count_max,
            bank_size_max: round.bank_size_max,
            variance_weight: round.gate.variance_weight,
        }
    }
}
