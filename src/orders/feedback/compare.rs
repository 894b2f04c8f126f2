//! How well a result agrees with a reviewer's segmentation.

use ndarray::{Array3, Zip};
use serde::{Deserialize, Serialize};

use super::FeedbackError;
use crate::archive::Archive;
use crate::dicom::{Instance, SeriesUid, StudyUid};
use crate::dicom_seg::{SegReader, SegmentDescription};
use crate::series;

/// Agreement of one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SegmentAgreement {
    /// Its label: ours, or the reviewer's where we have none.
    pub label: String,
    /// Dice coefficient; 0 where only one of the two has the segment.
    pub dice: f64,
    /// Whether both have it.
    pub in_both: bool,
}

/// The reward of a comparison: the mean Dice over the segments of either side.
pub(super) fn reward(segments: &[SegmentAgreement]) -> f64 {
    let sum: f64 = segments.iter().map(|segment| segment.dice).sum();
    sum / segments.len().max(1) as f64
}

/// Compares two segmentations of a series, segment by segment; without ours, the order was refused
/// and lacks all of theirs. Only the masks of one pair are held at a time: a file of a few
/// kilobytes may describe thousands of segments.
///
/// # Errors
/// When a segmentation is not one of this series, or ours and theirs have no segment in common.
pub(super) fn agreement(
    archive: &Archive,
    (study, source): (&StudyUid, &SeriesUid),
    ours: Option<&Instance>,
    theirs: &Instance,
) -> Result<Vec<SegmentAgreement>, FeedbackError> {
    let (series, _) = series::assemble(archive.load_series(study, source)?)?;
    let (theirs, _) = SegReader::open(theirs, &series)?;
    let Some(ours) = ours else {
        let missed = theirs.segments().map(|segment| SegmentAgreement {
            label: segment.label.clone(),
            dice: 0.0,
            in_both: false,
        });
        return Ok(missed.collect());
    };
    let (ours, _) = SegReader::open(ours, &series)?;
    let pairs = paired(ours.segments().collect(), theirs.segments().collect());
    if !pairs.iter().any(|pair| pair.numbers.is_some()) {
        return Err(FeedbackError::NothingInCommon);
    }
    let compared = pairs.into_iter().map(|Pair { label, numbers }| {
        let dice = match numbers {
            Some((left, right)) => dice(&ours.mask(left)?, &theirs.mask(right)?),
            None => 0.0,
        };
        Ok(SegmentAgreement { label, dice, in_both: numbers.is_some() })
    });
    compared.collect()
}

/// A segment of either side, with the numbers it has on ours and on theirs when both have it.
struct Pair {
    label: String,
    numbers: Option<(u16, u16)>,
}

/// Pairs segments by code and side, then by label.
fn paired(ours: Vec<&SegmentDescription>, theirs: Vec<&SegmentDescription>) -> Vec<Pair> {
    let mut left = theirs;
    let mut pairs = Vec::new();
    for segment in ours {
        let by = |same: fn(&SegmentDescription, &SegmentDescription) -> bool| {
            left.iter().position(|other| same(segment, other))
        };
        let found = by(same_code).or_else(|| by(same_label));
        let numbers = found.map(|at| (segment.number, left.remove(at).number));
        pairs.push(Pair { label: segment.label.clone(), numbers });
    }
    pairs.extend(left.into_iter().map(|other| Pair { label: other.label.clone(), numbers: None }));
    pairs
}

fn same_code(left: &SegmentDescription, right: &SegmentDescription) -> bool {
    let same = |left: &crate::runtime::vocabulary::Code,
                right: &crate::runtime::vocabulary::Code| {
        left.value == right.value && left.scheme == right.scheme
    };
    let types = match (&left.property_type, &right.property_type) {
        (Some(left), Some(right)) => same(left, right),
        _ => false,
    };
    let (left, right) = (&left.modifiers, &right.modifiers);
    types && left.len() == right.len() && left.iter().all(|l| right.iter().any(|r| same(l, r)))
}

fn same_label(left: &SegmentDescription, right: &SegmentDescription) -> bool {
    let plain = |label: &str| label.trim().replace('_', " ").to_lowercase();
    !left.label.trim().is_empty() && plain(&left.label) == plain(&right.label)
}

/// Dice coefficient of two masks on the same frames; 1 when both are empty.
fn dice(left: &Array3<bool>, right: &Array3<bool>) -> f64 {
    let (mut both, mut sum) = (0_usize, 0_usize);
    Zip::from(left).and(right).for_each(|left, right| {
        both += usize::from(*left && *right);
        sum += usize::from(*left) + usize::from(*right);
    });
    if sum == 0 { 1.0 } else { 2.0 * both as f64 / sum as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::vocabulary::Code;

    fn segment(
        number: u16,
        label: &str,
        code: Option<&str>,
        side: Option<&str>,
    ) -> SegmentDescription {
        let code_of =
            |value: &str| Code { value: value.into(), scheme: "SCT".into(), meaning: value.into() };
        SegmentDescription {
            number,
            label: label.into(),
            category: None,
            property_type: code.map(code_of),
            modifiers: side.map(code_of).into_iter().collect(),
            tracking_uid: None,
            cielab: None,
        }
    }

    fn mask(inside: &[usize]) -> Array3<bool> {
        Array3::from_shape_fn([1, 2, 5], |(_, r, c)| inside.contains(&(5 * r + c)))
    }

    #[test]
    fn segments_pair_by_code_and_side_then_by_label() {
        let ours = [
            segment(1, "left kidney", Some("K"), Some("L")),
            segment(4, "spleen", Some("S"), None),
            segment(5, "liver", None, None),
        ];
        let theirs = [
            segment(1, "right one", Some("K"), Some("R")),
            segment(2, "Segment_1", Some("K"), Some("L")),
            segment(3, "Spleen", None, None),
        ];
        let pairs = paired(ours.iter().collect(), theirs.iter().collect());
        let found: Vec<_> = pairs.iter().map(|pair| (pair.label.as_str(), pair.numbers)).collect();
        assert_eq!(
            found,
            [
                ("left kidney", Some((1, 2))),
                ("spleen", Some((4, 3))),
                ("liver", None),
                ("right one", None),
            ]
        );
    }

    #[test]
    fn dice_is_the_overlap_over_the_mean_size() {
        let check = |left: &[usize], right: &[usize], expected: f64| {
            assert!((dice(&mask(left), &mask(right)) - expected).abs() < 1e-12);
        };
        check(&[0, 1, 2], &[1, 2, 3], 2.0 / 3.0);
        check(&[7], &[7, 8], 2.0 / 3.0);
        check(&[], &[], 1.0);
        check(&[], &[1], 0.0);
    }

    #[test]
    fn reward_is_the_mean_over_both_sides_segments() {
        let agreement =
            |dice: f64| SegmentAgreement { label: "a".into(), dice, in_both: dice > 0.0 };
        assert!((reward(&[agreement(1.0), agreement(0.0)]) - 0.5).abs() < 1e-12);
    }
}
