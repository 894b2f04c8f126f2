//! How well a result agrees with a reviewer's segmentation.

use ndarray::{Array3, Zip};
use serde::{Deserialize, Serialize};

use super::FeedbackError;
use crate::archive::Archive;
use crate::dicom::{Instance, SeriesUid, StudyUid};
use crate::dicom_seg::{self, SegSegment, SegmentDescription};
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

/// Compares two segmentations of a series, segment by segment.
pub(super) fn agreement(
    archive: &Archive,
    (study, source): (&StudyUid, &SeriesUid),
    ours: &Instance,
    theirs: &Instance,
) -> Result<Vec<SegmentAgreement>, FeedbackError> {
    let (series, _) = series::assemble(archive.load_series(study, source)?)?;
    let (ours, _) = dicom_seg::read(ours, &series)?;
    let (theirs, _) = dicom_seg::read(theirs, &series)?;
    let compared = compared(&ours, &theirs);
    if compared.iter().any(|segment| segment.in_both) {
        Ok(compared)
    } else {
        Err(FeedbackError::NothingInCommon)
    }
}

/// Pairs segments by code and side, then by label.
fn compared(ours: &[SegSegment], theirs: &[SegSegment]) -> Vec<SegmentAgreement> {
    let mut left: Vec<&SegSegment> = theirs.iter().collect();
    let mut compared = Vec::new();
    for segment in ours {
        let label = segment.description.label.clone();
        let by = |same: fn(&SegmentDescription, &SegmentDescription) -> bool| {
            left.iter().position(|other| same(&segment.description, &other.description))
        };
        let found = by(same_code).or_else(|| by(same_label));
        compared.push(match found.map(|at| left.remove(at)) {
            Some(other) => {
                SegmentAgreement { label, dice: dice(&segment.mask, &other.mask), in_both: true }
            }
            None => SegmentAgreement { label, dice: 0.0, in_both: false },
        });
    }
    compared.extend(left.into_iter().map(|other| SegmentAgreement {
        label: other.description.label.clone(),
        dice: 0.0,
        in_both: false,
    }));
    compared
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
        label: &str,
        code: Option<&str>,
        side: Option<&str>,
        inside: &[usize],
    ) -> SegSegment {
        let code_of =
            |value: &str| Code { value: value.into(), scheme: "SCT".into(), meaning: value.into() };
        SegSegment {
            description: SegmentDescription {
                number: 1,
                label: label.into(),
                category: None,
                property_type: code.map(code_of),
                modifiers: side.map(code_of).into_iter().collect(),
                tracking_uid: None,
                cielab: None,
            },
            mask: Array3::from_shape_fn([1, 2, 5], |(_, r, c)| inside.contains(&(5 * r + c))),
        }
    }

    #[test]
    fn segments_pair_by_code_and_side_then_by_label() {
        let ours = [
            segment("left kidney", Some("K"), Some("L"), &[0, 1, 2]),
            segment("spleen", Some("S"), None, &[7]),
        ];
        let theirs = [
            segment("right one", Some("K"), Some("R"), &[0, 1, 2]),
            segment("Segment_1", Some("K"), Some("L"), &[1, 2, 3]),
            segment("Spleen", None, None, &[7, 8]),
        ];
        let found: Vec<(String, f64, bool)> = compared(&ours, &theirs)
            .into_iter()
            .map(|s| (s.label, (s.dice * 1000.0).round() / 1000.0, s.in_both))
            .collect();
        assert_eq!(
            found,
            [
                ("left kidney".to_owned(), 0.667, true),
                ("spleen".to_owned(), 0.667, true),
                ("right one".to_owned(), 0.0, false),
            ]
        );
    }

    #[test]
    fn reward_is_the_mean_over_both_sides_segments() {
        let segments = compared(
            &[segment("a", None, None, &[1])],
            &[segment("a", None, None, &[1]), segment("b", None, None, &[2])],
        );
        assert!((reward(&segments) - 0.5).abs() < 1e-12);
    }
}
