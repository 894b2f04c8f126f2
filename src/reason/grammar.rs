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

use std::collections::VecDeque;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv};
use llguidance::{Matcher, ParserFactory};
use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::ByteTokenizer;

use super::ReasonError;

const OPEN_EVIDENCE: &str = "<evidence>";
const TO_RATIONALE: &str = "</evidence><rationale>";
const TO_ANSWER: &str = "</rationale><answer>";
const CLOSE_ANSWER: &str = "</answer>";
const SEGMENT: &str = "Segment ";
const REJECT: &str = "Reject: ";

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Reasons that a rejection may give.
pub const REASONS: [&str; 5] = [
    "out_of_region",
    "unsupported_modality",
    "not_visible",
    "ambiguous",
    "not_a_segmentation_request",
];

/// Most targets of one answer.
const TARGETS_MAX: usize = 8;

/// Targets that the answer's share of the tokens has room for.
const TARGETS_EXPECTED: usize = 3;

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
    tokens: TokEnv,
    /// Targets as an answer says them: `the liver`, `both kidneys`.
    phrases: Vec<String>,
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
            let mut factory = ParserFactory::new_simple(&tokens)?;
            factory.quiet();
            Ok((factory, tokens))
        };
        let built: Result<_, Fault> = build();
        let (factory, tokens) = built.map_err(fault)?;
        Ok(Self { factory, tokens, phrases: names.map(|name| phrase(&name)).collect() })
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
        let answer_share = self.answer_share();
        let needed = [OPEN_EVIDENCE, TO_RATIONALE, TO_ANSWER].map(|tag| self.count(tag));
        let fixed = needed.iter().sum::<usize>() + answer_share;
        if budget < fixed {
            return Err(ReasonError::Budget { budget, needed: fixed });
        }
        let lark = self.lark(targets);
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(lark));
        let matcher = Matcher::new(parser);
        if let Some(reason) = matcher.get_error() {
            return Err(ReasonError::Grammar { reason });
        }
        Ok(Constraint {
            grammar: self,
            targets,
            matcher,
            text: Vec::new(),
            // Of the free tokens, evidence may use two thirds; rationale what is left.
            keep_after_evidence: needed[1] + needed[2] + answer_share + (budget - fixed) / 3,
            keep_after_rationale: needed[2] + answer_share,
            due: VecDeque::new(),
            cut: false,
        })
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
    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokens.tokenize(text)
    }

    fn count(&self, text: &str) -> usize {
        self.encode(text).len()
    }

    /// Tokens that the longest expected answer and its closing tag need.
    fn answer_share(&self) -> usize {
        let longest = self.phrases.iter().map(|phrase| self.count(&format!("; {phrase}"))).max();
        let targets = longest.unwrap_or(16) * TARGETS_EXPECTED;
        let rejection = REASONS.map(|reason| self.count(reason)).into_iter().max().unwrap_or(0);
        self.count(SEGMENT).max(self.count(REJECT)) + targets.max(rejection)
            + self.count(CLOSE_ANSWER)
            // The full stop, and characters that are still being written.
            + 5
    }
}

/// `the liver`, `both kidneys`.
fn phrase(name: &str) -> String {
    if name.starts_with("both ") { name.to_owned() } else { format!("the {name}") }
}

/// One trace being held to the grammar.
pub struct Constraint<'a> {
    grammar: &'a Grammar,
    targets: Targets,
    matcher: Matcher,
    text: Vec<u8>,
    keep_after_evidence: usize,
    keep_after_rationale: usize,
    due: VecDeque<u32>,
    cut: bool,
}

/// What may come next.
pub enum Next {
    /// One of these tokens.
    Among(SimpleVob),
    /// Exactly this token.
    Exactly(u32),
    /// The trace is complete.
    Nothing,
}

