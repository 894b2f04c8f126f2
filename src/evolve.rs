//! SEER-Loop: rounds that harvest skills from labelled requests, and let them into the bank only
//! past a held-out gate.
//!
//! ```text
//! requests ─ split by patient ─┬─ practice: K sampled rollouts each, skills withheld by chance
//!                              │     → rewards → Ξ+ → lessons → distilled skills → rehearsal
//!                              │     → merged with the bank, harmful ones retired: a candidate
//!                              └─ held-out: current bank and candidate, request by request
//!                                    → gate: mean and worst-case Dice not lower, J raised
//! passed: published, or offered for adoption        failed: a report, and nothing changes
//! ```
//!
//! A round is deterministic given its seed, its requests and the bank; what it has done is in a
//! ledger, so that a round that was killed goes on and ends the same. It gives way to orders.
//! This room knows no queue of orders and no server; skills are worded by the reasoner or by rules,
//! never from a reference label or a patient's text.

mod archived;
mod control;
mod distil;
mod draft;
mod error;
mod executor;
#[cfg(test)]
mod fixture;
mod gate;
mod harvest;
mod ledger;
mod material;
mod merge;
mod models;
mod page;
mod report;
mod reward;
mod round;
mod service;
mod settings;
pub mod simulate;
mod split;
mod terms;

pub use archived::{LabelledOrder, suite_of_archive};
pub use control::{Busy, Control};
pub use distil::DistilSettings;
pub use error::EvolveError;
pub use executor::{Ask, Executor, Rollout, Sampling, Scene, Visit};
pub use gate::{Difference, GateSettings, GroupChange, Pair, Standing, Verdict, judge};
pub use harvest::HarvestSettings;
pub use ledger::Ledger;
pub use material::Material;
pub use merge::{Fate, Retired, RetiredFor};
pub use models::{ModelExecutor, ModelHolder};
pub use page::{html, simulation_html, simulation_svg};
pub use report::{Outcome, PracticeSummary, Report, SkillReport};
pub use reward::Weights;
pub use round::{Notice, RoundInputs, Stage, adopt, run};
pub use service::{
    Evolution, EvolutionEvent, EvolutionSettings, NewRound, RoundSource, RoundState, RoundView,
};
pub use settings::{Distiller, Publication, RoundSettings};
pub use split::Parts;
