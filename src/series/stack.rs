//! One stack out of the frames of a series: which frames belong together, in which order.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::SeriesError;
use super::facts::{Condition, ConditionValue, FrameFacts};
use super::spacing::{crookedness_mm, gaps_of, normal_of};
use crate::error::Finding;
use crate::geometry::{dot, norm};

/// Directions that differ by no more than this are parallel: 0.4 mm over a 250 mm slice.
const PARALLEL_DEG: f64 = 0.1;
/// Pixel spacings that differ by no more than this share are equal.
const SPACING_SHARE: f64 = 1e-3;
/// Frames this close along the normal lie at one position.
const SAME_POSITION_MM: f64 = 0.01;
/// A condition is used to choose among frames at one position only when one of its values covers
/// this share of all positions.
const COVERAGE: f64 = 0.9;
/// A gap of more than this many median gaps ends a stack.
const SPLIT_GAPS: f64 = 5.0;

/// Says whether two frames show the same pixels.
pub(super) type SamePixels<'a> = dyn Fn(&FrameFacts, &FrameFacts) -> bool + 'a;

/// Picks the largest stack and orders it along its normal; one frame per position.
pub(super) fn pick(
    frames: Vec<FrameFacts>,
    same_pixels: &SamePixels<'_>,
) -> Result<(Vec<FrameFacts>, Vec<Finding>), SeriesError> {
    let mut findings = Vec::new();
    let mut frames = largest_group(frames, &mut findings);
    let Some(first) = frames.first() else { return Err(SeriesError::Empty) };
    let normal = normal_of(first.orientation);
    frames.sort_by(|a, b| {
        along(a, normal).total_cmp(&along(b, normal)).then_with(|| a.rank.cmp(&b.rank))
    });
    for condition in Condition::ALL {
        frames = one_condition(frames, condition, normal, &mut findings);
    }
    let frames = one_per_position(frames, normal, same_pixels, &mut findings);
    let frames = longest_run(frames, normal, &mut findings);
    if frames.len() < 2 {
        return Err(SeriesError::TooFewSlices { count: frames.len() });
    }
    refuse_crooked(&frames, normal)?;
    Ok((frames, findings))
}

fn along(frame: &FrameFacts, normal: [f64; 3]) -> f64 {
    dot(frame.position, normal)
}

/// Frames that agree on plane, matrix, pixel spacing, stack and frame of reference.
fn largest_group(frames: Vec<FrameFacts>, findings: &mut Vec<Finding>) -> Vec<FrameFacts> {
    let total = frames.len();
    let mut groups: Vec<Vec<FrameFacts>> = Vec::new();
    for frame in frames {
        match groups.iter_mut().find(|group| difference(&group[0], &frame).is_none()) {
            Some(group) => group.push(frame),
            None => groups.push(vec![frame]),
        }
    }
    // The first of the largest: groups come in the order of SOP Instance UIDs, so the choice does
    // not hang on the order of the files.
    groups.sort_by(|a, b| compare_groups(b, a));
    let mut groups = groups.into_iter();
    let kept = groups.next().unwrap_or_default();
    for (code, noun) in Difference::ALL.map(Difference::names) {
        let others: Vec<usize> = groups
            .as_slice()
            .iter()
            .filter(|group| difference(&kept[0], &group[0]).is_some_and(|d| d.names().0 == code))
            .map(Vec::len)
            .collect();
        if !others.is_empty() {
            let dropped: usize = others.iter().sum();
            let message = format!(
                "series mixes {} {noun}; the stack of {} frames was kept, {dropped} of {total} \
                 frames were dropped",
                others.len() + 1,
                kept.len(),
            );
            findings.push(Finding::new(code, message));
        }
    }
    kept
}

