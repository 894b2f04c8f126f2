//! Puts a Segmentation together (PS3.3 A.51).

use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::FileMetaTableBuilder;
use ndarray::Axis;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use super::elements::{LO_LENGTH_MAX, Object, PutElements, shortened};
use super::frames::{self, FramePlan};
use super::pack::{BitWriter, packed_size_bytes};
use super::validate::{self, FRAME_COUNT_MAX};
use super::{SegError, SegInput, SegObject, segments, source};
use crate::dicom::{Attributes, SeriesUid, SopInstanceUid};
use crate::error::Finding;
use crate::series::Series;

/// Content Label (CS) and Content Description.
const CONTENT_LABEL: &str = "RESEARCH_USE";
const CONTENT_DESCRIPTION: &str = "Automatic segmentation, research use only";
/// Series numbers of results lie above those of scanners.
const SERIES_NUMBER_BASE: i64 = 9000;
/// Implementation Class UID of this writer (a UUID under 2.25).
const IMPLEMENTATION_CLASS_UID: &str = "2.25.217064797362660415649801726194167947893";
/// Longest value with an explicit 32-bit length that is even.
const VALUE_SIZE_BYTES_MAX: usize = 0xFFFF_FFFE;

/// Writes one BINARY Segmentation of all segments as a Part 10 file.
///
/// Frames lie on the source's frames, segment by segment; bits are packed straight into the
/// file, so the peak memory is the file's size. Findings tell of empty or relabelled segments
/// and of a generated frame of reference.
///
/// # Errors
/// [`SegError`] when the input cannot make a right object, or it would be too large.
pub fn write(input: &SegInput<'_>) -> Result<(SegObject, Vec<Finding>), SegError> {
    validate::check(input)?;
    let (plan, empty_segments) = frames::plan(input);
    validate::at_most("frames", plan.len(), FRAME_COUNT_MAX)?;
    let bit_count = plan.len() * input.series.rows * input.series.columns;
    validate::at_most("pixel bytes", packed_size_bytes(bit_count), VALUE_SIZE_BYTES_MAX)?;

    let mut findings: Vec<Finding> = empty_segments.into_iter().map(empty_segment).collect();
    let identity = ResultIdentity::of(input);
    let object = data_set(input, &identity, &plan, &mut findings);
    let mut bytes = encode(object)?;
    append_pixel_data(&mut bytes, input, &plan, bit_count);
    let ResultIdentity { sop_instance_uid, series_uid, .. } = identity;
    Ok((SegObject { sop_instance_uid, series_uid, bytes }, findings))
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
    put_equipment(&mut object, input, source);
    put_image(&mut object, input, source, plan.len());
    let moment = Moment::of(input.created, source);
    moment.put(&mut object);
    let mut equipment: Vec<Object> = segments::acquisition_equipment(source).into_iter().collect();
    equipment.extend(segments::contributing_equipment(&input.provenance, &moment.date_time));
    object.put_items(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, equipment);
    object.put_items(tags::SEGMENT_SEQUENCE, segments::segment_items(input, &labels));
    frames::put_dimensions(&mut object, &identity.dimension_organization_uid, series);
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

fn our_texts<'a>(input: &'a SegInput<'_>, labels: &'a [String]) -> Vec<&'a str> {
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
    let source = source::representative(input.series);
    let number = source.i64_opt(tags::SERIES_NUMBER).ok().flatten().unwrap_or(0);
    let number = SERIES_NUMBER_BASE + number.rem_euclid(SERIES_NUMBER_BASE);
    object.put_text(tags::MODALITY, VR::CS, "SEG");
    object.put_text(tags::SERIES_INSTANCE_UID, VR::UI, identity.series_uid.as_str());
    object.put_text(tags::SERIES_NUMBER, VR::IS, &number.to_string());
    let description = format!("SEER {}", labels.join(", "));
    let description = shortened(&description, LO_LENGTH_MAX);
    object.put_text(tags::SERIES_DESCRIPTION, VR::LO, &description);
    object.put_text(tags::INSTANCE_NUMBER, VR::IS, "1");
    object.put_text(tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE);
    object.put_text(tags::SOP_INSTANCE_UID, VR::UI, identity.sop_instance_uid.as_str());
}

