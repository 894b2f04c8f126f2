//! A volume into the image that patches are cut from, made a few slices at a time.
//!
//! Nothing of the volume's size is copied: reordering is a view, and cropping, resampling,
//! normalising and padding happen slice by slice when a patch needs them.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, Slice, Zip};
use rayon::prelude::*;

use super::SegmentError;
use super::intensity::Scale;
use super::taps::{Tap, centred, line, resampled_count};
use crate::geometry::{AxisOrder, AxisPermutation};
use crate::runtime::manifest::{Crop, PatchFit, VolumePreprocessing};
use crate::threads::Cancel;
use crate::volume::Volume;
use crate::volume::resample::Region;

/// The model's input, made on demand, and the way back.
pub(super) struct Prepared<'a> {
    /// The crop in canonical order `[z, y, x]`: to the head, the front and the right.
    crop: ArrayView3<'a, f32>,
    /// Along each axis, from the model's grid to the crop; none where they are the same.
    taps: [Option<Vec<Tap>>; 3],
    scale: Scale,
    /// Voxels of padding before the first voxel of each axis.
    pub padding_before: [usize; 3],
    /// Shape on the model's grid before padding.
    pub inner_shape: [usize; 3],
    /// Shape with padding: at least a patch.
    pub shape: [usize; 3],
    /// The crop, in voxels of the reordered volume.
    pub region: Region,
    /// Voxels of the model's grid per voxel of the crop, along each axis.
    pub steps: [f64; 3],
}

impl<'a> Prepared<'a> {
    /// Finds the crop and the intensities' scale; two or three passes over the volume.
    ///
    /// # Errors
    /// When stopped.
    pub fn new(
        volume: &'a Volume,
        settings: &VolumePreprocessing,
        cancel: &Cancel,
    ) -> Result<Self, SegmentError> {
        let order = AxisPermutation::closest(&volume.geometry, AxisOrder::SuperiorAnteriorRight);
        let voxels = canonical(volume.voxels.view(), &order);
        let native = order.apply(&volume.geometry).spacing_mm();
        let region = match settings.crop {
            Crop::Nonzero => Region::of_nonzero(voxels),
            Crop::None => Region::whole(voxels.dim().into()),
        };
        cancel.check()?;
        let mut crop = voxels;
        for (axis, range) in region.0.iter().enumerate() {
            crop.slice_axis_inplace(Axis(axis), Slice::from(range.clone()));
        }
        let fine = region.shape();
        let patch = settings.patch_size;
        let spacing = settings.spacing_mm.unwrap_or(native);
        let (inner_shape, steps): ([usize; 3], [f64; 3]) = match settings.fit {
            PatchFit::Tile => (
                std::array::from_fn(|a| resampled_count(fine[a], native[a], spacing[a])),
                std::array::from_fn(|a| native[a] / spacing[a]),
            ),
            PatchFit::Resize => (patch, std::array::from_fn(|a| patch[a] as f64 / fine[a] as f64)),
        };
        let taps = std::array::from_fn(|a| {
            (steps[a] != 1.0).then(|| centred(inner_shape[a], 1.0 / steps[a], fine[a]))
        });
        let missing: [usize; 3] = std::array::from_fn(|a| patch[a].saturating_sub(inner_shape[a]));
        let mut prepared = Self {
            crop,
            taps,
            scale: Scale::unchanged(),
            padding_before: missing.map(|count| count / 2),
            inner_shape,
            shape: std::array::from_fn(|a| inner_shape[a] + missing[a]),
            region,
            steps,
        };
        prepared.scale = Scale::of(&prepared, settings, volume.modality.code(), cancel)?;
        Ok(prepared)
    }

