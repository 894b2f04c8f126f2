//! From voxel values to the model's input.

use std::ops::Range;

use rayon::prelude::*;

use super::SegmentError;
use super::prepare::Prepared;
use crate::runtime::manifest::{Normalization, VolumePreprocessing};
use crate::threads::Cancel;

/// Clips, then `(x - mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f32,
    high: f32,
    mean: f32,
    std: f32,
}

impl Scale {
    /// Leaves every value as it is.
    pub fn unchanged() -> Self {
        Self { low: f32::NEG_INFINITY, high: f32::INFINITY, mean: 0.0, std: 1.0 }
    }

    /// The scaled value.
    pub fn apply(&self, value: f32) -> f32 {
        (value.clamp(self.low, self.high) - self.mean) / self.std
    }

    /// The scale that a manifest's rule gives this image.
    ///
    /// # Errors
    /// When stopped.
    pub fn of(
        prepared: &Prepared<'_>,
        settings: &VolumePreprocessing,
        modality: &str,
        cancel: &Cancel,
    ) -> Result<Self, SegmentError> {
        let rules = &settings.normalization;
        // `tiles::check_settings` made sure of the default.
        let rule = rules.get(modality).or_else(|| rules.get("default")).copied();
        let values = Values { prepared, cancel };
        let unchanged = Self::unchanged();
        match rule.unwrap_or(Normalization::Zscore) {
            Normalization::Fixed { clip_low, clip_high, mean, std } => {
                Ok(Self { low: clip_low, high: clip_high, mean, std })
            }
            Normalization::Zscore => values.standardised(unchanged),
            Normalization::ClippedZscore { clip_low, clip_high } => {
                values.standardised(Self { low: clip_low, high: clip_high, ..unchanged })
            }
            Normalization::PercentileZscore { low, high } => {
                let [low, high] = values.percentiles([low, high])?;
                values.standardised(Self { low, high, ..unchanged })
            }
            Normalization::PercentileUnit { low, high, scale } => {
                let [low, high] = values.percentiles([low, high])?;
                Ok(Self { low, high, mean: low, std: (high - low).max(1e-8) / scale })
            }
        }
    }
}

/// The unpadded image's values, a slice at a time.
struct Values<'p, 'v> {
    prepared: &'p Prepared<'v>,
    cancel: &'p Cancel,
}

impl Values<'_, '_> {
    fn count(&self) -> usize {
        self.prepared.inner_shape.iter().product()
    }

    /// Adds up per slice, then over slices in order: the same on any number of threads.
    fn sum(&self, of: impl Fn(f32) -> f64 + Sync) -> Result<f64, SegmentError> {
        self.cancel.check()?;
        let slices: Vec<f64> = (0..self.prepared.inner_shape[0])
            .into_par_iter()
            .map(|index| self.prepared.raw_slice(index).iter().map(|value| of(*value)).sum())
            .collect();
        Ok(slices.into_iter().sum())
    }

    /// Mean and population standard deviation of the clipped values. Sums are double precision;
    /// NumPy's pairwise single-precision ones agree to 1e-6.
    fn standardised(&self, clip: Scale) -> Result<Scale, SegmentError> {
        let count = self.count() as f64;
        let clipped = |value: f32| f64::from(value.clamp(clip.low, clip.high));
        let mean = self.sum(clipped)? / count;
        let variance = self.sum(|value| (clipped(value) - mean).powi(2))? / count;
        Ok(Scale { mean: mean as f32, std: variance.sqrt().max(1e-8) as f32, ..clip })
    }

    /// NumPy's percentiles (linear between ranks), exact, in two passes and constant memory: a
    /// histogram of the values' upper halves, then one of the lower halves where a rank falls.
    fn percentiles<const N: usize>(&self, percents: [f64; N]) -> Result<[f32; N], SegmentError> {
        let last = self.count() - 1;
        let upper = self.histogram(|key| Some(key >> 16))?;
        let mut found = [0.0; N];
        for (found, percent) in found.iter_mut().zip(percents) {
            let at = last as f64 * (percent / 100.0).clamp(0.0, 1.0);
            let rank = at.floor() as usize;
            let below = f64::from(self.ranked(rank, &upper)?);
            let above = f64::from(self.ranked((rank + 1).min(last), &upper)?);
            *found = (below + (above - below) * (at - rank as f64)) as f32;
        }
        Ok(found)
    }

    /// The value of a rank, counted from 0.
    fn ranked(&self, rank: usize, upper: &[u64]) -> Result<f32, SegmentError> {
        let (half, within) = bucket_of(rank as u64, upper);
        let lower = self.histogram(|key| (key >> 16 == half).then_some(key & 0xffff))?;
        let (rest, _) = bucket_of(within, &lower);
        Ok(value_of(half << 16 | rest))
    }

