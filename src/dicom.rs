//! Bytes into instances, and back.
//!
//! Bytes from outside are walked by a guard of our own, which also builds the data set; dicom-rs
//! sees finished values only. Pixels are decoded one frame at a time, and a codec that panics
//! costs that frame.
//!
//! ```no_run
//! use seer::dicom::{Attributes, DicomLimits, Instance};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = std::fs::read("slice.dcm")?;
//! let (instance, findings) = Instance::parse(&bytes, &DicomLimits::default())?;
//! let spacing: [f64; 2] = instance.f64_array(dicom_core::Tag(0x0028, 0x0030))?;
//! let frame = instance.decode_frame(1)?;
//! println!("{} x {} at {spacing:?} mm, {findings:?}", frame.rows, frame.columns);
//! # Ok(())
//! # }
//! ```

use dicom_core::Tag;
use dicom_core::value::Value;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use std::fmt;

use crate::error::Finding;

mod attributes;
mod codec;
mod codestream;
mod colour;
mod decode;
mod detached;
mod error;
mod fragments;
mod from_json;
mod guard;
mod jpeg_extended;
mod jpeg_ls;
mod jpeg_xl;
mod json_text;
mod part10;
mod pixels;
mod rle;
mod stream;
mod text;
mod tolerated;
mod transcode;
mod transfer_syntax;
mod uid;
mod value;

pub use attributes::Attributes;
pub use colour::RgbFrame;
pub use detached::FramePlaces;
pub use error::DicomError;
pub use from_json::{BulkParts, FindBulk, data_set_from_json, part10_from_json};
pub use json_text::{JsonDataSet, json_data_sets, read_json_data_set};
pub use transcode::{TranscodeError, is_decodable};
pub use transfer_syntax::{TRANSFER_SYNTAXES, TransferSyntax};
pub use uid::{SeriesUid, SopInstanceUid, StudyUid};

const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Who an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// (0020,000D)
    pub study: StudyUid,
    /// (0020,000E)
    pub series: SeriesUid,
    /// (0008,0018)
    pub sop_instance: SopInstanceUid,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0002,0010)
    pub transfer_syntax_uid: String,
}

/// Limits that bytes from outside must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DicomLimits {
    /// Largest Part 10 file, in bytes.
    pub instance_size_bytes_max: u64,
    /// Largest data set after inflation, in bytes.
    pub inflated_size_bytes_max: u64,
    /// Largest decoded pixel data of one instance, in bytes.
    pub pixel_size_bytes_max: u64,
    /// Deepest nesting of sequences.
    pub nesting_depth_max: usize,
    /// Most elements in one instance, nested ones included.
    pub element_count_max: usize,
}

impl Default for DicomLimits {
    fn default() -> Self {
        Self {
            instance_size_bytes_max: 2 << 30,
            inflated_size_bytes_max: 2 << 30,
            pixel_size_bytes_max: 4 << 30,
            nesting_depth_max: 64,
            element_count_max: 1_000_000,
        }
    }
}

/// One SOP instance that passed the guard.
pub struct Instance {
    identity: Identity,
    object: DefaultDicomObject,
    pixels: Option<pixels::PixelDescription>,
    /// Of encapsulated pixel data; a broken one is told when a frame is asked for.
    frame_index: Option<Result<fragments::FrameIndex, String>>,
    pixel_place: Option<guard::PixelPlace>,
}