/// (Enhanced) General Equipment (PS3.3 C.7.5.1, C.7.5.2): this server.
fn put_equipment(object: &mut Object, input: &SegInput<'_>, source: &Object) {
    let provenance = &input.provenance;
    object.put_text(tags::MANUFACTURER, VR::LO, segments::ALGORITHM_SOURCE);
    object.put_text(tags::MANUFACTURER_MODEL_NAME, VR::LO, "SEER segmentation server");
    object.put_text(tags::DEVICE_SERIAL_NUMBER, VR::LO, &provenance.device_uid);
    object.put_text(tags::DEVICE_UID, VR::UI, &provenance.device_uid);
    let version = shortened(&provenance.server_version, LO_LENGTH_MAX);
    object.put_text(tags::SOFTWARE_VERSIONS, VR::LO, &version);
    copy(object, source, &[tags::INSTITUTION_NAME]);
}

/// Image Pixel and Segmentation Image (PS3.3 C.7.6.3, C.8.20.2).
fn put_image(object: &mut Object, input: &SegInput<'_>, source: &Object, frame_count: usize) {
    let series = input.series;
    object.put_texts(tags::IMAGE_TYPE, VR::CS, ["DERIVED", "PRIMARY"]);
    object.put_text(tags::NUMBER_OF_FRAMES, VR::IS, &frame_count.to_string());
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, series.rows as u16),
        (tags::COLUMNS, series.columns as u16),
        (tags::BITS_ALLOCATED, 1),
        (tags::BITS_STORED, 1),
        (tags::HIGH_BIT, 0),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put_u16(tag, &[value]);
    }
    object.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    object.put_text(tags::SEGMENTATION_TYPE, VR::CS, "BINARY");
    let overlap = if frames::segments_overlap(input) { "YES" } else { "NO" };
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

fn copy(object: &mut Object, source: &Object, tags: &[Tag]) {
    for element in tags.iter().filter_map(|tag| source.get(*tag)) {
        object.put(DataElement::clone(element));
    }
}

/// When the object was made, in DICOM's words.
struct Moment {
    date: String,
    time: String,
    date_time: String,
    offset: Option<String>,
}

impl Moment {
    /// In the source's time zone, where it names one, because one object has one.
    fn of(created: OffsetDateTime, source: &Object) -> Self {
        let zone = source::utc_offset(source);
        let at = zone.as_ref().map_or(created, |(_, offset)| created.to_offset(*offset));
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let date = format!("{year:04}{:02}{day:02}", u8::from(month));
        let time = format!("{hour:02}{minute:02}{second:02}");
        let date_time = format!("{date}{time}{}", offset_text(at.offset()));
        Self { date, time, date_time, offset: zone.map(|(text, _)| text) }
    }

    fn put(&self, object: &mut Object) {
        for tag in [tags::INSTANCE_CREATION_DATE, tags::SERIES_DATE, tags::CONTENT_DATE] {
            object.put_text(tag, VR::DA, &self.date);
        }
        for tag in [tags::INSTANCE_CREATION_TIME, tags::SERIES_TIME, tags::CONTENT_TIME] {
            object.put_text(tag, VR::TM, &self.time);
        }
        if let Some(offset) = &self.offset {
            object.put_text(tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, offset);
        }
    }
}

fn offset_text(offset: UtcOffset) -> String {
    let format = format_description!("[offset_hour sign:mandatory][offset_minute]");
    offset.format(&format).unwrap_or_else(|_| "+0000".to_owned())
}

fn encode(object: Object) -> Result<Vec<u8>, SegError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| SegError::Encode(error);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name("SEER");
    let file = object.with_meta(meta).map_err(|error| failed(error.into()))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|error| failed(error.into()))?;
    Ok(bytes)
}

/// Appends Pixel Data (7FE0,0010), the data set's last element, as OB (PS3.5 §8.2).
fn append_pixel_data(
    bytes: &mut Vec<u8>,
    input: &SegInput<'_>,
    plan: &[FramePlan],
    bit_count: usize,
) {
    let size = packed_size_bytes(bit_count);
    bytes.reserve_exact(size + 12);
    bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0]);
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    let start = bytes.len();
    let mut writer = BitWriter::new(bytes);
    for frame in plan {
        let mask = input.segments[frame.segment_index].mask;
        let values = mask.index_axis(Axis(0), frame.frame_index);
        match values.to_slice() {
            Some(values) => writer.push(values),
            None => writer.push(&values.iter().copied().collect::<Vec<bool>>()),
        }
    }
    writer.finish();
    bytes.resize(start + size, 0);
}
