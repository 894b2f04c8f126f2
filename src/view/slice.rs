//! One slice of the volume, turned as a radiologist looks at it.

use ndarray::{ArrayView2, ArrayView3, Axis};

use super::{Fit, Plane};
use crate::geometry::{
    Affine, AxisOrder, AxisPermutation, PatientPoint, ViewPoint, VolumeGeometry, VoxelPoint,
};
use crate::volume::Volume;

impl Plane {
    /// The axis order in which slices of this plane are stored as they are displayed: the
    /// patient's right on the image's left (axial, coronal), the front on the image's left
    /// (sagittal), the front or the head on top.
    pub(crate) fn order(self) -> AxisOrder {
        match self {
            Self::Axial => AxisOrder::SuperiorPosteriorLeft,
            Self::Coronal => AxisOrder::PosteriorInferiorLeft,
            Self::Sagittal => AxisOrder::LeftInferiorPosterior,
        }
    }

    /// The letters at the left, right, top and bottom border.
    pub(super) fn letters(self) -> [char; 4] {
        match self {
            Self::Axial => ['R', 'L', 'A', 'P'],
            Self::Coronal => ['R', 'L', 'S', 'I'],
            Self::Sagittal => ['A', 'P', 'S', 'I'],
        }
    }

    /// The LPS axis that this plane's slices follow.
    pub(super) fn patient_axis(self) -> usize {
        match self {
            Self::Axial => 2,
            Self::Coronal => 1,
            Self::Sagittal => 0,
        }
    }
}

/// The slices of a volume along one plane: foot to head, front to back or right to left.
pub(super) struct Slices<'a, T> {
    voxels: ArrayView3<'a, T>,
    geometry: VolumeGeometry,
}

impl<'a, T> Slices<'a, T> {
    /// Voxels seen along the axes closest to `plane`; nothing is copied or interpolated.
    pub(super) fn new(voxels: ArrayView3<'a, T>, geometry: &VolumeGeometry, plane: Plane) -> Self {
        let permutation = AxisPermutation::closest(geometry, plane.order());
        let mut voxels = voxels.permuted_axes(permutation.source_axes());
        for (axis, flipped) in permutation.flipped().into_iter().enumerate() {
            if flipped {
                voxels.invert_axis(Axis(axis));
            }
        }
        Self { voxels, geometry: permutation.apply(geometry) }
    }

    /// How many slices there are.
    pub(super) fn count(&self) -> usize {
        self.geometry.shape()[0]
    }

    /// Slice `index`, `[row, column]` as displayed.
    pub(super) fn slice(&self, index: usize) -> ArrayView2<'_, T> {
        self.voxels.index_axis(Axis(0), index)
    }

    /// Where slice pixels land in a square of `size` pixels.
    pub(super) fn placement(&self, size: usize, fit: Fit) -> Placement {
        let [_, rows, columns] = self.geometry.shape();
        let [_, row_mm, column_mm] = self.geometry.spacing_mm();
        match fit {
            Fit::Stretch => Placement { top: 0, left: 0, rows: size, columns: size },
            Fit::Pad => {
                let (height_mm, width_mm) = (rows as f64 * row_mm, columns as f64 * column_mm);
                let pixels_per_mm = size as f64 / height_mm.max(width_mm);
                let side =
                    |mm: f64| ((mm * pixels_per_mm).round_ties_even() as usize).clamp(1, size);
                let (rows, columns) = (side(height_mm), side(width_mm));
                Placement { top: (size - rows) / 2, left: (size - columns) / 2, rows, columns }
            }
        }
    }

    /// From pixels of the square to the patient, for slice `index`.
    pub(super) fn view_to_patient(
        &self,
        index: usize,
        placement: Placement,
    ) -> Affine<ViewPoint, PatientPoint> {
        let [_, rows, columns] = self.geometry.shape();
        let row_step = rows as f64 / placement.rows as f64;
        let column_step = columns as f64 / placement.columns as f64;
        let first = |step: f64, offset: usize| (0.5 - offset as f64) * step - 0.5;
        let view_to_voxel: Affine<ViewPoint, VoxelPoint> = Affine::from_columns(
            [[1.0, 0.0, 0.0], [0.0, row_step, 0.0], [0.0, 0.0, column_step]],
            VoxelPoint([
                index as f64,
                first(row_step, placement.top),
                first(column_step, placement.left),
            ]),
        );
        view_to_voxel.then(self.geometry.voxel_to_patient())
    }
}

impl<'a> Slices<'a, f32> {
    /// The slices of a volume's values.
    pub(super) fn of(volume: &'a Volume, plane: Plane) -> Self {
        Self::new(volume.voxels.view(), &volume.geometry, plane)
    }
}

/// The part of the square that a slice fills; the rest is black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The slices of a run, as indices: `round(linspace(round(from * (n - 1)), round(to * (n - 1)),
/// count))`, halves to even, as numpy has it; the middle slice `n / 2` when `count` is 1.
pub(super) fn slice_indices(slice_count: usize, from: f64, to: f64, count: usize) -> Vec<usize> {
    if count == 1 {
        return vec![slice_count / 2];
    }
    let last = (slice_count - 1) as f64;
    let start = (from * last).round_ties_even();
    let stop = (to * last).round_ties_even();
    let step = (stop - start) / (count - 1) as f64;
    let at = |index: usize| {
        if index + 1 == count { stop } else { index as f64 * step + start }
    };
    (0..count).map(|index| at(index).round_ties_even().clamp(0.0, last) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_indices_are_numpys() {
        // numpy.round(numpy.linspace(round(f * (n - 1)), round(t * (n - 1)), count))
        let check = |n, from, to, count, expected: &[usize]| {
            assert_eq!(slice_indices(n, from, to, count), expected, "{n} {from} {to} {count}");
        };
        check(155, 0.10, 0.90, 8, &[15, 33, 50, 68, 86, 104, 121, 139]);
        check(20, 0.10, 0.90, 4, &[2, 7, 12, 17]);
        check(6, 0.10, 0.90, 4, &[0, 1, 3, 4]);
        check(2, 0.10, 0.90, 4, &[0, 0, 1, 1]);
        check(3, 0.0, 1.0, 4, &[0, 1, 1, 2]);
        check(9, 0.3, 0.7, 1, &[4]);
    }
}
