//! Harvested skills are worded, checked, and tried on their own lessons.

use super::greedy::Question;
use super::practice::Practice;
use super::{Run, Stage};
use crate::bank::{NewSkill, Skill, SkillAudit, tag};
use crate::eval::random::Random;
use crate::evolve::EvolveError;
use crate::evolve::distil::Draft;
use crate::evolve::draft;
use crate::evolve::report::SkillReport;
use crate::evolve::settings::Distiller;

/// Lessons a skill is tried on at most.
const TRIALS_MAX: usize = 4;
/// A reasoner whose first drafts all fail is not asked again.
const DRAFTS_BEFORE_GIVING_UP: usize = 3;

/// Skills that were tried, best first.
#[derive(Default)]
pub(super) struct Rehearsed {
    /// Those that help on their own lessons.
    pub skills: Vec<Skill>,
    /// What is known of every harvested skill.
    pub reports: Vec<SkillReport>,
    pub worded_by_reasoner: usize,
    pub worded_by_rules: usize,
    /// Drafts that no skill may hold.
    pub refused: usize,
}

/// One wording of a draft on trial.
struct Trial {
    draft: usize,
    skill: Skill,
    requests: Vec<usize>,
}

impl Run<'_, '_> {
    /// Tries every wording of every draft greedily, alone, on a few of its lessons, and keeps the
    /// best wording when it gains. The best `harvest_count_max` go on.
    pub(super) fn rehearse(&mut self, practice: &Practice) -> Result<Rehearsed, EvolveError> {
        let mut rehearsed = Rehearsed::default();
        let drafts = &practice.distilled.drafts;
        let trials = self.trials(practice, &mut rehearsed)?;
        let questions: Vec<Question> = trials
            .iter()
            .flat_map(|trial| {
                let offered = trial.skill.offered_for(&trial.skill.trigger);
                trial.requests.iter().map(move |index| (*index, vec![offered.clone()]))
            })
            .collect();
        let mut answers = self.ask_all(Stage::Rehearsal, &questions)?.into_iter();
        let mut best: Vec<Option<(f64, Skill)>> = vec![None; drafts.len()];
        for trial in trials {
            let with: f64 =
                answers.by_ref().take(trial.requests.len()).map(|rollout| rollout.dice).sum();
            let without: f64 =
                trial.requests.iter().map(|index| practice.practised[index].mean_dice()).sum();
            let gain = (with - without) / trial.requests.len().max(1) as f64;
            let best = &mut best[trial.draft];
            if best.as_ref().is_none_or(|(other, _)| gain > *other) {
                *best = Some((gain, trial.skill));
            }
        }
        let mut tried: Vec<(f64, &Draft, Skill)> = best
            .into_iter()
            .zip(drafts)
            .filter_map(|(best, draft)| best.map(|(gain, skill)| (gain, draft, skill)))
            .collect();
        // The total that a skill gained counts: how much, for how many phrasings.
        tried.sort_by(|(gain, draft, skill), (other_gain, other_draft, other)| {
            let total = |gain: f64, draft: &Draft| gain * draft.requests.len() as f64;
            total(*other_gain, other_draft)
                .total_cmp(&total(*gain, draft))
                .then_with(|| skill.id.cmp(&other.id))
        });
        for (gain, draft, skill) in tried {
            let fate = if gain < self.settings().harvest.margin {
                "rehearsal_failed"
            } else if rehearsed.skills.len() >= self.settings().harvest_count_max {
                "over_the_limit"
            } else {
                "added"
            };
            rehearsed.reports.push(report_of(&skill, draft, gain, fate));
            if fate == "added" {
                rehearsed.skills.push(skill);
            }
        }
        Ok(rehearsed)
    }

