//! JPEG and JPEG 2000 through dicom-rs's codecs, JPEG XL through jxl-oxide, one frame at a time, grey
//! or colour.
//!
//! A codec is called only when its codestream's header agrees with the data set, so that it never
//! allocates for an image nobody declared, and a panic inside it is caught.

use dicom_core::smallvec::smallvec;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::codestream::{self, Shape};
use super::pixels::{Photometric, PixelDescription};
use super::{jpeg_extended, jpeg_ls, jpeg_xl};

/// Tiles a small JPEG 2000 image may have; larger ones may have one more per 1,024 pixels.
const TILES_ALWAYS_ALLOWED: u64 = 1024;

/// Why a frame was not decoded.
#[derive(Debug)]
pub(super) enum Fault {
    /// Well-formed as far as read, but not a kind that is decoded here.
    Unsupported(&'static str),
    /// Broken, in a sentence with the numbers found.
    Broken(String),
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self::Broken(problem)
    }
}

impl From<&str> for Fault {
    fn from(problem: &str) -> Self {
        Self::Broken(problem.to_owned())
    }
}

/// Samples of one decoded frame.
pub(super) struct Coded {
    /// Row-major, one a word; the samples of a colour pixel follow each other.
    pub(super) samples: Vec<u32>,
    /// How many low bits of a sample count; a sign is in the highest of them.
    pub(super) bits: u32,
}

impl Coded {
    /// A codec without signs stores two's complement, of the codestream's precision or of Bits
    /// Stored; the smaller one has the sign in either case.
    fn unsigned(samples: Vec<u32>, precision: u8, description: &PixelDescription) -> Self {
        let precision = u32::from(precision);
        let bits_stored = u32::from(description.bits_stored);
        let bits = if description.is_signed { precision.min(bits_stored) } else { precision };
        Self { samples, bits }
    }
}

/// Decodes one JPEG frame: 12-bit extended here, other processes by jpeg-decoder.
///
/// # Errors
/// What is unsupported or broken.
pub(super) fn decode_jpeg(
    frame: &[u8],
    description: &PixelDescription,
    transfer_syntax_uid: &str,
) -> Result<Coded, Fault> {
    let (shape, process) = codestream::jpeg_shape(frame).ok_or("it has no frame header")?;
    check_shape(shape, description)?;
    let samples = match (shape.precision, process) {
        (12, 0 | 1) if shape.components > 1 => {
            return Err(Fault::Unsupported("12-bit colour JPEG"));
        }
        (12, 0 | 1) => {
            let (rows, columns) = (usize::from(description.rows), usize::from(description.columns));
            jpeg_extended::decode(frame, rows, columns)?
        }
        (12, 2) => return Err(Fault::Unsupported("12-bit progressive JPEG")),
        _ => {
            let is_rgb = description.photometric == Photometric::Colour("RGB");
            let named = if is_rgb { codestream::jpeg_named_rgb(frame) } else { None };
            decode(named.as_deref().unwrap_or(frame), shape, transfer_syntax_uid)?
        }
    };
    Ok(Coded::unsigned(samples, shape.precision, description))
}

/// Decodes one JPEG-LS frame.
///
/// # Errors
/// What is unsupported or broken.
pub(super) fn decode_jpeg_ls(frame: &[u8], description: &PixelDescription) -> Result<Coded, Fault> {
    let (shape, _) = codestream::jpeg_shape(frame).ok_or("it has no frame header")?;
    check_shape(shape, description)?;
    if shape.components > 1 {
        return Err(Fault::Unsupported("colour JPEG-LS"));
    }
    let samples = jpeg_ls::decode(frame, description.pixel_count())?;
    Ok(Coded::unsigned(samples, shape.precision, description))
}

/// Decodes one JPEG 2000 or High-Throughput JPEG 2000 frame.
///
/// Where the codestream and Pixel Representation disagree about the sign, Pixel Representation
/// is right and the codestream's precision says which bits count, as in pydicom.
///
/// # Errors
/// What is unsupported or broken.
pub(super) fn decode_jpeg2000(
    frame: &[u8],
    description: &PixelDescription,
    transfer_syntax_uid: &str,
) -> Result<Coded, Fault> {
    let header = codestream::jpeg2000_header(frame).ok_or("it has no image header")?;
    check_shape(header.shape, description)?;
    let tiles_max = TILES_ALWAYS_ALLOWED + description.pixel_count() as u64 / 1024;
    if header.tile_count > tiles_max {
        return Err(format!("{} tiles, the limit is {tiles_max}", header.tile_count).into());
    }
    let samples = decode(frame, header.shape, transfer_syntax_uid)?;
    match header.is_signed {
        true => Ok(Coded { samples, bits: u32::from(header.shape.precision) }),
        false => Ok(Coded::unsigned(samples, header.shape.precision, description)),
    }
}

