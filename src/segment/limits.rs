//! What a call will need, before it starts.

use super::taps::resampled_count;
use super::tiles::start_count;
use super::{BackboneSettings, SegmentError};
use crate::geometry::{AxisOrder, AxisPermutation};
use crate::runtime::manifest::VolumePreprocessing;
use crate::volume::Volume;

/// How a call is cut up so that it stays within its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Prompts whose logits are held together.
    pub prompts_per_group: usize,
}

impl Plan {
    /// Plans for the whole volume, as if nothing were cropped away.
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
        let count = (0..3)
            .map(|axis| {
                start_count(model[axis], preprocessing.patch_size[axis], preprocessing.tile_step)
            })
            .product();
        if count > settings.patch_count_max {
            let limit = settings.patch_count_max;
            return Err(SegmentError::TooManyPatches { shape, count, limit });
        }
        let need = Need {
            volume: bytes(shape),
            model: bytes(model),
            patch: bytes(preprocessing.patch_size),
            masks: bytes(shape).div_ceil(4).saturating_mul(prompt_count as u64),
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

/// Shape `[z, y, x]` of the padded image at the model's spacing.
fn model_shape(volume: &Volume, preprocessing: &VolumePreprocessing) -> [usize; 3] {
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

/// Bytes of single-precision arrays.
struct Need {
    volume: u64,
    model: u64,
    patch: u64,
    /// Finished masks of all prompts, a byte a voxel.
    masks: u64,
}

impl Need {
    /// The larger of: reordered, cropped and half-resampled copies while preparing; image, weight
    /// sums and logits, two runs' patches in flight, one reordered mask and all masks so far while
    /// inferring and restoring.
    fn of(&self, group: u64, runs: u64) -> u64 {
        let preparing = 3 * self.volume + self.model;
        let working = (2 + group) * self.model + 2 * runs * self.patch;
        preparing.max(working + self.volume / 4 + self.masks)
    }
}

fn bytes(shape: [usize; 3]) -> u64 {
    shape.iter().fold(4_u64, |product, length| product.saturating_mul(*length as u64))
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::geometry::{Affine, PatientPoint, VolumeGeometry};
    use crate::runtime::manifest::{Crop, Orientation};
    use crate::series::Modality;

    #[test]
    fn takes_as_many_prompts_together_as_fit() {
        let columns = [[0.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
        let shape = [10, 32, 32];
        let volume = Volume {
            geometry: VolumeGeometry::new(shape, affine).expect("an invertible grid"),
            voxels: Array3::zeros(shape),
            modality: Modality::Mr,
        };
        let preprocessing = VolumePreprocessing {
            orientation: Orientation::Ras,
            crop: Crop::None,
            spacing_mm: Some([1.5, 1.0, 1.0]),
            patch_size: [16, 16, 16],
            tile_step: 0.5,
            gaussian_sigma_scale: 0.125,
            threshold_logit: 0.0,
            normalization: Default::default(),
        };
        // The model's grid is 20 x 32 x 32 (80 KiB); a patch takes 16 KiB, a mask 10 KiB.
        assert_eq!(model_shape(&volume, &preprocessing), [20, 32, 32]);
        let plan = |kib: u64| {
            let settings = BackboneSettings { memory_bytes_max: kib << 10, ..Default::default() };
            Plan::new(&volume, 4, &preprocessing, &settings).map(|plan| plan.prompts_per_group)
        };
        for (kib, expected) in [(658, 4), (657, 3), (546, 3), (545, 2), (322, 1)] {
            assert_eq!(plan(kib).ok(), Some(expected), "{kib} KiB");
        }
        assert!(matches!(plan(321), Err(SegmentError::TooMuchMemory { .. })));
    }
}
