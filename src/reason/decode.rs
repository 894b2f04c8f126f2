//! The decoding loop.

use super::ReasonError;
use super::grammar::{Constraint, Next};
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
    /// Mean natural log-probability of the tokens under the unmasked distribution; 0 without tokens.
    pub mean_log_probability: f64,
    /// Why it ended.
    pub finish: Finish,
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
    let Plan { mut state, max_new_tokens, end_ids, mut sampler, mut constraint } = plan;
    let (mut tokens, mut sum) = (Vec::new(), 0.0);
    let mut finish = Finish::Length;
    while tokens.len() < max_new_tokens {
        cancel.check().map_err(RuntimeError::from)?;
        let chosen = choose(
            &state.logits,
            &mut sampler,
            constraint.as_mut(),
            max_new_tokens - tokens.len(),
        )?;
        let Some(token) = chosen.filter(|token| constraint.is_some() || !end_ids.contains(token))
        else {
            finish = Finish::Stop;
            break;
        };
        if let Some(constraint) = &mut constraint {
            constraint.accept(token)?;
        }
        sum += log_probability(&state.logits, token);
        tokens.push(token);
        progress.report(tokens.len() as u64, max_new_tokens as u64);
        if tokens.len() < max_new_tokens {
            state = model.write(token, &state, cancel)?;
        }
    }
    if let Some(constraint) = constraint {
        let stopped = constraint.is_complete() && !constraint.was_cut();
        finish = if stopped { Finish::Stop } else { Finish::Length };
    }
    let mean_log_probability = if tokens.is_empty() { 0.0 } else { sum / tokens.len() as f64 };
    Ok(Written { tokens, mean_log_probability, finish })
}

/// The next token; `None` when a constrained text is complete.
fn choose(
    logits: &[f32],
    sampler: &mut Sampler,
    constraint: Option<&mut Constraint<'_>>,
    remaining: usize,
) -> Result<Option<u32>, ReasonError> {
    let next = match constraint {
        Some(constraint) => constraint.next(remaining)?,
        None => {
            let all = 0..logits.len() as u32;
            return sampler.pick(logits, all).map(Some).ok_or(ReasonError::Logits);
        }
    };
    match next {
        Next::Nothing => Ok(None),
        Next::Exactly(token) => Ok(Some(token)),
        Next::Among(mask) => {
            let allowed = mask.iter();
            sampler.pick(logits, allowed).map(Some).ok_or(ReasonError::Logits)
        }
    }
}
