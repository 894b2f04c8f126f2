//! Trilinear interpolation between two grids that share their axes and their middle.
//!
//! The recipes resample on grids centred on the crop and let the border's value reach outwards
//! without end, because the coarse grid may be a little shorter than the fine one. That rule
//! differs from [`volume::resample`](crate::volume::resample), which goes through patient space and
//! knows an outside.

use ndarray::ArrayView1;

/// Two neighbours on the source axis and the weight of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tap {
    pub low: usize,
    pub high: usize,
    pub weight: f32,
}

/// Taps of `target_count` points that are `step` source voxels apart, centred on the source.
pub(super) fn centred(target_count: usize, step: f64, source_count: usize) -> Vec<Tap> {
    let last = (source_count - 1) as f64;
    let middle = (target_count as f64 - 1.0) / 2.0;
    (0..target_count)
        .map(|index| {
            let at = ((index as f64 - middle) * step + last / 2.0).clamp(0.0, last);
            let low = (at.floor() as usize).min(source_count.saturating_sub(2));
            let high = (low + 1).min(source_count - 1);
            Tap { low, high, weight: (at - low as f64) as f32 }
        })
        .collect()
}

/// How many voxels cover an axis at another spacing: rounded half up, at least one.
pub(super) fn resampled_count(count: usize, spacing_mm: f64, new_spacing_mm: f64) -> usize {
    ((count as f64 * spacing_mm / new_spacing_mm + 0.5).floor() as usize).max(1)
}

/// Interpolates a line into `out`.
pub(super) fn line(values: ArrayView1<'_, f32>, taps: &[Tap], out: &mut [f32]) {
    for (out, tap) in out.iter_mut().zip(taps) {
        *out = values[tap.low] * (1.0 - tap.weight) + values[tap.high] * tap.weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_spacing_gives_the_same_values() {
        for count in [1, 2, 7] {
            for (index, tap) in centred(count, 1.0, count).iter().enumerate() {
                let at = tap.low as f32 * (1.0 - tap.weight) + tap.high as f32 * tap.weight;
                assert_eq!(at, index as f32);
            }
        }
    }

    #[test]
    fn coarse_points_share_the_middle_of_the_fine_ones() {
        // 10 voxels of 1 mm at 3 mm: 3 voxels whose middle one lies between the 5th and 6th.
        assert_eq!(resampled_count(10, 1.0, 3.0), 3);
        let at: Vec<f32> = centred(3, 3.0, 10).iter().map(|t| t.low as f32 + t.weight).collect();
        assert_eq!(at, [1.5, 4.5, 7.5]);
        // And back: the outermost fine points take the border's value.
        let back = centred(10, 1.0 / 3.0, 3);
        assert_eq!((back[0].low, back[0].weight), (0, 0.0));
        assert_eq!((back[9].high, back[9].weight), (2, 1.0));
    }

    #[test]
    fn counts_round_half_up_and_never_vanish() {
        for (count, spacing, new, expected) in
            [(5, 1.0, 2.0, 3), (4, 1.0, 3.0, 1), (1, 0.5, 3.0, 1), (7, 1.5, 1.0, 11)]
        {
            assert_eq!(resampled_count(count, spacing, new), expected);
        }
    }
}
