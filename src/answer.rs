//! Trace text into a typed answer and findings.
//!
//! The grammar is one sentence: `Segment the <target>[; the <target>…].` or `Reject: <reason>.`
//! Reading is tolerant of case, white space, articles and the full stop, and strict about meaning:
//! a phrase is a concept of the vocabulary (its name, then a synonym) or it is unresolved and says
//! so. An answer that picks the other side than the order names is turned into a refusal, because a
//! mask on the wrong side harms a patient; so is one that takes a structure which the order names
//! only to leave it out, and, where the bundle says so, one that nothing in the order is a
//! name of.
//!
//! ```
//! use seer::answer::{Answer, Reading, RefusalReason, UnknownTargets, parse};
//! use seer::runtime::vocabulary::Vocabulary;
//! let (answer, _) = parse(&Reading {
//!     answer: Some("Reject: out of region."),
//!     order: "prostate please",
//!     vocabulary: &Vocabulary::default(),
//!     unknown_targets: UnknownTargets::Refuse,
//!     skills: &[],
//!     refuse_unnamed: false,
//! })?;
//! assert!(matches!(answer, Answer::Refuse(r) if r.reason == RefusalReason::OutOfRegion));
//! # Ok::<(), seer::answer::AnswerError>(())
//! ```

mod coverage;
mod excluded;
#[cfg(test)]
mod fixture;
mod grammar;
mod laterality;
mod order;
mod refusal;
mod target;
mod unnamed;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Finding, Kind};
use crate::reason::OfferedSkill;
use crate::runtime::vocabulary::{Concept, Vocabulary};
use grammar::Sentence;

pub use order::asked_for;

/// What the reasoner wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `Segment the <target>[; the <target>…].`
    Segment(Vec<Target>),
    /// `Reject: <reason>.`
    Refuse(Refusal),
}

impl Answer {
    /// Writes the answer in the grammar's own words: concept names, codes of reasons.
    ///
    /// Two answers that mean the same have one canonical text, whatever the model wrote.
    pub fn canonical_text(&self) -> String {
        match self {
            Self::Segment(targets) => {
                let names: Vec<String> = targets.iter().map(Target::with_article).collect();
                format!("Segment {}.", names.join("; "))
            }
            Self::Refuse(refusal) => format!("Reject: {}.", refusal.reason.code()),
        }
    }
}

/// One thing to segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// As the answer says it.
    pub phrase: String,
    /// What the backbone is asked.
    pub prompt: String,
    /// The vocabulary's concept; absent when the phrase is unknown and passes through. The parts
    /// of a `both` concept are named there and are not segmented apart.
    pub concept: Option<Concept>,
}

impl Target {
    /// The concept's name, or the phrase when there is none.
    pub fn name(&self) -> &str {
        self.concept.as_ref().map_or(&self.phrase, |concept| &concept.name)
    }

    fn with_article(&self) -> String {
        match self.name() {
            name if name.starts_with("both ") => name.to_owned(),
            name => format!("the {name}"),
        }
    }
}

/// A first-class result without a mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The words of the answer, or ours when a check of this server refuses.
    pub text: String,
}

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The target is not in the scanned region.
    OutOfRegion,
    /// The target cannot be seen in this modality.
    UnsupportedModality,
    /// The target should be there but is not visible.
    NotVisible,
    /// The text can mean several things.
    Ambiguous,
    /// The text does not ask for a segmentation.
    NotASegmentationRequest,
    /// The bundle does not know the target or knows that it cannot segment it.
    UnknownTarget,
    /// The answer refuses with a reason that is none of the others for certain.
    Unspecified,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::OutOfRegion,
        Self::UnsupportedModality,
        Self::NotVisible,
        Self::Ambiguous,
        Self::NotASegmentationRequest,
        Self::UnknownTarget,
        Self::Unspecified,
    ];

    /// The code in snake case, as it stands in records and in canonical answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::OutOfRegion => "out_of_region",
            Self::UnsupportedModality => "unsupported_modality",
            Self::NotVisible => "not_visible",
            Self::Ambiguous => "ambiguous",
            Self::NotASegmentationRequest => "not_a_segmentation_request",
            Self::UnknownTarget => "unknown_target",
            Self::Unspecified => "unspecified",
        }
    }
}

