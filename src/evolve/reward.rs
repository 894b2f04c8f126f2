//! The reward of a rollout: `R = w_d·Dice + w_s·stability + w_f·format` (the paper's composite).

use serde::{Deserialize, Serialize};

use super::executor::Rollout;

/// Weights of the composite reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Of Dice with the reference; a right refusal counts 1, a wrong one 0.
    pub dice: f64,
    /// Of agreement over the rephrasings Ω(q).
    pub stability: f64,
    /// Of the trace's format.
    pub format: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { dice: 0.8, stability: 0.1, format: 0.1 }
    }
}

impl Weights {
    /// The rewards of all rollouts of one group, phrasing by phrasing.
    ///
    /// Stability of a rollout is the share of the other phrasings' rollouts that executed the same
    /// answer, so a phrasing that alone goes astray loses; with one phrasing it is the agreement
    /// among its own rollouts. All parts are 0 to 1, and so is the reward when the weights sum to 1.
    pub fn of_group(&self, phrasings: &[&[Rollout]]) -> Vec<Vec<f64>> {
        let rewards = |(index, rollouts): (usize, &&[Rollout])| {
            let others = |rollout: &Rollout| -> f64 {
                let of = phrasings.iter().enumerate();
                let rest = of.filter(|(other, _)| *other != index || phrasings.len() == 1);
                agreement(rollout, rest.flat_map(|(_, rollouts)| rollouts.iter()))
            };
            let reward = |rollout: &Rollout| {
                self.dice * rollout.dice
                    + self.stability * others(rollout)
                    + self.format * f64::from(u8::from(rollout.format_ok))
            };
            rollouts.iter().map(reward).collect()
        };
        phrasings.iter().enumerate().map(rewards).collect()
    }
}

/// The share of rollouts with this answer; 1 when there is none to disagree.
fn agreement<'a>(rollout: &Rollout, others: impl Iterator<Item = &'a Rollout>) -> f64 {
    let (mut same, mut count) = (0_usize, 0_usize);
    for other in others {
        count += 1;
        same += usize::from(other.answer == rollout.answer);
    }
    if count == 0 { 1.0 } else { same as f64 / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::rollout;

    #[test]
    fn a_phrasing_that_goes_astray_alone_loses_its_stability() {
        let weights = Weights::default();
        let right = [rollout("Segment the liver.", 0.9), rollout("Segment the liver.", 0.9)];
        let astray = [rollout("Segment the spleen.", 0.0), rollout("Segment the liver.", 0.9)];
        let rewards = weights.of_group(&[&right, &right, &astray]);
        // The others' rollouts: two right, one right, one astray.
        assert!((rewards[0][0] - (0.72 + 0.1 * 0.75 + 0.1)).abs() < 1e-12, "{rewards:?}");
        assert!((rewards[2][0] - 0.1).abs() < 1e-12);
        assert!((rewards[2][1] - (0.72 + 0.1 + 0.1)).abs() < 1e-12);
        let mut torn = rollout("Segment the liver.", 0.5);
        torn.format_ok = false;
        assert!((weights.of_group(&[&[torn]])[0][0] - (0.4 + 0.1)).abs() < 1e-12);
    }
}
