//! SEER-Trace: tuples (V, q, y, τ) of views, request, trace and skill tags, from any suite.
//!
//! Evidence is computed from the reference: which view shows the target, on which side of the
//! picture, and where it lies relative to another structure. Requests come from the synthesizer
//! ([`super::words`]) and, when one is given, from a language model whose wordings are checked
//! before they are used. The same suite, vocabulary, view plan and seed give the same files.
//!
//! ```text
//! images/<case>/view-<n>.png     the views, as the reasoner sees them
//! tuples.jsonl                   everything, one tuple a line
//! swift-<split>.jsonl            messages with <image> marks, for ms-swift
//! trl-<split>.jsonl              messages with image parts, for TRL
//! statistics.json, statistics.md what there is
//! review.html, review.csv        five of a hundred tuples for an expert to mark
//! ```

mod chat;
mod evidence;
mod make;
mod offers;
mod review;
mod statistics;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{EvalError, Expect, Split, Suite};
use crate::answer::RefusalReason;
use crate::reason::OfferedSkill;
use crate::reason::prompt::Prompter;
use crate::runtime::vocabulary::Vocabulary;
use crate::threads::Progress;
use crate::view::ViewPlan;

pub use evidence::{Sight, sights};
pub use review::{Marks, Review, Verdict, read_marks, reviewed};
pub use statistics::Statistics;

/// How much is made of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// Wordings of each target: the size of Ω(q).
    pub wordings: usize,
    /// Requests to be refused, of each case.
    pub rejections: usize,
    /// Requests for two targets, of each case.
    pub pairs: usize,
    /// Share of tuples that an expert is asked about.
    pub review_share: f64,
    /// Share of patients held out, where the suite's requests do not say.
    pub heldout_share: f64,
    /// Seed of everything.
    pub seed: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            wordings: 14,
            rejections: 14,
            pairs: 4,
            review_share: 0.05,
            heldout_share: 0.2,
            seed: 0,
        }
    }
}

/// One tuple (V, q, y, τ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuple {
    /// `trace:` and a hash of what it holds.
    pub id: String,
    /// The case.
    pub case: String,
    /// The patient, as a code.
    pub patient: String,
    /// Ω(q).
    pub group: String,
    /// The part it belongs to; parts share no patient.
    pub split: Split,
    /// One of the styles of a suite.
    pub style: String,
    /// Where the words come from: `synthesizer` or the model's name.
    pub author: String,
    /// Modality code.
    pub modality: String,
    /// What the scan shows.
    pub body_regions: Vec<String>,
    /// Files of the views, relative to the folder.
    pub images: Vec<String>,
    /// q.
    pub request: String,
    /// Canonical names, parted by `;`; empty when nothing in particular is asked for.
    pub target: String,
    /// Labels of the reference.
    pub labels: Vec<u32>,
    /// What a right answer does.
    pub expect: Expect,
    /// Why it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RefusalReason>,
    /// Skills shown in the prompt: useful ones, useless ones or none.
    pub skills: Vec<OfferedSkill>,
    /// e.
    pub evidence: String,
    /// r.
    pub rationale: String,
    /// a.
    pub answer: String,
    /// τ.
    pub tags: Vec<String>,
}

impl Tuple {
    /// y, as the reasoner should write it.
    pub fn trace(&self) -> String {
        let Self { evidence, rationale, answer, .. } = self;
        format!(
            "<evidence>{evidence}</evidence><rationale>{rationale}</rationale><answer>{answer}</answer>"
        )
    }
}

/// What a language model is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RephraseTask {
    /// Canonical name of the target.
    pub target: String,
    /// The style wanted.
    pub style: String,
    /// A wording of the synthesizer, as an example.
    pub example: String,
    /// How many wordings.
    pub count: usize,
}

/// Gives wordings for a task; an error is one sentence.
pub type Rephrase<'a> = dyn Fn(&RephraseTask) -> Result<Vec<String>, String> + 'a;

/// A language model beside the synthesizer.
pub struct Rephraser<'a> {
    /// Its name, kept with the tuples it worded.
    pub name: String,
    /// Share of targets that it is asked about.
    pub share: f64,
    /// The model.
    pub rephrase: &'a Rephrase<'a>,
}

/// What tuples are made with.
pub struct TraceMaker<'a> {
    /// Concepts and their synonyms.
    pub vocabulary: &'a Vocabulary,
    /// The views that the reasoner is trained on.
    pub view_plan: &'a ViewPlan,
    /// System and user text of the prompt.
    pub prompter: &'a Prompter,
    /// How much is made.
    pub settings: TraceSettings,
    /// A language model beside the synthesizer.
    pub rephraser: Option<Rephraser<'a>>,
}

impl TraceMaker<'_> {
    /// Makes the tuples of every case of a suite and writes them to `out`.
    ///
    /// # Errors
    /// When a case cannot be read, a view not be rendered, or `out` not be written.
    pub fn build(
        &self,
        suite: &Suite,
        out: &Path,
        progress: &Progress,
    ) -> Result<Statistics, EvalError> {
        std::fs::create_dir_all(out).map_err(EvalError::io(out))?;
        let tuples = make::tuples(self, suite, out, progress)?;
        self.write(&tuples, out)?;
        review::write(&tuples, &self.settings, out)?;
        let statistics = Statistics::of(&tuples);
        statistics.write(out)?;
        Ok(statistics)
    }

    /// Writes tuples in every format.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, tuples: &[Tuple], out: &Path) -> Result<(), EvalError> {
        write_lines(&out.join("tuples.jsonl"), tuples.iter())?;
        for (split, word) in [(Split::Practice, "train"), (Split::Heldout, "heldout")] {
            let mine = || tuples.iter().filter(|tuple| tuple.split == split);
            let swift = mine().map(|tuple| chat::swift(tuple, self.prompter));
            write_lines(&out.join(format!("swift-{word}.jsonl")), swift)?;
            let trl = mine().map(|tuple| chat::trl(tuple, self.prompter));
            write_lines(&out.join(format!("trl-{word}.jsonl")), trl)?;
        }
        Ok(())
    }
}

/// Reads the tuples of a folder.
///
/// # Errors
/// Names the line that is none.
pub fn read_tuples(folder: &Path) -> Result<Vec<Tuple>, EvalError> {
    let path = folder.join("tuples.jsonl");
    let text = std::fs::read_to_string(&path).map_err(EvalError::io(&path))?;
    let line = |(index, line)| {
        serde_json::from_str(line).map_err(|error: serde_json::Error| EvalError::Malformed {
            path: path.clone(),
            reason: format!("line {}: {error}", index + 1),
        })
    };
    text.lines().enumerate().map(line).collect()
}

fn write_lines<T: Serialize>(
    path: &Path,
    values: impl Iterator<Item = T>,
) -> Result<(), EvalError> {
    let line = |value| serde_json::to_string(&value).expect("tuples are plain text") + "\n";
    let text: String = values.map(line).collect();
    std::fs::write(path, text).map_err(EvalError::io(path))
}
