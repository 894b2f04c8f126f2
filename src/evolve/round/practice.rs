//! Practice: sampled rollouts with the current bank, some skills withheld by chance.

use std::collections::BTreeMap;

use super::{Run, Stage};
use crate::bank::{Episode, EpisodeSource, Evidence, Reward, RewardSource, SkillId, withhold};
use crate::eval::random::Random;
use crate::evolve::EvolveError;
use crate::evolve::distil::{Distilled, distil};
use crate::evolve::executor::{Ask, Rollout, Sampling};
use crate::evolve::harvest::{Harvest, Practised, harvest};
use crate::evolve::settings::Publication;

/// What practice gave.
pub(super) struct Practice {
    pub practised: BTreeMap<usize, Practised>,
    pub harvest: Harvest,
    pub distilled: Distilled,
}

impl Run<'_, '_> {
    /// Runs what is not in the ledger, records the evidence, and draws the lessons.
    pub(super) fn practise(&mut self) -> Result<Practice, EvolveError> {
        let requests = self.parts.practice.clone();
        let mut done = 0;
        for (case, indices) in self.by_case(requests.iter().copied()) {
            let missing: Vec<usize> =
                indices.iter().copied().filter(|index| !self.ledger.has(&key(*index))).collect();
            done += indices.len() - missing.len();
            if !missing.is_empty() {
                self.practise_case(&case, &missing, &mut done)?;
            }
        }
        let mut practised = BTreeMap::new();
        for index in &requests {
            let found: Option<Practised> = self.ledger.get(&key(*index))?;
            practised.insert(*index, found.ok_or(EvolveError::NothingToLearnFrom)?);
        }
        let settings = self.settings();
        let material = self.inputs.material;
        let harvest = harvest(material, &practised, &settings.reward, &settings.harvest);
        self.record(&practised, &harvest)?;
        let distilled = distil(material, &harvest, self.inputs.vocabulary, &settings.distil);
        Ok(Practice { practised, harvest, distilled })
    }

    fn practise_case(
        &mut self,
        case: &str,
        missing: &[usize],
        done: &mut usize,
    ) -> Result<(), EvolveError> {
        let base = self.base.clone();
        let settings = self.settings();
        let mut offered = Vec::new();
        for index in missing {
            let offers = self.retrieve(&base.skills, *index)?;
            // The seed alone decides, not the round's id, so that equal seeds repeat.
            let chance = self.chance_of(*index);
            offered.push(withhold(&offers, settings.withhold_rate, settings.seed, chance));
        }
        let seeds: Vec<u64> = missing.iter().map(|index| self.seed_of(*index)).collect();
        let requests: Vec<_> = missing.iter().map(|index| self.request(*index)).collect();
        let total = self.parts.practice.len();
        let (ledger, control, notice) = (&mut *self.ledger, self.control, &mut *self.notice);
        control.step()?;
        self.executor.visit(case, &requests, &mut |visit| {
            for (((index, request), offered), seed) in
                missing.iter().zip(&requests).zip(&offered).zip(&seeds)
            {
                control.step()?;
                let sampling = Sampling {
                    count: settings.rollout_count,
                    temperature: settings.temperature,
                    seed: *seed,
                };
                let ask = Ask { request, skills: &offered.shown, sampling: Some(sampling) };
                let rollouts = visit.execute(&ask)?;
                let direct = visit.direct(request)?;
                let exposures = offered.exposures.clone();
                ledger.put(&key(*index), &Practised { exposures, rollouts, direct })?;
                *done += 1;
                notice(Stage::Practice, *done, total);
            }
            Ok(())
        })
    }

    /// The sampler's seed of a request: another one in every round of the bank.
    fn seed_of(&self, index: usize) -> u64 {
        let request = self.request(index);
        let round = self.base.number().to_string();
        Random::of(self.settings().seed, &["rollout", &round, &request.case, &request.text]).bits()
    }

    /// What withholding of a request is drawn by.
    fn chance_of(&self, index: usize) -> uuid::Uuid {
        let request = self.request(index);
        let round = self.base.number().to_string();
        let mut random =
            Random::of(self.settings().seed, &["withhold", &round, &request.case, &request.text]);
        uuid::Uuid::from_u64_pair(random.bits(), random.bits())
    }

    /// Appends one episode a request to the evidence log, with the mean reward of its rollouts: they
    /// share what they were offered, so more than one would pretend to more evidence than there is.
    /// A dry run leaves no evidence.
    fn record(
        &mut self,
        practised: &BTreeMap<usize, Practised>,
        harvest: &Harvest,
    ) -> Result<(), EvolveError> {
        let recorded = self.ledger.has("evidence");
        if self.settings().publication == Publication::DryRun || recorded {
            return Ok(());
        }
        let mut evidence = Vec::new();
        for (index, of) in practised {
            let scene = self.scene(&self.request(*index).case)?;
            let rewards = harvest.rewards.get(index).map_or(&[][..], |rewards| &rewards[..]);
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let commonest = commonest(&of.rollouts);
            evidence.push(Evidence::Episode(Episode {
                id: self.episode_id(*index),
                at: self.beginning.at,
                source: EpisodeSource::Practice,
                round: self.base.number(),
                modality: scene.modality,
                body_part: Some(scene.body_part).filter(|part| !part.is_empty()),
                exposures: of.exposures.clone(),
                withhold_rate: self.settings().withhold_rate,
                named: commonest.and_then(|rollout| named(of, rollout)),
                targets: commonest.map(|r| self.known(&r.targets)).unwrap_or_default(),
                refusal: commonest.and_then(|rollout| rollout.refusal.clone()),
                reward: Some(Reward {
                    value: mean.clamp(0.0, 1.0),
                    source: RewardSource::Reference,
                    reason: None,
                    at: self.beginning.at,
                }),
            }));
        }
        // An id that is there already changes nothing, so a stop between the two does no harm.
        self.inputs.bank.record_evidence(evidence, self.inputs.author)?;
        self.ledger.put("evidence", &true)
    }

    /// Names of the vocabulary; what is none is only said to be that.
    fn known(&self, targets: &[String]) -> Vec<String> {
        let is_known =
            |target: &String| self.inputs.vocabulary.concepts.iter().any(|c| c.name == *target);
        let name = |target: &String| {
            if is_known(target) { target.clone() } else { "unresolved".to_owned() }
        };
        targets.iter().map(name).collect()
    }
}

fn key(index: usize) -> String {
    format!("practice/{index}")
}

/// The first of the rollouts with the most frequent answer.
fn commonest(rollouts: &[Rollout]) -> Option<&Rollout> {
    let count = |of: &Rollout| rollouts.iter().filter(|other| other.answer == of.answer).count();
    rollouts.iter().rev().max_by_key(|rollout| count(rollout))
}

/// The skill that a rollout names among those it was shown.
fn named(of: &Practised, rollout: &Rollout) -> Option<SkillId> {
    let place = rollout.named? as u32 + 1;
    of.exposures.iter().find(|exposure| exposure.rank == Some(place)).map(|e| e.skill.clone())
}
