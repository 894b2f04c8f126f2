//! The marginal gain of a skill, `Δ(s) = E[R | s ∈ B(I,q)] − E[R | s ∉ B(I,q)]` (the paper's
//! equation 7), estimated from randomised withholding.

use serde::{Deserialize, Serialize};

use super::{Episode, SkillId};

/// A reward of at least this counts as helped, where the rationale names the skill: the published
/// threshold for harvesting.
const HELPED_REWARD_MIN: f64 = 0.5;

/// Variance of a reward of which nothing is known: uniform on 0 to 1.
const PRIOR_VARIANCE: f64 = 1.0 / 12.0;

/// What a skill is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gain {
    /// Episodes with a reward in which retrieval brought the skill and it was shown.
    pub n_with: u64,
    /// Episodes with a reward in which retrieval brought the skill and it was withheld.
    pub n_without: u64,
    /// Mean reward with less mean reward without; absent while one of them is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// 95 % confidence interval of the difference; absent with fewer than two episodes a side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

/// What the evidence log says of one skill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Episodes in which retrieval brought it and it was shown.
    pub offered: u64,
    /// Episodes in which retrieval brought it and it was withheld.
    pub withheld: u64,
    /// Episodes whose rationale names it.
    pub named: u64,
    /// Episodes whose rationale names it and whose reward is at least 0.5.
    pub helped: u64,
    /// The latest round of the bank under which retrieval brought it; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_round: Option<u64>,
}

/// Running sums of one skill. Episodes with and without count only where chance decided, that is
/// where the withholding rate lies between 0 and 1; each is weighted by the inverse of its chance,
/// so that rounds with different rates can be pooled (Hájek's estimator).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    pub counts: Counts,
    with: Arm,
    without: Arm,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Arm {
    count: f64,
    weight: f64,
    weighted: f64,
    square_weight: f64,
    square_weighted: f64,
    square_weighted_square: f64,
}

/// Whether an episode enters the sums or leaves them (when its reward is replaced).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    In,
    Out,
}

impl Entry {
    pub fn sign(self) -> i64 {
        match self {
            Self::In => 1,
            Self::Out => -1,
        }
    }
}

/// Whether an episode of this reward counts as helped.
pub(super) fn helps(value: f64) -> bool {
    value >= HELPED_REWARD_MIN
}

impl Tally {
    /// Counts that an episode happened.
    pub fn see(&mut self, episode: &Episode, skill: &SkillId) {
        if let Some(exposure) = episode.exposure(skill) {
            let count = if exposure.withheld {
                &mut self.counts.withheld
            } else {
                &mut self.counts.offered
            };
            *count += 1;
            self.counts.last_round = self.counts.last_round.max(Some(episode.round));
        }
        self.counts.named += u64::from(episode.named.as_ref() == Some(skill));
    }

    /// Counts the reward of an episode, or takes it out again.
    pub fn reward(&mut self, episode: &Episode, skill: &SkillId, value: f64, entry: Entry) {
        if episode.named.as_ref() == Some(skill) && helps(value) {
            self.counts.helped = self.counts.helped.saturating_add_signed(entry.sign());
        }
        let rate = episode.withhold_rate;
        let Some(exposure) = episode.exposure(skill).filter(|_| rate > 0.0 && rate < 1.0) else {
            return;
        };
        let sign = entry.sign() as f64;
        if exposure.withheld {
            self.without.add(value, 1.0 / rate, sign);
        } else {
            self.with.add(value, 1.0 / (1.0 - rate), sign);
        }
    }

    /// Sums of two skills, one of which absorbed the other.
    pub fn plus(&self, other: &Self) -> Self {
        let (mine, theirs) = (self.counts, other.counts);
        Self {
            counts: Counts {
                offered: mine.offered + theirs.offered,
                withheld: mine.withheld + theirs.withheld,
                named: mine.named + theirs.named,
                helped: mine.helped + theirs.helped,
                last_round: mine.last_round.max(theirs.last_round),
            },
            with: self.with.plus(&other.with),
            without: self.without.plus(&other.without),
        }
    }

    /// The estimate.
    pub fn gain(&self) -> Gain {
        let delta = match (self.with.mean(), self.without.mean()) {
            (Some(with), Some(without)) => Some(with - without),
            _ => None,
        };
        let interval = delta.and_then(|delta| {
            let half = half_width(self.with.error()?, self.without.error()?);
            Some([delta - half, delta + half])
        });
        Gain {
            n_with: self.with.count.round() as u64,
            n_without: self.without.count.round() as u64,
            delta,
            interval,
        }
    }
}

