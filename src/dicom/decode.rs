//! One frame of pixel data into stored values.

use dicom_core::Tag;
use dicom_core::value::Value;
use dicom_object::InMemDicomObject;
use flate2::read::DeflateDecoder;
use std::borrow::Cow;
use std::io::Read;

use super::codec::{self, Coded, Fault};
use super::pixels::{Photometric, PixelDescription};
use super::transfer_syntax::{PixelCoding, pixel_coding};
use super::{DicomError, GreyFrame, fragments, rle};

/// What decoding one frame needs to know.
pub(super) struct Source<'a> {
    pub(super) object: &'a InMemDicomObject,
    pub(super) description: &'a PixelDescription,
    pub(super) transfer_syntax_uid: &'a str,
    /// Counts from 1.
    pub(super) number: u32,
}

/// Samples as a codec gives them, before Bits Stored and sign are applied.
enum Samples<'a> {
    /// Little endian, Bits Allocated each.
    Bytes(Cow<'a, [u8]>),
    /// As an image codec gives them.
    Coded(Coded),
}

impl Samples<'_> {
    fn owned(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl Source<'_> {
    /// Decodes the frame.
    ///
    /// # Errors
    /// See [`super::Instance::decode_frame`].
    pub(super) fn decode(&self) -> Result<GreyFrame, DicomError> {
        self.check_decodable()?;
        let values = match self.description.bits_allocated {
            1 => self.decode_bits()?,
            _ => self.stored_values(self.samples()?)?,
        };
        Ok(GreyFrame {
            rows: usize::from(self.description.rows),
            columns: usize::from(self.description.columns),
            values,
            inverted: self.description.photometric == Photometric::Monochrome1,
        })
    }

    fn check_decodable(&self) -> Result<(), DicomError> {
        let description = self.description;
        if self.number == 0 || self.number > description.frames {
            return Err(DicomError::NoSuchFrame { number: self.number, count: description.frames });
        }
        if description.is_float {
            return Err(DicomError::Unsupported("floating-point pixel data".to_owned()));
        }
        match description.photometric {
            Photometric::Colour(photometric) => {
                return Err(DicomError::Colour { photometric, samples: description.samples });
            }
            Photometric::Monochrome1 | Photometric::Monochrome2 if description.samples != 1 => {
                let photometric = "MONOCHROME";
                return Err(DicomError::Colour { photometric, samples: description.samples });
            }
            Photometric::Monochrome1 | Photometric::Monochrome2 => {}
        }
        match description.bits_allocated {
            1 | 8 | 16 | 32 => Ok(()),
            other => Err(DicomError::Unsupported(format!("{other} bits allocated"))),
        }
    }

    fn coding(&self) -> Result<PixelCoding, DicomError> {
        pixel_coding(self.transfer_syntax_uid).ok_or_else(|| {
            DicomError::Unsupported(format!("transfer syntax {}", self.transfer_syntax_uid))
        })
    }

    /// The bytes of the frame as stored, compressed or not.
    fn frame_bytes(&self, coding: PixelCoding) -> Result<Cow<'_, [u8]>, DicomError> {
        let element = self.object.get(Tag(0x7FE0, 0x0010)).ok_or(DicomError::NoPixelData)?;
        let number = self.number;
        let bad = |problem: &str| DicomError::BadFragments { number, problem: problem.to_owned() };
        match (element.value(), coding) {
            (Value::Primitive(value), PixelCoding::Native) => {
                native_frame(value.to_bytes(), self.description, number)
            }
            (Value::PixelSequence(_), PixelCoding::Native) => {
                Err(bad("it is encapsulated, the transfer syntax says native"))
            }
            (Value::PixelSequence(sequence), _) => {
                fragments::frame_bytes(self.object, sequence, number, self.description.frames)
            }
            (Value::Primitive(_), _) => {
                Err(bad("it is native, the transfer syntax says encapsulated"))
            }
            (Value::Sequence(_), _) => Err(bad("it is a sequence of items")),
        }
    }

    fn samples(&self) -> Result<Samples<'_>, DicomError> {
        let coding = self.coding()?;
        let bytes = self.frame_bytes(coding)?;
        let (description, uid) = (self.description, self.transfer_syntax_uid);
        let (count, width) = (description.pixel_count(), description.pixel_bytes());
        let samples = match coding {
            PixelCoding::Native | PixelCoding::Uncompressed => Ok(Samples::Bytes(bytes)),
            PixelCoding::Rle => {
                rle::decode(&bytes, count, width).map(Samples::owned).map_err(Fault::from)
            }
            PixelCoding::Deflated => {
                inflate(&bytes, count * width).map(Samples::owned).map_err(Fault::from)
            }
            PixelCoding::Jpeg => codec::decode_jpeg(&bytes, description, uid).map(Samples::Coded),
            PixelCoding::JpegLs => codec::decode_jpeg_ls(&bytes, description).map(Samples::Coded),
            PixelCoding::Jpeg2000 => {
                codec::decode_jpeg2000(&bytes, description, uid).map(Samples::Coded)
            }
            PixelCoding::JpegXl => {
                codec::decode_jpeg_xl(&bytes, description, uid).map(Samples::Coded)
            }
        };
        samples.map_err(|fault| match fault {
            Fault::Unsupported(what) => DicomError::Unsupported(what.to_owned()),
            Fault::Broken(problem) => {
                DicomError::Codec { number: self.number, codec: coding.name(), problem }
            }
        })
    }

    /// Applies High Bit, Bits Stored and Pixel Representation (PS3.5 §8.1.1).
    fn stored_values(&self, samples: Samples<'_>) -> Result<Vec<i32>, DicomError> {
        let (count, width) = (self.description.pixel_count(), self.description.pixel_bytes());
        let cell = Cell::of(self.description);
        let values: Vec<i32> = match samples {
            Samples::Bytes(bytes) => {
                let bytes = bytes.get(..count * width).unwrap_or_default();
                match width {
                    1 => bytes.iter().map(|byte| cell.value(u32::from(*byte))).collect(),
                    2 => words(bytes, |w| cell.value(u32::from(u16::from_le_bytes(w)))),
                    _ => words(bytes, |w| cell.value(u32::from_le_bytes(w))),
                }
            }
            Samples::Coded(Coded { samples, bits }) => {
                let cell = Cell { shift: 0, bits, is_signed: cell.is_signed };
                samples.into_iter().map(|sample| cell.value(sample)).collect()
            }
        };
        if values.len() != count {
            let found = values.len() as u64 * width as u64;
            return Err(DicomError::PixelDataLength { found, needed: (count * width) as u64 });
        }
        // An unsigned 32-bit value past i32::MAX came out negative.
        let is_full_width = !cell.is_signed && cell.bits == 32;
        match values.iter().find(|value| is_full_width && **value < 0) {
            Some(value) => {
                Err(DicomError::Unsupported(format!("stored value {}", value.cast_unsigned())))
            }
            None => Ok(values),
        }
    }

    /// Unpacks 1-bit pixels, least significant bit first, frames without padding between them
    /// (PS3.5 §8.1.1).
    fn decode_bits(&self) -> Result<Vec<i32>, DicomError> {
        let coding = self.coding()?;
        let count = self.description.pixel_count();
        let (bytes, first) = match coding {
            PixelCoding::Native => {
                let first = count * (self.number as usize - 1);
                let bytes = self.frame_bytes(coding)?;
                (bytes, first % 8)
            }
            PixelCoding::Uncompressed => (self.frame_bytes(coding)?, 0),
            PixelCoding::Deflated => {
                let inflated = inflate(&self.frame_bytes(coding)?, count.div_ceil(8));
                let codec = coding.name();
                let number = self.number;
                let inflated =
                    inflated.map_err(|problem| DicomError::Codec { number, codec, problem })?;
                (Cow::Owned(inflated), 0)
            }
            other => {
                return Err(DicomError::Unsupported(format!("1-bit pixels in {}", other.name())));
            }
        };
        if bytes.len() * 8 < first + count {
            let needed = (first + count).div_ceil(8) as u64;
            return Err(DicomError::PixelDataLength { found: bytes.len() as u64, needed });
        }
        let bits = (first..first + count).map(|at| i32::from(bytes[at / 8] >> (at % 8) & 1));
        Ok(bits.collect())
    }
}

