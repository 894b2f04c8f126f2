//! Evolution rounds as clients ask for and see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::evolve::{Distiller, Publication, RoundSettings, RoundView};

/// A round to start. What is not said is as the configuration says.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoundRequest {
    /// A suite of the configured folder, by its folder's name.
    #[schema(example = "house-jargon")]
    pub suite: Option<String>,
    /// Instead of a suite: orders of the archive that reviewers corrected or accepted.
    #[serde(default)]
    pub from_archive: bool,
    /// Change nothing; the report says what would be published.
    #[serde(default)]
    dry_run: bool,
    /// What is done with a candidate that passed; `dry_run` goes before it.
    publication: Option<Publication>,
    /// Seed of split, sampling, withholding and intervals.
    seed: Option<u64>,
    /// Sampled rollouts of each practice request.
    rollout_count: Option<usize>,
    /// Temperature of the rollouts.
    temperature: Option<f32>,
    /// The chance of each skill to be withheld in practice.
    withhold_rate: Option<f64>,
    /// Most skills harvested.
    harvest_count_max: Option<usize>,
    /// Who words the skills.
    distiller: Option<Distiller>,
}

impl RoundRequest {
    pub(super) fn settings(&self, usual: RoundSettings) -> RoundSettings {
        let publication = match self.dry_run {
            true => Publication::DryRun,
            false => self.publication.unwrap_or(usual.publication),
        };
        RoundSettings {
            publication,
            seed: self.seed.unwrap_or(usual.seed),
            rollout_count: self.rollout_count.unwrap_or(usual.rollout_count),
            temperature: self.temperature.unwrap_or(usual.temperature),
            withhold_rate: self.withhold_rate.unwrap_or(usual.withhold_rate),
            harvest_count_max: self.harvest_count_max.unwrap_or(usual.harvest_count_max),
            distiller: self.distiller.unwrap_or(usual.distiller),
            ..usual
        }
    }
}

/// Every round, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RoundList {
    /// The rounds.
    pub rounds: Vec<RoundView>,
}
