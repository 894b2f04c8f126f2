//! Colour frames as red, green and blue (PS3.3 §C.7.6.3.1.2).

use dicom_core::Tag;
use dicom_core::value::PrimitiveValue;
use dicom_object::InMemDicomObject;

use super::attributes::{Attributes, bad_value, missing};
use super::decode::Source;
use super::pixels::{Photometric, PixelDescription};
use super::transfer_syntax::{PixelCoding, pixel_coding};
use super::{DicomError, Instance};

/// A frame ready to be shown in colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbFrame {
    /// Rows (0028,0010).
    pub rows: usize,
    /// Columns (0028,0011).
    pub columns: usize,
    /// Row-major; red, green and blue of each pixel, 8 bits each.
    pub pixels: Vec<u8>,
}

impl Instance {
    /// Whether the pixels are colour: anything but MONOCHROME1 and MONOCHROME2.
    pub fn is_colour(&self) -> bool {
        self.pixels
            .as_ref()
            .is_some_and(|pixels| matches!(pixels.photometric, Photometric::Colour(_)))
    }

    /// What the samples of [`Instance::native_frame`] mean: Photometric Interpretation
    /// (0028,0004), or RGB where the codec of a compressed frame converts; and whether they come in
    /// planes, as Planar Configuration (0028,0006) says of native ones.
    pub fn native_photometric(&self) -> (&'static str, bool) {
        let Some(pixels) = &self.pixels else { return ("MONOCHROME2", false) };
        let planar = is_planar(&self.object) && self.is_native();
        let photometric = match pixels.photometric {
            Photometric::Monochrome1 => "MONOCHROME1",
            Photometric::Monochrome2 => "MONOCHROME2",
            Photometric::Colour(stored) => match self.codec_gives_rgb(stored) {
                true => "RGB",
                false => stored,
            },
        };
        (photometric, planar)
    }

    /// Decodes one frame of colour to red, green and blue. `number` counts from 1.
    ///
    /// Samples of more than 8 bits lose the low ones.
    ///
    /// # Errors
    /// As [`Instance::native_frame`]; when the pixels are grey, or a colour space or a palette is
    /// one that is not read here.
    pub fn decode_rgb(&self, number: u32) -> Result<RgbFrame, DicomError> {
        self.rgb(self.source(number, None)?)
    }

    pub(super) fn rgb(&self, source: Source<'_>) -> Result<RgbFrame, DicomError> {
        let description = source.description;
        let (photometric, planar) = self.native_photometric();
        let pixels = match photometric {
            "PALETTE COLOR" => Palette::read(&self.object)?.look_up(&source.values()?),
            "RGB" => interleaved(&source.native()?, description, planar)?,
            "YBR_FULL" => {
                let mut pixels = interleaved(&source.native()?, description, planar)?;
                pixels.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = rgb_of(*pixel));
                pixels
            }
            "YBR_FULL_422" => {
                let native = source.native()?;
                let quads = native.as_chunks().0.iter();
                quads
                    .flat_map(|[first, second, blue, red]| {
                        [rgb_of([*first, *blue, *red]), rgb_of([*second, *blue, *red])]
                    })
                    .flatten()
                    .collect()
            }
            other => {
                return Err(DicomError::Unsupported(format!(
                    "photometric interpretation {other} for display"
                )));
            }
        };
        let (rows, columns) = (usize::from(description.rows), usize::from(description.columns));
        let needed = rows * columns * 3;
        if pixels.len() < needed {
            let (found, needed) = (pixels.len() as u64, needed as u64);
            return Err(DicomError::PixelDataLength { found, needed });
        }
        Ok(RgbFrame { rows, columns, pixels: pixels[..needed].to_vec() })
    }

    fn is_native(&self) -> bool {
        let uid = &self.identity.transfer_syntax_uid;
        matches!(
            pixel_coding(uid),
            Some(PixelCoding::Native | PixelCoding::Uncompressed | PixelCoding::Deflated)
        )
    }

    /// JPEG decoders convert YCbCr themselves, JPEG 2000 undoes its own transforms.
    fn codec_gives_rgb(&self, stored: &str) -> bool {
        match pixel_coding(&self.identity.transfer_syntax_uid) {
            Some(PixelCoding::Jpeg | PixelCoding::JpegXl) => stored.starts_with("YBR"),
            Some(PixelCoding::Jpeg2000) => matches!(stored, "YBR_ICT" | "YBR_RCT"),
            _ => false,
        }
    }
}

fn is_planar(object: &InMemDicomObject) -> bool {
    object.u16_opt(Tag(0x0028, 0x0006)).ok().flatten() == Some(1)
}

