//! The report, and what becomes of the candidate.

use super::heldout::Judged;
use super::practice::Practice;
use super::{Run, Stage};
use crate::bank::{Bank, RoundDraft, Skill};
use crate::evolve::EvolveError;
use crate::evolve::ledger::Ledger;
use crate::evolve::report::{HeldReport, Outcome, PracticeSummary, Report, SCHEMA_VERSION, bins};
use crate::evolve::settings::Publication;

const CANDIDATE: &str = "candidate";

impl Run<'_, '_> {
    /// Writes the report into the ledger and publishes where that is asked for.
    pub(super) fn conclude(
        &mut self,
        practice: &Practice,
        judged: Judged,
    ) -> Result<Report, EvolveError> {
        (self.notice)(Stage::Conclusion, 0, 1);
        self.ledger.put(CANDIDATE, &judged.candidate.skills)?;
        let mut report = self.report(practice, judged)?;
        if report.outcome == Outcome::Published {
            let number = adopt(self.inputs.bank, self.ledger, &report, self.inputs.author)?;
            report.published_round = Some(number);
        }
        self.ledger.put("report", &report)?;
        (self.notice)(Stage::Conclusion, 1, 1);
        Ok(report)
    }

    fn outcome(&self, judged: &Judged) -> Outcome {
        match &judged.verdict {
            None if judged.first_verdict.is_some() => Outcome::GateFailed,
            None => Outcome::NothingHarvested,
            Some(verdict) if !verdict.passed => Outcome::GateFailed,
            Some(_) => match self.settings().publication {
                Publication::DryRun => Outcome::WouldPublish,
                Publication::Offer => Outcome::Offered,
                Publication::Publish => Outcome::Published,
            },
        }
    }

    fn report(&mut self, practice: &Practice, judged: Judged) -> Result<Report, EvolveError> {
        let outcome = self.outcome(&judged);
        let rounds = self.inputs.bank.rounds()?;
        let base_round = self.base.number();
        let sizes = rounds
            .iter()
            .filter(|round| round.number <= base_round)
            .map(|round| (round.number, round.skill_count))
            .collect();
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            id: self.inputs.id,
            material: self.inputs.material.name.clone(),
            material_sha256: self.beginning.material_sha256.clone(),
            settings: self.settings().clone(),
            models: self.inputs.models.clone(),
            base_round,
            sizes,
            base_size: self.base.skills.len(),
            candidate_size: judged.candidate.skills.len(),
            parts: self.parts.clone(),
            practice: summary(practice, &judged),
            held: self.held_reports(practice, &judged),
            harvested: judged.rehearsed.reports,
            retired: judged.candidate.retired,
            first_verdict: judged.first_verdict,
            verdict: judged.verdict,
            pooled_gain: judged.pooled_gain,
            pairs: judged.pairs,
            outcome,
            published_round: None,
            seconds: self.seconds.clone(),
        })
    }

    fn held_reports(&self, practice: &Practice, judged: &Judged) -> Vec<HeldReport> {
        let exposures = || practice.practised.values().flat_map(|of| &of.exposures);
        judged
            .held
            .iter()
            .map(|held| {
                let of = || exposures().filter(|exposure| exposure.skill == held.skill.id);
                HeldReport {
                    id: held.skill.id.clone(),
                    tag: held.skill.tag.to_string(),
                    trigger: held.skill.trigger.clone(),
                    target: held.skill.target.clone(),
                    gain: held.gain,
                    retrieved: of().count(),
                    withheld: of().filter(|exposure| exposure.withheld).count(),
                }
            })
            .collect()
    }
}

fn summary(practice: &Practice, judged: &Judged) -> PracticeSummary {
    let rewards = || practice.harvest.rewards.values().flatten().copied();
    let practised = practice.practised.values();
    let count = practice.practised.len().max(1) as f64;
    let rollouts: usize = practised.clone().map(|of| of.rollouts.len()).sum();
    let dropped = practice.distilled.dropped.iter();
    let mut dropped: std::collections::BTreeMap<String, usize> =
        dropped.map(|(why, count)| ((*why).to_owned(), *count)).collect();
    if judged.rehearsed.refused > 0 {
        dropped.insert("the bank refuses its words".to_owned(), judged.rehearsed.refused);
    }
    PracticeSummary {
        requests: practice.practised.len(),
        rollouts,
        positive_episodes: practice.harvest.positive_episodes,
        mean_reward: rewards().sum::<f64>() / rollouts.max(1) as f64,
        reward_bins: bins(rewards()),
        mean_dice: practised.clone().map(|of| of.mean_dice()).sum::<f64>() / count,
        direct_dice: practised.clone().map(|of| of.direct).sum::<f64>() / count,
        reduced_requests: practised.filter(|of| of.is_reduced()).count(),
        lessons: practice.harvest.lessons.len(),
        dropped,
        worded_by_reasoner: judged.rehearsed.worded_by_reasoner,
        worded_by_rules: judged.rehearsed.worded_by_rules,
    }
}

/// Makes the candidate of a round that passed its gate a round of the bank, and active. Doing it
/// again gives the round that is there.
///
/// # Errors
/// [`EvolveError::BankMoved`] when the bank's active round is not the one that the gate was
/// measured against; [`EvolveError::NotNow`] when the gate did not pass; bank and disk.
pub fn adopt(
    bank: &Bank,
    ledger: &mut Ledger,
    report: &Report,
    author: &str,
) -> Result<u64, EvolveError> {
    let passed = report.verdict.as_ref().is_some_and(|verdict| verdict.passed);
    if !passed || report.settings.publication == Publication::DryRun {
        return Err(EvolveError::NotNow { id: report.id, found: "not passed", wanted: "adopted" });
    }
    let report_id = report.id.to_string();
    let rounds = bank.rounds()?;
    let known = rounds.iter().find(|round| round.report_id.as_deref() == Some(&report_id));
    let active = bank.active().number();
    let number = match known {
        Some(round) if round.number == active => return Ok(active),
        Some(round) => round.number,
        None => {
            check_base(report, active)?;
            let skills: Vec<Skill> = ledger.get(CANDIDATE)?.unwrap_or_default();
            let adopted = |mut skill: Skill| {
                if skill.audit.adopted_by.is_empty() {
                    author.clone_into(&mut skill.audit.adopted_by);
                }
                skill
            };
            bank.publish(RoundDraft {
                parent: report.base_round,
                author: author.to_owned(),
                report_id: Some(report_id),
                note: format!(
                    "evolution: {} skills, {} new or changed, {} retired",
                    skills.len(),
                    report.harvested.iter().filter(|skill| is_in(&skill.fate)).count(),
                    report.retired.len()
                ),
                skills: skills.into_iter().map(adopted).collect(),
            })?
            .number()
        }
    };
    check_base(report, active)?;
    bank.activate(number, author)?;
    Ok(number)
}

fn is_in(fate: &str) -> bool {
    matches!(fate, "added" | "merged")
}

fn check_base(report: &Report, active: u64) -> Result<(), EvolveError> {
    if active == report.base_round {
        return Ok(());
    }
    Err(EvolveError::BankMoved { measured: report.base_round, active })
}
