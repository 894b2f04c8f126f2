//! The grammar of a trace, and decoding held to it.
//!
//! ```text
//! <evidence>…</evidence><rationale>…</rationale><answer>ANSWER</answer>
//! ANSWER: Segment TARGET[; TARGET…].  |  Reject: REASON.
//! TARGET: the NAME, or "both …"
//! ```
//!
//! A grammar alone does not end: free text could use up every token before the answer. So each free
//! part has a share of the tokens and is closed when that is used up, and should the rest ever be
//! just enough, the shortest ending is written as it stands. Such a trace says that it was cut.

use std::sync::{Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::ByteTokenizer;

use super::ReasonError;
use super::constraint::{Constraint, Keep};

pub(super) const OPEN_EVIDENCE: &str = "<evidence>";
pub(super) const TO_RATIONALE: &str = "</evidence><rationale>";
pub(super) const TO_ANSWER: &str = "</rationale><answer>";
pub(super) const CLOSE_ANSWER: &str = "</answer>";
pub(super) const SEGMENT: &str = "Segment ";
pub(super) const REJECT: &str = "Reject: ";

pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Reasons that a rejection may give.
pub const REASONS: [&str; 5] = [
    "out_of_region",
    "unsupported_modality",
    "not_visible",
    "ambiguous",
    "not_a_segmentation_request",
];

/// Tokens that free text takes whatever came before; only the rest is looked at one by one.
const FREE_TEXT_SLICE: &str = "[^<]{1,30}";

/// Most targets of one answer.
const TARGETS_MAX: usize = 8;

/// Targets that the answer's share of the tokens has room for.
const TARGETS_EXPECTED: usize = 3;

/// Tokens kept in hand for characters that are still being written.
pub(super) const MARGIN: usize = 4;

/// Which targets an answer may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Names of the vocabulary only.
    Closed,
    /// Any short text.
    Open,
}

/// The grammar of one bundle, compiled against its tokenizer.
pub struct Grammar {
    factory: ParserFactory,
    pub(super) tokens: TokEnv,
    /// Targets as an answer says them: `the liver`, `both kidneys`.
    pub(super) phrases: Vec<String>,
    shares: Shares,
    closed: Prepared,
    open: Prepared,
}

/// A matcher at the start of a trace, made when it is first needed. It has seen a short trace, so
/// its lexer knows most states: one found in the middle of decoding costs a step some 0.2 ms.
#[derive(Default)]
struct Prepared(Mutex<Option<Matcher>>);

/// Tokens that the fixed parts of a trace take.
#[derive(Debug, Clone, Copy)]
struct Shares {
    open_evidence: usize,
    to_rationale: usize,
    to_answer: usize,
    /// The longest expected answer with its closing tag.
    answer: usize,
}

impl Grammar {
    /// Prepares the tokenizer's vocabulary of `width` logits for masking.
    ///
    /// # Errors
    /// When the tokenizer does not work on bytes.
    pub fn new(
        tokenizer: &Tokenizer,
        end_ids: &[u32],
        width: usize,
        names: impl Iterator<Item = String>,
    ) -> Result<Self, ReasonError> {
        let build = || {
            let mut bytes = ByteTokenizer::from_tokenizer(tokenizer.clone())?;
            bytes.set_eos_tokens(end_ids);
            let tokens = bytes.into_tok_env(Some(width))?;
            // Free text is most of a trace: its masks are put together from this slice, ready-made.
            let slices = [FREE_TEXT_SLICE.to_owned()];
            let capabilities = InferenceCapabilities::default();
            let mut factory = ParserFactory::new(&tokens, capabilities, &slices)?;
            factory.quiet();
            Ok((factory, tokens))
        };
        let built: Result<_, Fault> = build();
        let (factory, tokens) = built.map_err(fault)?;
        let phrases: Vec<String> = names.map(|name| phrase(&name)).collect();
        let shares = Shares::of(&tokens, &phrases);
        let (closed, open) = (Prepared::default(), Prepared::default());
        Ok(Self { factory, tokens, phrases, shares, closed, open })
    }