/// Three 8-bit samples a pixel, together.
fn interleaved(
    native: &[u8],
    description: &PixelDescription,
    planar: bool,
) -> Result<Vec<u8>, DicomError> {
    if description.samples != 3 {
        let samples = description.samples;
        return Err(DicomError::Unsupported(format!("colour of {samples} samples per pixel")));
    }
    let bytes: Vec<u8> = match description.bits_allocated {
        8 => native.to_vec(),
        16 => {
            let shift = description.bits_stored.saturating_sub(8);
            let words = native.as_chunks().0.iter();
            words.map(|word| (u16::from_le_bytes(*word) >> shift).min(255) as u8).collect()
        }
        other => return Err(DicomError::Unsupported(format!("colour of {other} bits allocated"))),
    };
    if !planar {
        return Ok(bytes);
    }
    let count = description.pixel_count();
    let plane = |index: usize| bytes.get(index * count..).unwrap_or_default().iter();
    let pixels = plane(0).zip(plane(1)).zip(plane(2)).take(count);
    Ok(pixels.flat_map(|((red, green), blue)| [*red, *green, *blue]).collect())
}

/// YBR_FULL to RGB (PS3.3 §C.7.6.3.1.2, the inverse of its matrix).
fn rgb_of([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    let (luma, blue, red) = (f32::from(luma), f32::from(blue) - 128.0, f32::from(red) - 128.0);
    [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue]
        .map(|sample| sample.round().clamp(0.0, 255.0) as u8)
}

/// Palette colour lookup tables (PS3.3 §C.7.9), high bytes of the entries.
struct Palette {
    first: i32,
    tables: [Vec<u8>; 3],
}

impl Palette {
    fn read(object: &InMemDicomObject) -> Result<Self, DicomError> {
        let mut tables = [const { Vec::new() }; 3];
        let mut first = 0;
        for (index, table) in (0_u16..).zip(&mut tables) {
            let tag = Tag(0x0028, 0x1101 + index);
            let [count, mapped, bits] = object.f64_array(tag)?;
            let count = if count == 0.0 { 1 << 16 } else { count as usize };
            first = mapped as i32;
            let data = Tag(0x0028, 0x1201 + index);
            let value = object.get(data).and_then(|element| element.value().primitive());
            let value = value.ok_or_else(|| missing(data))?;
            *table = entries(value, count, bits as u32);
            if table.is_empty() {
                return Err(bad_value(data, "is empty".to_owned()));
            }
        }
        Ok(Self { first, tables })
    }

    fn look_up(&self, values: &[i32]) -> Vec<u8> {
        let entry = |table: &[u8], value: i32| {
            let index = value.saturating_sub(self.first).max(0) as usize;
            table[index.min(table.len() - 1)]
        };
        let [red, green, blue] = &self.tables;
        values
            .iter()
            .flat_map(|value| [entry(red, *value), entry(green, *value), entry(blue, *value)])
            .collect()
    }
}

/// Entries of 8 bits may be packed two a word; those of 16 bits give their high byte. Some writers
/// put 8-bit entries into 16-bit words, which the largest one shows.
fn entries(value: &PrimitiveValue, count: usize, bits: u32) -> Vec<u8> {
    let bytes = value.to_bytes();
    if bits <= 8 && bytes.len() < count * 2 {
        return bytes.iter().copied().take(count).collect();
    }
    let words = bytes.as_chunks().0.iter().take(count).map(|word| u16::from_le_bytes(*word));
    let words: Vec<u16> = words.collect();
    let shift = if words.iter().all(|word| *word < 256) { 0 } else { 8 };
    words.into_iter().map(|word| (word >> shift) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_luma_and_chroma_as_the_standard_says() {
        assert_eq!(rgb_of([76, 85, 255]), [254, 0, 0]);
        assert_eq!(rgb_of([128, 128, 128]), [128, 128, 128]);
        assert_eq!(rgb_of([255, 128, 128]), [255, 255, 255]);
        assert_eq!(rgb_of([29, 255, 107]), [0, 0, 254]);
    }

    #[test]
    fn palettes_clamp_at_both_ends() {
        let tables = [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]];
        let palette = Palette { first: 10, tables };
        assert_eq!(palette.look_up(&[9, 11, 99]), [1, 4, 7, 2, 5, 8, 3, 6, 9]);
    }

    #[test]
    fn reads_entries_packed_and_in_words() {
        let packed = PrimitiveValue::from(vec![1_u8, 2, 3, 4]);
        assert_eq!(entries(&packed, 4, 8), [1, 2, 3, 4]);
        let words = PrimitiveValue::U16([0x1234, 0xFF00].into());
        assert_eq!(entries(&words, 2, 16), [0x12, 0xFF]);
        let low = PrimitiveValue::U16([0x0012, 0x00FF].into());
        assert_eq!(entries(&low, 2, 16), [0x12, 0xFF]);
    }
}
