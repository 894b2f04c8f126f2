//! Views, text and skills into a trace: the Qwen3-VL host.
//!
//! The graphs hold the weights; everything between them is here, the same for the embedded bundle
//! and for Qwen3-VL 2B, 4B and 8B: pictures into patches, learned positions interpolated, image and
//! DeepStack features put in their places, MRoPE positions, the cached decoding loop, and the
//! grammar that a trace is held to.
//!
//! ```no_run
//! use seer::reason::{ReasonRequest, Reasoner, ReasonerSettings};
//! use seer::runtime::{Bundle, Provider, Runtime, setup};
//! use seer::threads::{Cancel, Progress};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bundle = Bundle::open("models/seer-mini".as_ref())?;
//! let runtime = Runtime::open(&setup::library(setup::FOLDER.as_ref(), Provider::Cpu), Provider::Cpu)?;
//! let reasoner = Reasoner::load(&bundle, &runtime, &ReasonerSettings::default())?;
//! let request = ReasonRequest::new(&[], "outline the liver");
//! let trace = reasoner.reason(request, &Cancel::new(), &Progress::silent())?;
//! println!("{}", trace.answer.unwrap_or_default());
//! # Ok(())
//! # }
//! ```

pub mod constraint;
pub mod decode;
pub mod grammar;
pub mod model;
pub mod picture;
pub mod positions;
pub mod prompt;
pub mod reasoner;
pub(crate) mod resize;
pub mod sample;
pub mod trace;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Kind};
use crate::runtime::RuntimeError;

pub use reasoner::{DecodingOverrides, ReasonRequest, Reasoner, ReasonerSettings};

/// What the reasoner wrote, with how it was decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The raw text, as decoded.
    pub raw: String,
    /// `<evidence>…</evidence>`, when present.
    pub evidence: Option<String>,
    /// `<rationale>…</rationale>`, when present.
    pub rationale: Option<String>,
    /// `<answer>…</answer>`, when present.
    pub answer: Option<String>,
    /// The three parts are there, in order, with nothing outside them.
    pub format_ok: bool,
    /// How it was decoded.
    pub decoding: Decoding,
}

impl Trace {
    /// Probability of the tokens that first write `phrase` as whole words, case aside, each given
    /// what was written before it, 0 to 1; `None` where the trace does not write it or was not decoded by this process.
    pub fn probability_of(&self, phrase: &str) -> Option<f64> {
        let Decoding { token_ends, log_probabilities, .. } = &self.decoding;
        let (raw, phrase) = (self.raw.to_ascii_lowercase(), phrase.to_ascii_lowercase());
        if phrase.is_empty() || token_ends.is_empty() {
            return None;
        }
        let is_whole = |start: &usize| {
            let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
            let (before, after) = (&raw[..*start], &raw[start + phrase.len()..]);
            !inside(before.chars().next_back()) && !inside(after.chars().next())
        };
        let start = raw.match_indices(&phrase).map(|(start, _)| start).find(is_whole)?;
        let end = start + phrase.len();
        let starts = std::iter::once(&0).chain(token_ends);
        let tokens = starts.zip(token_ends).zip(log_probabilities);
        let of_phrase = tokens.filter(|((from, to), _)| from < to && **from < end && **to > start);
        Some(of_phrase.map(|(_, value)| f64::from(*value)).sum::<f64>().exp())
    }
}

/// How a trace was decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Decoding {
    /// Seed of the sampler; greedy decoding ignores it.
    pub seed: u64,
    /// 0 is greedy.
    pub temperature: f32,
    /// Tokens of the prompt, image tokens included.
    pub prompt_token_count: usize,
    /// Tokens written.
    pub token_count: usize,
    /// Mean log-probability of the tokens written, under the unmasked distribution.
    pub mean_log_probability: f64,
    /// Natural log-probability of each token written, under the unmasked distribution. Absent in
    /// records of older servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probabilities: Vec<f32>,
    /// Where the text of each token ends in the trace, in bytes; not kept in records.
    #[serde(skip)]
    pub token_ends: Vec<usize>,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// Whether the grammar constrained decoding.
    pub constrained: bool,
}

