//! Views, text and skills into a trace: the Qwen3-VL host.

use serde::{Deserialize, Serialize};

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