fn words<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> i32) -> Vec<i32> {
    let chunks = bytes.chunks_exact(N);
    chunks
        .map(|chunk| {
            let mut word = [0; N];
            word.copy_from_slice(chunk);
            value(word)
        })
        .collect()
}

/// Where the stored bits lie in an allocated cell.
struct Cell {
    shift: u32,
    bits: u32,
    is_signed: bool,
}

impl Cell {
    /// `high_bit + 1 >= bits_stored` and `bits_stored <= 32` were checked with the description.
    fn of(description: &PixelDescription) -> Self {
        Self {
            shift: u32::from(description.high_bit + 1 - description.bits_stored),
            bits: u32::from(description.bits_stored),
            is_signed: description.is_signed,
        }
    }

    fn value(&self, cell: u32) -> i32 {
        let unused = 32 - self.bits;
        let top = cell >> self.shift << unused;
        if self.is_signed { top.cast_signed() >> unused } else { (top >> unused).cast_signed() }
    }
}

/// The bytes of one native frame; for 1-bit pixels from the byte its first bit is in.
fn native_frame<'a>(
    all: Cow<'a, [u8]>,
    description: &PixelDescription,
    number: u32,
) -> Result<Cow<'a, [u8]>, DicomError> {
    let bits = description.pixel_count() as u64 * u64::from(description.bits_allocated);
    let first = bits * u64::from(number - 1) / 8;
    let end = (bits * u64::from(number)).div_ceil(8);
    let too_short = DicomError::PixelDataLength { found: all.len() as u64, needed: end };
    let (Ok(first), Ok(end)) = (usize::try_from(first), usize::try_from(end)) else {
        return Err(too_short);
    };
    let frame = match all {
        Cow::Borrowed(all) => all.get(first..end).map(Cow::Borrowed),
        Cow::Owned(all) => all.get(first..end).map(|frame| Cow::Owned(frame.to_vec())),
    };
    frame.ok_or(too_short)
}