    /// A slice of the model's grid before scaling, without padding.
    pub fn raw_slice(&self, index: usize) -> Array2<f32> {
        let plane = match &self.taps[0] {
            None => self.crop.index_axis(Axis(0), index).to_owned(),
            Some(taps) => {
                let tap = taps[index];
                let [low, high] = [tap.low, tap.high].map(|at| self.crop.index_axis(Axis(0), at));
                blend(low, high, tap.weight)
            }
        };
        let plane = match &self.taps[1] {
            None => plane,
            Some(taps) => {
                let mut out = Array2::zeros([taps.len(), plane.ncols()]);
                for (mut row, tap) in out.rows_mut().into_iter().zip(taps) {
                    let (low, high) = (plane.row(tap.low), plane.row(tap.high));
                    Zip::from(&mut row).and(&low).and(&high).for_each(|out, low, high| {
                        *out = low * (1.0 - tap.weight) + high * tap.weight;
                    });
                }
                out
            }
        };
        match &self.taps[2] {
            None => plane,
            Some(taps) => {
                let mut out = Array2::zeros([plane.nrows(), taps.len()]);
                for (mut row, values) in out.rows_mut().into_iter().zip(plane.rows()) {
                    let row = row.as_slice_mut().expect("rows of a new array are contiguous");
                    line(values, taps, row);
                }
                out
            }
        }
    }

    /// Puts slice `index` of the padded image into `out`, which is `[y, x]` of the padded shape.
    fn fill_slice(&self, index: usize, mut out: ArrayViewMut2<'_, f32>) {
        out.fill(0.0);
        let Some(inner) = index.checked_sub(self.padding_before[0]) else { return };
        if inner >= self.inner_shape[0] {
            return;
        }
        let raw = self.raw_slice(inner);
        let rows = Slice::from(self.padding_before[1]..self.padding_before[1] + raw.nrows());
        let columns = Slice::from(self.padding_before[2]..self.padding_before[2] + raw.ncols());
        out.slice_axis_inplace(Axis(0), rows);
        out.slice_axis_inplace(Axis(1), columns);
        Zip::from(&mut out).and(&raw).for_each(|out, value| *out = self.scale.apply(*value));
    }
}

/// Slices `first..first + depth` of the padded image.
pub(super) struct Slab<'p, 'v> {
    prepared: &'p Prepared<'v>,
    first: usize,
    filled: usize,
    slices: Array3<f32>,
}

impl<'p, 'v> Slab<'p, 'v> {
    /// A slab of `depth` slices with nothing in it yet.
    pub fn new(prepared: &'p Prepared<'v>, depth: usize) -> Self {
        let [_, rows, columns] = prepared.shape;
        Self { prepared, first: 0, filled: 0, slices: Array3::zeros([depth, rows, columns]) }
    }

    /// Moves to `first`, which never lies before where it was, and gives the slices. What it held
    /// of them already is kept.
    pub fn at(&mut self, first: usize) -> ArrayView3<'_, f32> {
        let depth = self.slices.len_of(Axis(0));
        let kept = (self.first + self.filled).saturating_sub(first).min(depth);
        if first > self.first && kept > 0 {
            shift(&mut self.slices, self.filled - kept, kept);
        }
        (self.first, self.filled) = (first, depth);
        let mut missing = self.slices.slice_axis_mut(Axis(0), Slice::from(kept..));
        missing.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(at, slice)| {
            self.prepared.fill_slice(first + kept + at, slice);
        });
        self.slices.view()
    }
}

/// Moves `count` slices that start at `from` to the front.
pub(super) fn shift(slices: &mut Array3<f32>, from: usize, count: usize) {
    let length = slices.len_of(Axis(1)) * slices.len_of(Axis(2));
    let flat = slices.as_slice_mut().expect("a slab is contiguous");
    flat.copy_within(from * length..(from + count) * length, 0);
}

/// Voxels seen in another axis order.
pub(super) fn canonical<'a, T>(
    voxels: ArrayView3<'a, T>,
    order: &AxisPermutation,
) -> ArrayView3<'a, T> {
    let mut voxels = voxels.permuted_axes(order.source_axes());
    for (axis, flipped) in order.flipped().into_iter().enumerate() {
        if flipped {
            voxels.invert_axis(Axis(axis));
        }
    }
    voxels
}

