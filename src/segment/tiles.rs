//! Where patches lie and how their logits are weighted (nnU-Net's sliding window).

use half::f16;
use ndarray::{Array1, Array3};

use super::SegmentError;
use crate::runtime::manifest::{Normalization, PatchFit, SumPrecision, VolumePreprocessing};

/// Weights lie between 0 and this; the middle of a patch has it. As in nnU-Net, where it keeps
/// half-precision sums in range; with single-precision sums the number cancels.
const WEIGHT_MAX: f64 = 10.0;

/// SciPy cuts its Gaussian kernels at this many standard deviations.
const TRUNCATE_SIGMAS: f64 = 4.0;

/// The patches that cover a padded image.
pub(super) struct Tiling {
    /// `[z, y, x]` voxels of a patch.
    pub patch: [usize; 3],
    /// First voxel of each patch, x fastest.
    pub corners: Vec<[usize; 3]>,
    /// Weight of each voxel of a patch, rounded as sums are.
    pub weights: Array3<f32>,
    /// How exactly weighted logits are added up.
    pub sums: SumPrecision,
}

impl Tiling {
    /// Tiles an image that is at least a patch long on each axis.
    pub fn new(shape: [usize; 3], settings: &VolumePreprocessing) -> Self {
        let (patch, sums) = (settings.patch_size, settings.sums);
        if settings.fit == PatchFit::Resize {
            return Self { patch, corners: vec![[0; 3]], weights: Array3::ones(patch), sums };
        }
        let [z, y, x] =
            std::array::from_fn(|axis| starts(shape[axis], patch[axis], settings.tile_step));
        let corners = z
            .iter()
            .flat_map(|&z| y.iter().map(move |&y| (z, y)))
            .flat_map(|(z, y)| x.iter().map(move |&x| [z, y, x]))
            .collect();
        let weights = gaussian(patch, settings.gaussian_sigma_scale, sums);
        Self { patch, corners, weights, sums }
    }

    /// How many patches there are.
    pub fn len(&self) -> usize {
        self.corners.len()
    }
}

/// Refuses settings that would divide by zero or never end.
pub(super) fn check_settings(settings: &VolumePreprocessing) -> Result<(), SegmentError> {
    let refuse = |key, value: String| Err(SegmentError::Setting { key, value });
    if settings.patch_size.contains(&0) {
        return refuse("preprocessing.patch_size", format!("{:?}", settings.patch_size));
    }
    if !(settings.tile_step > 0.0 && settings.tile_step <= 1.0) {
        return refuse("preprocessing.tile_step", settings.tile_step.to_string());
    }
    if !(settings.gaussian_sigma_scale > 0.0 && settings.gaussian_sigma_scale.is_finite()) {
        return refuse(
            "preprocessing.gaussian_sigma_scale",
            settings.gaussian_sigma_scale.to_string(),
        );
    }
    if let Some(spacing) = settings.spacing_mm
        && !spacing.iter().all(|mm| *mm > 0.0 && mm.is_finite())
    {
        return refuse("preprocessing.spacing_mm", format!("{spacing:?}"));
    }
    if !settings.normalization.contains_key("default") {
        return refuse("preprocessing.normalization", "without a default".to_owned());
    }
    if let Some(rule) = settings.normalization.values().find(|rule| !is_usable(rule)) {
        return refuse("preprocessing.normalization", format!("{rule:?}"));
    }
    Ok(())
}

fn is_usable(rule: &Normalization) -> bool {
    match rule {
        Normalization::Fixed { clip_low, clip_high, mean, std } => {
            clip_low <= clip_high && mean.is_finite() && std.is_finite() && *std > 0.0
        }
        Normalization::Zscore => true,
        Normalization::ClippedZscore { clip_low, clip_high } => clip_low <= clip_high,
        Normalization::PercentileZscore { low, high } => are_percentiles(*low, *high),
        Normalization::PercentileUnit { low, high, scale } => {
            are_percentiles(*low, *high) && scale.is_finite() && *scale > 0.0
        }
    }
}

fn are_percentiles(low: f64, high: f64) -> bool {
    0.0 <= low && low < high && high <= 100.0
}

/// How many patches cover an image of `shape`.
pub(super) fn patch_count(shape: [usize; 3], settings: &VolumePreprocessing) -> usize {
    match settings.fit {
        PatchFit::Tile => (0..3)
            .map(|axis| start_count(shape[axis], settings.patch_size[axis], settings.tile_step))
            .product(),
        PatchFit::Resize => 1,
    }
}

