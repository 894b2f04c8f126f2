//! Voxels on another grid, through patient space.
//!
//! A voxel stands for the box around its centre: positions up to half a voxel outside the
//! outermost centres take the border's value, everything beyond takes the given outside value.

use ndarray::Array3;
use rayon::prelude::*;

use crate::geometry::{Affine, VolumeGeometry, VoxelPoint};

pub use super::region::{Margins, Region, crop, pad, paste};
pub use super::reorient::{canonical_ras_zyx, from_canonical_ras_zyx, reorder};

/// Positions this close to a voxel centre, in voxels, are that centre: a grid resampled onto
/// itself comes back bit by bit.
const SNAP_VOXELS: f64 = 1e-6;

/// Trilinear interpolation of `voxels` (on `source`) at every voxel of `target`.
///
/// Any two grids will do, oblique and sheared ones included; where their axes run in parallel
/// (in any order and sense) the weights are computed once per axis.
///
/// # Panics
/// When `voxels` does not have the shape of `source`.
pub fn trilinear(
    voxels: &Array3<f32>,
    source: &VolumeGeometry,
    target: &VolumeGeometry,
    outside: f32,
) -> Array3<f32> {
    let target_to_source = target.voxel_to_patient().then(source.patient_to_voxel());
    let sampler = Sampler::new(voxels, source);
    let shape = target.shape();
    let mut out = Array3::from_elem(shape, outside);
    let slices =
        out.as_slice_mut().expect("a new array is contiguous").par_chunks_mut(shape[1] * shape[2]);
    match parallel_axes(&target_to_source, shape) {
        Some(source_axes) => {
            let taps: [Vec<Option<Tap>>; 3] = std::array::from_fn(|axis| {
                sampler.taps_along(&target_to_source, axis, source_axes[axis], shape[axis])
            });
            slices.enumerate().for_each(|(slice, pixels)| {
                if let Some(tap) = taps[0][slice] {
                    sampler.fill_slice(pixels, tap, &taps[1], &taps[2]);
                }
            });
        }
        None => slices.enumerate().for_each(|(slice, pixels)| {
            for (index, pixel) in pixels.iter_mut().enumerate() {
                let (row, column) = (index / shape[2], index % shape[2]);
                let at = VoxelPoint([slice as f64, row as f64, column as f64]);
                if let Some(value) = sampler.value_at(target_to_source.apply(at)) {
                    *pixel = value;
                }
            }
        }),
    }
    out
}

/// The value of the nearest voxel of `voxels` (on `source`) at every voxel of `target`; positions
/// half-way between two centres take the one with the higher index.
///
/// # Panics
/// When `voxels` does not have the shape of `source`.
pub fn nearest<T: Copy + Send + Sync>(
    voxels: &Array3<T>,
    source: &VolumeGeometry,
    target: &VolumeGeometry,
    outside: T,
) -> Array3<T> {
    assert_eq!(voxels.shape(), source.shape(), "voxels do not have the shape of their grid");
    let target_to_source = target.voxel_to_patient().then(source.patient_to_voxel());
    let shape = target.shape();
    let mut out = Array3::from_elem(shape, outside);
    let slices =
        out.as_slice_mut().expect("a new array is contiguous").par_chunks_mut(shape[1] * shape[2]);
    slices.enumerate().for_each(|(slice, pixels)| {
        for (index, pixel) in pixels.iter_mut().enumerate() {
            let (row, column) = (index / shape[2], index % shape[2]);
            let at = VoxelPoint([slice as f64, row as f64, column as f64]);
            if let Some(index) = nearest_index(target_to_source.apply(at), source.shape()) {
                *pixel = voxels[index];
            }
        }
    });
    out
}

/// The voxel whose box holds `at`, if any does (with a millionth of a voxel to spare).
pub(super) fn nearest_index(at: VoxelPoint, shape: [usize; 3]) -> Option<[usize; 3]> {
    let mut index = [0; 3];
    for axis in 0..3 {
        let x = at.0[axis];
        let last = (shape[axis] - 1) as f64;
        if !(x >= -0.5 - SNAP_VOXELS && x <= last + 0.5 + SNAP_VOXELS) {
            return None;
        }
        index[axis] = (x + 0.5 + SNAP_VOXELS).floor().clamp(0.0, last) as usize;
    }
    Some(index)
}

