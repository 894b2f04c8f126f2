//! One frame of pixel data into stored values.

use dicom_core::value::Value;
use dicom_object::InMemDicomObject;
use flate2::read::DeflateDecoder;
use std::borrow::Cow;
use std::io::Read;

use super::codec::{self, Coded, Fault};
use super::fragments::FrameIndex;
use super::pixels::{Photometric, PixelDescription};
use super::transfer_syntax::{PixelCoding, pixel_coding};
use super::{DicomError, GreyFrame, PIXEL_DATA, rle};

/// What decoding one frame needs to know.
pub(super) struct Source<'a> {
    pub(super) object: &'a InMemDicomObject,
    pub(super) description: &'a PixelDescription,
    pub(super) transfer_syntax_uid: &'a str,
    /// Of encapsulated pixel data.
    pub(super) frame_index: Option<&'a Result<FrameIndex, String>>,
    /// Counts from 1.
    pub(super) number: u32,
    /// The bytes of the frame as stored, when they were read apart from the object.
    pub(super) detached: Option<&'a [u8]>,
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
        self.check_grey()?;
        let values = self.values()?;
        Ok(GreyFrame {
            rows: usize::from(self.description.rows),
            columns: usize::from(self.description.columns),
            values,
            inverted: self.description.photometric == Photometric::Monochrome1,
        })
    }

    /// The stored values of one sample a pixel, whatever they mean.
    pub(super) fn values(&self) -> Result<Vec<i32>, DicomError> {
        match self.description.bits_allocated {
            1 => self.decode_bits(),
            _ => self.stored_values(self.samples()?),
        }
    }

    /// The frame as Explicit VR Little Endian holds it.
    ///
    /// # Errors
    /// See [`super::Instance::native_frame`].
    pub(super) fn native(&self) -> Result<Vec<u8>, DicomError> {
        self.check_decodable()?;
        let bits_allocated = self.description.bits_allocated;
        if bits_allocated == 1 {
            return Ok(packed_bits(&self.decode_bits()?));
        }
        let size = (self.description.frame_bits() / 8) as usize;
        match self.samples()? {
            Samples::Bytes(bytes) => {
                let found = bytes.len() as u64;
                let short = DicomError::PixelDataLength { found, needed: size as u64 };
                bytes.get(..size).map(<[u8]>::to_vec).ok_or(short)
            }
            Samples::Coded(coded) => {
                let cell =
                    Cell { shift: 0, bits: coded.bits, is_signed: self.description.is_signed };
                let values = coded.samples.into_iter().map(|sample| cell.value(sample));
                Ok(little_endian(values, bits_allocated))
            }
        }
    }

    fn check_decodable(&self) -> Result<(), DicomError> {
        let description = self.description;
        if self.number == 0 || self.number > description.frames {
            return Err(DicomError::NoSuchFrame { number: self.number, count: description.frames });
        }
        if description.is_float {
            return Err(DicomError::Unsupported("floating-point pixel data".to_owned()));
        }
        match description.bits_allocated {
            1 | 8 | 16 | 32 => Ok(()),
            other => Err(DicomError::Unsupported(format!("{other} bits allocated"))),
        }
    }

    fn check_grey(&self) -> Result<(), DicomError> {
        let description = self.description;
        match description.photometric {
            Photometric::Colour(photometric) => {
                Err(DicomError::Colour { photometric, samples: description.samples })
            }
            Photometric::Monochrome1 | Photometric::Monochrome2 if description.samples != 1 => {
                let photometric = "MONOCHROME";
                Err(DicomError::Colour { photometric, samples: description.samples })
            }
            Photometric::Monochrome1 | Photometric::Monochrome2 => Ok(()),
        }
    }

    fn coding(&self) -> Result<PixelCoding, DicomError> {
        pixel_coding(self.transfer_syntax_uid).ok_or_else(|| {
            DicomError::Unsupported(format!("transfer syntax {}", self.transfer_syntax_uid))
        })
    }

    /// The bytes of the frame as stored, compressed or not.
    fn frame_bytes(&self, coding: PixelCoding) -> Result<Cow<'_, [u8]>, DicomError> {
        if let Some(bytes) = self.detached {
            return Ok(Cow::Borrowed(bytes));
        }
        let element = self.object.get(PIXEL_DATA).ok_or(DicomError::NoPixelData)?;
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
                let index = match self.frame_index {
                    Some(Ok(index)) => index,
                    Some(Err(problem)) => return Err(bad(problem)),
                    None => return Err(bad("it is no image")),
                };
                index.frame_bytes(sequence, number).ok_or_else(|| bad("it is not indexed"))
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
        let planes = rle::Planes {
            pixel_count: description.pixel_count(),
            samples: usize::from(description.samples),
            sample_bytes: description.pixel_bytes(),
        };
        let samples = match coding {
            PixelCoding::Native | PixelCoding::Uncompressed => Ok(Samples::Bytes(bytes)),
            PixelCoding::Rle => {
                rle::decode(&bytes, planes).map(Samples::owned).map_err(Fault::from)
            }
            PixelCoding::Deflated => inflate(&bytes, (description.frame_bits() / 8) as usize)
                .map(Samples::owned)
                .map_err(Fault::from),
            PixelCoding::Jpeg => codec::decode_jpeg(&bytes, description, uid).map(Samples::Coded),
            PixelCoding::JpegLs => codec::decode_jpeg_ls(&bytes, description).map(Samples::Coded),
            PixelCoding::Jpeg2000 => {
                codec::decode_jpeg2000(&bytes, description, uid).map(Samples::Coded)
            }
            PixelCoding::JpegXl => codec::decode_jpeg_xl(&bytes, description).map(Samples::Coded),
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
                    2 => {
                        let words = bytes.as_chunks().0.iter();
                        words.map(|word| cell.value(u32::from(u16::from_le_bytes(*word)))).collect()
                    }
                    _ => {
                        let words = bytes.as_chunks().0.iter();
                        words.map(|word| cell.value(u32::from_le_bytes(*word))).collect()
                    }
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
        if is_full_width && let Some(value) = values.iter().find(|value| **value < 0) {
            let value = value.cast_unsigned();
            return Err(DicomError::Unsupported(format!("stored value {value}, larger than 2^31")));
        }
        Ok(values)
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

/// Packs single bits, least significant first, padded to a whole byte at the end.
fn packed_bits(values: &[i32]) -> Vec<u8> {
    let mut bytes = vec![0_u8; values.len().div_ceil(8)];
    for (index, _) in values.iter().enumerate().filter(|(_, value)| **value != 0) {
        bytes[index / 8] |= 1 << (index % 8);
    }
    bytes
}

fn little_endian(values: impl Iterator<Item = i32>, bits_allocated: u16) -> Vec<u8> {
    match bits_allocated {
        8 => values.map(|value| value.to_le_bytes()[0]).collect(),
        16 => values.flat_map(|value| [value.to_le_bytes()[0], value.to_le_bytes()[1]]).collect(),
        _ => values.flat_map(i32::to_le_bytes).collect(),
    }
}

/// The bytes of one native frame; for 1-bit pixels from the byte its first bit is in.
fn native_frame<'a>(
    all: Cow<'a, [u8]>,
    description: &PixelDescription,
    number: u32,
) -> Result<Cow<'a, [u8]>, DicomError> {
    let bits = description.frame_bits();
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
