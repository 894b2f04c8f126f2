//! Small scans made as real DICOM files: oblique, anisotropic, non-square, rows running to the
//! patient's right.

use std::sync::Arc;

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use seer::dicom::{DicomLimits, Instance};

pub const ROWS: u16 = 6;
pub const COLUMNS: u16 = 9;
/// Between rows, between columns.
pub const PIXEL_SPACING: [f64; 2] = [0.8, 1.25];
pub const STEP_MM: f64 = 3.5;
pub const ROW: [f64; 3] = [-0.96, 0.28, 0.0];
pub const COLUMN: [f64; 3] = [-0.168, -0.576, 0.8];
/// Row direction × column direction.
pub const NORMAL: [f64; 3] = [0.224, 0.768, 0.6];

/// Where slice `k` lies; halves are allowed.
pub fn position(k: f64) -> [f64; 3] {
    [0, 1, 2].map(|i| [71.25, -33.4, 118.875][i] + k * STEP_MM * NORMAL[i])
}

/// Stored values of slice `k`; no two slices are equal.
pub fn pixels(k: usize) -> Vec<u16> {
    let count = usize::from(ROWS) * usize::from(COLUMNS);
    (0..count).map(|at| (10 + (at * 13 + k * 101) % 900) as u16).collect()
}

pub fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    object.put(DataElement::new(tag, vr, value.into()));
}

pub fn put_numbers(object: &mut InMemDicomObject, tag: Tag, values: &[f64]) {
    let texts = values.iter().map(|value| format!("{value:.6}")).collect();
    put(object, tag, VR::DS, PrimitiveValue::Strs(texts));
}

pub fn put_texts(object: &mut InMemDicomObject, tag: Tag, values: &[&str]) {
    let texts = values.iter().map(|value| (*value).to_owned()).collect();
    put(object, tag, VR::CS, PrimitiveValue::Strs(texts));
}

pub fn put_pixels(object: &mut InMemDicomObject, values: Vec<u16>) {
    put(object, tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into()));
}

/// Puts a sequence of one item that `fill` fills.
pub fn put_group(
    object: &mut InMemDicomObject,
    sequence: Tag,
    fill: impl FnOnce(&mut InMemDicomObject),
) {
    let mut item = InMemDicomObject::new_empty();
    fill(&mut item);
    put_items(object, sequence, vec![item]);
}

pub fn put_items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    let sequence = DataSetSequence::new(items, Length::UNDEFINED);
    object.put(DataElement::new(tag, VR::SQ, Value::from(sequence)));
}

/// The instance of slice `k` of a classic series. Instance Number and SOP Instance UID run
/// against the slices.
pub fn slice(modality: &str, k: usize) -> InMemDicomObject {
    let mut o = header(modality, 900 - k);
    put_numbers(&mut o, tags::IMAGE_POSITION_PATIENT, &position(k as f64));
    put_numbers(&mut o, tags::IMAGE_ORIENTATION_PATIENT, &[ROW, COLUMN].concat());
    put_numbers(&mut o, tags::PIXEL_SPACING, &PIXEL_SPACING);
    put_pixels(&mut o, pixels(k));
    o
}

fn header(modality: &str, number: usize) -> InMemDicomObject {
    let mut o = InMemDicomObject::new_empty();
    let sop_class = if modality == "CT" { uids::CT_IMAGE_STORAGE } else { uids::MR_IMAGE_STORAGE };
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, sop_class),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.1"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.2"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.3"),
        (tags::MODALITY, VR::CS, modality),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
    ] {
        put(&mut o, tag, vr, text);
    }
    put(&mut o, tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.4.{number}"));
    put(&mut o, tags::INSTANCE_NUMBER, VR::IS, number.to_string());
    put_texts(&mut o, tags::IMAGE_TYPE, &["ORIGINAL", "PRIMARY", "AXIAL"]);
    for (tag, value) in [
        (tags::ROWS, ROWS),
        (tags::COLUMNS, COLUMNS),
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        put(&mut o, tag, VR::US, value);
    }
    o
}

/// A frame of an enhanced MR object: the slice it shows and its own functional groups.
pub type EnhancedFrame<'a> = (usize, &'a dyn Fn(&mut InMemDicomObject));

/// An Enhanced MR object; orientation and spacing are shared, positions are the frames' own.
pub fn enhanced(frames: &[EnhancedFrame<'_>]) -> InMemDicomObject {
    let mut o = header("MR", 1);
    put(&mut o, tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_MR_IMAGE_STORAGE);
    put(&mut o, tags::NUMBER_OF_FRAMES, VR::IS, frames.len().to_string());
    put_group(&mut o, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, |shared| {
        put_group(shared, tags::PLANE_ORIENTATION_SEQUENCE, |item| {
            put_numbers(item, tags::IMAGE_ORIENTATION_PATIENT, &[ROW, COLUMN].concat());
        });
        put_group(shared, tags::PIXEL_MEASURES_SEQUENCE, |item| {
            put_numbers(item, tags::PIXEL_SPACING, &PIXEL_SPACING);
        });
    });
    let mut items = Vec::new();
    for (k, fill) in frames {
        let mut item = InMemDicomObject::new_empty();
        put_group(&mut item, tags::PLANE_POSITION_SEQUENCE, |position_item| {
            put_numbers(position_item, tags::IMAGE_POSITION_PATIENT, &position(*k as f64));
        });
        fill(&mut item);
        items.push(item);
    }
    put_items(&mut o, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, items);
    put_pixels(&mut o, frames.iter().flat_map(|(k, _)| pixels(*k)).collect());
    o
}

/// Writes an object as a file and reads it back through the guard.
pub fn instance(object: InMemDicomObject) -> Arc<Instance> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let file = object.with_meta(meta).expect("the object has its UIDs");
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).expect("a vector takes any bytes");
    Arc::new(Instance::parse(&bytes, &DicomLimits::default()).expect("the file is DICOM").0)
}

/// A classic series of `count` slices, each changed by `edit`, highest slice first.
pub fn classic(
    modality: &str,
    count: usize,
    edit: impl Fn(usize, &mut InMemDicomObject),
) -> Vec<Arc<Instance>> {
    let make = |k| {
        let mut object = slice(modality, k);
        edit(k, &mut object);
        instance(object)
    };
    (0..count).rev().map(make).collect()
}