impl Instance {
    /// Parses a Part 10 file after the guard has walked it.
    ///
    /// # Errors
    /// [`DicomError`] naming the thing and the value found; never panics on any input.
    pub fn parse(bytes: &[u8], limits: &DicomLimits) -> Result<(Self, Vec<Finding>), DicomError> {
        let part10::Part10 { object, transfer_syntax_uid, findings, pixel_place } =
            part10::read(bytes, limits)?;
        let identity = identify(&object, transfer_syntax_uid)?;
        let pixels = pixels::PixelDescription::read(&object, limits)?;
        let sequence = object.get(PIXEL_DATA).map(|element| element.value());
        let frame_index = match (sequence, &pixels) {
            (Some(Value::PixelSequence(sequence)), Some(pixels)) => {
                Some(fragments::FrameIndex::new(&object, sequence, pixels.frames))
            }
            _ => None,
        };
        Ok((Self { identity, object, pixels, frame_index, pixel_place }, findings))
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The data set with its file meta information.
    ///
    /// Text is decoded. Where its character set is one that dicom-rs cannot write, such as one with
    /// escape sequences, Specific Character Set (0008,0005) is changed to ISO_IR 192, so that the
    /// object and parts of it can be written.
    /// Values are held in little endian: for a big-endian file the meta information says Explicit VR
    /// Little Endian, [`Identity::transfer_syntax_uid`] what the file said.
    pub fn object(&self) -> &DefaultDicomObject {
        &self.object
    }

    /// How many frames the pixel data has; 0 without pixel data.
    pub fn frame_count(&self) -> u32 {
        self.pixels.as_ref().map_or(0, |pixels| pixels.frames)
    }

    /// Decodes one frame to stored values. `number` counts from 1.
    ///
    /// # Errors
    /// When the frame does not exist, the transfer syntax cannot be decoded, the pixels are not
    /// grey, or the codec fails (a codec's panic included).
    pub fn decode_frame(&self, number: u32) -> Result<GreyFrame, DicomError> {
        self.source(number, None)?.decode()
    }

    /// Decodes one frame, grey or colour, to the bytes that Explicit VR Little Endian has for it.
    /// `number` counts from 1.
    ///
    /// Pixels that are not compressed are given as stored. Colour that a codec gives has the
    /// samples of a pixel together, in RGB; [`Instance::native_photometric`] says so.
    ///
    /// # Errors
    /// As [`Instance::decode_frame`], but for colour.
    pub fn native_frame(&self, number: u32) -> Result<Vec<u8>, DicomError> {
        self.source(number, None)?.native()
    }

    fn source<'a>(
        &'a self,
        number: u32,
        detached: Option<&'a [u8]>,
    ) -> Result<decode::Source<'a>, DicomError> {
        Ok(decode::Source {
            object: &self.object,
            description: self.pixels.as_ref().ok_or(DicomError::NoPixelData)?,
            transfer_syntax_uid: &self.identity.transfer_syntax_uid,
            frame_index: self.frame_index.as_ref(),
            number,
            detached,
        })
    }
}

/// Tells nothing of the patient.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("transfer_syntax_uid", &self.identity.transfer_syntax_uid)
            .field("pixels", &self.pixels)
            .finish_non_exhaustive()
    }
}

/// Reads a data set that is no file, such as a query's identifier, after the guard has walked it.
///
/// # Errors
/// The first thing that breaks its structure (PS3.5 §7) or a limit.
pub fn read_identifier(
    bytes: &[u8],
    transfer_syntax_uid: &str,
    limits: &DicomLimits,
) -> Result<InMemDicomObject, DicomError> {
    let form = transfer_syntax::data_set_form(transfer_syntax_uid);
    guard::read_data_set(bytes, 0, form.encoding, limits).map(|data_set| data_set.object)
}

fn identify(
    object: &InMemDicomObject,
    transfer_syntax_uid: String,
) -> Result<Identity, DicomError> {
    let text = |tag| object.string_opt(tag).unwrap_or_default();
    let sop_class_uid = text(Tag(0x0008, 0x0016));
    Ok(Identity {
        study: StudyUid::parse(&text(Tag(0x0020, 0x000D)))?,
        series: SeriesUid::parse(&text(Tag(0x0020, 0x000E)))?,
        sop_instance: SopInstanceUid::parse(&text(Tag(0x0008, 0x0018)))?,
        sop_class_uid: uid::check_uid("SOPClassUID", &sop_class_uid)?.to_owned(),
        transfer_syntax_uid,
    })
}

/// The stored values of one grey frame, sign-extended from Bits Stored, before any rescale;
/// MONOCHROME1 is left as stored (the flag says so).
#[derive(Debug, Clone, PartialEq)]
pub struct GreyFrame {
    /// Rows (0028,0010).
    pub rows: usize,
    /// Columns (0028,0011).
    pub columns: usize,
    /// Row-major stored values, `rows * columns` of them.
    pub values: Vec<i32>,
    /// Photometric Interpretation is MONOCHROME1.
    pub inverted: bool,
}