/// How many patches cover an axis of `length` voxels.
fn start_count(length: usize, patch: usize, step: f64) -> usize {
    let beyond = length.saturating_sub(patch) as f64;
    (beyond / (patch as f64 * step)).ceil() as usize + 1
}

/// First voxels along one axis: evenly spread, rounded half to even as NumPy does.
fn starts(length: usize, patch: usize, step: f64) -> Vec<usize> {
    let count = start_count(length, patch, step);
    let beyond = length.saturating_sub(patch) as f64;
    let actual = if count > 1 { beyond / (count - 1) as f64 } else { 0.0 };
    (0..count).map(|index| (actual * index as f64).round_ties_even() as usize).collect()
}

/// The response of SciPy's Gaussian filter to a point in the middle (`n / 2`) of a patch, with the
/// maximum at [`WEIGHT_MAX`] and the smallest positive weight where the kernel does not reach.
fn gaussian(patch: [usize; 3], sigma_scale: f64, sums: SumPrecision) -> Array3<f32> {
    let [z, y, x] = patch.map(|count| {
        let sigma = count as f64 * sigma_scale;
        let radius = (TRUNCATE_SIGMAS * sigma + 0.5).floor();
        Array1::from_shape_fn(count, |index| {
            let away = (index as f64 - (count / 2) as f64).abs();
            if away > radius { 0.0 } else { (-0.5 * (away / sigma).powi(2)).exp() }
        })
    });
    let rounded = |weight: f64| match sums {
        SumPrecision::Fp32 => weight as f32,
        SumPrecision::Fp16 => f16::from_f64(weight).to_f32(),
    };
    let weights =
        Array3::from_shape_fn(patch, |(i, j, k)| rounded(z[i] * y[j] * x[k] * WEIGHT_MAX));
    let smallest =
        weights.iter().copied().filter(|weight| *weight > 0.0).fold(f32::INFINITY, f32::min);
    weights.mapv_into(|weight| weight.max(smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_those_of_nnunet() {
        // compute_steps_for_sliding_window of nnunetv2 2.8.
        let rows: &[(usize, usize, &[usize])] = &[
            (192, 192, &[0]),
            (193, 192, &[0, 1]),
            (288, 192, &[0, 96]),
            (289, 192, &[0, 48, 97]),
            (300, 192, &[0, 54, 108]),
            (512, 192, &[0, 80, 160, 240, 320]),
            (101, 64, &[0, 18, 37]),
            (67, 64, &[0, 3]),
            (99, 64, &[0, 18, 35]),
        ];
        for (length, patch, expected) in rows {
            assert_eq!(starts(*length, *patch, 0.5), *expected, "{length} by {patch}");
        }
    }

    #[test]
    fn weights_are_those_of_scipy() {
        // gaussian_filter of a point, sigma = n / 8, mode constant, divided by its maximum / 10.
        let weights = gaussian([8, 12, 16], 0.125, SumPrecision::Fp32);
        assert_eq!(weights[[4, 6, 8]], 10.0);
        for (at, expected) in [
            ([0, 6, 8], 3.354_626_3e-3),
            ([4, 0, 8], 3.354_626_3e-3),
            ([3, 5, 7], 4.286_038_4),
            ([0, 0, 0], 3.775_134_5e-10),
        ] {
            let found = weights[at];
            assert!((found / expected - 1.0).abs() < 1e-5, "{at:?}: {found} vs {expected}");
        }
    }

    #[test]
    fn voxels_out_of_the_kernels_reach_take_the_smallest_weight() {
        // Sigma 1.6 reaches 6 voxels, the corner is 8 away.
        let weights = gaussian([16, 16, 16], 0.1, SumPrecision::Fp32);
        let smallest = weights.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(smallest > 0.0);
        assert_eq!(weights[[0, 0, 0]], smallest);
        assert_eq!(weights[[0, 8, 8]], smallest);
    }

    #[test]
    fn half_precision_weights_are_never_zero() {
        // compute_gaussian of nnunetv2 2.8: what rounds to zero takes the smallest number left.
        let weights = gaussian([8, 12, 16], 0.125, SumPrecision::Fp16);
        assert_eq!(weights[[0, 0, 0]], 5.960_464_5e-8);
        assert_eq!(weights[[3, 5, 7]], 4.285_156_3);
    }
}
