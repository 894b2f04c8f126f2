//! The held-out gate: a candidate becomes a round only when it is no worse where it matters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::scores::{Bootstrap, Interval, Spread};

/// What the gate asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GateSettings {
    /// λ of `J = E[Dice] − λ·Var[Dice]`.
    pub variance_weight: f64,
    /// How much J must rise at least.
    pub objective_gain_min: f64,
    /// Resamples of the bootstrap intervals.
    pub resamples: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { variance_weight: 1.0, objective_gain_min: 1e-4, resamples: 1000 }
    }
}

/// One held-out request under the current bank and under the candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pair {
    /// Index of the request in the material.
    pub request: usize,
    /// Its patient.
    pub patient: String,
    /// Its group Ω(q).
    pub group: String,
    /// Dice with the current bank.
    pub before: f64,
    /// Dice with the candidate.
    pub after: f64,
    /// Skills offered by the current bank.
    pub offered_before: Vec<String>,
    /// Skills offered by the candidate.
    pub offered_after: Vec<String>,
}

/// Figures of one bank on the held-out groups.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Standing {
    /// Mean over groups of mean Dice over Ω(q).
    pub mean: f64,
    /// Mean over groups of the lowest Dice over Ω(q).
    pub worst: f64,
    /// Mean over groups of the standard deviation over Ω(q).
    pub spread: f64,
    /// `J`: mean over groups of `E[Dice] − λ·Var[Dice]` over Ω(q).
    pub objective: f64,
}

/// One held-out group before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupChange {
    /// Its name.
    pub group: String,
    /// Its patient.
    pub patient: String,
    /// How many phrasings it has.
    pub phrasings: usize,
    /// Mean Dice before.
    pub mean_before: f64,
    /// Mean Dice after.
    pub mean_after: f64,
    /// Worst-case Dice before.
    pub worst_before: f64,
    /// Worst-case Dice after.
    pub worst_after: f64,
    /// Standard deviation before.
    pub std_before: f64,
    /// Standard deviation after.
    pub std_after: f64,
}

/// A paired difference with its 95 % interval over patients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// After minus before.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<Interval> for Difference {
    fn from(interval: Interval) -> Self {
        Self { value: interval.value, low: interval.low, high: interval.high }
    }
}

/// What the gate says, with everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// All three conditions hold.
    pub passed: bool,
    /// One sentence per condition that does not hold.
    pub failures: Vec<String>,
    /// The current bank.
    pub before: Standing,
    /// The candidate.
    pub after: Standing,
    /// Paired difference of mean Dice.
    pub mean_difference: Difference,
    /// Paired difference of worst-case Dice.
    pub worst_difference: Difference,
    /// Paired difference of the spread; negative is better.
    pub spread_difference: Difference,
    /// Paired difference of J.
    pub objective_difference: Difference,
    /// Requests whose Dice changed.
    pub changed_requests: usize,
    /// All held-out requests.
    pub requests: usize,
    /// Group by group.
    pub groups: Vec<GroupChange>,
}

/// Rounding of sums must not fail a gate.
const EQUAL: f64 = 1e-9;

/// Judges a candidate on paired held-out requests; none when there are no pairs.
///
/// Figures are means over groups, so a request with many phrasings does not count more. The three
/// conditions: mean Dice not lower, worst-case Dice not lower, J raised. Intervals resample patients,
/// or groups when there is one patient.
pub fn judge(pairs: &[Pair], settings: &GateSettings, seed: u64) -> Option<Verdict> {
    let groups = changes(pairs)?;
    let figures: Vec<(String, [Standing; 2])> = groups
        .iter()
        .map(|change| (change.patient.clone(), standings(change, settings.variance_weight)))
        .collect();
    let before = mean_of(figures.iter().map(|(_, [before, _])| before));
    let after = mean_of(figures.iter().map(|(_, [_, after])| after));
    let bootstrap = Bootstrap { seed, resamples: settings.resamples };
    let difference = |of: fn(&Standing) -> f64| -> Difference {
        let items: Vec<(String, f64)> = figures
            .iter()
            .map(|(patient, [before, after])| (patient.clone(), of(after) - of(before)))
            .collect();
        let nothing = Interval { value: 0.0, low: 0.0, high: 0.0 };
        bootstrap.mean(&items).unwrap_or(nothing).into()
    };
    let mut failures = Vec::new();
    let mut require = |holds: bool, sentence: String| {
        if !holds {
            failures.push(sentence);
        }
    };
    require(
        after.mean >= before.mean - EQUAL,
        format!("mean Dice falls from {:.4} to {:.4}", before.mean, after.mean),
    );
    require(
        after.worst >= before.worst - EQUAL,
        format!("worst-case Dice falls from {:.4} to {:.4}", before.worst, after.worst),
    );
    let gain = after.objective - before.objective;
    require(
        gain >= settings.objective_gain_min.max(EQUAL),
        format!(
            "the objective rises by {gain:.5}, less than {}",
            settings.objective_gain_min.max(EQUAL)
        ),
    );
    Some(Verdict {
        passed: failures.is_empty(),
        failures,
        before,
        after,
        mean_difference: difference(|standing| standing.mean),
        worst_difference: difference(|standing| standing.worst),
        spread_difference: difference(|standing| standing.spread),
        objective_difference: difference(|standing| standing.objective),
        changed_requests: pairs.iter().filter(|p| (p.before - p.after).abs() > EQUAL).count(),
        requests: pairs.len(),
        groups,
    })
}