/// Inflates a frame of known size; what follows it is padding.
fn inflate(frame: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let inflated = DeflateDecoder::new(frame).take(size as u64).read_to_end(&mut bytes);
    match inflated {
        Ok(found) if found == size => Ok(bytes),
        _ => Err(format!("it inflates to {} of {size} bytes", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extends_the_sign_from_bits_stored_and_drops_the_bits_around() {
        let check = |bits: u32, shift: u32, is_signed: bool, cell: u32, expected: i32| {
            assert_eq!(Cell { shift, bits, is_signed }.value(cell), expected, "{cell:#x}");
        };
        check(12, 0, true, 0x0800, -2048);
        check(12, 0, true, 0xF7FF, 2047);
        check(12, 0, false, 0xF800, 2048);
        check(12, 4, true, 0x8001, -2048);
        check(16, 0, true, 0xFFFF, -1);
        check(8, 0, false, 0xFF, 255);
        check(32, 0, true, 0xFFFF_FFFE, -2);
        check(1, 0, false, 1, 1);
    }

    #[test]
    fn inflates_no_further_than_the_frame() {
        use std::io::Write;
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
        deflated.write_all(&[7; 1000]).expect("writing to memory");
        let deflated = deflated.finish().expect("writing to memory");
        assert_eq!(inflate(&deflated, 10), Ok(vec![7; 10]));
        assert!(inflate(&deflated, 1001).is_err());
        assert!(inflate(b"\x07broken", 10).is_err());
    }
}
