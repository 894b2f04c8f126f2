//! Puts a Segmentation together (PS3.3 A.51).

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::document::{self, Moment, SERIES_NUMBER_BASE, SeriesText, copy, encode, put_equipment};
use super::elements::{LO_LENGTH_MAX, Object, PutElements, shortened};
use super::frames::{self, FramePlan};
use super::pixels::PixelLayout;
use super::validate::{self, FRAME_COUNT_MAX};
use super::{ResultObject, SegError, SegInput, SegmentationType, pixels, segments, source};
use crate::dicom::{Attributes, SeriesUid, SopInstanceUid};
use crate::error::Finding;
use crate::series::Series;

/// Content Label (CS) and Content Description.
const CONTENT_LABEL: &str = "RESEARCH_USE";
const CONTENT_DESCRIPTION: &str = "Automatic segmentation, research use only";
/// Longest value with an explicit 32-bit length that is even.
const VALUE_SIZE_BYTES_MAX: usize = 0xFFFF_FFFE;

/// Writes one Segmentation of all segments as a Part 10 file.
///
/// Frames lie on the source's frames, segment by segment when BINARY; pixels go straight into
/// the file, so the peak memory is the file's size. Findings tell of empty or relabelled segments
/// and of a generated frame of reference.
///
/// # Errors
/// [`SegError`] when the input cannot make a right object, or it would be too large.
pub fn write(input: &SegInput<'_>) -> Result<(ResultObject, Vec<Finding>), SegError> {
    validate::check(input)?;
    let (plan, empty_segments) = frames::plan(input);
    validate::at_most("frames", plan.len(), FRAME_COUNT_MAX)?;
    let layout = PixelLayout::of(input, plan.len());
    validate::at_most("pixel bytes", layout.size_bytes, VALUE_SIZE_BYTES_MAX)?;

    let mut findings: Vec<Finding> = empty_segments.into_iter().map(empty_segment).collect();
    let identity = ResultIdentity::of(input);
    let object = data_set(input, &identity, &plan, layout, &mut findings);
    let mut bytes = encode(object)?;
    pixels::append(&mut bytes, input, &plan, layout);
    let ResultIdentity { sop_instance_uid, series_uid, .. } = identity;
    let sop_class_uid = sop_class_uid(input.options.segmentation_type);
    Ok((ResultObject { sop_class_uid, sop_instance_uid, series_uid, bytes }, findings))
}

fn empty_segment(index: usize) -> Finding {
    Finding::new("segment_empty", format!("segment {} has no voxel", index + 1))
}

/// The UIDs of the result; the same order on the same series gives the same.
struct ResultIdentity {
    sop_instance_uid: SopInstanceUid,
    series_uid: SeriesUid,
    dimension_organization_uid: String,
}

impl ResultIdentity {
    fn of(input: &SegInput<'_>) -> Self {
        let parts =
            ["segmentation", &input.provenance.order_hash, input.series.series_uid.as_str()];
        let dimension_parts = ["dimension organization", parts[1], parts[2]];
        Self {
            sop_instance_uid: SopInstanceUid::derive(&parts),
            series_uid: SeriesUid::derive(&parts),
            dimension_organization_uid: SopInstanceUid::derive(&dimension_parts).to_string(),
        }
    }
}

/// Everything but the pixels.
fn data_set(
    input: &SegInput<'_>,
    identity: &ResultIdentity,
    plan: &[FramePlan],
    layout: PixelLayout,
    findings: &mut Vec<Finding>,
) -> Object {
    let series = input.series;
    let source: &Object = source::representative(series).object();
    let mut object = Object::new_empty();
    let labels = labels(input, findings);
    let our_texts: Vec<&str> = our_texts(input, &labels);
    source::copy_patient_and_study(source, &our_texts, &mut object);
    object.put_text(tags::STUDY_INSTANCE_UID, VR::UI, series.study_uid.as_str());
    put_frame_of_reference(&mut object, input, findings);
    put_series(&mut object, input, identity, &labels);
    put_equipment(&mut object, &input.provenance, source);
    put_image(&mut object, input, plan.len(), layout);
    let moment = Moment::of(input.created, source);
    moment.put(&mut object);
    let mut equipment: Vec<Object> = segments::acquisition_equipment(source).into_iter().collect();
    equipment.extend(segments::contributing_equipment(&input.provenance, &moment.date_time));
    object.put_items(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, equipment);
    object.put_items(tags::SEGMENT_SEQUENCE, segments::segment_items(input, &labels));
    frames::put_dimensions(&mut object, &identity.dimension_organization_uid, input);
    let shared = frames::shared_item(series);
    object.put_items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    let per_frame = frames::per_frame_items(series, plan);
    object.put_items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
    put_referenced_series(&mut object, series);
    object
}

/// Segment labels as they are written: one clean value of at most 64 characters; plain ASCII
/// beside text of the source that could not be decoded, because no character set serves both.
fn labels(input: &SegInput<'_>, findings: &mut Vec<Finding>) -> Vec<String> {
    let source: &Object = source::representative(input.series).object();
    let only_ascii = source::has_undecoded_text(source);
    let as_written = |label: &str| {
        let label = shortened(label, LO_LENGTH_MAX);
        if only_ascii { label.replace(|c: char| !c.is_ascii(), "?") } else { label }
    };
    let mut labels = Vec::new();
    for (number, segment) in (1..).zip(&input.segments) {
        let label = as_written(&segment.label);
        if label != segment.label.trim() {
            let message = format!("label of segment {number} was changed to fit DICOM");
            findings.push(Finding::new("segment_relabelled", message));
        }
        labels.push(label);
    }
    labels
}