fn changes(pairs: &[Pair]) -> Option<Vec<GroupChange>> {
    let mut by_group: BTreeMap<(&str, &str), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        by_group.entry((&pair.patient, &pair.group)).or_default().push(pair);
    }
    let of = |((patient, group), pairs): ((&str, &str), Vec<&Pair>)| {
        let before: Vec<f64> = pairs.iter().map(|pair| pair.before).collect();
        let after: Vec<f64> = pairs.iter().map(|pair| pair.after).collect();
        let (before, after) = (Spread::of(&before)?, Spread::of(&after)?);
        Some(GroupChange {
            group: group.to_owned(),
            patient: patient.to_owned(),
            phrasings: pairs.len(),
            mean_before: before.mean,
            mean_after: after.mean,
            worst_before: before.worst,
            worst_after: after.worst,
            std_before: before.std,
            std_after: after.std,
        })
    };
    let changes: Option<Vec<GroupChange>> = by_group.into_iter().map(of).collect();
    changes.filter(|changes| !changes.is_empty())
}

fn standings(change: &GroupChange, lambda: f64) -> [Standing; 2] {
    let of = |mean: f64, worst: f64, std: f64| Standing {
        mean,
        worst,
        spread: std,
        objective: mean - lambda * std * std,
    };
    [
        of(change.mean_before, change.worst_before, change.std_before),
        of(change.mean_after, change.worst_after, change.std_after),
    ]
}

fn mean_of<'a>(standings: impl ExactSizeIterator<Item = &'a Standing>) -> Standing {
    let count = standings.len().max(1) as f64;
    let zero = Standing { mean: 0.0, worst: 0.0, spread: 0.0, objective: 0.0 };
    let sum = standings.fold(zero, |sum, one| Standing {
        mean: sum.mean + one.mean,
        worst: sum.worst + one.worst,
        spread: sum.spread + one.spread,
        objective: sum.objective + one.objective,
    });
    Standing {
        mean: sum.mean / count,
        worst: sum.worst / count,
        spread: sum.spread / count,
        objective: sum.objective / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rows: &[(&str, &str, f64, f64)]) -> Vec<Pair> {
        rows.iter()
            .enumerate()
            .map(|(request, &(patient, group, before, after))| Pair {
                request,
                patient: patient.to_owned(),
                group: group.to_owned(),
                before,
                after,
                offered_before: Vec::new(),
                offered_after: Vec::new(),
            })
            .collect()
    }

    #[test]
    fn each_condition_can_fail_alone_and_together_they_pass() {
        let check = |rows: &[(&str, &str, f64, f64)], expected: &[&str]| {
            let verdict = judge(&pairs(rows), &GateSettings::default(), 0).expect("pairs");
            let starts: Vec<String> = verdict
                .failures
                .iter()
                .map(|sentence| sentence.split(' ').take(2).collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(starts, expected, "{verdict:?}");
            assert_eq!(verdict.passed, expected.is_empty());
        };
        // The astray phrasing is repaired: mean and worst case rise, spread falls.
        check(&[("p", "a", 0.8, 0.8), ("p", "a", 0.0, 0.8), ("q", "b", 0.5, 0.5)], &[]);
        // Nothing changes: the objective does not rise.
        check(&[("p", "a", 0.8, 0.8), ("p", "a", 0.0, 0.0)], &["the objective"]);
        // The mean rises by more spread, and the worst case falls.
        check(&[("p", "a", 0.5, 1.0), ("p", "a", 0.5, 0.4)], &["worst-case Dice"]);
        // Less spread at the price of the mean.
        check(&[("p", "a", 1.0, 0.3), ("p", "a", 0.0, 0.3)], &["mean Dice"]);
        // One group gains what another loses in its worst case.
        check(
            &[
                ("p", "a", 0.5, 0.9),
                ("p", "a", 0.5, 0.9),
                ("q", "b", 0.9, 0.8),
                ("q", "b", 0.9, 0.3),
            ],
            &["worst-case Dice", "the objective"],
        );
        assert_eq!(judge(&[], &GateSettings::default(), 0), None);
    }

    #[test]
    fn the_objective_pays_for_variance_with_lambda() {
        let rows = pairs(&[("p", "a", 0.6, 0.9), ("p", "a", 0.6, 0.6)]);
        let judge = |variance_weight| {
            let settings = GateSettings { variance_weight, ..GateSettings::default() };
            judge(&rows, &settings, 0).expect("pairs")
        };
        // Variance of 0.9 and 0.6 is 0.0225.
        assert!((judge(1.0).after.objective - (0.75 - 0.0225)).abs() < 1e-12);
        assert!(judge(1.0).passed);
        assert!(!judge(10.0).passed);
    }

    #[test]
    fn intervals_draw_patients_and_repeat_with_the_seed() {
        let rows: Vec<_> = (0..8)
            .flat_map(|n| {
                let after = 0.5 + f64::from(n) * 0.05;
                let patient = ["a", "b", "c", "d"][n as usize / 2];
                let group = ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8"][n as usize];
                [(patient, group, 0.4, after), (patient, group, 0.4, after)]
            })
            .collect();
        let verdict = |seed| judge(&pairs(&rows), &GateSettings::default(), seed).expect("pairs");
        let first = verdict(1);
        assert_eq!(first, verdict(1));
        let difference = first.mean_difference;
        assert!((difference.value - 0.275).abs() < 1e-9);
        assert!(difference.low > 0.1 && difference.low < 0.275 && difference.high > 0.275);
    }
}