impl Arm {
    fn add(&mut self, value: f64, weight: f64, sign: f64) {
        self.count += sign;
        self.weight += sign * weight;
        self.weighted += sign * weight * value;
        self.square_weight += sign * weight * weight;
        self.square_weighted += sign * weight * weight * value;
        self.square_weighted_square += sign * weight * weight * value * value;
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            weight: self.weight + other.weight,
            weighted: self.weighted + other.weighted,
            square_weight: self.square_weight + other.square_weight,
            square_weighted: self.square_weighted + other.square_weighted,
            square_weighted_square: self.square_weighted_square + other.square_weighted_square,
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.count >= 0.5).then(|| self.weighted / self.weight)
    }

    /// Squared standard error of the mean and its degrees of freedom; absent below two episodes.
    ///
    /// The variance is estimated with one pseudo-observation of [`PRIOR_VARIANCE`], so that a few
    /// equal rewards do not look like certainty.
    fn error(&self) -> Option<(f64, f64)> {
        let mean = self.mean().filter(|_| self.count >= 1.5)?;
        let freedom = self.count - 1.0;
        let squares = self.square_weighted_square - 2.0 * mean * self.square_weighted
            + mean * mean * self.square_weight;
        let effective = self.weight * self.weight / self.square_weight;
        let variance = squares.max(0.0) / self.square_weight * self.count / freedom;
        let pooled = (freedom * variance + PRIOR_VARIANCE) / self.count;
        Some((pooled / effective, freedom))
    }
}

/// Half of Welch's 95 % interval.
fn half_width(with: (f64, f64), without: (f64, f64)) -> f64 {
    let sum = with.0 + without.0;
    let freedom = sum * sum / (with.0 * with.0 / with.1 + without.0 * without.0 / without.1);
    student_975(freedom) * sum.sqrt()
}

/// The 97.5 % quantile of Student's t (Hill's expansion around the normal; within 1 % from two
/// degrees of freedom on, and from the table below that).
fn student_975(freedom: f64) -> f64 {
    const TABLE: [f64; 4] = [12.706, 4.303, 3.182, 2.776];
    if freedom < 5.0 {
        let below = (freedom.floor().max(1.0) as usize).min(4);
        return TABLE[below - 1];
    }
    let z: f64 = 1.959_964;
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * freedom.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::{EpisodeSource, Exposure, Tag};
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn id() -> SkillId {
        SkillId::parse("seer:0011aabbccdd").expect("an id")
    }

    fn episode(withheld: bool, withhold_rate: f64) -> Episode {
        Episode {
            id: Uuid::nil(),
            at: OffsetDateTime::UNIX_EPOCH,
            source: EpisodeSource::Practice,
            round: 1,
            modality: "MR".into(),
            body_part: None,
            exposures: vec![Exposure {
                skill: id(),
                tag: Tag::parse("ABBR_DISAMBIGUATE").expect("a tag"),
                score: 0.9,
                rank: (!withheld).then_some(1),
                withheld,
            }],
            withhold_rate,
            named: (!withheld).then(id),
            targets: Vec::new(),
            refusal: None,
            reward: None,
        }
    }

    #[test]
    fn gain_is_the_difference_of_means_with_welchs_interval() {
        let mut tally = Tally::default();
        for (withheld, values) in [(false, [0.8, 0.9, 0.7, 0.8]), (true, [0.2, 0.4, 0.3, 0.3])] {
            for value in values {
                let episode = episode(withheld, 0.5);
                tally.see(&episode, &id());
                tally.reward(&episode, &id(), value, Entry::In);
            }
        }
        let gain = tally.gain();
        assert_eq!((gain.n_with, gain.n_without), (4, 4));
        assert!((gain.delta.expect("known") - 0.5).abs() < 1e-12);
        let [low, high] = gain.interval.expect("known");
        // Pooled variance of an arm: (3 · 0.00667 + 1/12) / 4 = 0.0258; Welch with 6 degrees.
        let half = 2.447 * (2.0_f64 * 0.025_83 / 4.0).sqrt();
        assert!((high - low - 2.0 * half).abs() < 0.01, "{low} {high} {half}");
        assert_eq!(
            tally.counts,
            Counts { offered: 4, withheld: 4, named: 4, helped: 4, last_round: Some(1) }
        );
    }

    #[test]
    fn a_replaced_reward_leaves_no_trace() {
        let mut tally = Tally::default();
        let episode = episode(false, 0.25);
        tally.reward(&episode, &id(), 0.9, Entry::In);
        let once = tally;
        tally.reward(&episode, &id(), 0.1, Entry::In);
        tally.reward(&episode, &id(), 0.1, Entry::Out);
        assert_eq!(tally.gain(), once.gain());
        assert_eq!(tally.counts.helped, 1);
    }

    #[test]
    fn episodes_without_chance_say_nothing_about_the_gain() {
        let mut tally = Tally::default();
        tally.reward(&episode(false, 0.0), &id(), 1.0, Entry::In);
        assert_eq!(tally.gain(), Gain { n_with: 0, n_without: 0, delta: None, interval: None });
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(1.0, 12.706), (4.0, 2.776), (6.0, 2.447), (30.0, 2.042)] {
            assert!((student_975(freedom) - expected).abs() < 0.01 * expected, "{freedom}");
        }
    }
}
