//! Voxels in another axis order, without interpolation.

use ndarray::{Array3, Axis};

use super::Volume;
use crate::geometry::{AxisOrder, AxisPermutation, VolumeGeometry};

/// Voxels reordered by `permutation`, in standard (row-major) layout.
pub fn reorder<T: Clone>(voxels: &Array3<T>, permutation: &AxisPermutation) -> Array3<T> {
    let mut view = voxels.view().permuted_axes(permutation.source_axes());
    for (axis, flipped) in permutation.flipped().into_iter().enumerate() {
        if flipped {
            view.invert_axis(Axis(axis));
        }
    }
    // `as_standard_layout` would keep a copy's negative strides out, but may borrow: own it.
    view.as_standard_layout().into_owned()
}

/// The volume closest to RAS: array axes `[z, y, x]` grow to the head, the front and the
/// patient's right. Axes are only permuted and flipped.
pub fn canonical_ras_zyx(volume: &Volume) -> (Array3<f32>, VolumeGeometry) {
    let permutation = AxisPermutation::closest(&volume.geometry, AxisOrder::SuperiorAnteriorRight);
    (reorder(&volume.voxels, &permutation), permutation.apply(&volume.geometry))
}

/// Undoes [`canonical_ras_zyx`] for any voxels on its grid (a mask, logits): back to the axis
/// order of `original`.
pub fn from_canonical_ras_zyx<T: Clone>(
    voxels: &Array3<T>,
    original: &VolumeGeometry,
) -> Array3<T> {
    let permutation = AxisPermutation::closest(original, AxisOrder::SuperiorAnteriorRight);
    reorder(voxels, &permutation.inverse())
}