/// What becomes of a target that the vocabulary does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownTargets {
    /// An open-vocabulary backbone gets the phrase as its prompt, with a finding.
    PassThrough,
    /// A closed vocabulary segments nothing for it.
    Refuse,
}

/// What an answer is read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The text between `<answer>` and `</answer>`; absent when the trace has none.
    pub answer: Option<&'a str>,
    /// The order as it came, for the checks of sides and of what it leaves out.
    pub order: &'a str,
    /// The concepts of the backbone's bundle.
    pub vocabulary: &'a Vocabulary,
    /// Whether unknown phrases reach the backbone.
    pub unknown_targets: UnknownTargets,
    /// The skills that the prompt showed, which may explain words of the order.
    pub skills: &'a [OfferedSkill],
    /// Whether a target that neither the order nor a skill names is left out (refused when it is
    /// the only one), or only noted.
    pub refuse_unnamed: bool,
}

/// Reads an answer, resolves its targets and checks them against what the order asks for.
///
/// Findings name concepts of the vocabulary and positions, never words of the order.
///
/// # Errors
/// When there is no answer, or it is not a sentence of the grammar.
pub fn parse(reading: &Reading<'_>) -> Result<(Answer, Vec<Finding>), AnswerError> {
    let phrases = match grammar::read(reading.answer)? {
        Sentence::Reject(text) => {
            let (refusal, findings) = refusal::read(&text);
            return Ok((Answer::Refuse(refusal), findings));
        }
        Sentence::Segment(phrases) => phrases,
        Sentence::Bare(phrase) if target::is_known(&phrase, reading.vocabulary) => vec![phrase],
        Sentence::Bare(_) => return Err(AnswerError::NoFormat),
    };
    let (targets, mut findings) = target::resolve(&phrases, reading);
    if targets.is_empty() {
        let refusal = Refusal { reason: RefusalReason::UnknownTarget, text: phrases.join("; ") };
        return Ok((Answer::Refuse(refusal), findings));
    }
    let order = order::Order::read(reading.order, reading.vocabulary);
    let targets = match unnamed::settle(targets, &order, reading, &mut findings) {
        Ok(targets) => targets,
        Err(text) => {
            let refusal = Refusal { reason: RefusalReason::Ambiguous, text };
            return Ok((Answer::Refuse(refusal), findings));
        }
    };
    let structures = order::structures(&targets, reading.vocabulary);
    let sides = laterality::check(&order, &structures);
    let unanswered = coverage::unanswered(&order, &targets, reading.vocabulary);
    let left_out = excluded::check(&order, &structures, !unanswered.is_empty());
    let excluded = left_out.first().map(|finding| finding.message.clone());
    findings.extend(sides.findings);
    findings.extend(left_out);
    if let Some(text) = sides.conflict.or(excluded) {
        let refusal = Refusal { reason: RefusalReason::Ambiguous, text };
        return Ok((Answer::Refuse(refusal), findings));
    }
    findings.extend(unanswered);
    Ok((Answer::Segment(targets), findings))
}

/// Why an answer cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The trace has no `<answer>`, or it is empty.
    #[error("trace has no answer")]
    Missing,
    /// Neither `Segment …` nor `Reject: …`.
    #[error("answer is neither `Segment the <target>.` nor `Reject: <reason>.`")]
    NoFormat,
    /// `Segment` with nothing after it.
    #[error("answer names no target")]
    NoTarget,
    /// There is more than one sentence.
    #[error("answer goes on after its first sentence")]
    ExtraText,
    /// No sane answer is that long.
    #[error("answer has {count} characters, more than {limit}")]
    TooLong {
        /// Characters found.
        count: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// No sane answer names that much.
    #[error("answer names {count} targets, more than {limit}")]
    TooManyTargets {
        /// Targets found.
        count: usize,
        /// Targets allowed.
        limit: usize,
    },
}

