//! Bootstrap intervals that respect which rows belong to one case.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::random::Random;

/// A statistic with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic of the data.
    pub value: f64,
    /// 2.5th percentile of the resampled statistic.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Seed of the resampling.
    pub seed: u64,
    /// How often it is resampled.
    pub resamples: usize,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { seed: 0, resamples: 1000 }
    }
}

impl Bootstrap {
    /// The percentile interval of a statistic (B. Efron, 1979), drawing whole clusters.
    ///
    /// Items with one key are drawn together: wordings of one scan are not independent, and an
    /// interval over rows alone would be far too narrow. With one cluster the items themselves
    /// are drawn. None when the statistic has no value on the data.
    pub fn interval<T: Clone>(
        &self,
        items: &[(String, T)],
        statistic: impl Fn(&[T]) -> Option<f64>,
    ) -> Option<Interval> {
        let all: Vec<T> = items.iter().map(|(_, item)| item.clone()).collect();
        let value = statistic(&all)?;
        let mut clusters: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
        for (key, item) in items {
            clusters.entry(key).or_default().push(item);
        }
        let mut clusters: Vec<Vec<&T>> = clusters.into_values().collect();
        if let [only] = &clusters[..] {
            clusters = only.iter().map(|item| vec![*item]).collect();
        }
        let mut random = Random::of(self.seed, &["bootstrap"]);
        let mut values: Vec<f64> = (0..self.resamples)
            .filter_map(|_| {
                let drawn: Vec<T> = (0..clusters.len())
                    .flat_map(|_| random.pick(&clusters).iter().map(|item| (*item).clone()))
                    .collect();
                statistic(&drawn)
            })
            .collect();
        values.sort_by(f64::total_cmp);
        let low = percentile(&values, 0.025).unwrap_or(value);
        let high = percentile(&values, 0.975).unwrap_or(value);
        Some(Interval { value, low, high })
    }

    /// The interval of a mean.
    pub fn mean(&self, items: &[(String, f64)]) -> Option<Interval> {
        self.interval(items, |values| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        })
    }
}

/// Linear interpolation between the closest ranks of sorted values.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (below, rest) = (at.floor() as usize, at.fract());
    let above = sorted[(below + 1).min(sorted.len() - 1)];
    Some(sorted[below] * (1.0 - rest) + above * rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(cluster_count: usize, each: usize) -> Vec<(String, f64)> {
        let mut random = Random::new(5);
        (0..cluster_count)
            .flat_map(|cluster| {
                let level = random.unit();
                (0..each).map(move |_| (format!("case {cluster}"), level)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn clusters_make_the_interval_as_wide_as_the_cases_allow() {
        let bootstrap = Bootstrap::default();
        let many = bootstrap.mean(&items(40, 1)).expect("values");
        let repeated = bootstrap.mean(&items(40, 25)).expect("values");
        assert!((many.value - repeated.value).abs() < 1e-9);
        assert!(many.low < many.value && many.value < many.high);
        // Repeating each case's value brings no new information.
        assert!((many.low - repeated.low).abs() < 1e-9 && (many.high - repeated.high).abs() < 1e-9);
        // Standard error of a uniform's mean over 40 draws is 0.0456: about 0.18 wide.
        assert!((0.12..0.25).contains(&(many.high - many.low)), "{many:?}");
    }

    #[test]
    fn same_seed_same_interval_and_one_cluster_draws_its_items() {
        let one: Vec<_> = (0..30).map(|n| ("case".to_owned(), f64::from(n))).collect();
        let interval = Bootstrap { seed: 1, resamples: 200 }.mean(&one).expect("values");
        assert_eq!(Some(interval), Bootstrap { seed: 1, resamples: 200 }.mean(&one));
        assert_ne!(Some(interval), Bootstrap { seed: 2, resamples: 200 }.mean(&one));
        assert!(interval.low < 14.5 && interval.high > 14.5);
        assert_eq!(Bootstrap::default().mean(&[]), None);
    }
}
