//! The candidate on the held-out requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::greedy::Question;
use super::practice::Practice;
use super::rehearse::Rehearsed;
use super::{Run, Stage};
use crate::bank::{Gain, Skill, SkillId, SkillSet};
use crate::eval::scores::Bootstrap;
use crate::evolve::EvolveError;
use crate::evolve::gate::{Difference, Pair, Verdict, judge};
use crate::evolve::merge::{Candidate, Fate, Held, combine};
use crate::evolve::report::SkillReport;

/// What a skill must gain at least on the held-out requests it is offered to: more than rounding.
const GAIN_MIN: f64 = 1e-9;

/// A candidate with its verdict.
pub(super) struct Judged {
    pub rehearsed: Rehearsed,
    pub held: Vec<Held>,
    pub candidate: Candidate,
    pub first_verdict: Option<Verdict>,
    pub verdict: Option<Verdict>,
    pub pairs: Vec<Pair>,
    pub pooled_gain: Option<Difference>,
}

impl Run<'_, '_> {
    /// Merges what was harvested with the bank and judges the result.
    ///
    /// New skills that no held-out request calls for have no evidence there and are taken back, and
    /// so are those that do not raise the Dice of the held-out requests they are offered to: a good
    /// harvest must not carry a bad skill past the gate. That can only take away, so the bank gets
    /// no worse by it; but the verdict on what is left, which counts, is a little kind.
    pub(super) fn judge(
        &mut self,
        _practice: &Practice,
        rehearsed: Rehearsed,
    ) -> Result<Judged, EvolveError> {
        let held = self.held()?;
        let size_max = self.settings().bank_size_max;
        let candidate = combine(&held, rehearsed.skills.clone(), size_max);
        let mut judged = Judged {
            rehearsed,
            held,
            candidate,
            first_verdict: None,
            verdict: None,
            pairs: Vec::new(),
            pooled_gain: None,
        };
        judged.note_fates();
        if judged.changes_nothing() {
            return Ok(judged);
        }
        self.weigh(&mut judged)?;
        let taken_back = judged.take_back();
        if !taken_back.is_empty() {
            judged.first_verdict = judged.verdict.take();
            let left: Vec<Skill> = judged
                .rehearsed
                .skills
                .iter()
                .filter(|skill| !taken_back.contains(&judged.home_of(&skill.id)))
                .cloned()
                .collect();
            judged.candidate = combine(&judged.held, left, size_max);
            judged.pairs.clear();
            judged.pooled_gain = None;
            if !judged.changes_nothing() {
                self.weigh(&mut judged)?;
            }
        }
        Ok(judged)
    }

    /// The name of a request's group, with its case in front.
    fn group_name(&self, index: usize) -> String {
        let request = self.request(index);
        let named = request.group.strip_prefix(&request.case).and_then(|r| r.strip_prefix('/'));
        format!("{}/{}", request.case, named.unwrap_or(&request.group))
    }

    /// The base's skills with what the bank knew of them when the round first asked: evidence that
    /// orders give meanwhile must not change a round that goes on.
    fn held(&mut self) -> Result<Vec<Held>, EvolveError> {
        let (bank, base) = (self.inputs.bank, self.base.clone());
        type Known = (SkillId, Gain, bool, u64);
        let known: Vec<Known> = self.ledger.get_or("held", || {
            let of = |held: Held| (held.skill.id.clone(), held.gain, held.pinned, held.idle_rounds);
            Ok(Held::of(bank, base.number(), &base.skills).into_iter().map(of).collect())
        })?;
        let held = |(id, gain, pinned, idle_rounds): Known| {
            let skill = Arc::clone(base.skill(&id)?);
            Some(Held { skill, gain, pinned, idle_rounds })
        };
        Ok(known.into_iter().filter_map(held).collect())
    }

    /// Runs the held-out requests with the base and with the candidate, and judges the pairs.
    fn weigh(&mut self, judged: &mut Judged) -> Result<(), EvolveError> {
        let base = self.base.skills.clone();
        let after = SkillSet::new(judged.candidate.skills.iter().cloned().map(Arc::new));
        let requests = self.parts.heldout.clone();
        let mut questions: Vec<Question> = Vec::new();
        let mut offered: Vec<[Vec<String>; 2]> = Vec::new();
        for index in &requests {
            let mut ids = [Vec::new(), Vec::new()];
            for (set, ids) in [&base, &after].into_iter().zip(&mut ids) {
                let offers = self.retrieve(set, *index)?;
                *ids = offers.iter().map(|offer| offer.skill.id.to_string()).collect();
                questions.push((*index, offers.iter().map(|offer| offer.for_prompt()).collect()));
            }
            offered.push(ids);
        }
        let answers = self.ask_all(Stage::Gate, &questions)?;
        let material = self.inputs.material;
        judged.pairs = requests
            .iter()
            .zip(answers.chunks(2))
            .zip(offered)
            .map(|((index, answers), [offered_before, offered_after])| Pair {
                request: *index,
                patient: material.patient_of(*index).to_owned(),
                group: self.group_name(*index),
                before: answers[0].dice,
                after: answers[1].dice,
                offered_before,
                offered_after,
            })
            .collect();
        let settings = self.settings();
        judged.verdict = judge(&judged.pairs, &settings.gate, settings.seed);
        let gains = gains(&judged.pairs, &judged.candidate, settings.gate.resamples, settings.seed);
        judged.note_gains(&gains);
        judged.pooled_gain =
            pooled(&judged.pairs, &judged.candidate, settings.gate.resamples, settings.seed);
        Ok(())
    }
}

