//! What a reference shows in the views: where, on which side, next to what.

use ndarray::Array3;

use crate::geometry::{Coordinates, ViewPoint, VolumeGeometry, VoxelPoint};
use crate::view::{Plane, View};
use crate::volume::Mask;

/// A structure that covers fewer pixels of a view than this share is not called visible there.
const SHARE_MIN: f64 = 0.0002;
/// Two centres must be this far apart, in millimetres, for a relation.
const RELATION_MM_MIN: f64 = 8.0;
/// And this much farther along one axis than along the others.
const RELATION_RATIO_MIN: f64 = 1.3;

/// A structure in one view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// The view's number, from 1.
    pub view: usize,
    /// Its plane.
    pub plane: Plane,
    /// Share of the view's pixels that it covers.
    pub share: f64,
    /// Centre from the left, 0 to 1.
    pub from_left: f64,
    /// Centre from the top, 0 to 1.
    pub from_top: f64,
}

/// The voxels under the pixels of views.
pub(super) struct Footprints {
    /// Per view, the voxel under each pixel; none outside of the volume.
    voxels: Vec<Vec<Option<[usize; 3]>>>,
}

impl Footprints {
    pub(super) fn of(views: &[View], geometry: &VolumeGeometry) -> Self {
        let shape = geometry.shape();
        let under = |view: &View| -> Vec<Option<[usize; 3]>> {
            let to_voxel = view.view_to_patient.then(geometry.patient_to_voxel());
            (0..view.size * view.size)
                .map(|pixel| {
                    let (row, column) = (pixel / view.size, pixel % view.size);
                    let at = to_voxel.apply(ViewPoint([0.0, row as f64, column as f64]));
                    nearest(at, shape)
                })
                .collect()
        };
        Self { voxels: views.iter().map(under).collect() }
    }

    /// The views in which a structure is visible.
    pub(super) fn sights(&self, views: &[View], inside: &Array3<bool>) -> Vec<Sight> {
        let mut sights = Vec::new();
        for (view, voxels) in views.iter().zip(&self.voxels) {
            let (mut count, mut rows, mut columns) = (0_usize, 0_usize, 0_usize);
            for (pixel, voxel) in voxels.iter().enumerate() {
                if voxel.is_some_and(|voxel| inside[voxel]) {
                    count += 1;
                    rows += pixel / view.size;
                    columns += pixel % view.size;
                }
            }
            let share = count as f64 / voxels.len().max(1) as f64;
            if count > 0 && share >= SHARE_MIN {
                let mean = |sum: usize| (sum as f64 / count as f64 + 0.5) / view.size as f64;
                sights.push(Sight {
                    view: view.number,
                    plane: view.plane,
                    share,
                    from_left: mean(columns),
                    from_top: mean(rows),
                });
            }
        }
        sights
    }
}

/// The views in which a structure is visible: those on which it covers enough pixels.
pub fn sights(views: &[View], mask: &Mask) -> Vec<Sight> {
    Footprints::of(views, &mask.geometry).sights(views, &mask.voxels)
}

fn nearest(at: VoxelPoint, shape: [usize; 3]) -> Option<[usize; 3]> {
    let at = at.to_array().map(f64::round);
    let fits = at.iter().zip(shape).all(|(index, count)| (0.0..count as f64).contains(index));
    fits.then(|| at.map(|index| index as usize))
}

/// Mean position of a mask, LPS in millimetres; none for an empty one.
pub(super) fn centre(mask: &Mask) -> Option<[f64; 3]> {
    let (mut sum, mut count) = ([0.0; 3], 0_usize);
    for ((slice, row, column), inside) in mask.voxels.indexed_iter() {
        if *inside {
            count += 1;
            sum[0] += slice as f64;
            sum[1] += row as f64;
            sum[2] += column as f64;
        }
    }
    let mean = VoxelPoint(sum.map(|total| total / count.max(1) as f64));
    (count > 0).then(|| mask.geometry.voxel_to_patient().apply(mean).0)
}

/// Where `this` lies, seen from `that`, in one phrase; none when no direction is clear.
pub(super) fn relation(this: [f64; 3], that: [f64; 3]) -> Option<&'static str> {
    let difference: [f64; 3] = std::array::from_fn(|axis| this[axis] - that[axis]);
    let axis = (0..3).max_by(|a, b| difference[*a].abs().total_cmp(&difference[*b].abs()))?;
    let length = difference[axis].abs();
    let others = (0..3).filter(|other| *other != axis).map(|other| difference[other].abs());
    let clear = others.fold(0.0, f64::max) * RELATION_RATIO_MIN <= length;
    if length < RELATION_MM_MIN || !clear {
        return None;
    }
    let grows = difference[axis] > 0.0;
    Some(match (axis, grows) {
        (0, true) => "to the left of",
        (0, false) => "to the right of",
        (1, true) => "behind",
        (1, false) => "in front of",
        (_, true) => "above",
        (_, false) => "below",
    })
}

/// `views 2, 3 and 4`, or `view 2`.
pub(super) fn views_in_words(sights: &[Sight]) -> String {
    let numbers: Vec<String> = sights.iter().map(|sight| sight.view.to_string()).collect();
    match &numbers[..] {
        [] => "no view".to_owned(),
        [one] => format!("view {one}"),
        [first @ .., last] => format!("views {} and {last}", first.join(", ")),
    }
}

/// Which half of the picture holds a structure in the views that show sides; none across the middle.
pub(super) fn half(sights: &[Sight]) -> Option<&'static str> {
    let sided: Vec<&Sight> = sights.iter().filter(|sight| sight.plane != Plane::Sagittal).collect();
    let all = |condition: &dyn Fn(f64) -> bool| {
        !sided.is_empty() && sided.iter().all(|sight| condition(sight.from_left))
    };
    if all(&|x| x < 0.47) {
        Some("left half")
    } else if all(&|x| x > 0.53) {
        Some("right half")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_need_a_clear_direction() {
        let check = |this: [f64; 3], expected| assert_eq!(relation(this, [0.0; 3]), expected);
        check([20.0, 3.0, -4.0], Some("to the left of"));
        check([-20.0, 3.0, -4.0], Some("to the right of"));
        check([0.0, 12.0, 1.0], Some("behind"));
        check([0.0, -12.0, 1.0], Some("in front of"));
        check([1.0, 2.0, 30.0], Some("above"));
        check([1.0, 2.0, -30.0], Some("below"));
        check([1.0, 2.0, 3.0], None);
        check([12.0, 11.0, 3.0], None);
    }
}