    fn trials(
        &mut self,
        practice: &Practice,
        rehearsed: &mut Rehearsed,
    ) -> Result<Vec<Trial>, EvolveError> {
        let mut trials = Vec::new();
        let mut asked = 0;
        for (place, draft) in practice.distilled.drafts.iter().enumerate() {
            let gives_up = rehearsed.worded_by_reasoner == 0 && asked >= DRAFTS_BEFORE_GIVING_UP;
            let written = if self.settings().distiller == Distiller::Reasoner && !gives_up {
                asked += 1;
                self.worded(draft)?
            } else {
                None
            };
            match &written {
                Some(_) => rehearsed.worded_by_reasoner += 1,
                None => rehearsed.worded_by_rules += 1,
            }
            let requests = self.lessons_to_try(draft);
            let wordings = written.into_iter().chain(wordings(draft));
            let before = trials.len();
            for wording in wordings {
                let skill = NewSkill { audit: self.audit(practice, draft)?, ..wording };
                let skill = NewSkill { cues: self.cues(draft)?, ..skill };
                // What may say who a patient is never becomes a skill.
                if let Ok(skill) = Skill::new(skill) {
                    trials.push(Trial { draft: place, skill, requests: requests.clone() });
                }
            }
            rehearsed.refused += usize::from(trials.len() == before);
        }
        Ok(trials)
    }

    /// What the reasoner makes of a draft, when it passes the check.
    fn worded(&mut self, draft: &Draft) -> Result<Option<NewSkill>, EvolveError> {
        let key = format!("draft/{}/{}", draft.skill.trigger, draft.skill.target);
        let written: Option<String> = match self.ledger.get(&key)? {
            Some(written) => written,
            None => {
                self.control.step()?;
                let written = self.executor.write(&draft::instruction(draft))?;
                self.ledger.put(&key, &written)?;
                written
            }
        };
        Ok(written.and_then(|text| draft::read(&text, draft, self.inputs.vocabulary)))
    }

    /// A few lessons of a draft, drawn by the seed, in order.
    fn lessons_to_try(&self, draft: &Draft) -> Vec<usize> {
        let mut requests = draft.requests.clone();
        Random::of(self.settings().seed, &["rehearsal", &draft.skill.trigger, &draft.skill.target])
            .shuffle(&mut requests);
        requests.truncate(TRIALS_MAX);
        requests.sort_unstable();
        requests
    }

    fn audit(&self, practice: &Practice, draft: &Draft) -> Result<SkillAudit, EvolveError> {
        let lessons: Vec<_> = practice
            .harvest
            .lessons
            .iter()
            .filter(|lesson| draft.requests.contains(&lesson.request))
            .collect();
        Ok(SkillAudit {
            birth_round: self.beginning.birth_round,
            source_episodes: lessons.iter().map(|l| self.episode_id(l.teacher.0)).collect(),
            source_rewards: lessons.iter().map(|lesson| lesson.teacher_reward).collect(),
            gain_at_birth: Some(draft.gain),
            models: self.inputs.models.clone(),
            origin: "harvested".to_owned(),
            adopted_by: String::new(),
            absorbed: Vec::new(),
        })
    }

    /// The modalities of the scans that the lessons were about.
    fn cues(&mut self, draft: &Draft) -> Result<crate::bank::Cues, EvolveError> {
        let mut cues = crate::bank::Cues::default();
        for index in &draft.requests {
            let scene = self.scene(&self.request(*index).case)?;
            cues.modalities.push(scene.modality);
        }
        cues.modalities.sort();
        cues.modalities.dedup();
        Ok(cues)
    }
}

/// The wordings that rules give: the prompt shows abbreviations in another form than the rest, and
/// which of the two a reasoner follows better is tried. The plain form comes first and wins a tie:
/// of 49 house words on two heads, the embedded reasoner followed it 45 times and the other 39.
fn wordings(draft: &Draft) -> Vec<NewSkill> {
    let mut wordings = Vec::new();
    if draft.skill.tag == tag::ABBR_DISAMBIGUATE {
        wordings.push(NewSkill { tag: tag::PROMPT_NORMALIZE.to_owned(), ..draft.skill.clone() });
    }
    wordings.push(draft.skill.clone());
    wordings
}

fn report_of(skill: &Skill, draft: &Draft, gain: f64, fate: &str) -> SkillReport {
    SkillReport {
        id: skill.id.clone(),
        tag: skill.tag.to_string(),
        trigger: skill.trigger.clone(),
        target: skill.target.clone(),
        fate: fate.to_owned(),
        lessons: draft.requests.len(),
        patients: draft.patients,
        gain_at_birth: draft.gain,
        rehearsal_gain: Some(gain),
        heldout_offers: 0,
        heldout_gain: None,
    }
}
