//! What a set of tuples holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Tuple;
use crate::eval::{EvalError, Expect, Split};

/// Counts over tuples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Tuples.
    pub tuples: usize,
    /// Cases.
    pub cases: usize,
    /// Patients.
    pub patients: usize,
    /// Groups Ω(q).
    pub groups: usize,
    /// Wordings of a group, on average.
    pub wordings_per_group: f64,
    /// Distinct requests, letter by letter.
    pub distinct_requests: usize,
    /// Words of a request, on average.
    pub words_per_request: f64,
    /// Tuples that are held out.
    pub heldout: usize,
    /// By style.
    pub styles: BTreeMap<String, usize>,
    /// By skill tag.
    pub tags: BTreeMap<String, usize>,
    /// By target.
    pub targets: BTreeMap<String, usize>,
    /// Refusals, by reason.
    pub refusals: BTreeMap<String, usize>,
    /// By modality.
    pub modalities: BTreeMap<String, usize>,
    /// By who worded them.
    pub authors: BTreeMap<String, usize>,
    /// Prompts that show skills.
    pub with_skills: usize,
    /// Of these, those of which one fits.
    pub with_fitting_skill: usize,
}

impl Statistics {
    /// Counts tuples.
    pub fn of(tuples: &[Tuple]) -> Self {
        let distinct = |value: &dyn Fn(&Tuple) -> String| {
            tuples.iter().map(value).collect::<BTreeSet<_>>().len()
        };
        let counted = |values: &dyn Fn(&Tuple) -> Vec<String>| {
            let mut counts = BTreeMap::new();
            for value in tuples.iter().flat_map(values) {
                *counts.entry(value).or_insert(0) += 1;
            }
            counts
        };
        let groups = distinct(&|t| t.group.clone());
        let mean = |sum: usize, of: usize| sum as f64 / of.max(1) as f64;
        let words = tuples.iter().map(|t| t.request.split_whitespace().count()).sum();
        Self {
            tuples: tuples.len(),
            cases: distinct(&|t| t.case.clone()),
            patients: distinct(&|t| t.patient.clone()),
            groups,
            wordings_per_group: mean(tuples.len(), groups),
            distinct_requests: distinct(&|t| t.request.clone()),
            words_per_request: mean(words, tuples.len()),
            heldout: tuples.iter().filter(|t| t.split == Split::Heldout).count(),
            styles: counted(&|t| vec![t.style.clone()]),
            tags: counted(&|t| t.tags.clone()),
            targets: counted(&|t| match t.expect {
                Expect::Segment => t.target.split("; ").map(str::to_owned).collect(),
                Expect::Reject => Vec::new(),
            }),
            refusals: counted(&|t| t.reason.iter().map(|r| r.code().to_owned()).collect()),
            modalities: counted(&|t| vec![t.modality.clone()]),
            authors: counted(&|t| vec![t.author.clone()]),
            with_skills: tuples.iter().filter(|t| !t.skills.is_empty()).count(),
            with_fitting_skill: tuples.iter().filter(|t| t.rationale.starts_with("Skill ")).count(),
        }
    }

    /// Writes `statistics.json` and `statistics.md`.
    pub(super) fn write(&self, out: &Path) -> Result<(), EvalError> {
        let json = serde_json::to_string_pretty(self).expect("counts are plain numbers");
        for (name, text) in [("statistics.json", json), ("statistics.md", self.markdown())] {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(EvalError::io(&path))?;
        }
        Ok(())
    }

    /// The counts for people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# SEER-Trace\n\n{} tuples about {} cases of {} patients, {} of them held out; \
             {} groups of {:.1} wordings; {} distinct requests of {:.1} words.\n\
             {} prompts show skills, {} of them one that fits.\n",
            self.tuples,
            self.cases,
            self.patients,
            self.heldout,
            self.groups,
            self.wordings_per_group,
            self.distinct_requests,
            self.words_per_request,
            self.with_skills,
            self.with_fitting_skill
        );
        let tables = [
            ("style", &self.styles),
            ("skill tag", &self.tags),
            ("refusal", &self.refusals),
            ("modality", &self.modalities),
            ("author", &self.authors),
            ("target", &self.targets),
        ];
        for (name, counts) in tables {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "\n| {name} | tuples |\n|---|---|");
            for (value, count) in counts {
                let _ = writeln!(text, "| {value} | {count} |");
            }
        }
        text
    }
}