impl Constraint<'_> {
    /// What may come next when `remaining` more tokens may be written.
    ///
    /// # Errors
    /// When the matcher fails, which a sound grammar does not let it.
    pub fn next(&mut self, remaining: usize) -> Result<Next, ReasonError> {
        if self.matcher.is_stopped() {
            return Ok(Next::Nothing);
        }
        if self.due.is_empty() {
            self.close_in_time(remaining);
        }
        if let Some(token) = self.due.pop_front() {
            return Ok(Next::Exactly(token));
        }
        let mut mask = self.matcher.compute_mask().map_err(fault)?;
        if self.grammar.tokens.tok_trie().eos_tokens().iter().any(|&end| mask.is_allowed(end)) {
            // Only a complete trace may end, and then nothing else may follow.
            return Ok(Next::Nothing);
        }
        self.finish_character(&mut mask, remaining);
        Ok(Next::Among(mask))
    }

    /// Whether the trace has its closing tag.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// When the grammar does not allow it.
    pub fn accept(&mut self, token: u32) -> Result<(), ReasonError> {
        self.matcher.consume_token(token).map_err(fault)?;
        self.text.extend(self.grammar.tokens.tok_trie().token(token));
        Ok(())
    }

    /// Whether an ending had to be written because the tokens ran out.
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// In the middle of a character, with few tokens left, allows only what completes it.
    fn finish_character(&self, mask: &mut SimpleVob, remaining: usize) {
        let Err(torn) = std::str::from_utf8(&self.text) else { return };
        let (whole, begun) = self.text.split_at(torn.valid_up_to());
        let whole = String::from_utf8_lossy(whole);
        if remaining > self.grammar.count(&self.shortest_ending(&whole)) + MARGIN {
            return;
        }
        let trie = self.grammar.tokens.tok_trie();
        let mut completing = trie.alloc_token_set();
        for token in mask.iter() {
            if std::str::from_utf8(&[begun, trie.token(token)].concat()).is_ok() {
                completing.allow_token(token);
            }
        }
        if !completing.is_zero() {
            *mask = completing;
        }
    }

    /// Makes the next tokens due when a part's share, or everything, is used up.
    fn close_in_time(&mut self, remaining: usize) {
        // Between the bytes of one character nothing can be closed; the margins allow for that.
        let Ok(text) = std::str::from_utf8(&self.text) else { return };
        let ending = self.shortest_ending(text);
        let ending = self.grammar.encode(&ending);
        let due = if remaining <= ending.len() + MARGIN {
            self.cut = true;
            ending
        } else {
            match free_part(text) {
                Some(Part::Evidence) if remaining <= self.keep_after_evidence => {
                    self.grammar.encode(TO_RATIONALE)
                }
                Some(Part::Rationale) if remaining <= self.keep_after_rationale => {
                    self.grammar.encode(TO_ANSWER)
                }
                _ => return,
            }
        };
        // A text that ends inside a tag's first bytes may tokenise differently; the mask then rules.
        if self.matcher.validate_tokens(&due).is_ok_and(|valid| valid == due.len()) {
            self.due = due.into();
        }
    }

    /// The shortest text that completes the trace from here on.
    fn shortest_ending(&self, text: &str) -> String {
        let refusal = format!("{REJECT}ambiguous.");
        let after = |rest: &str| format!("{rest}{CLOSE_ANSWER}");
        let Some(evidence) = text.strip_prefix(OPEN_EVIDENCE) else {
            let rest = OPEN_EVIDENCE.get(text.len()..).unwrap_or_default();
            return after(&format!("{rest}{TO_RATIONALE}{TO_ANSWER}{refusal}"));
        };
        let (tag, rationale) = beyond(evidence, TO_RATIONALE);
        let Some(rationale) = rationale else {
            return after(&format!("{tag}{TO_ANSWER}{refusal}"));
        };
        let (tag, answer) = beyond(rationale, TO_ANSWER);
        let Some(answer) = answer else { return after(&format!("{tag}{refusal}")) };
        match answer.find('<') {
            Some(at) => CLOSE_ANSWER.get(answer.len() - at..).unwrap_or_default().to_owned(),
            None => after(&self.shortest_answer(answer)),
        }
    }

    /// The shortest text that completes an answer from here on.
    fn shortest_answer(&self, answer: &str) -> String {
        if answer.ends_with('.') {
            return String::new();
        }
        let rest = |whole: &str| whole.strip_prefix(answer).map(str::to_owned);
        let rejections = REASONS.map(|reason| format!("{REJECT}{reason}."));
        if let Some(shortest) =
            rejections.iter().filter_map(|whole| rest(whole)).min_by_key(String::len)
        {
            return shortest;
        }
        let Some(targets) = answer.strip_prefix(SEGMENT) else {
            let open = SEGMENT.strip_prefix(answer).unwrap_or_default();
            return format!("{open}{}.", self.shortest_target(""));
        };
        if targets.ends_with(';') {
            return format!(" {}.", self.shortest_target(""));
        }
        let last = targets.rsplit("; ").next().unwrap_or(targets);
        format!("{}.", self.shortest_target(last))
    }

    /// The shortest text that completes a target from here on.
    fn shortest_target(&self, begun: &str) -> String {
        let phrases = self.grammar.phrases.iter();
        let known =
            phrases.filter_map(|phrase| phrase.strip_prefix(begun)).min_by_key(|rest| rest.len());
        match (self.targets, known) {
            (Targets::Open, _) if !begun.is_empty() && !"the ".starts_with(begun) => String::new(),
            (_, Some(rest)) => rest.to_owned(),
            (_, None) => "structure".to_owned(),
        }
    }
}

/// Tokens kept in hand for characters that are still being written.
const MARGIN: usize = 4;

/// A part of free text.
enum Part {
    Evidence,
    Rationale,
}

/// The free part that the text ends in, if it does.
fn free_part(text: &str) -> Option<Part> {
    let evidence = text.strip_prefix(OPEN_EVIDENCE)?;
    match beyond(evidence, TO_RATIONALE) {
        (_, None) if !evidence.contains('<') => Some(Part::Evidence),
        (_, None) => None,
        (_, Some(rationale)) if !rationale.contains('<') => Some(Part::Rationale),
        (_, Some(_)) => None,
    }
}

/// Splits free text at the tags that close it: what is missing of the tags, and what comes after.
fn beyond<'a>(text: &'a str, tags: &'static str) -> (&'static str, Option<&'a str>) {
    let Some(at) = text.find('<') else { return (tags, None) };
    match text[at..].strip_prefix(tags) {
        Some(after) => ("", Some(after)),
        None => (tags.get(text.len() - at..).unwrap_or_default(), None),
    }
}

fn fault(error: impl Into<Fault>) -> ReasonError {
    ReasonError::Grammar { reason: error.into().to_string() }
}
