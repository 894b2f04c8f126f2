//! `[bank]`: skills that orders are offered.

use serde::{Deserialize, Serialize};

use super::{ConfigError, bad};
use crate::bank;

/// `[bank]`: skills that orders are offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BankSettings {
    /// Offer orders the skills that fit them.
    pub offer: bool,
    /// Begin a bank that nobody has changed with the glossary: what the backbone's vocabulary
    /// calls the structures that have no side.
    pub glossary: bool,
    /// Most skills offered to one order.
    pub top_k: usize,
    /// Lowest score of a skill that is offered.
    pub score_min: f32,
    /// How much a skill that resembles a better one loses.
    pub diversity: f32,
    /// Chance of each skill to be withheld from an order.
    pub withhold_rate: f64,
    /// Seed of that chance.
    pub withhold_seed: u64,
}

impl BankSettings {
    /// The settings as the `bank` room takes them.
    pub fn settings(&self) -> bank::BankSettings {
        let retrieval = bank::RetrievalSettings {
            top_k: self.top_k,
            score_min: self.score_min,
            diversity: self.diversity,
        };
        bank::BankSettings { retrieval }
    }

    /// Refuses shares that are none, and more skills than a prompt should hold.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let shares = [
            ("bank.score_min", f64::from(self.score_min)),
            ("bank.diversity", f64::from(self.diversity)),
            ("bank.withhold_rate", self.withhold_rate),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(bad(key, value, "between 0 and 1"));
            }
        }
        match self.top_k {
            0..=16 => Ok(()),
            top_k => Err(bad("bank.top_k", top_k, "at most 16")),
        }
    }
}

impl Default for BankSettings {
    fn default() -> Self {
        let retrieval = bank::RetrievalSettings::default();
        Self {
            offer: true,
            glossary: true,
            top_k: retrieval.top_k,
            score_min: retrieval.score_min,
            diversity: retrieval.diversity,
            withhold_rate: 0.0,
            withhold_seed: 0,
        }
    }
}