/// A skill as the prompt shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSkill {
    /// `seer:` and a hash.
    pub id: String,
    /// For example `ABBR_DISAMBIGUATE`.
    pub tag: String,
    /// Trigger, action, target.
    pub content: String,
    /// Where it came from.
    pub audit: String,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum ReasonError {
    /// A bundle, a graph, or somebody who said stop.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is nothing to reason about.
    #[error("the order text is empty")]
    EmptyText,
    /// A picture that the model's processor refuses.
    #[error("a picture of {rows} x {columns} pixels cannot be shown to the reasoner")]
    PictureShape {
        /// Height.
        rows: usize,
        /// Width.
        columns: usize,
    },
    /// The prompt and the pictures do not fit together.
    #[error("the prompt has {found} image tokens, but the pictures make {expected}")]
    ImageTokens {
        /// What the pictures make.
        expected: usize,
        /// What the prompt has.
        found: usize,
    },
    /// The prompt is longer than the reasoner reads.
    #[error("the prompt has {found} tokens, more than the {limit} that the reasoner reads")]
    PromptTooLong {
        /// Its tokens.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The tokens asked for cannot hold a trace.
    #[error("{budget} new tokens cannot hold a trace, which takes {needed}")]
    Budget {
        /// What was asked for.
        budget: usize,
        /// What the shortest trace takes.
        needed: usize,
    },
    /// The chat template fails.
    #[error("the chat template fails: {reason}")]
    Template {
        /// What it said.
        reason: String,
    },
    /// The tokenizer fails.
    #[error("the tokenizer fails: {reason}")]
    Tokenizer {
        /// What it said.
        reason: String,
    },
    /// The trace grammar fails.
    #[error("the trace grammar fails: {reason}")]
    Grammar {
        /// What it said.
        reason: String,
    },
    /// The decoder gave no usable logits.
    #[error("the decoder gave no finite logit for any token that may follow")]
    Logits,
}

impl Kind for ReasonError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Runtime(error) => error.kind(),
            Self::EmptyText | Self::PictureShape { .. } | Self::Budget { .. } => ErrorKind::Invalid,
            Self::PromptTooLong { .. } => ErrorKind::TooLarge,
            Self::ImageTokens { .. }
            | Self::Template { .. }
            | Self::Tokenizer { .. }
            | Self::Grammar { .. }
            | Self::Logits => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(tokens: &[(&str, f32)]) -> Trace {
        let raw: String = tokens.iter().map(|(text, _)| *text).collect();
        let ends = tokens.iter().scan(0, |end, (text, _)| {
            *end += text.len();
            Some(*end)
        });
        let decoding = Decoding {
            seed: 0,
            temperature: 0.0,
            prompt_token_count: 1,
            token_count: tokens.len(),
            mean_log_probability: 0.0,
            log_probabilities: tokens.iter().map(|(_, probability)| probability.ln()).collect(),
            token_ends: ends.collect(),
            finish_reason: "stop".to_owned(),
            constrained: true,
        };
        Trace { raw, evidence: None, rationale: None, answer: None, format_ok: true, decoding }
    }

    #[test]
    fn the_first_writing_of_a_phrase_tells_how_sure_it_was() {
        let trace = trace(&[
            ("CT.", 0.1),
            (" left", 0.5),
            (" kid", 0.8),
            ("ney", 0.9),
            ("s, kidney", 0.7),
            (" seen.", 0.2),
            (" Left kidney", 1.0),
        ]);
        let near = |phrase: &str, expected: f64| {
            let found = trace.probability_of(phrase).expect("it is written");
            assert!((found - expected).abs() < 1e-6, "{phrase}: {found}");
        };
        near("Left kidneys", 0.252);
        near("Left kidney", 1.0);
        near("kidneys", 0.504);
        near("kidney", 0.7);
        near("kidney seen", 0.14);
        assert_eq!(trace.probability_of("liver"), None);
        assert_eq!(trace.probability_of(""), None);
        let text = serde_json::to_string(&trace).expect("plain data");
        let of_record: Trace = serde_json::from_str(&text).expect("just written");
        assert_eq!(of_record.probability_of("kidney"), None);
    }
}