/// Decodes one JPEG XL frame.
///
/// # Errors
/// What is unsupported or broken.
pub(super) fn decode_jpeg_xl(frame: &[u8], description: &PixelDescription) -> Result<Coded, Fault> {
    let shape = codestream::jpeg_xl_shape(frame).ok_or("it has no header of an integer image")?;
    check_shape(shape, description)?;
    let mut samples = survived(|| jpeg_xl::decode(frame, shape))?;
    // The decoder stretches every depth to that of its buffer; undo it exactly.
    let buffer_max: u64 = if shape.precision <= 8 { 0xFF } else { 0xFFFF };
    let sample_max = (1_u64 << shape.precision) - 1;
    if sample_max != buffer_max {
        samples.iter_mut().for_each(|sample| {
            *sample = ((u64::from(*sample) * sample_max + buffer_max / 2) / buffer_max) as u32;
        });
    }
    Ok(Coded::unsigned(samples, shape.precision, description))
}

fn check_shape(shape: Shape, description: &PixelDescription) -> Result<(), String> {
    let expected =
        (u32::from(description.rows), u32::from(description.columns), description.samples);
    let found = (shape.rows, shape.columns, shape.components);
    if found != expected {
        let (rows, columns, components) = found;
        return Err(format!(
            "its header says {rows} x {columns} with {components} components, the data set {} x {} \
             with {}",
            expected.0, expected.1, expected.2
        ));
    }
    if !(1..=16).contains(&shape.precision) {
        return Err(format!("{} bits per sample are not supported", shape.precision));
    }
    Ok(())
}

/// Runs dicom-rs's codec for the transfer syntax on one frame.
fn decode(frame: &[u8], shape: Shape, transfer_syntax_uid: &str) -> Result<Vec<u32>, String> {
    let codec = TransferSyntaxRegistry.get(transfer_syntax_uid).map(|syntax| syntax.codec());
    let Some(dicom_encoding::Codec::EncapsulatedPixelData(Some(reader), _)) = codec else {
        return Err("the decoder is not built in".to_owned());
    };
    let bits_allocated = if shape.precision <= 8 { 8 } else { 16 };
    let source = OneFrame { frame, shape, bits_allocated, transfer_syntax_uid };
    let bytes = survived(|| {
        let mut bytes = Vec::new();
        let outcome = reader.decode_frame(&source, 0, &mut bytes);
        outcome.map(|()| bytes).map_err(|error| error_chain(&error))
    })?;
    let pixels = shape.rows as usize * shape.columns as usize;
    let count = pixels * usize::from(shape.components);
    let samples: Vec<u32> = match bits_allocated {
        8 => bytes.iter().take(count).map(|byte| u32::from(*byte)).collect(),
        _ => {
            let words = bytes.as_chunks().0.iter().take(count);
            words.map(|word| u32::from(u16::from_ne_bytes(*word))).collect()
        }
    };
    if samples.len() == count {
        Ok(samples)
    } else {
        Err(format!("the decoder gives {} of {count} samples", samples.len()))
    }
}

/// Runs a decoder that may panic. What it was making is dropped then, so nothing half-made is seen.
fn survived<T>(decoder: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decoder))
        .unwrap_or_else(|_| Err("the decoder panicked".to_owned()))
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What the codecs of dicom-rs want to see, reduced to one frame.
struct OneFrame<'a> {
    frame: &'a [u8],
    shape: Shape,
    bits_allocated: u16,
    transfer_syntax_uid: &'a str,
}

impl PixelDataObject for OneFrame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.transfer_syntax_uid
    }

    fn rows(&self) -> Option<u16> {
        u16::try_from(self.shape.rows).ok()
    }

    fn cols(&self) -> Option<u16> {
        u16::try_from(self.shape.columns).ok()
    }

    fn samples_per_pixel(&self) -> Option<u16> {
        Some(self.shape.components)
    }

    fn bits_allocated(&self) -> Option<u16> {
        Some(self.bits_allocated)
    }

    fn bits_stored(&self) -> Option<u16> {
        Some(self.bits_allocated)
    }

    fn photometric_interpretation(&self) -> Option<&str> {
        Some(if self.shape.components == 1 { "MONOCHROME2" } else { "RGB" })
    }

    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }

    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }

    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.frame))
    }

    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        None
    }

    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        let fragments = smallvec![self.frame.to_vec()];
        Some(RawPixelData { fragments, offset_table: smallvec![] })
    }
}
