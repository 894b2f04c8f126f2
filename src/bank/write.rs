//! Changes of a bank: rounds, standings and evidence, each durable in the journal first.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::change::{Change, Entry};
use super::journal::Journal;
use super::{
    Bank, BankError, Effect, Episode, Evidence, Round, RoundDraft, RoundHeader, SkillId, SkillSet,
    Standing, StandingAction, privacy,
};

impl Bank {
    /// Publishes a round; it is durable and immutable once this answers, and not yet active.
    ///
    /// # Errors
    /// An unknown parent, a pinned skill of the parent that is missing, a note that may be
    /// patient text; the disk.
    pub fn publish(&self, draft: RoundDraft) -> Result<Arc<Round>, BankError> {
        let parent = self.round(draft.parent)?;
        let number = self.rounds()?.last().map_or(0, |last| last.number + 1);
        self.publish_as(draft, number, Some(&parent))
    }

    pub(super) fn publish_as(
        &self,
        draft: RoundDraft,
        number: u64,
        parent: Option<&Round>,
    ) -> Result<Arc<Round>, BankError> {
        let part = "note";
        privacy::check(&draft.note).map_err(|source| BankError::Privacy { part, source })?;
        let skills = SkillSet::new(draft.skills.into_iter().map(Arc::new));
        let retired = self.left_out(&skills, parent)?;
        let mut journal = self.journal();
        // Another round may have been published since the number was chosen.
        let number = match self.0.store.rounds()?.last() {
            Some(last) => last.number + 1,
            None => number,
        };
        let header = RoundHeader {
            number,
            parent: parent.map(Round::number),
            author: draft.author.clone(),
            report_id: draft.report_id,
            note: draft.note,
            retired,
            skill_count: skills.len() as u64,
            sha256: self.0.round_files.write(number, &skills)?,
            published_at: self.0.clock.now(),
        };
        self.0.store.keep_skills(number, skills.iter().cloned())?;
        self.commit(&mut journal, &draft.author, Change::Publish(header.clone()))?;
        Ok(Arc::new(Round { header, skills }))
    }

    /// Skills of the parent that a round lacks; none of them may be pinned.
    fn left_out(
        &self,
        skills: &SkillSet,
        parent: Option<&Round>,
    ) -> Result<Vec<SkillId>, BankError> {
        let before = parent.map(|parent| parent.skills.iter()).into_iter().flatten();
        let missing: Vec<SkillId> =
            before.map(|skill| skill.id.clone()).filter(|id| skills.get(id).is_none()).collect();
        match missing.iter().find(|id| self.standing(id).pinned) {
            Some(id) => Err(BankError::Pinned { id: id.clone() }),
            None => Ok(missing),
        }
    }

    /// Makes a round the active one, at once and for all retrievals that begin after.
    ///
    /// # Errors
    /// [`BankError::UnknownRound`]; the disk.
    pub fn activate(&self, number: u64, actor: &str) -> Result<Arc<Round>, BankError> {
        let mut journal = self.journal();
        let round = match self.try_active(number) {
            Some(active) => active,
            None => self.load_round(number)?,
        };
        round.skills.prepare();
        self.commit(&mut journal, actor, Change::Activate { round: number })?;
        self.live_mut().active = Arc::clone(&round);
        Ok(round)
    }

    fn try_active(&self, number: u64) -> Option<Arc<Round>> {
        Some(self.active()).filter(|active| active.number() == number)
    }

    fn load_round(&self, number: u64) -> Result<Arc<Round>, BankError> {
        let header = self.0.store.round(number)?.ok_or(BankError::UnknownRound { number })?;
        let skills = SkillSet::new(self.0.store.skills_of(number)?);
        Ok(Arc::new(Round { header, skills }))
    }

