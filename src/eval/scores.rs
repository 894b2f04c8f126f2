//! How good masks are: Dice, side errors, groups of rephrasings, intervals.

mod interval;
mod side;

use serde::{Deserialize, Serialize};

use super::{EvalError, PackedMask};

pub use interval::{Bootstrap, Interval};
pub use side::{Middle, SideJudge, swapped_name};

/// Dice's coefficient, 0 to 1: twice the overlap over the sum of both.
///
/// Two empty masks agree (1); an empty mask and one that is not do not (0).
///
/// # Errors
/// When the shapes differ.
pub fn dice(mask: &PackedMask, reference: &PackedMask) -> Result<f64, EvalError> {
    let overlap = mask.overlap(reference)?;
    let sum = mask.voxel_count() + reference.voxel_count();
    Ok(if sum == 0 { 1.0 } else { 2.0 * overlap as f64 / sum as f64 })
}

/// Figures over the wordings Ω(q) of one request, or over any other set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// The lowest: worst-case Dice over Ω(q).
    pub worst: f64,
    /// Standard deviation over all of them (divided by their number, as Ω(q) is not a sample).
    pub std: f64,
}

impl Spread {
    /// Figures of values; none without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        let worst = values.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Self { count, mean, worst, std: variance.sqrt() })
    }
}

/// A share with its numerator and denominator, for what is right or wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many are so.
    pub count: usize,
    /// Of how many.
    pub of: usize,
}

impl Share {
    /// Counts what meets a condition.
    pub fn of<T>(items: impl IntoIterator<Item = T>, condition: impl Fn(&T) -> bool) -> Self {
        items.into_iter().fold(Self::default(), |share, item| Self {
            count: share.count + usize::from(condition(&item)),
            of: share.of + 1,
        })
    }

    /// The share as a number; none of nothing.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn row(inside: &[usize]) -> PackedMask {
        PackedMask::of(&Array3::from_shape_fn([1, 1, 70], |(_, _, x)| inside.contains(&x)))
    }

    #[test]
    fn dice_counts_overlap_and_knows_empty_masks() {
        let check = |mask: &[usize], reference: &[usize], expected: f64| {
            let found = dice(&row(mask), &row(reference)).expect("one shape");
            assert!((found - expected).abs() < 1e-12, "{mask:?} {reference:?}: {found}");
        };
        check(&[1, 2, 3], &[1, 2, 3], 1.0);
        check(&[1, 2, 69], &[2, 69, 68, 67], 4.0 / 7.0);
        check(&[1], &[2], 0.0);
        check(&[], &[2], 0.0);
        check(&[], &[], 1.0);
    }

    #[test]
    fn spread_is_over_all_wordings() {
        let spread = Spread::of(&[0.2, 0.6, 0.7]).expect("three values");
        assert_eq!((spread.count, spread.worst), (3, 0.2));
        assert!((spread.mean - 0.5).abs() < 1e-12);
        assert!((spread.std - (0.14_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.4]).map(|s| s.std), Some(0.0));
    }

    #[test]
    fn shares_count() {
        let share = Share::of([1, 2, 3, 4], |n| n % 2 == 0);
        assert_eq!((share, share.value()), (Share { count: 2, of: 4 }, Some(0.5)));
        assert_eq!(Share::default().value(), None);
    }
}
