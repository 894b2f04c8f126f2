//! Key images of a result: the slices that show it best, and a picture for viewers without
//! segmentation display (PS3.3 A.35.4 with PS3.16 TID 2010; PS3.3 A.8.1).

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use ndarray::Axis;

use super::content::{self, Item, Reference, Relationship};
use super::document::{
    self, Moment, SERIES_NUMBER_BASE, SERIES_NUMBER_STEP, SeriesText, encode, put_equipment,
};
use super::elements::{Object, PutElements, dcm_code};
use super::{ResultObject, SegError, SegInput, SegmentInput, source};
use crate::dicom::{SeriesUid, SopInstanceUid};

/// An RGB picture, rows from the top.
pub struct Picture<'a> {
    /// Pixels across.
    pub columns: u16,
    /// Pixels down.
    pub rows: u16,
    /// `[row, column, channel]`, 8 bits each.
    pub rgb: &'a [u8],
}

/// Writes a picture of the masks over the images as a Secondary Capture; it carries no patient
/// data in its pixels.
///
/// # Errors
/// [`SegError`] when the pixels are not rows x columns x 3 bytes, or it cannot be encoded.
pub fn write_key_image(
    input: &SegInput<'_>,
    picture: &Picture<'_>,
) -> Result<ResultObject, SegError> {
    let expected = usize::from(picture.rows) * usize::from(picture.columns) * 3;
    if picture.rgb.len() != expected || expected == 0 {
        let found = picture.rgb.len();
        return Err(SegError::PictureSize { found, expected });
    }
    let kind = Kind {
        name: "key image",
        modality: "OT",
        class: uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        step: 3,
    };
    let (mut object, result) = start(input, &kind, "SEER key image, research use only");
    object.put_text(tags::CONVERSION_TYPE, VR::CS, "WSD");
    object.put_texts(tags::IMAGE_TYPE, VR::CS, ["DERIVED", "SECONDARY"]);
    object.put_empty(tags::LATERALITY, VR::CS);
    object.put_empty(tags::PATIENT_ORIENTATION, VR::CS);
    object.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    object.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 3),
        (tags::PLANAR_CONFIGURATION, 0),
        (tags::ROWS, picture.rows),
        (tags::COLUMNS, picture.columns),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put_u16(tag, &[value]);
    }
    object.put_bytes(tags::PIXEL_DATA, picture.rgb);
    Ok(ResultObject { bytes: encode(object)?, ..result })
}

/// Writes a Key Object Selection: for each segment the source frame on which it is largest, the
/// Segmentation, and the key image when there is one.
///
/// # Errors
/// [`SegError`] when it cannot be encoded.
pub fn write_key_objects(
    input: &SegInput<'_>,
    seg: &ResultObject,
    key_image: Option<&ResultObject>,
) -> Result<ResultObject, SegError> {
    let class = uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE;
    let kind = Kind { name: "key objects", modality: "KO", class, step: 2 };
    let (mut object, result) = start(input, &kind, "SEER key images, research use only");
    let results: Vec<Reference> = [Some(seg.reference()), key_image.map(ResultObject::reference)]
        .into_iter()
        .flatten()
        .collect();
    let mut root = Item::container(dcm_code("113000", "Of Interest"));
    for observer in content::device_observer(&input.provenance) {
        root = root.with(Relationship::HasObservationContext, observer);
    }
    let description = "Slices on which each segment is largest, and the segmentation";
    let text = Item::text(dcm_code("113012", "Key Object Description"), description);
    root = root.with(Relationship::Contains, text);
    let frames = largest_frames(input);
    let sources = frames.iter().map(|index| content::source_reference(input.series, *index));
    for reference in sources.chain(results.iter().cloned()) {
        root = root.with(Relationship::Contains, Item::image(None, &reference));
    }
    object.put_items(
        tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
        vec![content::evidence(input.series, &results)],
    );
    content::put_document(&mut object, source::representative(input.series).object(), input.series);
    content::put_root(&mut object, root, "2010");
    Ok(ResultObject { bytes: encode(object)?, ..result })
}

/// The frames (from 0) on which each segment with voxels is largest, each once, in order.
fn largest_frames(input: &SegInput<'_>) -> Vec<usize> {
    let largest = |segment: &SegmentInput<'_>| {
        let frames = segment.mask.axis_iter(Axis(0)).enumerate();
        let counts = frames.map(|(index, f)| (f.iter().filter(|inside| **inside).count(), index));
        counts
            .filter(|(count, _)| *count > 0)
            .max_by_key(|(count, index)| (*count, usize::MAX - *index))
    };
    let mut frames: Vec<usize> =
        input.segments.iter().filter_map(largest).map(|(_, index)| index).collect();
    frames.sort_unstable();
    frames.dedup();
    frames
}

/// What differs between the two kinds of objects.
struct Kind {
    name: &'static str,
    modality: &'static str,
    class: &'static str,
    step: i64,
}

/// Patient, study, series, equipment and time of a result without pixels yet.
fn start(input: &SegInput<'_>, kind: &Kind, description: &str) -> (Object, ResultObject) {
    let parts = [kind.name, &input.provenance.order_hash, input.series.series_uid.as_str()];
    let result = ResultObject {
        sop_class_uid: kind.class,
        sop_instance_uid: SopInstanceUid::derive(&parts),
        series_uid: SeriesUid::derive(&parts),
        bytes: Vec::new(),
    };
    let source: &Object = source::representative(input.series).object();
    let mut object = Object::new_empty();
    source::copy_patient_and_study(source, &[], &mut object);
    object.put_text(tags::STUDY_INSTANCE_UID, VR::UI, input.series.study_uid.as_str());
    let about = SeriesText {
        modality: kind.modality,
        series_uid: result.series_uid.as_str(),
        number_base: SERIES_NUMBER_BASE + kind.step * SERIES_NUMBER_STEP,
        description,
        sop_class_uid: kind.class,
        sop_instance_uid: result.sop_instance_uid.as_str(),
    };
    document::put_series(&mut object, input.series, &about);
    put_equipment(&mut object, &input.provenance, source);
    Moment::of(input.created, source).put(&mut object);
    (object, result)
}
