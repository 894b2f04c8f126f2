//! The candidate bank: what is there, what was harvested, less what proved harmful or too much.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::terms::{likeness, split_name};
use crate::bank::{Bank, Gain, NewSkill, Skill, SkillId};
use crate::runtime::vocabulary::normalise;

/// Triggers of one target this like each other are one skill.
const SAME_TRIGGER: f64 = 0.8;
/// Aliases and source episodes a merged skill keeps at most.
const MERGED_MAX: usize = 48;
/// A skill that nobody called for is worth half after this many rounds.
const IDLE_HALF_LIFE_ROUNDS: f64 = 3.0;

/// What became of a skill in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// New in the candidate.
    Added,
    /// Its words and evidence went into a skill that was there or was added.
    Merged,
    /// A pinned skill says otherwise.
    AgainstPinned,
    /// Another harvested skill for the same words had better evidence.
    Outbid,
}

/// Why a skill of the base is not in the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetiredFor {
    /// Its Δ interval lies below zero.
    NegativeGain,
    /// Orders that were offered it failed, and practice showed that the words mean something else.
    Contradicted,
    /// The bank is full and others are worth more.
    Size,
}

/// A skill that leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Retired {
    /// Which.
    pub id: SkillId,
    /// Its tag.
    pub tag: String,
    /// Its trigger.
    pub trigger: String,
    /// Its target.
    pub target: String,
    /// Why.
    pub reason: RetiredFor,
    /// What the evidence log says of it.
    pub gain: Gain,
}

/// A skill of the base with what is known of it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The skill.
    pub skill: Arc<Skill>,
    /// Its marginal gain.
    pub gain: Gain,
    /// Evolution must not retire it.
    pub pinned: bool,
    /// Rounds of the bank since retrieval last brought it, or since it came, where that is later.
    pub idle_rounds: u64,
}

impl Held {
    /// The skills of a round as the bank knows them; those retired by hand are left out.
    pub fn of(bank: &Bank, round: u64, skills: &crate::bank::SkillSet) -> Vec<Self> {
        let held = |skill: &Arc<Skill>| {
            let standing = bank.standing(&skill.id);
            let last =
                bank.counts(skill).last_round.max(Some(skill.audit.birth_round)).unwrap_or(0);
            let held = Self {
                skill: Arc::clone(skill),
                gain: bank.gain(skill),
                pinned: standing.pinned,
                idle_rounds: round.saturating_sub(last),
            };
            (!standing.retired).then_some(held)
        };
        skills.iter().filter_map(held).collect()
    }
}

/// A candidate bank and how it came about.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// Its skills.
    pub skills: Vec<Skill>,
    /// The skills that are new or were changed by a merge.
    pub touched: BTreeSet<SkillId>,
    /// What became of each harvested skill, in the order they were given, and where it went.
    pub fates: Vec<(SkillId, Fate)>,
    /// Skills of the base that are not in it.
    pub retired: Vec<Retired>,
}

/// Builds the candidate. `harvested` come best first.
///
/// Skills whose gain interval lies below zero leave, unless pinned. A harvested skill for words that
/// a skill of another target has replaces it, unless that is pinned. One for the same target with
/// like words is merged into it. Last, the bank is cut to `size_max` by worth.
pub fn combine(base: &[Held], harvested: Vec<Skill>, size_max: usize) -> Candidate {
    let mut candidate = Candidate::default();
    let mut kept: Vec<Held> = Vec::new();
    for held in base {
        let harmful = held.gain.interval.is_some_and(|[_, high]| high < 0.0);
        if harmful && !held.pinned {
            candidate.retire(held, RetiredFor::NegativeGain);
        } else {
            kept.push(held.clone());
        }
    }
    for skill in harvested {
        candidate.take(skill, &mut kept);
    }
    candidate.cut(&mut kept, size_max);
    candidate.skills = kept.into_iter().map(|held| Skill::clone(&held.skill)).collect();
    candidate.skills.sort_by(|a, b| a.id.cmp(&b.id));
    candidate.retired.sort_by(|a, b| a.id.cmp(&b.id));
    candidate
}

impl Candidate {
    fn retire(&mut self, held: &Held, reason: RetiredFor) {
        self.retired.push(Retired {
            id: held.skill.id.clone(),
            tag: held.skill.tag.to_string(),
            trigger: held.skill.trigger.clone(),
            target: held.skill.target.clone(),
            reason,
            gain: held.gain,
        });
    }

