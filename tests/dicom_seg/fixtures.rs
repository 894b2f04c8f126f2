//! Series made as real DICOM files: oblique, anisotropic, non-square, with negated cosines, and
//! Rows x Columns that is not a multiple of 8.

use std::sync::Arc;

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use ndarray::Array3;
use seer::dicom::{DicomLimits, Instance};
use seer::series::{self, Series};

/// 13 x 9 = 117 pixels a frame: no multiple of 8.
pub const ROWS: u16 = 13;
/// See [`ROWS`].
pub const COLUMNS: u16 = 9;
/// Between rows, between columns.
pub const SPACING: [&str; 2] = ["0.8125", "1.37"];

/// How the frames of a series follow one another.
#[derive(Clone, Copy, PartialEq)]
pub enum Stack {
    /// Even steps along the normal.
    Straight,
    /// Even steps that lean off the normal.
    Tilted,
    /// Steps of two lengths.
    Uneven,
}

/// What a series is made of.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub stack: Stack,
    pub frame_count: usize,
    pub multi_frame: bool,
    pub frame_of_reference: bool,
    pub character_set: &'static str,
    pub patient_name: &'static [u8],
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            stack: Stack::Straight,
            frame_count: 7,
            multi_frame: false,
            frame_of_reference: true,
            character_set: "ISO_IR 100",
            patient_name: b"M\xfcller^Test",
        }
    }
}

/// A series with the files it was parsed from.
pub struct Made {
    pub series: Series,
    pub files: Vec<Vec<u8>>,
}

/// Writes the files of a recipe, parses them and orders the frames.
pub fn make(recipe: Recipe) -> Made {
    let mut files = if recipe.multi_frame { vec![multi_frame(recipe)] } else { classic(recipe) };
    files.reverse();
    Made { series: assemble(&files), files }
}

/// Parses files and orders their frames.
pub fn assemble(files: &[Vec<u8>]) -> Series {
    let instances = files.iter().map(|bytes| Arc::new(parse(bytes))).collect();
    series::assemble(instances).expect("the files are one stack").0
}

/// Parses one file.
pub fn parse(bytes: &[u8]) -> Instance {
    Instance::parse(bytes, &DicomLimits::default()).expect("the file is DICOM").0
}

/// A mask without symmetry: scattered voxels, another pattern for each `seed`.
pub fn scattered(series: &Series, seed: usize) -> Array3<bool> {
    let shape = (series.frames.len(), series.rows, series.columns);
    Array3::from_shape_fn(shape, |(f, r, c)| (f * 31 + r * 17 + c * 7 + r * c + seed * 5) % 11 < 4)
}

/// Along a row, along a column: oblique, the row direction pointing to the patient's right.
fn orientation() -> [[f64; 3]; 2] {
    let row = [-0.96, 0.28, 0.0];
    let column = [-0.28 * 0.6, -0.96 * 0.6, 0.8];
    [row, column]
}

fn position(recipe: Recipe, k: usize) -> [f64; 3] {
    let [row, column] = orientation();
    let normal = [
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    ];
    let k = k as f64;
    let (along, lean) = match recipe.stack {
        Stack::Straight => (k * 3.3, 0.0),
        Stack::Tilted => (k * 3.3, k * 0.9),
        Stack::Uneven => (k * 3.3 + if k > 3.0 { (k - 3.0) * 2.1 } else { 0.0 }, 0.0),
    };
    let origin = [71.25, -33.4, 118.875];
    [0, 1, 2].map(|i| origin[i] + along * normal[i] + lean * column[i])
}

fn decimals(values: &[f64]) -> PrimitiveValue {
    PrimitiveValue::Strs(values.iter().map(|value| format!("{value:.8}")).collect())
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    object.put(DataElement::new(tag, vr, value.into()));
}

fn put_items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    let sequence = DataSetSequence::new(items, Length::UNDEFINED);
    object.put(DataElement::new(tag, VR::SQ, Value::from(sequence)));
}

