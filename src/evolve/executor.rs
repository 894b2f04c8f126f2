//! What a round asks of the models, so that a simulation can stand in for them.

use serde::{Deserialize, Serialize};

use super::EvolveError;
use crate::eval::Request;
use crate::reason::OfferedSkill;

/// How rollouts are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// K: how many share one reading of the prompt.
    pub count: usize,
    /// Above 0.
    pub temperature: f32,
    /// Seed of the first; the others count up.
    pub seed: u64,
}

/// One request with the skills it is offered.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The request with its reference labels; only the reward looks at those.
    pub request: &'a Request,
    /// Skills, best first.
    pub skills: &'a [OfferedSkill],
    /// How to sample; greedy and once without it.
    pub sampling: Option<Sampling>,
}

/// One execution of a request: what was answered, and how good that was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The answer in the grammar's own words, `Segment the liver.` or `Reject: ambiguous.`
    pub answer: String,
    /// Canonical names of its targets; empty when refused.
    pub targets: Vec<String>,
    /// Code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Dice with the reference. For a request to refuse: 1 when refused, else 0.
    pub dice: f64,
    /// The trace has its three parts and nothing else.
    pub format_ok: bool,
    /// Place of the skill that the rationale names among those offered, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<usize>,
}

/// What a live order would show the bank: no label, no target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// Modality code of the scan.
    pub modality: String,
    /// Body part as the scan's header gives it; empty when unknown.
    pub body_part: String,
}

/// Runs requests for a round.
pub trait Executor {
    /// Opens a case, does `work` on it and closes it. `requests` are those of the case that may be
    /// executed, so that their masks can be made together.
    ///
    /// # Errors
    /// When the case cannot be read, or what `work` says.
    fn visit(
        &mut self,
        case: &str,
        requests: &[&Request],
        work: &mut dyn FnMut(&mut dyn Visit) -> Result<(), EvolveError>,
    ) -> Result<(), EvolveError>;

    /// What the reasoner writes when it is asked in plain words, without the grammar of traces;
    /// none when there is nobody to ask.
    ///
    /// # Errors
    /// When the reasoner fails or the round is cancelled.
    fn write(&mut self, instruction: &str) -> Result<Option<String>, EvolveError>;
}

/// An open case.
pub trait Visit {
    /// What retrieval may see of it.
    fn scene(&self) -> Scene;

    /// Reasons, segments and scores: one rollout, or as many as the sampling says.
    ///
    /// # Errors
    /// When a model fails or the round is cancelled.
    fn execute(&mut self, ask: &Ask<'_>) -> Result<Vec<Rollout>, EvolveError>;

    /// Dice when the words go straight to the backbone, without any reasoner: the direct prompt.
    ///
    /// # Errors
    /// As [`Visit::execute`].
    fn direct(&mut self, request: &Request) -> Result<f64, EvolveError>;
}