pub(super) fn our_texts<'a>(input: &'a SegInput<'_>, labels: &'a [String]) -> Vec<&'a str> {
    let provenance = &input.provenance;
    let bundles = std::iter::once(&provenance.backbone).chain(&provenance.reasoner);
    let coding = input.segments.iter().flat_map(|segment| {
        let coding = &segment.coding;
        let codes = [&coding.category, &coding.property_type].into_iter().chain(&coding.modifier);
        codes.map(|code| code.meaning.as_str())
    });
    let algorithms = input.segments.iter().map(|segment| segment.algorithm_name.as_str());
    let names = bundles.flat_map(|bundle| [bundle.name.as_str(), bundle.version.as_str()]);
    labels.iter().map(String::as_str).chain(coding).chain(algorithms).chain(names).collect()
}

/// The source's Frame of Reference; one derived from the series where the source has none.
fn put_frame_of_reference(object: &mut Object, input: &SegInput<'_>, findings: &mut Vec<Finding>) {
    let series = input.series;
    let uid = series.frame_of_reference_uid.clone().unwrap_or_else(|| {
        let message = "series has no frame of reference uid; one was derived from its series uid";
        findings.push(Finding::new("frame_of_reference_generated", message));
        SopInstanceUid::derive(&["frame of reference", series.series_uid.as_str()]).to_string()
    });
    object.put_text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &uid);
    let source = source::representative(series).object();
    match source.get(tags::POSITION_REFERENCE_INDICATOR) {
        Some(element) => object.put(element.clone()).map_or((), drop),
        None => object.put_empty(tags::POSITION_REFERENCE_INDICATOR, VR::LO),
    }
}

/// General and Segmentation Series (PS3.3 C.7.3.1, C.8.20.1).
fn put_series(
    object: &mut Object,
    input: &SegInput<'_>,
    identity: &ResultIdentity,
    labels: &[String],
) {
    let description = format!("SEER {}", labels.join(", "));
    document::put_series(
        object,
        input.series,
        &SeriesText {
            modality: "SEG",
            series_uid: identity.series_uid.as_str(),
            number_base: SERIES_NUMBER_BASE,
            description: &description,
            sop_class_uid: sop_class_uid(input.options.segmentation_type),
            sop_instance_uid: identity.sop_instance_uid.as_str(),
        },
    );
}

fn sop_class_uid(kind: SegmentationType) -> &'static str {
    match kind {
        SegmentationType::Binary => uids::SEGMENTATION_STORAGE,
        SegmentationType::Labelmap => uids::LABEL_MAP_SEGMENTATION_STORAGE,
    }
}

/// Image Pixel and Segmentation Image (PS3.3 C.7.6.3, C.8.20.2).
fn put_image(object: &mut Object, input: &SegInput<'_>, frame_count: usize, layout: PixelLayout) {
    let series = input.series;
    let source = source::representative(series).object();
    object.put_texts(tags::IMAGE_TYPE, VR::CS, ["DERIVED", "PRIMARY"]);
    object.put_text(tags::NUMBER_OF_FRAMES, VR::IS, &frame_count.to_string());
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, series.rows as u16),
        (tags::COLUMNS, series.columns as u16),
        (tags::BITS_ALLOCATED, layout.bits),
        (tags::BITS_STORED, layout.bits),
        (tags::HIGH_BIT, layout.bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put_u16(tag, &[value]);
    }
    object.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    match input.options.segmentation_type {
        SegmentationType::Binary => object.put_text(tags::SEGMENTATION_TYPE, VR::CS, "BINARY"),
        SegmentationType::Labelmap => {
            object.put_text(tags::SEGMENTATION_TYPE, VR::CS, "LABELMAP");
            object.put_u16(tags::PIXEL_PADDING_VALUE, &[segments::BACKGROUND]);
        }
    }
    let overlap = if frames::overlapping(input).is_some() { "YES" } else { "NO" };
    object.put_text(tags::SEGMENTS_OVERLAP, VR::CS, overlap);
    object.put_text(tags::CONTENT_LABEL, VR::CS, CONTENT_LABEL);
    object.put_text(tags::CONTENT_DESCRIPTION, VR::LO, CONTENT_DESCRIPTION);
    object.put_text(tags::CONTENT_CREATOR_NAME, VR::PN, "Server^SEER");
    let is_lossy = source.string_opt(tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01");
    let lossy = if is_lossy { "01" } else { "00" };
    object.put_text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, lossy);
    if is_lossy {
        let details = [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD];
        copy(object, source, &details);
    }
}

/// Common Instance Reference (PS3.3 C.12.2): every instance of the source.
fn put_referenced_series(object: &mut Object, series: &Series) {
    let reference = |instance: &std::sync::Arc<crate::dicom::Instance>| {
        let mut item = Object::new_empty();
        frames::put_reference(&mut item, instance.identity());
        item
    };
    let mut item = Object::new_empty();
    item.put_text(tags::SERIES_INSTANCE_UID, VR::UI, series.series_uid.as_str());
    let references = series.instances.iter().map(reference).collect();
    item.put_items(tags::REFERENCED_INSTANCE_SEQUENCE, references);
    object.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![item]);
}
