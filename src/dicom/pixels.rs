//! What the attributes say about the pixels (PS3.3 §C.7.6.3), checked before anything is decoded.

use dicom_core::Tag;
use dicom_core::value::Value;
use dicom_object::InMemDicomObject;

use super::attributes::{Attributes, bad_value};
use super::part10::check_size;
use super::{DicomError, DicomLimits, PIXEL_DATA};

/// No grey radiological frame is larger; decoding one takes some bytes a pixel at once.
const FRAME_PIXEL_COUNT_MAX: u64 = 1 << 27;

const FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0008);
const DOUBLE_FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0009);

/// Photometric Interpretation (0028,0004), as far as this server tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    Monochrome1,
    Monochrome2,
    /// Anything else, by its defined term.
    Colour(&'static str),
}

/// The image pixel module in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelDescription {
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) frames: u32,
    pub(super) samples: u16,
    pub(super) bits_allocated: u16,
    pub(super) bits_stored: u16,
    pub(super) high_bit: u16,
    pub(super) is_signed: bool,
    pub(super) is_float: bool,
    pub(super) photometric: Photometric,
}

impl PixelDescription {
    /// Reads the description of an instance with pixel data; `None` without.
    ///
    /// # Errors
    /// When an attribute is missing or impossible, the decoded size passes the limit, or native
    /// pixel data are shorter than the attributes say.
    pub(super) fn read(
        object: &InMemDicomObject,
        limits: &DicomLimits,
    ) -> Result<Option<Self>, DicomError> {
        let is_float = [FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA]
            .iter()
            .any(|tag| object.get(*tag).is_some());
        let Some(element) = object.get(PIXEL_DATA) else {
            return if is_float { Self::from_attributes(object, true).map(Some) } else { Ok(None) };
        };
        let description = Self::from_attributes(object, false)?;
        let frame = description.pixel_count() as u64;
        check_size("count of pixels in a frame", frame, FRAME_PIXEL_COUNT_MAX)?;
        let needed = description.size_bytes();
        check_size("decoded pixel data in bytes", needed, limits.pixel_size_bytes_max)?;
        if let Value::Primitive(value) = element.value() {
            let found = value.calculate_byte_len() as u64;
            if found < needed {
                return Err(DicomError::PixelDataLength { found, needed });
            }
        }
        Ok(Some(description))
    }

    /// Reads the description of an instance whose pixel data are elsewhere.
    ///
    /// # Errors
    /// When an attribute is missing or impossible, or one frame is too large.
    pub(super) fn read_detached(object: &InMemDicomObject) -> Result<Self, DicomError> {
        let description = Self::from_attributes(object, false)?;
        let frame = description.pixel_count() as u64;
        check_size("count of pixels in a frame", frame, FRAME_PIXEL_COUNT_MAX)?;
        Ok(description)
    }

    fn from_attributes(object: &InMemDicomObject, is_float: bool) -> Result<Self, DicomError> {
        let bits_allocated = object.u16(Tag(0x0028, 0x0100))?;
        let bits_stored = object.u16_opt(Tag(0x0028, 0x0101))?.unwrap_or(bits_allocated);
        let high_bit =
            object.u16_opt(Tag(0x0028, 0x0102))?.unwrap_or(bits_stored.saturating_sub(1));
        if bits_stored == 0 || bits_stored > bits_allocated {
            let problem = format!("is {bits_stored} where {bits_allocated} are allocated");
            return Err(bad_value(Tag(0x0028, 0x0101), problem));
        }
        if high_bit >= bits_allocated || high_bit + 1 < bits_stored {
            let problem = format!("is {high_bit} where {bits_stored} bits are stored");
            return Err(bad_value(Tag(0x0028, 0x0102), problem));
        }
        Ok(Self {
            rows: positive(object, Tag(0x0028, 0x0010))?,
            columns: positive(object, Tag(0x0028, 0x0011))?,
            frames: number_of_frames(object)?,
            samples: object.u16_opt(Tag(0x0028, 0x0002))?.unwrap_or(1).max(1),
            bits_allocated,
            bits_stored,
            high_bit,
            is_signed: object.u16_opt(Tag(0x0028, 0x0103))? == Some(1),
            is_float,
            photometric: photometric(object),
        })
    }

    /// Pixels of one frame.
    pub(super) fn pixel_count(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of one pixel, for 8 bits and more.
    pub(super) fn pixel_bytes(&self) -> usize {
        usize::from(self.bits_allocated / 8)
    }

    /// Bits of one frame as native pixel data hold it; chroma of YBR_FULL_422 is halved
    /// (PS3.3 §C.7.6.3.1.2).
    pub(super) fn frame_bits(&self) -> u64 {
        let samples = match self.photometric {
            Photometric::Colour("YBR_FULL_422") => 2,
            _ => u64::from(self.samples),
        };
        self.pixel_count() as u64 * samples * u64::from(self.bits_allocated)
    }

    /// Bytes of all frames, decoded.
    fn size_bytes(&self) -> u64 {
        let bits = u128::from(self.frame_bits()) * u128::from(self.frames);
        u64::try_from(bits.div_ceil(8)).unwrap_or(u64::MAX)
    }
}

fn positive(object: &InMemDicomObject, tag: Tag) -> Result<u16, DicomError> {
    match object.u16(tag)? {
        0 => Err(bad_value(tag, "is 0".to_owned())),
        number => Ok(number),
    }
}

fn number_of_frames(object: &InMemDicomObject) -> Result<u32, DicomError> {
    let tag = Tag(0x0028, 0x0008);
    match object.i64_opt(tag)? {
        None => Ok(1),
        Some(number) => u32::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| bad_value(tag, format!("is {number}"))),
    }
}

/// Names only defined terms, so that no text of the file ends up in an error.
fn photometric(object: &InMemDicomObject) -> Photometric {
    const COLOURS: [&str; 11] = [
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",
        "YBR_PARTIAL_422",
        "YBR_ICT",
        "YBR_RCT",
        "ARGB",
        "HSV",
        "CMYK",
    ];
    match object.string_opt(Tag(0x0028, 0x0004)).as_deref() {
        Some("MONOCHROME1") => Photometric::Monochrome1,
        Some("MONOCHROME2") | None => Photometric::Monochrome2,
        Some(other) => {
            let known = COLOURS.into_iter().find(|colour| *colour == other);
            Photometric::Colour(known.unwrap_or("not a defined term"))
        }
    }
}