/// More positions first, then more frames, then the plane closest to axial.
fn compare_groups(a: &[FrameFacts], b: &[FrameFacts]) -> Ordering {
    let normal = |group: &[FrameFacts]| normal_of(group[0].orientation);
    let size = |group: &[FrameFacts]| (positions_of(group, normal(group)).len(), group.len());
    let axial = |group: &[FrameFacts]| normal(group)[2].abs();
    size(a).cmp(&size(b)).then_with(|| axial(a).total_cmp(&axial(b)))
}

#[derive(Debug, Clone, Copy)]
enum Difference {
    Orientation,
    Matrix,
    PixelSpacing,
    Stack,
    FrameOfReference,
}

impl Difference {
    const ALL: [Self; 5] =
        [Self::Orientation, Self::Matrix, Self::PixelSpacing, Self::Stack, Self::FrameOfReference];

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Orientation => ("mixed_orientations", "slice orientations"),
            Self::Matrix => ("mixed_matrices", "matrices (rows x columns)"),
            Self::PixelSpacing => ("mixed_pixel_spacings", "pixel spacings"),
            Self::Stack => ("several_stacks", "stacks"),
            Self::FrameOfReference => ("several_frames_of_reference", "frames of reference"),
        }
    }
}

fn difference(a: &FrameFacts, b: &FrameFacts) -> Option<Difference> {
    let limit = 2.0 * (PARALLEL_DEG.to_radians() / 2.0).sin();
    let apart = |a: [f64; 3], b: [f64; 3]| norm(std::array::from_fn(|i| a[i] - b[i])) > limit;
    let unequal = |a: f64, b: f64| (a - b).abs() > SPACING_SHARE * a;
    if (0..2).any(|i| apart(a.orientation[i], b.orientation[i])) {
        Some(Difference::Orientation)
    } else if (a.rows, a.columns) != (b.rows, b.columns) {
        Some(Difference::Matrix)
    } else if (0..2).any(|i| unequal(a.pixel_spacing_mm[i], b.pixel_spacing_mm[i])) {
        Some(Difference::PixelSpacing)
    } else if a.stack_id != b.stack_id {
        Some(Difference::Stack)
    } else if a.frame_of_reference_uid != b.frame_of_reference_uid {
        Some(Difference::FrameOfReference)
    } else {
        None
    }
}

/// Distinct positions along the normal, ascending.
fn positions_of(frames: &[FrameFacts], normal: [f64; 3]) -> Vec<f64> {
    let mut all: Vec<f64> = frames.iter().map(|frame| along(frame, normal)).collect();
    all.sort_by(f64::total_cmp);
    all.dedup_by(|next, kept| *next - *kept <= SAME_POSITION_MM);
    all
}

