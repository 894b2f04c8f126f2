//! What must hold before a byte is written: a wrong Segmentation cannot be built.

use super::{Provenance, SegError, SegInput, SegmentInput, SegmentationType, frames};
use crate::dicom::SopInstanceUid;
use crate::runtime::vocabulary::Code;
use crate::series::Series;

/// Most frames of one object; as many as an unsigned 16-bit frame number can count.
pub(super) const FRAME_COUNT_MAX: usize = 65_535;
/// Most segments, rows or columns (US).
const US_MAX: usize = 65_535;

/// Checks the whole input.
pub(super) fn check(input: &SegInput<'_>) -> Result<(), SegError> {
    if input.segments.is_empty() {
        return Err(SegError::NoSegments);
    }
    at_most("segments", input.segments.len(), US_MAX)?;
    check_series(input.series)?;
    check_provenance(&input.provenance)?;
    for (number, segment) in (1..).zip(&input.segments) {
        check_segment(number, segment, input.series)?;
    }
    check_tracking_is_unique(&input.segments)?;
    check_overlap(input)
}

/// Checks that there is one finite volume, in millilitres, for each segment.
pub(super) fn check_volumes(input: &SegInput<'_>, volumes_ml: &[f64]) -> Result<(), SegError> {
    let (found, expected) = (volumes_ml.len(), input.segments.len());
    if found != expected {
        return Err(SegError::VolumeCount { found, expected });
    }
    match volumes_ml.iter().position(|volume| !volume.is_finite() || *volume < 0.0) {
        Some(index) => Err(SegError::Volume { number: index + 1, ml: volumes_ml[index] }),
        None => Ok(()),
    }
}

fn check_overlap(input: &SegInput<'_>) -> Result<(), SegError> {
    let is_label_map = input.options.segmentation_type == SegmentationType::Labelmap;
    match frames::overlapping(input).filter(|_| is_label_map) {
        Some((first, second)) => Err(SegError::SegmentsOverlap { first, second }),
        None => Ok(()),
    }
}

/// Fails when there are more than `max`.
pub(super) fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), SegError> {
    if found > max { Err(SegError::TooLarge { what, found, max }) } else { Ok(()) }
}

fn check_series(series: &Series) -> Result<(), SegError> {
    let impossible = |fact: &str| Err(SegError::Series(fact.to_owned()));
    if series.frames.is_empty() {
        return impossible("it has no frames");
    }
    if series.rows == 0 || series.columns == 0 {
        return impossible("its frames have no pixels");
    }
    at_most("rows", series.rows, US_MAX)?;
    at_most("columns", series.columns, US_MAX)?;
    let in_range = |index: usize| index < series.instances.len();
    if !series.frames.iter().all(|f| in_range(f.instance_index) && f.frame_number > 0) {
        return impossible("a frame names an instance or frame number that is not there");
    }
    let spacing_is_positive = series.pixel_spacing_mm.iter().all(|v| v.is_finite() && *v > 0.0);
    let directions = series.orientation.as_flattened().iter();
    let positions = series.frames.iter().flat_map(|frame| &frame.position.0);
    if !spacing_is_positive || !directions.chain(positions).all(|value| value.is_finite()) {
        return impossible("its spacing, orientation or positions are not finite numbers");
    }
    Ok(())
}

fn check_provenance(provenance: &Provenance) -> Result<(), SegError> {
    let bundles = std::iter::once(&provenance.backbone).chain(&provenance.reasoner);
    for bundle in bundles {
        not_blank("bundle name", &bundle.name)?;
        not_blank("bundle version", &bundle.version)?;
        not_blank("bundle hash", &bundle.sha256)?;
    }
    not_blank("server version", &provenance.server_version)?;
    not_blank("order hash", &provenance.order_hash)?;
    is_uid("device uid", &provenance.device_uid)
}

fn check_segment(
    number: usize,
    segment: &SegmentInput<'_>,
    series: &Series,
) -> Result<(), SegError> {
    not_blank("segment label", &segment.label)?;
    not_blank("segment algorithm name", &segment.algorithm_name)?;
    not_blank("tracking id", &segment.tracking.id)?;
    is_uid("tracking uid", &segment.tracking.uid)?;
    let coding = &segment.coding;
    let codes = [&coding.category, &coding.property_type].into_iter().chain(&coding.modifier);
    codes.into_iter().try_for_each(check_code)?;
    let found: [usize; 3] = segment.mask.dim().into();
    let expected = [series.frames.len(), series.rows, series.columns];
    if found != expected {
        return Err(SegError::ShapeDiffers { number, found, expected });
    }
    Ok(())
}

fn check_code(code: &Code) -> Result<(), SegError> {
    not_blank("code value", &code.value)?;
    not_blank("coding scheme designator", &code.scheme)?;
    not_blank("code meaning", &code.meaning)
}

fn check_tracking_is_unique(segments: &[SegmentInput<'_>]) -> Result<(), SegError> {
    for (index, segment) in segments.iter().enumerate() {
        let earlier = segments[..index].iter().position(|s| s.tracking.uid == segment.tracking.uid);
        if let Some(first) = earlier {
            return Err(SegError::TrackingRepeats { first: first + 1, second: index + 1 });
        }
    }
    Ok(())
}

fn not_blank(what: &'static str, text: &str) -> Result<(), SegError> {
    if text.trim().is_empty() { Err(SegError::Blank { what }) } else { Ok(()) }
}

/// UIDs we make are held to the letter (PS3.5 §9.1): no padding, no leading zeros.
fn is_uid(what: &'static str, text: &str) -> Result<(), SegError> {
    let no_leading_zero = text.split('.').all(|part| part == "0" || !part.starts_with('0'));
    match SopInstanceUid::parse(text) {
        Ok(uid) if uid.as_str() == text && no_leading_zero => Ok(()),
        _ => Err(SegError::NotAUid { what, length: text.len() }),
    }
}