/// The paired difference on all requests that are offered a skill that is new or changed.
fn pooled(
    pairs: &[Pair],
    candidate: &Candidate,
    resamples: usize,
    seed: u64,
) -> Option<Difference> {
    let touched = |offered: &String| candidate.touched.iter().any(|id| id.as_str() == offered);
    let items: Vec<(String, f64)> = pairs
        .iter()
        .filter(|pair| pair.offered_after.iter().any(touched))
        .map(|pair| (pair.patient.clone(), pair.after - pair.before))
        .collect();
    Bootstrap { seed, resamples }.mean(&items).map(Difference::from)
}

/// Held-out offers and paired differences of the skills that are new or changed.
fn gains(
    pairs: &[Pair],
    candidate: &Candidate,
    resamples: usize,
    seed: u64,
) -> BTreeMap<SkillId, (usize, Option<Difference>)> {
    let of = |id: &SkillId| {
        let items: Vec<(String, f64)> = pairs
            .iter()
            .filter(|pair| pair.offered_after.iter().any(|offered| offered == id.as_str()))
            .map(|pair| (pair.patient.clone(), pair.after - pair.before))
            .collect();
        let interval = Bootstrap { seed, resamples }.mean(&items);
        (items.len(), interval.map(Difference::from))
    };
    candidate.touched.iter().map(|id| (id.clone(), of(id))).collect()
}

impl Judged {
    /// Whether the candidate is the base.
    pub fn changes_nothing(&self) -> bool {
        self.candidate.touched.is_empty() && self.candidate.retired.is_empty()
    }

    /// The skill of the candidate that a harvested one went into, or itself.
    fn home_of(&self, harvested: &SkillId) -> SkillId {
        let places = self.rehearsed.skills.iter().zip(&self.candidate.fates);
        let home = places.into_iter().find(|(skill, _)| skill.id == *harvested);
        home.map_or_else(|| harvested.clone(), |(_, (home, _))| home.clone())
    }

    fn note_fates(&mut self) {
        for (skill, (_, fate)) in self.rehearsed.skills.iter().zip(&self.candidate.fates) {
            let word = match fate {
                Fate::Added => "added",
                Fate::Merged => "merged",
                Fate::AgainstPinned => "against_pinned",
                Fate::Outbid => "outbid",
            };
            if let Some(report) = report_of(&mut self.rehearsed.reports, &skill.id) {
                report.fate = word.to_owned();
            }
        }
    }

    fn note_gains(&mut self, gains: &BTreeMap<SkillId, (usize, Option<Difference>)>) {
        let homes: Vec<(SkillId, SkillId)> = self
            .rehearsed
            .skills
            .iter()
            .map(|skill| (skill.id.clone(), self.home_of(&skill.id)))
            .collect();
        for (skill, home) in homes {
            let Some((offers, gain)) = gains.get(&home) else { continue };
            if let Some(report) = report_of(&mut self.rehearsed.reports, &skill) {
                report.heldout_offers = *offers;
                report.heldout_gain = *gain;
            }
        }
    }

    /// The new or changed skills without evidence on the held-out requests, or with bad evidence.
    fn take_back(&mut self) -> BTreeSet<SkillId> {
        let mut back = BTreeSet::new();
        let homes: Vec<(SkillId, SkillId)> = self
            .rehearsed
            .skills
            .iter()
            .map(|skill| (skill.id.clone(), self.home_of(&skill.id)))
            .collect();
        for (skill, home) in homes {
            if !self.candidate.touched.contains(&home) {
                continue;
            }
            let Some(report) = report_of(&mut self.rehearsed.reports, &skill) else { continue };
            let fate = match report.heldout_gain {
                None => "not_on_heldout",
                Some(gain) if gain.value <= GAIN_MIN => "no_gain_on_heldout",
                Some(_) => continue,
            };
            report.fate = fate.to_owned();
            back.insert(home);
        }
        back
    }
}

fn report_of<'r>(reports: &'r mut [SkillReport], id: &SkillId) -> Option<&'r mut SkillReport> {
    reports.iter_mut().find(|report| report.id == *id)
}