/// Where positions repeat and `condition` tells their frames apart, keeps the frames of one of
/// its values: the one at most positions, the smallest among equals.
fn one_condition(
    frames: Vec<FrameFacts>,
    condition: Condition,
    normal: [f64; 3],
    findings: &mut Vec<Finding>,
) -> Vec<FrameFacts> {
    let index = Condition::ALL.iter().position(|c| *c == condition).unwrap_or_default();
    let value = |frame: &FrameFacts| frame.conditions[index].clone();
    let varies = same_positions(&frames, normal)
        .any(|group| group.iter().any(|frame| value(frame) != value(&group[0])));
    if !varies {
        return frames;
    }
    let mut values: Vec<Option<ConditionValue>> = frames.iter().map(value).collect();
    values.sort_by(|a, b| match (a, b) {
        (Some(a), Some(b)) => a.compare(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    values.dedup();
    let all = positions_of(&frames, normal).len();
    let with = |wanted: &Option<ConditionValue>| -> Vec<FrameFacts> {
        frames.iter().filter(|frame| value(frame) == *wanted).cloned().collect()
    };
    let (mut kept, mut kept_count) = (Vec::new(), 0);
    for wanted in &values {
        let candidate = with(wanted);
        let count = positions_of(&candidate, normal).len();
        if count > kept_count {
            (kept, kept_count) = (candidate, count);
        }
    }
    if (kept_count as f64) < COVERAGE * all as f64 {
        return frames;
    }
    let (code, noun) = condition.names();
    let shown = kept[0].conditions[index].as_ref().map_or("none", |value| value.text.as_str());
    let message = format!(
        "slices repeat with {} {noun}; those of {shown} were kept, {} of {} frames were dropped",
        values.len(),
        frames.len() - kept.len(),
        frames.len(),
    );
    findings.push(Finding::new(code, message));
    kept
}

/// Runs of frames at one position, in frames sorted along the normal.
fn same_positions(frames: &[FrameFacts], normal: [f64; 3]) -> impl Iterator<Item = &[FrameFacts]> {
    frames.chunk_by(move |a, b| along(b, normal) - along(a, normal) <= SAME_POSITION_MM)
}

/// The earliest frame of each position; says whether the others were copies.
fn one_per_position(
    frames: Vec<FrameFacts>,
    normal: [f64; 3],
    same_pixels: &SamePixels<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<FrameFacts> {
    let (mut copies, mut repeats) = (0, 0);
    let mut kept = Vec::with_capacity(frames.len());
    for group in same_positions(&frames, normal) {
        let mut group: Vec<&FrameFacts> = group.iter().collect();
        group.sort_by(|a, b| a.rank.cmp(&b.rank));
        for other in &group[1..] {
            *(if same_pixels(group[0], other) { &mut copies } else { &mut repeats }) += 1;
        }
        kept.push(group[0].clone());
    }
    if copies > 0 {
        let message = format!("{copies} slices are exact copies of others and were dropped");
        findings.push(Finding::new("duplicate_slices", message));
    }
    if repeats > 0 {
        let message = format!(
            "{repeats} further slices lie at positions already taken, with other pixels; the \
             earliest slice of each position was kept"
        );
        findings.push(Finding::new("repeated_positions", message));
    }
    kept
}

/// The longest run of frames without a gap so wide that it is no longer one stack.
fn longest_run(
    frames: Vec<FrameFacts>,
    normal: [f64; 3],
    findings: &mut Vec<Finding>,
) -> Vec<FrameFacts> {
    let positions: Vec<f64> = frames.iter().map(|frame| along(frame, normal)).collect();
    let gaps = gaps_of(&positions);
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let Some(median) = sorted.get(sorted.len().saturating_sub(1) / 2) else { return frames };
    let cuts: BTreeSet<usize> = gaps
        .iter()
        .enumerate()
        .filter(|(_, gap)| **gap > SPLIT_GAPS * median)
        .map(|(index, _)| index + 1)
        .collect();
    if cuts.is_empty() {
        return frames;
    }
    let bounds: Vec<usize> = [0].into_iter().chain(cuts).chain([frames.len()]).collect();
    let mut longest = 0..0;
    for pair in bounds.windows(2) {
        if pair[1] - pair[0] > longest.len() {
            longest = pair[0]..pair[1];
        }
    }
    let message = format!(
        "a gap of {:.1} mm (the usual step is {median:.2} mm) parts the slices; the longest run \
         of {} slices was kept, {} were dropped",
        sorted[sorted.len() - 1],
        longest.len(),
        frames.len() - longest.len(),
    );
    findings.push(Finding::new("parted_stack", message));
    frames[longest].to_vec()
}

/// Positions may lean (gantry tilt) but must follow a straight line, to a pixel or a millimetre.
fn refuse_crooked(frames: &[FrameFacts], normal: [f64; 3]) -> Result<(), SeriesError> {
    let positions: Vec<[f64; 3]> = frames.iter().map(|frame| frame.position).collect();
    let deviation_mm = crookedness_mm(&positions, normal);
    let [row_mm, column_mm] = frames[0].pixel_spacing_mm;
    let limit_mm = row_mm.max(column_mm).max(1.0);
    if deviation_mm > limit_mm {
        return Err(SeriesError::Crooked { deviation_mm, limit_mm });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