impl Kind for AnswerError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str, order: &str, unknown_targets: UnknownTargets) -> String {
        let vocabulary = fixture::vocabulary();
        let reading = Reading {
            answer: Some(answer),
            order,
            vocabulary: &vocabulary,
            unknown_targets,
            skills: &[],
            refuse_unnamed: false,
        };
        match parse(&reading) {
            Ok((answer, findings)) => {
                let codes: Vec<&str> = findings.iter().map(|f| f.code.as_str()).collect();
                format!("{} {}", answer.canonical_text(), codes.join(",")).trim_end().to_owned()
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn resolves_what_it_knows_and_says_what_it_does_not() {
        let closed = [
            ("Segment the left kidney.", "left kidney", "Segment the left kidney."),
            ("segment L KIDNEY", "left kidney", "Segment the left kidney."),
            ("Segment the kidney, left.", "left kidney", "Segment the left kidney."),
            ("left hipbone", "left hipbone", "Segment the left hip bone."),
            ("Segment the left and right kidney", "kidneys", "Segment both kidneys."),
            ("Segment the liver; the hepar.", "liver", "Segment the liver. target_repeated"),
            (
                "Segment the liver and the left kidney.",
                "liver, left kidney",
                "Segment the liver; the left kidney. target_list_split",
            ),
            (
                "Segment the left kidney and hip bone.",
                "left kidney and hip bone",
                "Reject: unknown_target. target_unresolved",
            ),
            ("Segment the zebra.", "zebra", "Reject: unknown_target. target_unresolved"),
            (
                "Segment the zebra; the liver.",
                "zebra, liver",
                "Segment the liver. target_unresolved",
            ),
            ("Segment the prostate.", "prostate", "Reject: unknown_target. target_absent"),
            ("Reject: out of region.", "prostate", "Reject: out_of_region."),
            (
                "I cannot find it",
                "liver",
                "error: answer is neither `Segment the <target>.` nor `Reject: <reason>.`",
            ),
            ("", "liver", "error: trace has no answer"),
            ("Segment the right kidney.", "left kidney", "Reject: ambiguous. laterality_conflict"),
            (
                "Segment the right kidney; the liver.",
                "lt kidney + liver",
                "Reject: ambiguous. laterality_conflict",
            ),
            ("Segment the left kidney.", "kidney", "Segment the left kidney. laterality_assumed"),
        ];
        for (answer, order, expected) in closed {
            assert_eq!(read(answer, order, UnknownTargets::Refuse), expected, "{answer:?}");
        }
        let open = [
            (
                "Segment the Zebra stripe.",
                "zebra stripe",
                "Segment the Zebra stripe. target_unresolved",
            ),
            ("Segment the prostate.", "prostate", "Reject: unknown_target. target_absent"),
            (
                "zebra stripe",
                "zebra stripe",
                "error: answer is neither `Segment the <target>.` nor `Reject: <reason>.`",
            ),
        ];
        for (answer, order, expected) in open {
            assert_eq!(read(answer, order, UnknownTargets::PassThrough), expected, "{answer:?}");
        }
    }

    #[test]
    fn canonical_text_reads_back_as_itself() {
        for name in ["left kidney", "both hip bones", "liver"] {
            let vocabulary = fixture::vocabulary();
            let answer = Answer::Segment(vec![fixture::target(&vocabulary, name)]);
            let text = answer.canonical_text();
            assert_eq!(read(&text, name, UnknownTargets::Refuse), text);
        }
        for reason in RefusalReason::ALL {
            let answer = Answer::Refuse(Refusal { reason, text: String::new() });
            let text = answer.canonical_text();
            assert_eq!(read(&text, "", UnknownTargets::Refuse), text);
        }
    }

    #[test]
    fn findings_do_not_repeat_phrases() {
        let vocabulary = fixture::vocabulary();
        let (_, findings) = parse(&Reading {
            answer: Some("Segment the tumour of Mr Smithers; the liver."),
            order: "tumour of Mr Smithers, liver",
            vocabulary: &vocabulary,
            unknown_targets: UnknownTargets::PassThrough,
            skills: &[],
            refuse_unnamed: false,
        })
        .expect("a sentence of the grammar");
        assert!(!findings.is_empty());
        assert!(!format!("{findings:?}").contains("Smithers"));
    }
}
