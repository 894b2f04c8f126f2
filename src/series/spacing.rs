//! How evenly the frames of a stack lie along its normal.

use crate::geometry::{cross, dot, norm};

/// A gap may differ from its neighbours by this share of itself (or by [`EVEN_MM`]) and still
/// count as even; positions may leave an even grid by [`DRIFT_SHARE`] of a gap.
const EVEN_SHARE: f64 = 0.02;
const EVEN_MM: f64 = 0.02;
const DRIFT_SHARE: f64 = 0.1;
/// A gap this close to a whole number of typical gaps counts as missing slices.
const MULTIPLE_SHARE: f64 = 0.05;

/// How the slices of a stack follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SliceSpacing {
    /// One step throughout.
    Even {
        /// The step along the normal, in millimetres.
        step_mm: f64,
    },
    /// One step, with slices left out.
    Missing {
        /// The step along the normal, in millimetres.
        step_mm: f64,
        /// How many slices an even grid has that the stack has not.
        missing_count: usize,
    },
    /// Steps of several lengths.
    Uneven {
        /// The shortest step, in millimetres.
        min_mm: f64,
        /// The longest step, in millimetres.
        max_mm: f64,
        /// The step of the even grid that serves best (the lower quartile), in millimetres.
        step_mm: f64,
    },
}

impl SliceSpacing {
    /// Judges ascending positions along the normal; at least two.
    pub(super) fn of(positions_mm: &[f64]) -> Self {
        let mut gaps = gaps_of(positions_mm);
        let span: f64 = gaps.iter().sum();
        gaps.sort_by(f64::total_cmp);
        let (min_mm, max_mm) = (gaps[0], gaps[gaps.len() - 1]);
        let even_step = span / gaps.len() as f64;
        let tolerance = (EVEN_SHARE * even_step).max(EVEN_MM);
        if max_mm - min_mm <= 2.0 * tolerance
            && drift(positions_mm, even_step) <= DRIFT_SHARE * even_step
        {
            return Self::Even { step_mm: even_step };
        }
        let typical = gaps[(gaps.len() - 1) / 2];
        let multiples: Vec<f64> = gaps.iter().map(|gap| (gap / typical).round()).collect();
        let whole = gaps.iter().zip(&multiples).all(|(gap, multiple)| {
            *multiple >= 1.0 && (gap - multiple * typical).abs() <= MULTIPLE_SHARE * typical
        });
        let steps: f64 = multiples.iter().sum();
        if whole && steps > gaps.len() as f64 {
            let missing_count = steps as usize - gaps.len();
            return Self::Missing { step_mm: span / steps, missing_count };
        }
        Self::Uneven { min_mm, max_mm, step_mm: gaps[(gaps.len() - 1) / 4] }
    }

    /// The step of the even grid, in millimetres.
    pub fn step_mm(&self) -> f64 {
        match self {
            Self::Even { step_mm }
            | Self::Missing { step_mm, .. }
            | Self::Uneven { step_mm, .. } => *step_mm,
        }
    }
}

/// Steps between neighbours.
pub(super) fn gaps_of(positions_mm: &[f64]) -> Vec<f64> {
    positions_mm.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn drift(positions_mm: &[f64], step: f64) -> f64 {
    let first = positions_mm[0];
    let away = |(index, at): (usize, &f64)| (at - first - step * index as f64).abs();
    positions_mm.iter().enumerate().map(away).fold(0.0, f64::max)
}

/// The unit normal of a plane: row direction × column direction.
pub(super) fn normal_of(orientation: [[f64; 3]; 2]) -> [f64; 3] {
    let normal = cross(orientation[0], orientation[1]);
    normal.map(|v| v / norm(normal))
}

/// How far the positions leave the straight line from the first to the last, measured within the
/// slice plane, in millimetres.
pub(super) fn crookedness_mm(positions: &[[f64; 3]], normal: [f64; 3]) -> f64 {
    let (first, last) = (positions[0], positions[positions.len() - 1]);
    let line: [f64; 3] = std::array::from_fn(|i| last[i] - first[i]);
    let along = dot(line, normal);
    let away = |at: &[f64; 3]| {
        let from_first: [f64; 3] = std::array::from_fn(|i| at[i] - first[i]);
        let share = dot(from_first, normal) / along;
        norm(std::array::from_fn(|i| from_first[i] - share * line[i]))
    };
    positions.iter().map(away).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_spacing() {
        let check = |positions: &[f64], expected: SliceSpacing| {
            assert_eq!(SliceSpacing::of(positions), expected, "{positions:?}");
        };
        check(&[0.0, 2.0, 4.0, 6.0], SliceSpacing::Even { step_mm: 2.0 });
        check(&[5.0, 8.0], SliceSpacing::Even { step_mm: 3.0 });
        check(&[0.0, 2.0, 6.0, 8.0], SliceSpacing::Missing { step_mm: 2.0, missing_count: 1 });
        check(&[0.0, 5.0, 10.0, 20.0], SliceSpacing::Missing { step_mm: 5.0, missing_count: 1 });
        check(
            &[0.0, 4.0, 8.0, 9.1, 16.1],
            SliceSpacing::Uneven {
                min_mm: 8.0_f64.mul_add(-1.0, 9.1),
                max_mm: 16.1 - 9.1,
                step_mm: 8.0_f64.mul_add(-1.0, 9.1),
            },
        );
    }

    #[test]
    fn small_errors_must_not_add_up() {
        // 1 % too long each time: after 40 slices the last lies 0.4 slices off the early grid.
        let mut positions: Vec<f64> = (0..40).map(f64::from).collect();
        positions.extend((1..=40).map(|i| 39.0 + 1.018 * f64::from(i)));
        assert!(matches!(SliceSpacing::of(&positions), SliceSpacing::Uneven { .. }));
    }

    #[test]
    fn a_leaning_stack_is_straight_and_a_bent_one_is_not() {
        let normal = [0.0, 0.0, 1.0];
        assert!(crookedness_mm(&[[0.0; 3], [0.0, 1.0, 2.0], [0.0, 3.0, 6.0]], normal) < 1e-12);
        let bent = crookedness_mm(&[[0.0; 3], [0.0, 2.0, 2.0], [0.0, 2.0, 4.0]], normal);
        assert!((bent - 1.0).abs() < 1e-12);
    }
}