fn blend(low: ArrayView2<'_, f32>, high: ArrayView2<'_, f32>, weight: f32) -> Array2<f32> {
    Zip::from(&low).and(&high).map_collect(|low, high| low * (1.0 - weight) + high * weight)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::geometry::{Affine, PatientPoint, VolumeGeometry};
    use crate::runtime::manifest::{Normalization, Orientation, SumPrecision};
    use crate::series::Modality;

    /// A volume that grows along each axis, already in canonical order.
    pub fn ramp(shape: [usize; 3]) -> Volume {
        let columns = [[0.0, 0.0, 2.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]];
        let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| (z * 100 + y * 10 + x) as f32);
        Volume {
            geometry: VolumeGeometry::new(shape, affine).expect("an invertible grid"),
            voxels,
            modality: Modality::Mr,
        }
    }

    pub fn settings(patch_size: [usize; 3], rule: Normalization) -> VolumePreprocessing {
        VolumePreprocessing {
            fit: PatchFit::Tile,
            orientation: Orientation::Ras,
            crop: Crop::None,
            spacing_mm: None,
            patch_size,
            tile_step: 0.5,
            gaussian_sigma_scale: 0.125,
            sums: SumPrecision::Fp32,
            threshold_logit: 0.0,
            normalization: [("default".to_owned(), rule)].into(),
        }
    }

    pub const AS_IT_IS: Normalization =
        Normalization::Fixed { clip_low: -1e9, clip_high: 1e9, mean: 0.0, std: 1.0 };

    #[test]
    fn pads_around_the_middle_with_zeros() {
        let volume = ramp([2, 5, 3]);
        let settings = settings([4, 4, 6], AS_IT_IS);
        let prepared = Prepared::new(&volume, &settings, &Cancel::new()).expect("runs");
        assert_eq!((prepared.shape, prepared.padding_before), ([4, 5, 6], [1, 0, 1]));
        let mut slab = Slab::new(&prepared, 4);
        let slices = slab.at(0).to_owned();
        assert_eq!(slices[[1, 4, 1]], 40.0);
        assert_eq!((slices[[2, 4, 3]], slices[[2, 4, 4]], slices[[3, 0, 1]]), (142.0, 0.0, 0.0));
    }

    #[test]
    fn a_slab_that_moves_on_holds_what_a_new_one_would() {
        let volume = ramp([23, 6, 7]);
        let mut settings = settings([8, 4, 4], AS_IT_IS);
        settings.spacing_mm = Some([1.5, 1.2, 0.9]);
        let prepared = Prepared::new(&volume, &settings, &Cancel::new()).expect("runs");
        let mut moving = Slab::new(&prepared, 8);
        for first in [0, 0, 3, 7, 20, 23] {
            let moved = moving.at(first).to_owned();
            assert_eq!(moved, Slab::new(&prepared, 8).at(first), "at {first}");
        }
    }

    #[test]
    fn resizing_covers_the_crop_with_one_patch() {
        let volume = ramp([4, 6, 2]);
        let mut settings = settings([8, 3, 2], AS_IT_IS);
        settings.fit = PatchFit::Resize;
        let prepared = Prepared::new(&volume, &settings, &Cancel::new()).expect("runs");
        assert_eq!((prepared.inner_shape, prepared.shape), ([8, 3, 2], [8, 3, 2]));
        // torch.nn.functional.interpolate(..., mode="trilinear", align_corners=False): the first
        // voxel lies at -0.25 and takes the border's value, the second at 0.25.
        let slice = prepared.raw_slice(1);
        assert_eq!(slice[[0, 0]], 25.0 + 5.0);
        assert_eq!(slice[[2, 1]], 25.0 + 45.0 + 1.0);
        assert_eq!(prepared.raw_slice(0)[[0, 0]], 5.0);
    }
}
