//! Ξ+: episodes that beat the direct prompt, and the lessons they hold for phrasings that fail.
//!
//! A phrasing that fails has, as a rule, no rollout of its own that gets the target right; its
//! siblings in Ω(q) do, or one of its samples does by luck. So the teacher of a group is the answer
//! with the best Dice among all rollouts of all its phrasings, and every phrasing that falls short
//! of the teacher by the margin is a lesson: *these words meant that target*. The reference is
//! looked at through the reward alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::executor::Rollout;
use super::material::Material;
use super::reward::Weights;

/// What counts as worth learning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HarvestSettings {
    /// How much better than the direct prompt, in Dice, and than the phrasing itself, in reward.
    pub margin: f64,
    /// Lowest Dice of a teacher.
    pub dice_min: f64,
}

impl Default for HarvestSettings {
    fn default() -> Self {
        Self { margin: 0.1, dice_min: 0.2 }
    }
}

/// The practice of one request: what was offered, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Practised {
    /// What retrieval brought, best first, withheld ones included.
    pub exposures: Vec<crate::bank::Exposure>,
    /// K rollouts with what was left.
    pub rollouts: Vec<Rollout>,
    /// Dice of the direct prompt.
    pub direct: f64,
}

impl Practised {
    /// Whether a skill was withheld by chance.
    pub fn is_reduced(&self) -> bool {
        self.exposures.iter().any(|exposure| exposure.withheld)
    }

    /// Mean Dice of its rollouts.
    pub fn mean_dice(&self) -> f64 {
        let sum: f64 = self.rollouts.iter().map(|rollout| rollout.dice).sum();
        sum / self.rollouts.len().max(1) as f64
    }
}

/// These words meant that target.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// The request whose words fail.
    pub request: usize,
    /// What its group's best answer segments: one name of the vocabulary.
    pub target: String,
    /// Dice of that answer.
    pub teacher_dice: f64,
    /// Best reward of an episode with that answer.
    pub teacher_reward: f64,
    /// The request and rollout of that episode.
    pub teacher: (usize, usize),
    /// Mean reward of the failing phrasing.
    pub own_reward: f64,
    /// Mean Dice of the failing phrasing.
    pub own_dice: f64,
    /// Dice of its direct prompt.
    pub direct: f64,
}

/// What practice gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Harvest {
    /// Rewards by request and rollout.
    pub rewards: BTreeMap<usize, Vec<f64>>,
    /// How many episodes beat the direct prompt by the margin.
    pub positive_episodes: usize,
    /// The target of each practised request's group, where an answer was good enough.
    pub taught: BTreeMap<usize, String>,
    /// What is to be learnt, by request.
    pub lessons: Vec<Lesson>,
}

/// Scores practice and finds its lessons.
pub fn harvest(
    material: &Material,
    practised: &BTreeMap<usize, Practised>,
    weights: &Weights,
    settings: &HarvestSettings,
) -> Harvest {
    let mut found = Harvest::default();
    let requests: Vec<usize> = practised.keys().copied().collect();
    for group in material.groups(&requests) {
        let phrasings: Vec<&[Rollout]> =
            group.iter().map(|index| &practised[index].rollouts[..]).collect();
        let rewards = weights.of_group(&phrasings);
        for (index, rewards) in group.iter().zip(&rewards) {
            let of = &practised[index];
            let beats = |rollout: &&Rollout| rollout.dice - of.direct >= settings.margin;
            found.positive_episodes += of.rollouts.iter().filter(beats).count();
            found.rewards.insert(*index, rewards.clone());
        }
        let Some(teacher) = teacher(&group, practised, &rewards, settings) else { continue };
        for (index, rewards) in group.iter().zip(&rewards) {
            found.taught.insert(*index, teacher.target.clone());
            let of = &practised[index];
            let own_reward = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let falls_short = teacher.reward - own_reward >= settings.margin
                && teacher.dice - of.direct >= settings.margin;
            if falls_short && !of.is_reduced() {
                found.lessons.push(Lesson {
                    request: *index,
                    target: teacher.target.clone(),
                    teacher_dice: teacher.dice,
                    teacher_reward: teacher.reward,
                    teacher: teacher.episode,
                    own_reward,
                    own_dice: of.mean_dice(),
                    direct: of.direct,
                });
            }
        }
    }
    found.lessons.sort_by_key(|lesson| lesson.request);
    found
}