/// Two neighbours along one source axis, as offsets into the flat voxels, and the weight of the
/// second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

struct Sampler<'a> {
    voxels: std::borrow::Cow<'a, [f32]>,
    shape: [usize; 3],
    strides: [usize; 3],
}

impl<'a> Sampler<'a> {
    fn new(voxels: &'a Array3<f32>, source: &VolumeGeometry) -> Self {
        assert_eq!(voxels.shape(), source.shape(), "voxels do not have the shape of their grid");
        let shape = source.shape();
        let voxels = match voxels.as_slice() {
            Some(slice) => slice.into(),
            None => voxels.iter().copied().collect::<Vec<f32>>().into(),
        };
        Self { voxels, shape, strides: [shape[1] * shape[2], shape[2], 1] }
    }

    fn tap(&self, axis: usize, x: f64) -> Option<Tap> {
        let last = self.shape[axis] - 1;
        if !(x >= -0.5 - SNAP_VOXELS && x <= last as f64 + 0.5 + SNAP_VOXELS) {
            return None;
        }
        let nearest = x.round();
        let x = if (x - nearest).abs() < SNAP_VOXELS { nearest } else { x };
        let x = x.clamp(0.0, last as f64);
        let low = (x.floor() as usize).min(last.saturating_sub(1));
        let high = (low + 1).min(last);
        let stride = self.strides[axis];
        Some(Tap { low: low * stride, high: high * stride, weight: (x - low as f64) as f32 })
    }

    /// Taps on `source_axis` for every index along target axis `axis`.
    fn taps_along(
        &self,
        target_to_source: &Affine<VoxelPoint, VoxelPoint>,
        axis: usize,
        source_axis: usize,
        count: usize,
    ) -> Vec<Option<Tap>> {
        let step = target_to_source.column(axis)[source_axis];
        let first = target_to_source.origin().0[source_axis];
        (0..count).map(|index| self.tap(source_axis, first + step * index as f64)).collect()
    }

    fn fill_slice(
        &self,
        pixels: &mut [f32],
        a: Tap,
        rows: &[Option<Tap>],
        columns: &[Option<Tap>],
    ) {
        for (line, row) in pixels.chunks_exact_mut(columns.len()).zip(rows) {
            let Some(b) = row else { continue };
            for (pixel, column) in line.iter_mut().zip(columns) {
                if let Some(c) = column {
                    *pixel = self.blend(a, *b, *c);
                }
            }
        }
    }

    fn value_at(&self, at: VoxelPoint) -> Option<f32> {
        let [a, b, c] = [self.tap(0, at.0[0])?, self.tap(1, at.0[1])?, self.tap(2, at.0[2])?];
        Some(self.blend(a, b, c))
    }

    fn blend(&self, a: Tap, b: Tap, c: Tap) -> f32 {
        let along_c =
            |base: usize| mix(self.voxels[base + c.low], self.voxels[base + c.high], c.weight);
        let along_b = |base: usize| mix(along_c(base + b.low), along_c(base + b.high), b.weight);
        mix(along_b(a.low), along_b(a.high), a.weight)
    }
}

/// Exactly `low` at weight 0 and `high` at weight 1.
fn mix(low: f32, high: f32, weight: f32) -> f32 {
    low * (1.0 - weight) + high * weight
}

/// For each target axis the one source axis it runs along, when the axes of both grids are
/// parallel (to a millionth of a voxel over the whole target).
fn parallel_axes(
    target_to_source: &Affine<VoxelPoint, VoxelPoint>,
    shape: [usize; 3],
) -> Option<[usize; 3]> {
    let mut source_axes = [0; 3];
    for axis in 0..3 {
        let column = target_to_source.column(axis);
        let drift = |source_axis: usize| column[source_axis].abs() * shape[axis] as f64;
        let along: Vec<usize> =
            (0..3).filter(|source_axis| drift(*source_axis) > SNAP_VOXELS).collect();
        let [only] = along[..] else { return None };
        source_axes[axis] = only;
    }
    let [a, b, c] = source_axes;
    (a != b && b != c && a != c).then_some(source_axes)
}

#[cfg(test)]
mod tests;
