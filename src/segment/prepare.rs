//! A volume into the image that patches are cut from.

use ndarray::{Array3, ArrayView3, Axis};

use super::SegmentError;
use super::taps::{along, centred, resampled_count};
use crate::runtime::manifest::{Crop, Normalization, VolumePreprocessing};
use crate::threads::Cancel;
use crate::volume::Volume;
use crate::volume::resample::{Region, canonical_ras_zyx};

/// The model's input and the way back.
pub(super) struct Prepared {
    /// Normalised and padded; axes `[z, y, x]` grow to the head, the front and the right.
    pub image: Array3<f32>,
    /// Voxels of padding before the first voxel of each axis.
    pub padding_before: [usize; 3],
    /// Shape before padding.
    pub inner_shape: [usize; 3],
    /// Shape of the reordered volume before cropping.
    pub canonical_shape: [usize; 3],
    /// The crop, in voxels of the reordered volume.
    pub region: Region,
    /// Voxels of the model's grid per voxel of the crop, along each axis.
    pub scale: [f64; 3],
}

impl Prepared {
    /// Reorders, crops, resamples, normalises and pads `volume`.
    pub fn new(
        volume: &Volume,
        settings: &VolumePreprocessing,
        cancel: &Cancel,
    ) -> Result<Self, SegmentError> {
        let (voxels, geometry) = canonical_ras_zyx(volume);
        cancel.check()?;
        let region = match settings.crop {
            Crop::Nonzero => Region::of_nonzero(voxels.view()),
            Crop::None => Region::whole(geometry.shape()),
        };
        let inside = voxels.slice_each_axis(|axis| region.0[axis.axis.index()].clone().into());
        let native = geometry.spacing_mm();
        let spacing = settings.spacing_mm.unwrap_or(native);
        let scale: [f64; 3] = std::array::from_fn(|axis| native[axis] / spacing[axis]);
        cancel.check()?;
        let mut image = resample(inside, native, spacing);
        drop(voxels);
        cancel.check()?;
        normalise(&mut image, rule(settings, volume.modality.code()));
        let inner_shape: [usize; 3] = image.dim().into();
        let (image, padding_before) = pad(image, settings.patch_size);
        let canonical_shape = geometry.shape();
        Ok(Self { image, padding_before, inner_shape, canonical_shape, region, scale })
    }
}

/// Trilinear onto the centred grid of another spacing; untouched at its own.
fn resample(voxels: ArrayView3<'_, f32>, native: [f64; 3], spacing: [f64; 3]) -> Array3<f32> {
    let mut out: Option<Array3<f32>> = None;
    for axis in 0..3 {
        let now = out.as_ref().map_or(voxels, |array| array.view());
        let source_count = now.shape()[axis];
        let count = resampled_count(source_count, native[axis], spacing[axis]);
        if native[axis] == spacing[axis] {
            continue;
        }
        let taps = centred(count, spacing[axis] / native[axis], source_count);
        out = Some(along(now, Axis(axis), &taps));
    }
    out.unwrap_or_else(|| voxels.to_owned())
}

/// The rule for a modality; `check_settings` made sure of the default.
fn rule(settings: &VolumePreprocessing, modality: &str) -> Normalization {
    let rules = &settings.normalization;
    rules.get(modality).or_else(|| rules.get("default")).copied().unwrap_or(Normalization::Zscore)
}

fn normalise(image: &mut Array3<f32>, rule: Normalization) {
    match rule {
        Normalization::Fixed { clip_low, clip_high, mean, std } => {
            image.mapv_inplace(|value| (value.clamp(clip_low, clip_high) - mean) / std);
        }
        Normalization::Zscore => {
            // Sums are double precision; NumPy's pairwise single-precision ones agree to 1e-6.
            let count = image.len() as f64;
            let mean = image.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
            let square = |value: &f32| (f64::from(*value) - mean).powi(2);
            let std = (image.iter().map(square).sum::<f64>() / count).sqrt().max(1e-8);
            let (mean, std) = (mean as f32, std as f32);
            image.mapv_inplace(|value| (value - mean) / std);
        }
    }
}

/// Zeros around the image up to the patch: half before (rounded down), the rest after.
fn pad(image: Array3<f32>, patch: [usize; 3]) -> (Array3<f32>, [usize; 3]) {
    let shape: [usize; 3] = image.dim().into();
    let missing: [usize; 3] = std::array::from_fn(|a| patch[a].saturating_sub(shape[a]));
    let before = missing.map(|count| count / 2);
    if missing == [0; 3] {
        return (image, before);
    }
    let region = Region(std::array::from_fn(|a| before[a]..before[a] + shape[a]));
    let padded = std::array::from_fn(|a| shape[a] + missing[a]);
    (crate::volume::resample::paste(&image, &region, padded, 0.0), before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_the_odd_voxel_behind() {
        let (padded, before) = pad(Array3::from_elem([2, 5, 3], 7.0), [5, 4, 4]);
        assert_eq!((padded.dim(), before), ((5, 5, 4), [1, 0, 0]));
        assert_eq!((padded[[0, 0, 0]], padded[[1, 0, 0]], padded[[1, 0, 3]]), (0.0, 7.0, 0.0));
        assert_eq!(padded.sum(), 7.0 * 30.0);
    }

    #[test]
    fn normalises_by_the_population_and_survives_a_constant_image() {
        let mut image = Array3::from_shape_vec([1, 1, 4], vec![1.0, 2.0, 3.0, 6.0]).expect("fits");
        normalise(&mut image, Normalization::Zscore);
        let expected = [-1.069_045, -0.534_522_5, 0.0, 1.603_567_5];
        for (found, expected) in image.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} vs {expected}");
        }
        let mut flat = Array3::from_elem([2, 2, 2], 5.0);
        normalise(&mut flat, Normalization::Zscore);
        assert_eq!(flat.sum(), 0.0);
        let mut ct = Array3::from_shape_vec([1, 1, 2], vec![-2000.0, 500.0]).expect("fits");
        let rule =
            Normalization::Fixed { clip_low: -1000.0, clip_high: 1000.0, mean: 0.0, std: 250.0 };
        normalise(&mut ct, rule);
        assert_eq!(ct.as_slice(), Some(&[-4.0, 2.0][..]));
    }
}