struct Teacher {
    target: String,
    dice: f64,
    reward: f64,
    episode: (usize, usize),
}

/// How close in Dice answers are a tie: nested structures score alike by chance.
const TIE: f64 = 0.05;

/// The best answer of a group that names one target. Of answers within [`TIE`] of the best the
/// most frequent one teaches; its best episode is named.
fn teacher(
    group: &[usize],
    practised: &BTreeMap<usize, Practised>,
    rewards: &[Vec<f64>],
    settings: &HarvestSettings,
) -> Option<Teacher> {
    let mut by_target: BTreeMap<&str, (usize, Teacher)> = BTreeMap::new();
    for (index, rewards) in group.iter().zip(rewards) {
        for (place, (rollout, reward)) in practised[index].rollouts.iter().zip(rewards).enumerate()
        {
            let [target] = &rollout.targets[..] else { continue };
            let episode = Teacher {
                target: target.clone(),
                dice: rollout.dice,
                reward: *reward,
                episode: (*index, place),
            };
            match by_target.get_mut(target.as_str()) {
                None => {
                    by_target.insert(target, (1, episode));
                }
                Some((count, best)) => {
                    *count += 1;
                    if episode.reward > best.reward {
                        *best = episode;
                    }
                }
            }
        }
    }
    let best = by_target.values().map(|(_, t)| t.dice).fold(f64::NEG_INFINITY, f64::max);
    by_target
        .into_values()
        .filter(|(_, t)| t.dice >= settings.dice_min && t.dice >= best - TIE)
        .max_by(|(n, a), (m, b)| {
            n.cmp(m).then(a.dice.total_cmp(&b.dice)).then(b.target.cmp(&a.target))
        })
        .map(|(_, teacher)| teacher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::{material, request, rollout};

    fn practised(rollouts: &[(&str, f64)], direct: f64) -> Practised {
        let rollouts = rollouts.iter().map(|(answer, dice)| rollout(answer, *dice)).collect();
        Practised { exposures: Vec::new(), rollouts, direct }
    }

    #[test]
    fn the_phrasing_that_gets_it_right_teaches_those_that_do_not() {
        let material = material(vec![
            request("a", "liver", "outline the liver"),
            request("a", "liver", "outline the foie"),
            request("a", "spleen", "milz please"),
        ]);
        let practice = BTreeMap::from([
            (0, practised(&[("Segment the liver.", 0.8), ("Segment the liver.", 0.8)], 0.8)),
            (1, practised(&[("Reject: ambiguous.", 0.0), ("Segment the spleen.", 0.05)], 0.1)),
            (2, practised(&[("Reject: ambiguous.", 0.0), ("Reject: ambiguous.", 0.0)], 0.0)),
        ]);
        let settings = HarvestSettings::default();
        let found = harvest(&material, &practice, &Weights::default(), &settings);
        let [lesson] = &found.lessons[..] else { panic!("{:?}", found.lessons) };
        assert_eq!((lesson.request, lesson.target.as_str()), (1, "liver"));
        assert_eq!((lesson.teacher_dice, lesson.teacher), (0.8, (0, 0)));
        // Only the liver's own words are as good as its direct prompt; nothing beats it.
        assert_eq!(found.positive_episodes, 0);
        assert_eq!(found.taught.keys().copied().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn nothing_is_learnt_where_the_direct_prompt_does_as_well_or_a_skill_was_withheld() {
        let material = material(vec![
            request("a", "liver", "outline the liver"),
            request("a", "liver", "outline the foie"),
        ]);
        let check = |direct: f64, withheld: bool, expected: usize| {
            let mut second = practised(&[("Reject: ambiguous.", 0.0)], direct);
            if withheld {
                second.exposures.push(crate::bank::Exposure {
                    skill: crate::bank::SkillId::parse("seer:0011aabbccdd").expect("an id"),
                    tag: crate::bank::Tag::parse("PROMPT_NORMALIZE").expect("a tag"),
                    score: 0.9,
                    rank: None,
                    withheld: true,
                });
            }
            let practice =
                BTreeMap::from([(0, practised(&[("Segment the liver.", 0.8)], 0.8)), (1, second)]);
            let settings = HarvestSettings::default();
            let found = harvest(&material, &practice, &Weights::default(), &settings);
            assert_eq!(found.lessons.len(), expected, "{direct} {withheld}");
        };
        check(0.0, false, 1);
        check(0.75, false, 0);
        check(0.0, true, 0);
    }
}