    /// Starts holding one trace to the grammar, `budget` tokens long at most.
    ///
    /// # Errors
    /// When the budget cannot hold even a short trace, or there are no names to be closed to.
    pub fn start(&self, targets: Targets, budget: usize) -> Result<Constraint<'_>, ReasonError> {
        if targets == Targets::Closed && self.phrases.is_empty() {
            let reason = "its vocabulary is closed but names no concept".to_owned();
            return Err(ReasonError::Grammar { reason });
        }
        let Shares { open_evidence, to_rationale, to_answer, answer } = self.shares;
        let needed = open_evidence + to_rationale + to_answer + answer;
        if budget < needed {
            return Err(ReasonError::Budget { budget, needed });
        }
        let matcher = self.matcher(targets)?;
        // Of the free tokens, evidence may use two thirds; rationale what is left.
        let keep_after_evidence = to_rationale + to_answer + answer + (budget - needed) / 3;
        let keep =
            Keep { after_evidence: keep_after_evidence, after_rationale: to_answer + answer };
        Ok(Constraint::new(self, targets, matcher, keep))
    }

    /// A matcher at the start of a trace.
    fn matcher(&self, targets: Targets) -> Result<Matcher, ReasonError> {
        let Prepared(prepared) = match targets {
            Targets::Closed => &self.closed,
            Targets::Open => &self.open,
        };
        let mut prepared = prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matcher) = &*prepared {
            return Ok(matcher.deep_clone());
        }
        let lark = self.lark(targets);
        let mut matcher =
            Matcher::new(self.factory.create_parser(TopLevelGrammar::from_lark(lark)));
        if let Some(reason) = matcher.get_error() {
            return Err(ReasonError::Grammar { reason });
        }
        self.warm_up(&mut matcher).map_err(fault)?;
        Ok(prepared.insert(matcher).deep_clone())
    }

    /// Leads the matcher through a trace and back to its start.
    fn warm_up(&self, matcher: &mut Matcher) -> Result<(), Fault> {
        let target = self.phrases.first().map_or("structure", String::as_str);
        let answers = [format!("{SEGMENT}{target}; {target}."), format!("{REJECT}{}.", REASONS[0])];
        for answer in answers {
            let trace = format!(
                "{OPEN_EVIDENCE}a view{TO_RATIONALE}a word{TO_ANSWER}{answer}{CLOSE_ANSWER}"
            );
            for token in self.encode(&trace) {
                matcher.compute_mask()?;
                matcher.consume_token(token)?;
            }
            matcher.reset()?;
        }
        Ok(())
    }

    fn lark(&self, targets: Targets) -> String {
        let quoted = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        let target = match targets {
            Targets::Closed => self.phrases.iter().map(quoted).collect::<Vec<_>>().join(" | "),
            Targets::Open => r"/(the )?[^ ;.<>\n][^;.<>\n]{0,79}/".to_owned(),
        };
        let reasons = REASONS.map(|reason| format!("\"{reason}\"")).join(" | ");
        let more = TARGETS_MAX - 1;
        format!(
            "start: \"{OPEN_EVIDENCE}\" TEXT? \"{TO_RATIONALE}\" TEXT? \"{TO_ANSWER}\" answer \"{CLOSE_ANSWER}\"\n\
             answer: segment | reject\n\
             segment: \"{SEGMENT}\" target (\"; \" target){{0,{more}}} \".\"\n\
             reject: \"{REJECT}\" ({reasons}) \".\"\n\
             target: {target}\n\
             TEXT: /[^<]+/\n"
        )
    }

    /// Tokens of a text, special ones read as plain text.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        self.tokens.tokenize(text)
    }
}

impl Shares {
    fn of(tokens: &TokEnv, phrases: &[String]) -> Self {
        let count = |text: &str| tokens.tokenize(text).len();
        let longest = phrases.iter().map(|phrase| count(&format!("; {phrase}"))).max();
        let targets = longest.unwrap_or(16) * TARGETS_EXPECTED;
        let rejection = REASONS.map(count).into_iter().max().unwrap_or(0);
        let answer =
            count(SEGMENT).max(count(REJECT)) + targets.max(rejection) + count(CLOSE_ANSWER);
        Self {
            open_evidence: count(OPEN_EVIDENCE),
            to_rationale: count(TO_RATIONALE),
            to_answer: count(TO_ANSWER),
            // One more for the full stop.
            answer: answer + 1 + MARGIN,
        }
    }
}

/// `the liver`, `both kidneys`.
fn phrase(name: &str) -> String {
    if name.starts_with("both ") { name.to_owned() } else { format!("the {name}") }
}

pub(super) fn fault(error: impl Into<Fault>) -> ReasonError {
    ReasonError::Grammar { reason: error.into().to_string() }
}
