//! Whether a mask lies on the side that was asked for.

use crate::eval::{EvalError, PackedMask};
use crate::geometry::{VolumeGeometry, VoxelPoint};
use crate::runtime::vocabulary::Laterality;
use crate::series::Modality;
use crate::volume::Volume;

use super::dice;

/// Share of a mask on the other side above which, without a reference of the other side, it
/// counts as an error of side.
const OTHER_SIDE_SHARE_MAX: f64 = 0.5;

/// The mean LPS x of what is not air, in millimetres: where left and right meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Middle(pub f64);

impl Middle {
    /// Measured on a volume: above -300 HU in CT, above the mean elsewhere.
    pub fn of(volume: &Volume) -> Self {
        let threshold = match volume.modality {
            Modality::Ct => -300.0,
            Modality::Mr | Modality::Other(_) => volume.voxels.mean().unwrap_or(0.0),
        };
        let (mut sum, mut count) = (0.0, 0_usize);
        for ((slice, row, column), value) in volume.voxels.indexed_iter() {
            if *value > threshold {
                sum += left_mm(&volume.geometry, [slice, row, column]);
                count += 1;
            }
        }
        Self(sum / count.max(1) as f64)
    }
}

/// What a mask's side is judged by.
pub struct SideJudge<'a> {
    /// The side that was asked for.
    pub side: Laterality,
    /// The reference of that side.
    pub own: &'a PackedMask,
    /// The reference of the other side, where the case has one.
    pub other: Option<&'a PackedMask>,
    /// The volume's grid.
    pub geometry: &'a VolumeGeometry,
    /// Where left and right meet.
    pub middle: Middle,
}

impl SideJudge<'_> {
    /// Whether the mask lies on the wrong side; none when that cannot be said.
    ///
    /// With a reference of the other side: the mask's Dice with it is higher than with its own.
    /// Without: more than half of the mask lies beyond the middle of the scanned body, while the
    /// reference does not. Targets without a side and empty masks cannot be on a wrong one.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn is_wrong(&self, mask: &PackedMask) -> Result<Option<bool>, EvalError> {
        let sign = match self.side {
            Laterality::Left => 1.0,
            Laterality::Right => -1.0,
            Laterality::Both | Laterality::None => return Ok(None),
        };
        if mask.voxel_count() == 0 {
            return Ok(None);
        }
        if let Some(other) = self.other.filter(|other| other.voxel_count() > 0) {
            return Ok(Some(dice(mask, other)? > dice(mask, self.own)?));
        }
        if self.share_beyond(self.own, sign) > OTHER_SIDE_SHARE_MAX {
            return Ok(None);
        }
        Ok(Some(self.share_beyond(mask, sign) > OTHER_SIDE_SHARE_MAX))
    }

    fn share_beyond(&self, mask: &PackedMask, sign: f64) -> f64 {
        let beyond = |at: &[usize; 3]| (left_mm(self.geometry, *at) - self.middle.0) * sign < 0.0;
        let count = mask.inside().filter(beyond).count();
        count as f64 / mask.voxel_count().max(1) as f64
    }
}

fn left_mm(geometry: &VolumeGeometry, at: [usize; 3]) -> f64 {
    geometry.voxel_to_patient().apply(VoxelPoint(at.map(|index| index as f64))).0[0]
}

/// The same name on the other side; none for a name without a side.
pub fn swapped_name(name: &str) -> Option<String> {
    let swapped = |word: &str| match word {
        "left" => Some("right"),
        "right" => Some("left"),
        _ => None,
    };
    let mut found = false;
    let words: Vec<&str> = name
        .split(' ')
        .map(|word| match swapped(word) {
            Some(other) => {
                found = true;
                other
            }
            None => word,
        })
        .collect();
    found.then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::PatientPoint;
    use ndarray::Array3;

    const SHAPE: [usize; 3] = [2, 3, 12];

    /// Columns run to the patient's right, from x = 30 down to -3: left is below column 6.
    fn grid() -> VolumeGeometry {
        VolumeGeometry::from_frames(
            SHAPE,
            PatientPoint([30.0, 0.0, 0.0]),
            [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]],
            [1.0, 3.0],
            [0.0, 0.0, 5.0],
        )
        .expect("a good grid")
    }

    fn columns(range: std::ops::Range<usize>) -> PackedMask {
        PackedMask::of(&Array3::from_shape_fn(SHAPE, |(.., x)| range.contains(&x)))
    }

    #[test]
    fn judges_by_the_twin_and_without_one_by_the_middle() {
        let geometry = grid();
        let voxels = Array3::from_shape_fn(SHAPE, |(.., x)| if x < 11 { 50.0 } else { -900.0 });
        let volume = Volume { geometry, voxels, modality: Modality::Ct };
        let middle = Middle::of(&volume);
        assert!((middle.0 - 15.0).abs() < 1e-9, "{middle:?}");
        let (left, right) = (columns(1..4), columns(7..10));
        let check = |side, own, other, mask: PackedMask, expected| {
            let judge = SideJudge { side, own, other, geometry: &geometry, middle };
            assert_eq!(judge.is_wrong(&mask).expect("one shape"), expected);
        };
        check(Laterality::Left, &left, Some(&right), columns(1..5), Some(false));
        check(Laterality::Left, &left, Some(&right), columns(6..10), Some(true));
        check(Laterality::Left, &left, None, columns(1..5), Some(false));
        check(Laterality::Left, &left, None, columns(6..10), Some(true));
        check(Laterality::Right, &right, None, columns(1..5), Some(true));
        check(Laterality::Left, &left, None, columns(0..0), None);
        check(Laterality::Both, &left, None, columns(6..10), None);
        // A scan that shows one side only has no middle to judge by.
        check(Laterality::Left, &right, None, columns(6..10), None);
    }

    #[test]
    fn swaps_sides_in_names() {
        assert_eq!(swapped_name("left hip bone").as_deref(), Some("right hip bone"));
        assert_eq!(swapped_name("right lung"), Some("left lung".to_owned()));
        assert_eq!(swapped_name("liver"), None);
    }
}
