//! One execution against the reference of its request.

use std::collections::{BTreeMap, BTreeSet};

use super::{Row, Scored};
use crate::eval::scores::{Middle, SideJudge, dice, swapped_name};
use crate::eval::{Case, Configuration, EvalError, Execution, Expect, PackedMask, Request, Suite};
use crate::runtime::vocabulary::{Laterality, Meaning, Vocabulary, normalise};

/// Scores the executions of one case; references are remembered.
pub(super) struct Scorer<'a> {
    case: &'a Case,
    vocabulary: &'a Vocabulary,
    labels_by_name: BTreeMap<String, Vec<u32>>,
    references: BTreeMap<Vec<u32>, PackedMask>,
    middle: Option<Middle>,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(
        suite: &Suite,
        case: &'a Case,
        vocabulary: &'a Vocabulary,
    ) -> Result<Self, EvalError> {
        let labels_by_name = suite.labels_by_name(&case.name)?;
        Ok(Self { case, vocabulary, labels_by_name, references: BTreeMap::new(), middle: None })
    }

    pub(super) fn score(
        &mut self,
        request: &Request,
        execution: &Execution,
        mask: &PackedMask,
        key: String,
    ) -> Result<Scored, EvalError> {
        let segment = request.expect == Expect::Segment;
        let dice = match segment {
            true => Some(dice(mask, self.reference(&request.labels)?)?),
            false => None,
        };
        let has_answer = execution.configuration != Configuration::Backbone;
        let answered_other_side = match segment && has_answer {
            true => self.answered_other_side(request, execution),
            false => None,
        };
        let side_error = match segment {
            true => match answered_other_side {
                Some(true) => Some(true),
                _ => self.side_error(request, mask)?,
            },
            false => None,
        };
        let reason_right = match (&execution.refusal, request.reason) {
            (Some(refusal), Some(reason)) => Some(refusal.reason == reason),
            _ => None,
        };
        Ok(Scored {
            key,
            patient: self.case.facts.patient.clone().unwrap_or_else(|| self.case.name.clone()),
            resolved_right: (segment && has_answer)
                .then(|| self.resolved_right(request, execution)),
            answered_other_side,
            reason_right,
            format_ok: execution.trace.as_ref().map(|trace| trace.format_ok),
            row: Row {
                case: request.case.clone(),
                group: request.group.clone(),
                mode: request.mode,
                style: request.style.clone(),
                text: request.text.clone(),
                target: request.target.clone(),
                configuration: execution.configuration,
                answer: execution.answer.clone(),
                resolved: execution.resolved.clone(),
                refused: execution.is_refused(),
                expect: request.expect,
                dice,
                side_error,
                seconds: execution.seconds,
            },
        })
    }

    /// Names as sets; a `both` concept equals its two parts.
    fn resolved_right(&self, request: &Request, execution: &Execution) -> bool {
        let meant: BTreeSet<String> =
            request.targets().flat_map(|name| self.parts_of(name)).collect();
        let found: BTreeSet<String> =
            execution.resolved.iter().flat_map(|name| self.parts_of(name)).collect();
        meant == found
    }

    fn parts_of(&self, name: &str) -> Vec<String> {
        match self.vocabulary.find(name) {
            Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => {
                if concept.parts.is_empty() {
                    vec![normalise(&concept.name)]
                } else {
                    concept.parts.iter().map(|part| normalise(part)).collect()
                }
            }
            Some(Meaning::Absent(_)) | None => vec![normalise(name)],
        }
    }

    fn answered_other_side(&self, request: &Request, execution: &Execution) -> Option<bool> {
        let other = normalise(&swapped_name(&request.target)?);
        Some(execution.resolved.iter().any(|name| normalise(name) == other))
    }

    fn side_error(
        &mut self,
        request: &Request,
        mask: &PackedMask,
    ) -> Result<Option<bool>, EvalError> {
        let words = normalise(&request.target);
        let has = |side: &str| words.split(' ').any(|word| word == side);
        let side = match (has("left"), has("right")) {
            (true, false) => Laterality::Left,
            (false, true) => Laterality::Right,
            (true, true) | (false, false) => return Ok(None),
        };
        let swapped = swapped_name(&words).unwrap_or_default();
        let other_labels = self.labels_by_name.get(&swapped).cloned();
        if let Some(labels) = &other_labels {
            self.reference(labels)?;
        }
        self.reference(&request.labels)?;
        let middle = *self.middle.get_or_insert_with(|| Middle::of(&self.case.volume));
        let judge = SideJudge {
            side,
            own: &self.references[&request.labels],
            other: other_labels.as_ref().map(|labels| &self.references[labels]),
            geometry: &self.case.volume.geometry,
            middle,
        };
        judge.is_wrong(mask)
    }

    fn reference(&mut self, labels: &[u32]) -> Result<&PackedMask, EvalError> {
        if !self.references.contains_key(labels) {
            let mask = self.case.packed_reference(labels)?;
            self.references.insert(labels.to_vec(), mask);
        }
        Ok(&self.references[labels])
    }
}