fn header(recipe: Recipe, sop_class: &str, number: usize) -> InMemDicomObject {
    let mut o = InMemDicomObject::new_empty();
    put(&mut o, tags::SPECIFIC_CHARACTER_SET, VR::CS, recipe.character_set);
    put(&mut o, tags::SOP_CLASS_UID, VR::UI, sop_class);
    put(&mut o, tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.4.5.{number}"));
    put(&mut o, tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4.1");
    put(&mut o, tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4.2");
    if recipe.frame_of_reference {
        put(&mut o, tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.4.3");
        put(&mut o, tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
    }
    // Raw bytes, so that every character set can be tried.
    let mut name = recipe.patient_name.to_vec();
    name.resize(name.len().next_multiple_of(2), b' ');
    put(&mut o, tags::PATIENT_NAME, VR::PN, PrimitiveValue::from(name));
    for (tag, vr, text) in [
        (tags::PATIENT_ID, VR::LO, "P-1"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700101"),
        (tags::PATIENT_SEX, VR::CS, "F"),
        (tags::PATIENT_AGE, VR::AS, "055Y"),
        (tags::STUDY_DATE, VR::DA, "20260101"),
        (tags::STUDY_TIME, VR::TM, "101500"),
        (tags::STUDY_ID, VR::SH, "7"),
        (tags::ACCESSION_NUMBER, VR::SH, "A7"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
        (tags::MODALITY, VR::CS, "MR"),
        (tags::MANUFACTURER, VR::LO, "Test scanner"),
        (tags::SERIES_NUMBER, VR::IS, "4"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0200"),
    ] {
        put(&mut o, tag, vr, text);
    }
    put(&mut o, tags::INSTANCE_NUMBER, VR::IS, number.to_string());
    put(
        &mut o,
        tags::IMAGE_TYPE,
        VR::CS,
        PrimitiveValue::Strs(
            ["ORIGINAL", "PRIMARY", "OTHER"].map(str::to_owned).into_iter().collect(),
        ),
    );
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

fn pixels(frame: usize) -> Vec<u16> {
    let count = usize::from(ROWS) * usize::from(COLUMNS);
    (0..count).map(|i| ((i * 13 + frame * 101) % 3000) as u16).collect()
}

fn spacing() -> PrimitiveValue {
    PrimitiveValue::Strs(SPACING.map(str::to_owned).into_iter().collect())
}

fn classic(recipe: Recipe) -> Vec<Vec<u8>> {
    let file = |k: usize| {
        let mut o = header(recipe, uids::MR_IMAGE_STORAGE, k + 1);
        put(&mut o, tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&position(recipe, k)));
        put(&mut o, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&orientation().concat()));
        put(&mut o, tags::PIXEL_SPACING, VR::DS, spacing());
        put(&mut o, tags::SLICE_THICKNESS, VR::DS, "3");
        put(&mut o, tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels(k).into()));
        encode(o)
    };
    (0..recipe.frame_count).map(file).collect()
}

/// An Enhanced MR object whose frames are stored head to feet and back: frame numbers do not
/// follow positions.
fn multi_frame(recipe: Recipe) -> Vec<u8> {
    let count = recipe.frame_count;
    let order: Vec<usize> = (0..count).step_by(2).chain((1..count).step_by(2).rev()).collect();
    let mut o = header(recipe, uids::ENHANCED_MR_IMAGE_STORAGE, 1);
    put(&mut o, tags::NUMBER_OF_FRAMES, VR::IS, count.to_string());
    let group = |tag: Tag, vr: VR, value: PrimitiveValue| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tag, vr, value);
        vec![item]
    };
    let mut shared = InMemDicomObject::new_empty();
    let cosines = decimals(&orientation().concat());
    let item = group(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, cosines);
    put_items(&mut shared, tags::PLANE_ORIENTATION_SEQUENCE, item);
    let mut measures = group(tags::PIXEL_SPACING, VR::DS, spacing());
    put(&mut measures[0], tags::SLICE_THICKNESS, VR::DS, "3");
    put_items(&mut shared, tags::PIXEL_MEASURES_SEQUENCE, measures);
    put_items(&mut o, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    let frames = order.iter().map(|k| {
        let mut frame = InMemDicomObject::new_empty();
        let at = decimals(&position(recipe, *k));
        let item = group(tags::IMAGE_POSITION_PATIENT, VR::DS, at);
        put_items(&mut frame, tags::PLANE_POSITION_SEQUENCE, item);
        frame
    });
    put_items(&mut o, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames.collect());
    let all: Vec<u16> = order.iter().flat_map(|k| pixels(*k)).collect();
    put(&mut o, tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(all.into()));
    encode(o)
}

fn encode(object: InMemDicomObject) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut bytes = Vec::new();
    object.with_meta(meta).expect("meta").write_all(&mut bytes).expect("encodable");
    bytes
}
