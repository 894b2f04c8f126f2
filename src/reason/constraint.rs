//! One trace on its way through the grammar, and how it comes to an end in time.

use std::collections::VecDeque;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::ReasonError;
use super::grammar::{
    CLOSE_ANSWER, Grammar, MARGIN, OPEN_EVIDENCE, REASONS, REJECT, SEGMENT, TO_ANSWER,
    TO_RATIONALE, Targets, fault,
};

/// One trace being held to the grammar.
pub struct Constraint<'a> {
    grammar: &'a Grammar,
    targets: Targets,
    matcher: Matcher,
    text: Vec<u8>,
    keep: Keep,
    /// Tokens that come next without a choice.
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

/// Tokens that must be left when a free part ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) after_evidence: usize,
    pub(super) after_rationale: usize,
}

impl<'a> Constraint<'a> {
    pub(super) fn new(
        grammar: &'a Grammar,
        targets: Targets,
        matcher: Matcher,
        keep: Keep,
    ) -> Self {
        let (text, due) = (Vec::new(), VecDeque::new());
        Self { grammar, targets, matcher, text, keep, due, cut: false }
    }

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
        if self.due.is_empty() {
            // What the grammar leaves no choice about, tokenised once; a mask would do it each time.
            self.due = self.matcher.compute_ff_tokens().into();
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
        if !self.is_just_enough(&self.shortest_ending(&whole), remaining) {
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
        let due = if self.is_just_enough(&ending, remaining) {
            // The rest of the closing tag would have come anyway.
            self.cut |= !CLOSE_ANSWER.ends_with(&ending);
            self.grammar.encode(&ending)
        } else {
            match free_part(text) {
                Some(Part::Evidence) if remaining <= self.keep.after_evidence => {
                    self.grammar.encode(TO_RATIONALE)
                }
                Some(Part::Rationale) if remaining <= self.keep.after_rationale => {
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

    fn is_just_enough(&self, ending: &str, remaining: usize) -> bool {
        // A token is at least one byte long, so most steps need not count.
        remaining <= ending.len() + MARGIN
            && remaining <= self.grammar.encode(ending).len() + MARGIN
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
