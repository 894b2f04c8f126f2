//! Greedy runs of requests with given skills; equal questions are asked once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Run, Stage};
use crate::evolve::EvolveError;
use crate::evolve::executor::{Ask, Rollout};
use crate::reason::OfferedSkill;

/// A request with the skills it is offered.
pub(super) type Question = (usize, Vec<OfferedSkill>);

/// What a question is filed under: the request, and a hash of what the prompt shows.
fn key(question: &Question) -> String {
    let mut hasher = Sha256::new();
    for skill in &question.1 {
        for part in [&skill.id, &skill.tag, &skill.content, &skill.audit] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    format!("greedy/{}/{}", question.0, hex::encode(&hasher.finalize()[..8]))
}

impl Run<'_, '_> {
    /// Runs questions case by case, greedily; those in the ledger are not run again. Answers come
    /// in the order of the questions.
    pub(super) fn ask_all(
        &mut self,
        stage: Stage,
        questions: &[Question],
    ) -> Result<Vec<Rollout>, EvolveError> {
        let mut open: BTreeMap<String, &Question> = BTreeMap::new();
        for question in questions {
            let key = key(question);
            if !self.ledger.has(&key) {
                open.insert(key, question);
            }
        }
        let mut by_case: BTreeMap<&str, Vec<(&String, &Question)>> = BTreeMap::new();
        for (key, question) in &open {
            by_case.entry(&self.request(question.0).case).or_default().push((key, question));
        }
        let total = open.len();
        let mut done = 0;
        for (case, questions) in by_case {
            let requests: Vec<_> =
                questions.iter().map(|(_, question)| self.request(question.0)).collect();
            let (ledger, control, notice) = (&mut *self.ledger, self.control, &mut *self.notice);
            let material = self.inputs.material;
            control.step()?;
            self.executor.visit(case, &requests, &mut |visit| {
                for (key, (index, skills)) in &questions {
                    control.step()?;
                    let request = &material.requests[*index];
                    let rollouts = visit.execute(&Ask { request, skills, sampling: None })?;
                    if let Some(rollout) = rollouts.first() {
                        ledger.put(key, rollout)?;
                    }
                    done += 1;
                    notice(stage, done, total);
                }
                Ok(())
            })?;
        }
        questions
            .iter()
            .map(|question| self.ledger.get(&key(question))?.ok_or(EvolveError::NothingToLearnFrom))
            .collect()
    }
}
