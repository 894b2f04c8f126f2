//! Voxel values into grey levels.

use ndarray::ArrayView2;

use super::Window;

/// The values that become black and white, and the exponent between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GreyScale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) gamma: f64,
}

impl GreyScale {
    /// The scale of `window` for one slice. Percentiles are those of the slice's finite values.
    pub(super) fn of(window: Window, gamma: f32, slice: ArrayView2<'_, f32>) -> Self {
        let gamma = f64::from(gamma);
        match window {
            Window::Fixed { center_hu, width_hu } => {
                let (center, half) = (f64::from(center_hu), f64::from(width_hu) / 2.0);
                Self { low: center - half, high: center + half, gamma }
            }
            Window::Percentile { low, high } => {
                let mut finite: Vec<f32> =
                    slice.iter().copied().filter(|v| v.is_finite()).collect();
                finite.sort_by(f32::total_cmp);
                match (percentile(&finite, low), percentile(&finite, high)) {
                    (Some(a), Some(b)) if a < b => Self { low: a, high: b, gamma },
                    _ => Self::between_extremes(&finite, gamma),
                }
            }
        }
    }

    /// For slices most of whose values are one: from the lowest to the highest.
    fn between_extremes(sorted: &[f32], gamma: f64) -> Self {
        let ends = sorted.first().zip(sorted.last());
        let (low, high) = ends.map_or((0.0, 0.0), |(a, b)| (f64::from(*a), f64::from(*b)));
        Self { low, high, gamma }
    }

    /// `trunc(255 * ((clip(value) - low) / (high - low)) ^ gamma)`; black where low equals high.
    pub(super) fn grey(&self, value: f32) -> u8 {
        let value = f64::from(value);
        if !value.is_finite() || self.low >= self.high {
            return 0;
        }
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        let share = if self.gamma == 1.0 { share } else { share.powf(self.gamma) };
        (share * 255.0) as u8
    }
}

/// numpy's default ("linear") percentile of ascending values, in double precision.
fn percentile(sorted: &[f32], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = last as f64 * (percent / 100.0).clamp(0.0, 1.0);
    let below = (at.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let (a, b, t) = (f64::from(sorted[below]), f64::from(sorted[above]), at - below as f64);
    Some(if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([1, 2, 4, 8, 16], q) of numpy 2.4
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (percent, expected) in
            [(0.0, 1.0), (0.5, 1.02), (30.0, 2.4), (99.5, 15.84), (100.0, 16.0)]
        {
            let found = percentile(&sorted, percent).expect("there are values");
            assert!((found - expected).abs() < 1e-12, "{percent}: {found}");
        }
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn fixed_windows_clip_and_truncate() {
        let slice = arr2(&[[0.0_f32]]);
        let window = Window::Fixed { center_hu: 50.0, width_hu: 400.0 };
        let scale = GreyScale::of(window, 1.0, slice.view());
        let cases =
            [(-1000.0, 0), (-150.0, 0), (50.0, 127), (249.9, 254), (250.0, 255), (3000.0, 255)];
        for (value, expected) in cases {
            assert_eq!(scale.grey(value), expected, "{value}");
        }
        assert_eq!(scale.grey(f32::NAN), 0);
    }

    #[test]
    fn constant_slices_are_black_and_sparse_ones_keep_their_extremes() {
        let window = Window::Percentile { low: 0.5, high: 99.5 };
        let constant = arr2(&[[7.0_f32; 4]; 4]);
        assert_eq!(GreyScale::of(window, 1.4, constant.view()).grey(7.0), 0);
        let mut sparse = ndarray::Array2::zeros((40, 40));
        sparse[[3, 4]] = 2.0;
        assert_eq!(GreyScale::of(window, 1.4, sparse.view()).grey(2.0), 255);
    }

    #[test]
    fn gamma_darkens_the_middle() {
        let slice = arr2(&[[0.0_f32]]);
        let window = Window::Fixed { center_hu: 0.5, width_hu: 1.0 };
        // int(0.5 ** 1.4 * 255)
        assert_eq!(GreyScale::of(window, 1.4, slice.view()).grey(0.5), 96);
    }
}