    /// Retires, restores, pins or unpins a skill. Gives how it stands afterwards; doing it twice
    /// changes nothing.
    ///
    /// # Errors
    /// [`BankError::UnknownSkill`]; [`BankError::Pinned`] when a pinned skill is to be retired; the
    /// disk.
    pub fn stand(
        &self,
        id: &SkillId,
        action: StandingAction,
        actor: &str,
    ) -> Result<Standing, BankError> {
        self.skill(id)?;
        let mut journal = self.journal();
        let before = self.standing(id);
        if action == StandingAction::Retire && before.pinned {
            return Err(BankError::Pinned { id: id.clone() });
        }
        let standing = action.applied(before);
        if standing != before {
            let change = Change::Stand { skill: id.clone(), standing, action };
            self.commit(&mut journal, actor, change)?;
            self.live_mut().set_standing(id, standing);
        }
        Ok(standing)
    }

    /// Takes a skill out of all offers, whichever round is active.
    ///
    /// # Errors
    /// As [`Bank::stand`].
    pub fn retire(&self, id: &SkillId, actor: &str) -> Result<Standing, BankError> {
        self.stand(id, StandingAction::Retire, actor)
    }

    /// Keeps a skill: no round may leave it out.
    ///
    /// # Errors
    /// As [`Bank::stand`].
    pub fn pin(&self, id: &SkillId, actor: &str) -> Result<Standing, BankError> {
        self.stand(id, StandingAction::Pin, actor)
    }

    /// Takes a pin away.
    ///
    /// # Errors
    /// As [`Bank::stand`].
    pub fn unpin(&self, id: &SkillId, actor: &str) -> Result<Standing, BankError> {
        self.stand(id, StandingAction::Unpin, actor)
    }

    /// Appends evidence, all of it or nothing; returns after it is durable.
    ///
    /// # Errors
    /// Numbers out of range, words that may be patient text, a reward of an episode that is not
    /// known; the disk.
    pub fn record_evidence(&self, evidence: Vec<Evidence>, actor: &str) -> Result<(), BankError> {
        if evidence.is_empty() {
            return Ok(());
        }
        evidence.iter().try_for_each(Evidence::check)?;
        let mut journal = self.journal();
        let effects = self.effects(&evidence)?;
        self.commit(&mut journal, actor, Change::Evidence(evidence))?;
        let mut live = self.live_mut();
        for effect in effects {
            live.apply(effect);
        }
        Ok(())
    }

    /// What evidence will do to the sums, read before the database changes.
    fn effects(&self, evidence: &[Evidence]) -> Result<Vec<Effect>, BankError> {
        let mut fresh: HashMap<Uuid, Episode> = HashMap::new();
        let mut effects = Vec::new();
        for item in evidence {
            match item {
                Evidence::Episode(episode) => {
                    let known = fresh.contains_key(&episode.id)
                        || self.0.store.episode(episode.id)?.is_some();
                    if !known {
                        effects.push(Effect::Seen(Box::new(episode.clone())));
                        fresh.insert(episode.id, episode.clone());
                    }
                }
                Evidence::Reward { episode, reward } => {
                    let before = match fresh.get(episode) {
                        Some(known) => known.clone(),
                        None => {
                            let known = self.0.store.episode(*episode)?;
                            known.ok_or(BankError::UnknownEpisode { id: *episode })?
                        }
                    };
                    let after = Episode { reward: Some(*reward), ..before.clone() };
                    fresh.insert(*episode, after.clone());
                    effects.push(Effect::Rewarded {
                        before: Box::new(before),
                        after: Box::new(after),
                    });
                }
            }
        }
        Ok(effects)
    }

    /// Journal first, then the database.
    fn commit(&self, journal: &mut Journal, actor: &str, change: Change) -> Result<(), BankError> {
        let (applied, _) = self.0.store.applied()?;
        let entry = Entry {
            sequence: applied + 1,
            at: self.0.clock.now(),
            actor: actor.to_owned(),
            change,
        };
        let before = journal.length();
        journal.append(&entry)?;
        if let Err(error) = self.0.store.apply(&entry, journal.length()) {
            journal.take_back(before)?;
            return Err(error);
        }
        self.0.store.flush()
    }
}
