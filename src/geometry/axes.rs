//! The same voxels in another storage order: axis permutations and flips, never interpolation.

use super::{Affine, VolumeGeometry, VoxelPoint, cross, dot, norm};

/// An anatomical order of the three array axes, closest to which a volume can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisOrder {
    /// `[z, y, x]` growing to the head, the front and the patient's right: nibabel's "RAS" with
    /// the axes reversed. What the segmentation models read.
    SuperiorAnteriorRight,
    /// `[z, y, x]` growing to the head, the back and the patient's left: the order of an
    /// unrotated axial DICOM series.
    SuperiorPosteriorLeft,
    /// Growing to the back, the feet and the patient's left: coronal slices from the front, as
    /// displayed.
    PosteriorInferiorLeft,
    /// Growing to the patient's left, the feet and the back: sagittal slices as displayed, seen
    /// from the left.
    LeftInferiorPosterior,
}

impl AxisOrder {
    /// For each array axis, the LPS axis (0, 1 or 2) it runs along and whether it runs against it.
    fn targets(self) -> [(usize, bool); 3] {
        match self {
            Self::SuperiorAnteriorRight => [(2, false), (1, true), (0, true)],
            Self::SuperiorPosteriorLeft => [(2, false), (1, false), (0, false)],
            Self::PosteriorInferiorLeft => [(1, false), (2, true), (0, false)],
            Self::LeftInferiorPosterior => [(0, false), (2, true), (1, false)],
        }
    }
}

/// A reordering of voxel axes: axis `k` of the result is axis `source_axes[k]` of the source, run
/// backwards where `flipped[k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisPermutation {
    source_axes: [usize; 3],
    flipped: [bool; 3],
}

impl AxisPermutation {
    /// The reordering that brings `geometry` closest to `order`.
    ///
    /// Which voxel axis counts as which anatomical one is nibabel's rule (`io_orientation`): the
    /// shear is removed by polar decomposition, then axes are assigned from the least to the most
    /// oblique. Sheared (gantry tilt) and oblique grids are handled; nothing is interpolated.
    pub fn closest(geometry: &VolumeGeometry, order: AxisOrder) -> Self {
        let assigned = anatomical_axes(geometry);
        let mut permutation = Self { source_axes: [0, 1, 2], flipped: [false; 3] };
        for (k, (patient_axis, against)) in order.targets().into_iter().enumerate() {
            for (source_axis, (axis, negative)) in assigned.into_iter().enumerate() {
                if axis == patient_axis {
                    permutation.source_axes[k] = source_axis;
                    permutation.flipped[k] = negative != against;
                }
            }
        }
        permutation
    }

    /// For each axis of the result, the source axis it comes from; a permutation of 0, 1, 2.
    pub fn source_axes(&self) -> [usize; 3] {
        self.source_axes
    }

    /// For each axis of the result, whether it runs against its source axis.
    pub fn flipped(&self) -> [bool; 3] {
        self.flipped
    }

    /// The reordering that undoes this one.
    pub fn inverse(&self) -> Self {
        let mut inverse = *self;
        for (k, source_axis) in self.source_axes.into_iter().enumerate() {
            inverse.source_axes[source_axis] = k;
            inverse.flipped[source_axis] = self.flipped[k];
        }
        inverse
    }

    /// The geometry of the reordered voxels: every voxel stays where it was in the patient.
    pub fn apply(&self, geometry: &VolumeGeometry) -> VolumeGeometry {
        let shape = self.source_axes.map(|axis| geometry.shape()[axis]);
        let to_patient = geometry.voxel_to_patient();
        let mut first = [0.0; 3];
        let mut columns = [[0.0; 3]; 3];
        for (k, source_axis) in self.source_axes.into_iter().enumerate() {
            columns[k] = to_patient.column(source_axis);
            if self.flipped[k] {
                columns[k] = columns[k].map(|v| -v);
                first[source_axis] = (geometry.shape()[source_axis] - 1) as f64;
            }
        }
        let affine = Affine::from_columns(columns, to_patient.apply(VoxelPoint(first)));
        VolumeGeometry::new(shape, affine).expect("a reordered grid is as invertible as its source")
    }
}

/// For each voxel axis, the LPS axis it follows most closely and whether it runs against it.
fn anatomical_axes(geometry: &VolumeGeometry) -> [(usize, bool); 3] {
    let mut columns = closest_rotation(geometry);
    let strongest = |column: [f64; 3]| column.into_iter().map(f64::abs).fold(0.0, f64::max);
    let mut by_certainty = [0, 1, 2];
    by_certainty.sort_by(|a, b| strongest(columns[*b]).total_cmp(&strongest(columns[*a])));
    let mut assigned = [(0, false); 3];
    for source_axis in by_certainty {
        let column = columns[source_axis];
        let mut axis = 0;
        for candidate in 1..3 {
            if column[candidate].abs() > column[axis].abs() {
                axis = candidate;
            }
        }
        assigned[source_axis] = (axis, column[axis] < 0.0);
        for other in &mut columns {
            other[axis] = 0.0;
        }
    }
    assigned
}

/// The columns of the orthogonal matrix closest to the grid's unit steps (the polar factor, by
/// Newton's iteration, which converges quadratically from any invertible matrix).
fn closest_rotation(geometry: &VolumeGeometry) -> [[f64; 3]; 3] {
    let mut x: [[f64; 3]; 3] = std::array::from_fn(|axis| {
        let column = geometry.voxel_to_patient().column(axis);
        column.map(|v| v / norm(column))
    });
    for _ in 0..64 {
        let cofactors = [cross(x[1], x[2]), cross(x[2], x[0]), cross(x[0], x[1])];
        let determinant = dot(x[0], cofactors[0]);
        let next: [[f64; 3]; 3] = std::array::from_fn(|c| {
            std::array::from_fn(|r| 0.5 * (x[c][r] + cofactors[c][r] / determinant))
        });
        let change = (0..9).map(|i| (next[i / 3][i % 3] - x[i / 3][i % 3]).abs());
        let settled = change.fold(0.0, f64::max) < 1e-14;
        x = next;
        if settled {
            break;
        }
    }
    x
}