    fn take(&mut self, skill: Skill, kept: &mut Vec<Held>) {
        let id = skill.id.clone();
        let same_words = |held: &&Held| {
            held.skill.target != skill.target && shares_a_phrase(&held.skill, &skill)
        };
        let rivals: Vec<SkillId> =
            kept.iter().filter(same_words).map(|held| held.skill.id.clone()).collect();
        for rival in rivals {
            let Some(at) = kept.iter().position(|held| held.skill.id == rival) else { continue };
            if kept[at].pinned {
                self.fates.push((id, Fate::AgainstPinned));
                return;
            }
            if self.touched.contains(&rival) {
                // Harvested too, and better: it came first.
                self.fates.push((id, Fate::Outbid));
                return;
            }
            let held = kept.remove(at);
            self.retire(&held, RetiredFor::Contradicted);
        }
        let alike = |held: &Held| {
            held.skill.target == skill.target
                && held
                    .skill
                    .phrases()
                    .any(|phrase| skill.phrases().any(|other| is_alike(phrase, other)))
        };
        match kept.iter().position(alike) {
            Some(at) => {
                let merged = merged(&kept[at].skill, &skill);
                let known = kept[at].skill.phrases().count() == merged.phrases().count();
                self.fates.push((merged.id.clone(), Fate::Merged));
                // Words that were there already change nothing but the audit.
                if !known {
                    self.touched.insert(merged.id.clone());
                }
                kept[at].skill = Arc::new(merged);
            }
            None => {
                let nothing = Gain { n_with: 0, n_without: 0, delta: None, interval: None };
                self.fates.push((id.clone(), Fate::Added));
                self.touched.insert(id);
                let skill = Arc::new(skill);
                kept.push(Held { skill, gain: nothing, pinned: false, idle_rounds: 0 });
            }
        }
    }

    /// Cuts to size by [`worth`]. Pinned skills stay whatever they are worth.
    fn cut(&mut self, kept: &mut Vec<Held>, size_max: usize) {
        if kept.len() <= size_max {
            return;
        }
        kept.sort_by(|a, b| {
            b.pinned
                .cmp(&a.pinned)
                .then(worth(b).total_cmp(&worth(a)))
                .then(a.skill.id.cmp(&b.skill.id))
        });
        let pinned = kept.iter().filter(|held| held.pinned).count();
        for held in kept.split_off(size_max.max(pinned)) {
            self.touched.remove(&held.skill.id);
            self.retire(&held, RetiredFor::Size);
        }
    }
}

/// The gain where there is one, else half of the gain at birth; halved every
/// [`IDLE_HALF_LIFE_ROUNDS`] in which nobody called for the skill, so that words that died out do
/// not keep new ones out of a full bank.
fn worth(held: &Held) -> f64 {
    let at_birth = held.skill.audit.gain_at_birth.unwrap_or(0.0) * 0.5;
    let gain = held.gain.delta.unwrap_or(at_birth);
    let use_of_it = 0.5_f64.powf(held.idle_rounds as f64 / IDLE_HALF_LIFE_ROUNDS);
    if gain > 0.0 { gain * use_of_it } else { gain }
}

fn shares_a_phrase(a: &Skill, b: &Skill) -> bool {
    a.phrases().any(|one| b.phrases().any(|other| normalise(one) == normalise(other)))
}

/// Whether two triggers are the same words but for slips: their sides agree, short words match
/// exactly.
fn is_alike(one: &str, other: &str) -> bool {
    let (one, other) = (normalise(one), normalise(other));
    let ((side, term), (other_side, other_term)) = (split_name(&one), split_name(&other));
    side == other_side
        && (term == other_term
            || term.chars().count() > 4 && likeness(term, other_term) >= SAME_TRIGGER)
}

