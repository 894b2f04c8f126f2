//! The decoding loop.

use super::ReasonError;
use super::constraint::{Constraint, Next};
use super::model::{Model, State};
use super::sample::{Sampler, log_probability};
use crate::runtime::RuntimeError;
use crate::threads::{Cancel, Progress};

/// How one sample is decoded.
pub struct Plan<'a> {
    /// Where it starts.
    pub state: State,
    /// Most tokens to write.
    pub max_new_tokens: usize,
    /// Tokens that end a free text.
    pub end_ids: &'a [u32],
    /// How tokens are drawn.
    pub sampler: Sampler,
    /// Holds the text to the grammar.
    pub constraint: Option<Constraint<'a>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Natural log-probability of each token under the unmasked distribution.
    pub log_probabilities: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Written {
    /// Mean of the log-probabilities; 0 without tokens.
    pub fn mean_log_probability(&self) -> f64 {
        let sum: f64 = self.log_probabilities.iter().map(|value| f64::from(*value)).sum();
        sum / self.log_probabilities.len().max(1) as f64
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// The tokens ran out.
    Length,
}

impl Finish {
    /// As records say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Writes tokens until the text ends, the tokens run out or `cancel` says stop.
///
/// # Errors
/// When stopped, a graph fails, or no allowed token has a finite logit.
pub fn decode(
    model: &Model,
    plan: Plan<'_>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Written, ReasonError> {
    let Plan { state, max_new_tokens, end_ids, sampler, constraint } = plan;
    Loop { model, max_new_tokens, end_ids, sampler, constraint, cancel, progress }.write(state)
}

/// Everything that one sample's decoding shares between its tokens.
struct Loop<'a> {
    model: &'a Model,
    max_new_tokens: usize,
    end_ids: &'a [u32],
    sampler: Sampler,
    constraint: Option<Constraint<'a>>,
    cancel: &'a Cancel,
    progress: &'a Progress,
}

impl Loop<'_> {
    fn write(mut self, mut state: State) -> Result<Written, ReasonError> {
        let (mut tokens, mut log_probabilities) = (Vec::new(), Vec::new());
        let mut finish = Finish::Length;
        while tokens.len() < self.max_new_tokens {
            self.cancel.check().map_err(RuntimeError::from)?;
            let remaining = self.max_new_tokens - tokens.len();
            let Some(token) = self.choose(&state.logits, remaining)? else {
                finish = Finish::Stop;
                break;
            };
            tokens.push(token);
            log_probabilities.push(log_probability(&state.logits, token) as f32);
            self.progress.report(tokens.len() as u64, self.max_new_tokens as u64);
            if remaining > 1 {
                state = self.model.write(token, &state, self.cancel)?;
            }
        }
        if let Some(constraint) = &self.constraint {
            let is_whole = constraint.is_complete() && !constraint.was_cut();
            finish = if is_whole { Finish::Stop } else { Finish::Length };
        }
        Ok(Written { tokens, log_probabilities, finish })
    }

    /// The next token, when `remaining` more may be written; `None` when the text is complete.
    fn choose(&mut self, logits: &[f32], remaining: usize) -> Result<Option<u32>, ReasonError> {
        let Some(constraint) = &mut self.constraint else {
            let token = self.sampler.pick(logits, 0..logits.len() as u32);
            let token = token.ok_or(ReasonError::Logits)?;
            return Ok(Some(token).filter(|token| !self.end_ids.contains(token)));
        };
        let picked = match constraint.next(remaining)? {
            Next::Nothing => return Ok(None),
            Next::Exactly(token) => Some(token),
            Next::Among(mask) => self.sampler.pick(logits, mask.iter()),
        };
        let token = picked.ok_or(ReasonError::Logits)?;
        constraint.accept(token)?;
        Ok(Some(token))
    }
}
