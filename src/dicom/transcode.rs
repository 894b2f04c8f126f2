//! Instances as Explicit VR Little Endian, frame by frame.

use std::io::{self, Write};

use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::uids;
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, pixel_coding};
use super::{DicomError, Instance, PIXEL_DATA};

/// The longest value with a defined length (PS3.5 §7.1.1).
const VALUE_BYTES_MAX: u64 = 0xFFFF_FFFE;

/// Offset tables speak of fragments, which native pixel data do not have.
const OFFSET_TABLES: [Tag; 2] = [Tag(0x7FE0, 0x0001), Tag(0x7FE0, 0x0002)];

/// Why an instance was not written.
#[derive(Debug, thiserror::Error)]
pub enum TranscodeError {
    /// Its pixels cannot be decoded, or are too many for one value.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// The output failed.
    #[error("cannot write an instance")]
    Io(#[from] io::Error),
    /// A value cannot be written.
    #[error("cannot write a data set")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether pixels in a transfer syntax are decoded here.
pub fn is_decodable(transfer_syntax_uid: &str) -> bool {
    pixel_coding(transfer_syntax_uid).is_some()
}

impl Instance {
    /// Writes a Part 10 file in Explicit VR Little Endian. Compressed frames are decoded one at a
    /// time, so that memory does not grow with their number; colour that a codec converts is RGB,
    /// and the attributes say so.
    ///
    /// # Errors
    /// When a frame cannot be decoded, the pixels would need more than 4 GiB, or the output fails.
    pub fn write_explicit(&self, out: &mut impl Write) -> Result<(), TranscodeError> {
        let mut meta = self.object.meta().clone();
        meta.transfer_syntax = EXPLICIT_LITTLE_ENDIAN.to_owned();
        let has_frames = self.pixels.as_ref().is_some_and(|pixels| !pixels.is_float);
        let keep = |element: &&InMemElement| {
            !has_frames || !OFFSET_TABLES.contains(&dicom_core::header::Header::tag(*element))
        };
        let tag_of = |element: &InMemElement| dicom_core::header::Header::tag(element);
        let elements = || self.object.iter().filter(keep);
        if !has_frames {
            let all = InMemDicomObject::from_element_iter(elements().cloned());
            return all.with_exact_meta(meta).write_all(out).map_err(write_error);
        }
        let before = elements().filter(|element| tag_of(element) < PIXEL_DATA).cloned();
        let mut before = InMemDicomObject::from_element_iter(before);
        self.describe_native(&mut before);
        before.with_exact_meta(meta).write_all(&mut *out).map_err(write_error)?;
        self.write_pixels(out)?;
        let after = elements().filter(|element| tag_of(element) > PIXEL_DATA).cloned();
        let syntax = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let syntax = syntax.ok_or_else(|| {
            DicomError::Unsupported("Explicit VR Little Endian, which is not built in".to_owned())
        })?;
        let after = InMemDicomObject::from_element_iter(after);
        after.write_dataset_with_ts(out, syntax).map_err(write_error)
    }

    /// Says what the decoded samples are, where a codec changed that.
    fn describe_native(&self, object: &mut InMemDicomObject) {
        if !self.is_colour() {
            return;
        }
        let (photometric, planar) = self.native_photometric();
        let put = |object: &mut InMemDicomObject, tag, vr, value: PrimitiveValue| {
            object.put(DataElement::new(tag, vr, value));
        };
        if photometric != "not a defined term" {
            put(object, Tag(0x0028, 0x0004), VR::CS, photometric.into());
        }
        if photometric != "PALETTE COLOR" {
            put(object, Tag(0x0028, 0x0006), VR::US, u16::from(planar).into());
        }
    }

    fn write_pixels(&self, out: &mut impl Write) -> Result<(), TranscodeError> {
        let Some(description) = &self.pixels else { return Ok(()) };
        let bits = description.frame_bits().saturating_mul(u64::from(description.frames));
        let size = bits.div_ceil(8);
        let padded = size + size % 2;
        if padded > VALUE_BYTES_MAX {
            let what = "decoded pixel data in bytes";
            return Err(DicomError::TooLarge { what, found: padded, max: VALUE_BYTES_MAX }.into());
        }
        let vr = if description.bits_allocated > 8 { b"OW" } else { b"OB" };
        out.write_all(&[0xE0, 0x7F, 0x10, 0x00, vr[0], vr[1], 0, 0])?;
        out.write_all(&(padded as u32).to_le_bytes())?;
        let frame_bits = description.frame_bits();
        let mut joiner = BitJoiner::default();
        for number in 1..=description.frames {
            let frame = self.native_frame(number)?;
            match frame_bits % 8 {
                0 => out.write_all(&frame)?,
                _ => joiner.push(&frame, frame_bits as usize, out)?,
            }
        }
        joiner.finish(out)?;
        if size % 2 == 1 {
            out.write_all(&[0])?;
        }
        Ok(())
    }
}

fn write_error(error: impl std::error::Error + Send + Sync + 'static) -> TranscodeError {
    TranscodeError::Write(Box::new(error))
}

/// Joins frames of single bits, which follow each other without padding (PS3.5 §8.1.1).
#[derive(Default)]
struct BitJoiner {
    byte: u8,
    count: usize,
}

impl BitJoiner {
    fn push(&mut self, frame: &[u8], bits: usize, out: &mut impl Write) -> io::Result<()> {
        let mut joined = Vec::with_capacity(frame.len() + 1);
        for index in 0..bits {
            self.byte |= (frame[index / 8] >> (index % 8) & 1) << self.count;
            self.count += 1;
            if self.count == 8 {
                joined.push(self.byte);
                (self.byte, self.count) = (0, 0);
            }
        }
        out.write_all(&joined)
    }

    fn finish(self, out: &mut impl Write) -> io::Result<()> {
        if self.count > 0 { out.write_all(&[self.byte]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_single_bits_are_joined_without_padding() {
        // 10110 and 01101 and 1, least significant bit first.
        let mut joiner = BitJoiner::default();
        let mut out = Vec::new();
        joiner.push(&[0b0_1101], 5, &mut out).expect("memory");
        joiner.push(&[0b1_0110], 5, &mut out).expect("memory");
        joiner.push(&[1], 1, &mut out).expect("memory");
        joiner.finish(&mut out).expect("memory");
        assert_eq!(out, [0b1100_1101, 0b0000_0110]);
    }
}
