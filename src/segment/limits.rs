//! What a call will need, before it starts.

use super::taps::resampled_count;
use super::tiles::patch_count;
use super::{BackboneSettings, SegmentError};
use crate::geometry::{AxisOrder, AxisPermutation};
use crate::runtime::manifest::{PatchFit, VolumePreprocessing};
use crate::volume::Volume;

/// How a call is cut up so that it stays within its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Prompts whose logits are held together.
    pub prompts_per_group: usize,
}

impl Plan {
    /// Plans for the whole volume, as if nothing were cropped away.
    ///
    /// # Errors
    /// When there are no prompts, too many patches, or not even one prompt's band fits.
    pub fn new(
        volume: &Volume,
        prompt_count: usize,
        preprocessing: &VolumePreprocessing,
        settings: &BackboneSettings,
    ) -> Result<Self, SegmentError> {
        if prompt_count == 0 {
            return Err(SegmentError::NoPrompts);
        }
        let shape = volume.geometry.shape();
        let model = model_shape(volume, preprocessing);
        let count = patch_count(model, preprocessing);
        if count > settings.patch_count_max {
            let limit = settings.patch_count_max;
            return Err(SegmentError::TooManyPatches { shape, count, limit });
        }
        let depth = preprocessing.patch_size[0];
        let need = Need {
            band: bytes([depth, model[1], model[2]]),
            plane: bytes([1, model[1], model[2]]),
            patch: bytes(preprocessing.patch_size),
            masks: (bytes(shape) / 4).saturating_mul(prompt_count as u64),
        };
        let runs = settings.prompts_per_run_max.max(1).min(prompt_count) as u64;
        let limit = settings.memory_bytes_max;
        if need.of(1, 1) > limit {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let (needed_mib, limit_mib) = (mib(need.of(1, 1)), mib(limit));
            return Err(SegmentError::TooMuchMemory { shape, needed_mib, limit_mib });
        }
        let fits = |group: &usize| need.of(*group as u64, runs.min(*group as u64)) <= limit;
        let prompts_per_group = (1..=prompt_count).rev().find(fits).unwrap_or(1);
        Ok(Self { prompts_per_group })
    }
}

/// Refuses a sweep through slices that passes the limits: its masks, a byte a voxel and prompt, are
/// all that grows.
///
/// # Errors
/// When there are no prompts, too many slices, or the masks do not fit.
pub(super) fn check_slices(
    volume: &Volume,
    prompt_count: usize,
    count: usize,
    settings: &BackboneSettings,
) -> Result<(), SegmentError> {
    let (shape, limit) = (volume.geometry.shape(), settings.patch_count_max);
    if prompt_count == 0 {
        return Err(SegmentError::NoPrompts);
    }
    if count > limit {
        return Err(SegmentError::TooManyPatches { shape, count, limit });
    }
    let needed = (bytes(shape) / 4).saturating_mul(prompt_count as u64);
    if needed > settings.memory_bytes_max {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (needed_mib, limit_mib) = (mib(needed), mib(settings.memory_bytes_max));
        return Err(SegmentError::TooMuchMemory { shape, needed_mib, limit_mib });
    }
    Ok(())
}

/// Shape `[z, y, x]` of the padded image on the model's grid.
fn model_shape(volume: &Volume, preprocessing: &VolumePreprocessing) -> [usize; 3] {
    if preprocessing.fit == PatchFit::Resize {
        return preprocessing.patch_size;
    }
    let order = AxisPermutation::closest(&volume.geometry, AxisOrder::SuperiorAnteriorRight);
    let canonical = order.apply(&volume.geometry);
    let (shape, spacing) = (canonical.shape(), canonical.spacing_mm());
    std::array::from_fn(|axis| {
        let count = match preprocessing.spacing_mm {
            Some(new) => resampled_count(shape[axis], spacing[axis], new[axis]),
            None => shape[axis],
        };
        count.max(preprocessing.patch_size[axis])
    })
}

/// Bytes of arrays: single precision but for the masks.
struct Need {
    /// Slices of the model's grid as deep as a patch.
    band: u64,
    /// One slice of the model's grid.
    plane: u64,
    patch: u64,
    /// The masks of all prompts, a byte a voxel.
    masks: u64,
}

impl Need {
    /// Slab of the image and sums of the weights; per prompt of the group the sums of its logits and
    /// two slices on their way to its mask; three patches and three runs' logits in flight; all
    /// masks. The height of the volume is in the masks only.
    fn of(&self, group: u64, runs: u64) -> u64 {
        (2 + group) * self.band
            + (2 + 2 * group) * self.plane
            + 3 * (1 + runs) * self.patch
            + self.masks
    }
}

fn bytes(shape: [usize; 3]) -> u64 {
    shape.iter().fold(4_u64, |product, length| product.saturating_mul(*length as u64))
}

#[cfg(test)]
mod tests {
    use super::super::prepare::tests::{AS_IT_IS, ramp, settings};
    use super::*;

    #[test]
    fn takes_as_many_prompts_together_as_fit() {
        let volume = ramp([10, 32, 32]);
        let mut preprocessing = settings([16, 16, 16], AS_IT_IS);
        preprocessing.spacing_mm = Some([1.0, 1.0, 1.0]);
        // The model's grid is 20 x 32 x 32: a band takes 64 KiB, a plane 4; a patch 16, a mask 10.
        assert_eq!(model_shape(&volume, &preprocessing), [20, 32, 32]);
        let plan = |kib: u64| {
            let settings = BackboneSettings { memory_bytes_max: kib << 10, ..Default::default() };
            Plan::new(&volume, 4, &preprocessing, &settings).map(|plan| plan.prompts_per_group)
        };
        let need = |group: u64| (2 + group) * 64 + (2 + 2 * group) * 4 + 3 * (1 + group) * 16 + 40;
        for group in 1..=4 {
            assert_eq!(plan(need(group)).ok(), Some(group as usize));
        }
        assert_eq!(plan(need(4) - 1).ok(), Some(3));
        assert!(matches!(plan(need(1) - 1), Err(SegmentError::TooMuchMemory { .. })));
    }

    #[test]
    fn a_taller_volume_needs_more_for_its_masks_only() {
        let preprocessing = settings([16, 16, 16], AS_IT_IS);
        let needs = |slices| {
            let settings = BackboneSettings {
                memory_bytes_max: 1,
                patch_count_max: usize::MAX,
                ..Default::default()
            };
            match Plan::new(&ramp([slices, 512, 512]), 1, &preprocessing, &settings) {
                Err(SegmentError::TooMuchMemory { needed_mib, .. }) => needed_mib,
                other => panic!("{other:?}"),
            }
        };
        let (low, high) = (needs(40), needs(120));
        assert_eq!(high - low, (80 * 512 * 512) >> 20);
    }
}