/// `into` with the words and the evidence of `from`.
fn merged(into: &Skill, from: &Skill) -> Skill {
    let mut new: NewSkill = into.to_new();
    let room = MERGED_MAX.saturating_sub(new.aliases.len());
    new.aliases.extend(from.phrases().map(str::to_owned).take(room));
    let (audit, other) = (&mut new.audit, &from.audit);
    for (episode, reward) in other.source_episodes.iter().zip(&other.source_rewards) {
        if audit.source_episodes.len() < MERGED_MAX && !audit.source_episodes.contains(episode) {
            audit.source_episodes.push(*episode);
            audit.source_rewards.push(*reward);
        }
    }
    if from.id != into.id && !audit.absorbed.contains(&from.id) {
        audit.absorbed.push(from.id.clone());
    }
    for modality in &from.cues.modalities {
        if !new.cues.modalities.is_empty() && !new.cues.modalities.contains(modality) {
            new.cues.modalities.push(modality.clone());
        }
    }
    // Both went through the checks, and so did their parts.
    Skill::new(new).unwrap_or_else(|_| into.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::tag;

    fn skill(trigger: &str, target: &str) -> Skill {
        Skill::new(NewSkill {
            tag: tag::PROMPT_NORMALIZE.into(),
            trigger: trigger.into(),
            target: target.into(),
            ..NewSkill::default()
        })
        .expect("a skill")
    }

    fn held(skill: Skill, delta: Option<[f64; 3]>, pinned: bool) -> Held {
        let gain = Gain {
            n_with: 5,
            n_without: 5,
            delta: delta.map(|d| d[1]),
            interval: delta.map(|d| [d[0], d[2]]),
        };
        Held { skill: Arc::new(skill), gain, pinned, idle_rounds: 0 }
    }

    fn targets(candidate: &Candidate) -> Vec<(String, String)> {
        let mut found: Vec<_> = candidate
            .skills
            .iter()
            .map(|skill| (skill.trigger.clone(), skill.target.clone()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn slips_of_one_trigger_merge_and_sides_do_not() {
        let base = [held(skill("left hypokampus", "left hippocampus"), None, false)];
        let new = vec![
            skill("left hypokampos", "left hippocampus"),
            skill("right hypokampus", "right hippocampus"),
            skill("left seahorse", "left hippocampus"),
            skill("left hypokampus", "left hippocampus"),
        ];
        let candidate = combine(&base, new, 10);
        assert_eq!(candidate.skills.len(), 3, "{:?}", targets(&candidate));
        let fates: Vec<Fate> = candidate.fates.iter().map(|(_, fate)| *fate).collect();
        assert_eq!(fates, [Fate::Merged, Fate::Added, Fate::Added, Fate::Merged]);
        let merged = candidate.skills.iter().find(|s| s.id == base[0].skill.id).expect("kept");
        assert_eq!(merged.aliases, ["left hypokampos"]);
        assert_eq!(merged.audit.absorbed.len(), 1);
        assert_eq!(candidate.touched.len(), 3);
        // The same harvest again changes nothing.
        let again: Vec<Held> =
            candidate.skills.iter().map(|s| held(s.clone(), None, false)).collect();
        let same = combine(&again, vec![skill("left hypokampos", "left hippocampus")], 10);
        assert!(same.touched.is_empty());
        assert_eq!(targets(&same), targets(&candidate));
    }

    #[test]
    fn words_that_mean_something_else_now_replace_what_is_not_pinned() {
        let check = |pinned: bool, expected: &str, fate: Fate| {
            let base = [held(skill("klb", "liver"), None, pinned)];
            let candidate = combine(&base, vec![skill("KLB", "spleen")], 10);
            assert_eq!(targets(&candidate)[0].1, expected);
            assert_eq!(candidate.fates[0].1, fate);
            assert_eq!(candidate.retired.len(), usize::from(!pinned));
        };
        check(false, "spleen", Fate::Added);
        check(true, "liver", Fate::AgainstPinned);
        let candidate = combine(&[], vec![skill("klb", "liver"), skill("klb", "spleen")], 10);
        assert_eq!(candidate.fates[1].1, Fate::Outbid);
        assert_eq!(targets(&candidate)[0].1, "liver");
    }

    #[test]
    fn harm_and_size_retire_and_pins_protect() {
        let base = [
            held(skill("aa", "liver"), Some([-0.4, -0.2, -0.1]), false),
            held(skill("bb", "spleen"), Some([-0.4, -0.2, -0.1]), true),
            held(skill("cc", "left kidney"), Some([-0.1, 0.1, 0.3]), false),
            held(skill("dd", "right kidney"), Some([0.1, 0.3, 0.5]), false),
        ];
        let candidate = combine(&base, Vec::new(), 2);
        let left: Vec<String> = targets(&candidate).into_iter().map(|(t, _)| t).collect();
        assert_eq!(left, ["bb", "dd"]);
        let mut reasons: Vec<RetiredFor> = candidate.retired.iter().map(|r| r.reason).collect();
        reasons.sort_by_key(|reason| *reason as u8);
        assert_eq!(reasons, [RetiredFor::NegativeGain, RetiredFor::Size]);
        assert_eq!(combine(&base, Vec::new(), 0).skills.len(), 1);
    }

    #[test]
    fn words_that_nobody_uses_any_more_make_room_for_new_ones() {
        let idle = |rounds: u64| Held {
            idle_rounds: rounds,
            ..held(skill("old word", "liver"), Some([0.4, 0.6, 0.8]), false)
        };
        let mut fresh = skill("new word", "spleen");
        fresh.audit.gain_at_birth = Some(0.7);
        let left = |rounds: u64| {
            let candidate = combine(&[idle(rounds)], vec![fresh.clone()], 1);
            targets(&candidate)[0].0.clone()
        };
        // 0.6 against half of 0.7, and 0.15 six rounds later.
        assert_eq!((left(0).as_str(), left(6).as_str()), ("old word", "new word"));
    }
}