    fn histogram(
        &self,
        bucket: impl Fn(u32) -> Option<u32> + Sync,
    ) -> Result<Vec<u64>, SegmentError> {
        self.cancel.check()?;
        let of_slices = |slices: Range<usize>| {
            let mut counts = vec![0_u64; 1 << 16];
            for index in slices {
                for value in self.prepared.raw_slice(index) {
                    if let Some(bucket) = bucket(key_of(value)) {
                        counts[bucket as usize] += 1;
                    }
                }
            }
            counts
        };
        let depth = self.prepared.inner_shape[0];
        let step = depth.div_ceil(rayon::current_num_threads()).max(1);
        let parts: Vec<Vec<u64>> = (0..depth)
            .into_par_iter()
            .step_by(step)
            .map(|first| of_slices(first..(first + step).min(depth)))
            .collect();
        let add = |mut total: Vec<u64>, part: Vec<u64>| {
            total.iter_mut().zip(part).for_each(|(total, count)| *total += count);
            total
        };
        Ok(parts.into_iter().reduce(add).unwrap_or_default())
    }
}

/// The bucket that holds a rank, and the rank within it.
fn bucket_of(rank: u64, counts: &[u64]) -> (u32, u64) {
    let mut before = 0;
    for (bucket, count) in counts.iter().enumerate() {
        if rank < before + count {
            return (bucket as u32, rank - before);
        }
        before += count;
    }
    (counts.len().saturating_sub(1) as u32, 0)
}

/// A number that sorts as the float does.
fn key_of(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::super::prepare::tests::{ramp, settings};
    use super::*;

    fn scale(values: &[f32], rule: Normalization) -> Scale {
        let mut volume = ramp([values.len(), 1, 1]);
        volume.voxels.iter_mut().zip(values).for_each(|(voxel, value)| *voxel = *value);
        let settings = settings([1, 1, 1], rule);
        let prepared = Prepared::new(&volume, &settings, &Cancel::new()).expect("runs");
        Scale::of(&prepared, &settings, "MR", &Cancel::new()).expect("runs")
    }

    fn close(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} {expected}");
    }

    #[test]
    fn standardises_by_the_population_and_survives_a_constant_image() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let found = scale(&values, Normalization::Zscore);
        for (value, expected) in
            values.into_iter().zip([-1.069_045, -0.534_522_5, 0.0, 1.603_567_5])
        {
            close(found.apply(value), expected);
        }
        assert_eq!(scale(&[5.0; 4], Normalization::Zscore).apply(5.0), 0.0);
        // Clipped first: -1, -1, 0, 2 have mean 0 and variance 1.5.
        let rule = Normalization::ClippedZscore { clip_low: -1.0, clip_high: 2.0 };
        let found = scale(&[-7.0, -1.0, 0.0, 9.0], rule);
        close(found.apply(9.0), 2.0 / 1.5_f32.sqrt());
    }

    #[test]
    fn fixed_numbers_are_taken_as_they_are() {
        let rule =
            Normalization::Fixed { clip_low: -1000.0, clip_high: 1000.0, mean: 0.0, std: 250.0 };
        let found = scale(&[-2000.0, 500.0], rule);
        assert_eq!((found.apply(-2000.0), found.apply(500.0)), (-4.0, 2.0));
    }

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([16, -3.5, 4, 8, -1], q) of numpy 2.4
        let values = [16.0, -3.5, 4.0, 8.0, -1.0];
        for (low, high, expected) in
            [(0.0, 100.0, [-3.5, 16.0]), (10.0, 90.0, [-2.5, 12.8]), (37.5, 50.0, [1.5, 4.0])]
        {
            let found = scale(&values, Normalization::PercentileUnit { low, high, scale: 255.0 });
            close(found.low, expected[0]);
            close(found.high, expected[1]);
            close(found.apply(100.0), 255.0);
            assert_eq!(found.apply(-100.0), 0.0);
        }
        let rule = Normalization::PercentileZscore { low: 25.0, high: 75.0 };
        // Clipped to -1..8: mean 3.6, variance 16.24.
        close(scale(&values, rule).apply(8.0), (8.0 - 3.6) / 16.24_f32.sqrt());
    }

    #[test]
    fn keys_sort_as_values_do() {
        let values = [f32::MIN, -2.5, -0.0, 0.0, 1e-40, 3.0, f32::MAX];
        assert!(values.windows(2).all(|pair| key_of(pair[0]) < key_of(pair[1])));
        assert!(values.iter().all(|value| value_of(key_of(*value)).to_bits() == value.to_bits()));
    }
}
