//! Boxes of voxels: finding, cutting out, putting back, padding.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, AxisDescription, Slice};

use crate::geometry::{Affine, VolumeGeometry, VoxelPoint};

/// A box of voxels: a half-open range of indices along each array axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region(pub [Range<usize>; 3]);

impl Region {
    /// Every voxel of `shape`.
    pub fn whole(shape: [usize; 3]) -> Self {
        Self(shape.map(|n| 0..n))
    }

    /// `[slices, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.0[0].len(), self.0[1].len(), self.0[2].len()]
    }

    /// The smallest box around all voxels that differ from zero; the whole grid when none does.
    ///
    /// Filling holes first (as nnU-Net's crop does) cannot change this box: a hole is enclosed by
    /// voxels that differ from zero.
    pub fn of_nonzero(voxels: ArrayView3<'_, f32>) -> Self {
        Self::around(voxels, |value| *value != 0.0).unwrap_or_else(|| {
            let (slices, rows, columns) = voxels.dim();
            Self::whole([slices, rows, columns])
        })
    }

    /// The smallest box around all voxels that `is_inside`; none when there is no such voxel.
    pub fn around<T>(voxels: ArrayView3<'_, T>, is_inside: impl Fn(&T) -> bool) -> Option<Self> {
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for ((slice, row, column), value) in voxels.indexed_iter() {
            if is_inside(value) {
                for (axis, index) in [slice, row, column].into_iter().enumerate() {
                    low[axis] = low[axis].min(index);
                    high[axis] = high[axis].max(index + 1);
                }
            }
        }
        (low[0] != usize::MAX).then(|| Self(std::array::from_fn(|axis| low[axis]..high[axis])))
    }

    fn along(&self, axis: AxisDescription) -> Slice {
        self.0[axis.axis.index()].clone().into()
    }
}

/// The voxels and the grid inside `region`.
///
/// # Panics
/// When `region` is empty or reaches outside the grid.
pub fn crop<T: Clone>(
    voxels: &Array3<T>,
    geometry: &VolumeGeometry,
    region: &Region,
) -> (Array3<T>, VolumeGeometry) {
    let first = VoxelPoint(std::array::from_fn(|axis| region.0[axis].start as f64));
    let inside = voxels.slice_each_axis(|axis| region.along(axis)).to_owned();
    (inside, moved(geometry, first, region.shape()))
}

/// An array of `shape` filled with `outside`, with `inside` put at `region`: undoes [`crop`].
///
/// # Panics
/// When `inside` does not have the region's shape or `region` reaches outside `shape`.
pub fn paste<T: Clone>(
    inside: &Array3<T>,
    region: &Region,
    shape: [usize; 3],
    outside: T,
) -> Array3<T> {
    let mut voxels = Array3::from_elem(shape, outside);
    voxels.slice_each_axis_mut(|axis| region.along(axis)).assign(inside);
    voxels
}

/// The volume with `before` and `after` voxels of `value` added on each axis.
pub fn pad<T: Clone>(
    voxels: &Array3<T>,
    geometry: &VolumeGeometry,
    margins: Margins,
    value: T,
) -> (Array3<T>, VolumeGeometry) {
    let Margins { before, after } = margins;
    let old = geometry.shape();
    let shape = std::array::from_fn(|axis| before[axis] + old[axis] + after[axis]);
    let region = Region(std::array::from_fn(|axis| before[axis]..before[axis] + old[axis]));
    let first = VoxelPoint(before.map(|n| -(n as f64)));
    (paste(voxels, &region, shape, value), moved(geometry, first, shape))
}

/// How many voxels to add on each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// In front of index 0.
    pub before: [usize; 3],
    /// Behind the last index.
    pub after: [usize; 3],
}

/// The same lattice with another first voxel and shape.
fn moved(geometry: &VolumeGeometry, first: VoxelPoint, shape: [usize; 3]) -> VolumeGeometry {
    let to_patient = geometry.voxel_to_patient();
    let columns = [to_patient.column(0), to_patient.column(1), to_patient.column(2)];
    VolumeGeometry::new(shape, Affine::from_columns(columns, to_patient.apply(first)))
        .expect("a region of an invertible grid is not empty and stays invertible")
}
