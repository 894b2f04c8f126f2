//! Headers of compressed frames, read before a foreign decoder may allocate what they claim.

/// What a codestream says about its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) components: u16,
    /// Bits per sample.
    pub(super) precision: u8,
}

/// Big-endian reading that gives `None` past the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8(at)?, self.u8(at + 1)?]))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from(self.u16(at)?) << 16 | u32::from(self.u16(at + 2)?))
    }
}

/// Reads the frame header of a JPEG or JPEG-LS (ITU-T T.81 §B.2.2), whatever its process; the
/// second value is the number of the start-of-frame marker, 0 for baseline.
pub(super) fn jpeg_shape(frame: &[u8]) -> Option<(Shape, u8)> {
    let bytes = Bytes(frame);
    if bytes.u16(0)? != 0xFFD8 {
        return None;
    }
    let mut at = 2;
    loop {
        let (fill, marker) = (bytes.u8(at)?, bytes.u8(at + 1)?);
        match (fill, marker) {
            (0xFF, 0xFF) => at += 1,
            (0xFF, 0xC4 | 0xC8 | 0xCC) => at += 2 + usize::from(bytes.u16(at + 2)?),
            (0xFF, 0xC0..=0xCF | 0xF7) => {
                let shape = Shape {
                    precision: bytes.u8(at + 4)?,
                    rows: u32::from(bytes.u16(at + 5)?),
                    columns: u32::from(bytes.u16(at + 7)?),
                    components: u16::from(bytes.u8(at + 9)?),
                };
                return Some((shape, marker - 0xC0));
            }
            (0xFF, 0xD0..=0xD9 | 0x01) => at += 2,
            (0xFF, _) => at += 2 + usize::from(bytes.u16(at + 2)?),
            _ => return None,
        }
    }
}

/// Reads the marker segment at `at` of a JPEG or JPEG-LS header: marker, content, and where the
/// next begins.
///
/// # Errors
/// A sentence with what is there instead.
pub(super) fn segment(frame: &[u8], mut at: usize) -> Result<(u8, &[u8], usize), String> {
    while frame.get(at..at + 2) == Some(&[0xFF, 0xFF]) {
        at += 1;
    }
    let too_short = || format!("{} bytes end in the header", frame.len());
    let &[fill, marker, high, low] = frame.get(at..at + 4).ok_or_else(too_short)? else {
        return Err(too_short());
    };
    if fill != 0xFF {
        return Err(format!("byte {fill:#04x} where a marker must be"));
    }
    let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
    let content = frame.get(at + 4..end).ok_or_else(too_short)?;
    Ok((marker, content, end))
}

/// The same JPEG with its three components named R, G and B, so that a decoder takes them as they
/// are; `None` when an Adobe segment says what they are, or the frame is not of that shape.
///
/// Writers that store RGB without a transform often name the components 1, 2 and 3, which decoders
/// take for YCbCr.
pub(super) fn jpeg_named_rgb(frame: &[u8]) -> Option<Vec<u8>> {
    const NAMES: [u8; 3] = *b"RGB";
    let mut renamed = frame.to_vec();
    let mut ids: Option<[u8; 3]> = None;
    let mut at = 2;
    while at < frame.len() {
        let (marker, content, end) = segment(frame, at).ok()?;
        let content_at = end - content.len();
        match marker {
            // A shorter one says nothing of the transform.
            0xEE if content.starts_with(b"Adobe") && content.len() >= 12 => return None,
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF if *content.get(5)? == 3 => {
                let places = [6, 9, 12];
                ids = Some([*content.get(6)?, *content.get(9)?, *content.get(12)?]);
                places
                    .iter()
                    .zip(NAMES)
                    .for_each(|(place, name)| renamed[content_at + place] = name);
            }
            0xDA => {
                let count = usize::from(*content.first()?);
                for place in (0..count).map(|index| 1 + 2 * index) {
                    let id = content.get(place)?;
                    let index = ids?.iter().position(|known| known == id)?;
                    renamed[content_at + place] = NAMES[index];
                }
                // In entropy-coded data a marker is FF and neither 00 nor a restart.
                let coded = frame.get(end..)?.windows(2);
                let mut markers = coded.enumerate().filter(|(_, pair)| {
                    pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF)
                });
                let next = markers.next().map(|(offset, pair)| (end + offset, pair[1]));
                match next {
                    Some((next, marker)) if marker != 0xD9 => {
                        at = next;
                        continue;
                    }
                    _ => return Some(renamed),
                }
            }
            _ => {}
        }
        at = end;
    }
    None
}

/// The SIZ segment of JPEG 2000 (ITU-T T.800 §A.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jpeg2000Header {
    pub(super) shape: Shape,
    /// Samples of the first component are signed.
    pub(super) is_signed: bool,
    /// How many tiles a decoder will prepare.
    pub(super) tile_count: u64,
}

/// Reads the header of a JPEG 2000 codestream, bare or inside JP2 boxes.
pub(super) fn jpeg2000_header(frame: &[u8]) -> Option<Jpeg2000Header> {
    const SOC_SIZ: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
    let start = frame.windows(4).take(1 << 16).position(|window| window == SOC_SIZ)?;
    let bytes = Bytes(frame.get(start + 8..)?);
    let [width, height, left, top, tile_width, tile_height, tile_left, tile_top] = [
        bytes.u32(0)?,
        bytes.u32(4)?,
        bytes.u32(8)?,
        bytes.u32(12)?,
        bytes.u32(16)?,
        bytes.u32(20)?,
        bytes.u32(24)?,
        bytes.u32(28)?,
    ];
    let component = bytes.u8(34)?;
    if tile_width == 0 || tile_height == 0 || bytes.u8(35)? != 1 || bytes.u8(36)? != 1 {
        return None;
    }
    let across = width.checked_sub(tile_left)?.div_ceil(tile_width);
    let down = height.checked_sub(tile_top)?.div_ceil(tile_height);
    Some(Jpeg2000Header {
        shape: Shape {
            rows: height.checked_sub(top)?,
            columns: width.checked_sub(left)?,
            components: bytes.u16(32)?,
            precision: (component & 0x7F) + 1,
        },
        is_signed: component & 0x80 != 0,
        tile_count: u64::from(across) * u64::from(down),
    })
}

/// Reads the size and bit depth of a JPEG XL codestream (ISO/IEC 18181-1 §D.2 and D.3), bare or
/// in a container. Components are not told and given as 1. Floating-point samples, previews and
/// animations give `None`.
pub(super) fn jpeg_xl_shape(frame: &[u8]) -> Option<Shape> {
    let codestream = jpeg_xl_codestream(frame)?;
    let mut bits = Bits { bytes: codestream.strip_prefix(&[0xFF, 0x0A])?, at: 0 };
    let (rows, columns) = bits.jpeg_xl_size()?;
    let shape = |precision| Shape { rows, columns, components: 1, precision };
    let all_default = bits.bool()?;
    if all_default {
        return Some(shape(8));
    }
    let extra_fields = bits.bool()?;
    if extra_fields {
        bits.take(3)?;
        let have_intrinsic_size = bits.bool()?;
        if have_intrinsic_size {
            bits.jpeg_xl_size()?;
        }
        let have_preview = bits.bool()?;
        let have_animation = !have_preview && bits.bool()?;
        if have_preview || have_animation {
            return None;
        }
    }
    let float_samples = bits.bool()?;
    let precision = match bits.take(2)? {
        0 => 8,
        1 => 10,
        2 => 12,
        _ => bits.take(6)? + 1,
    };
    if float_samples { None } else { Some(shape(precision as u8)) }
}

fn jpeg_xl_codestream(frame: &[u8]) -> Option<&[u8]> {
    const SIGNATURE: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";
    if !frame.starts_with(SIGNATURE) {
        return Some(frame);
    }
    let mut at = SIGNATURE.len();
    loop {
        let bytes = Bytes(frame.get(at..)?);
        let size = bytes.u32(0)? as usize;
        match frame.get(at + 4..at + 8)? {
            b"jxlc" => return frame.get(at + 8..),
            b"jxlp" => return frame.get(at + 12..),
            _ if size < 8 => return None,
            _ => at = at.checked_add(size)?,
        }
    }
}

/// Bits of a JPEG XL header, least significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= u32::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }

    fn bool(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    fn jpeg_xl_size(&mut self) -> Option<(u32, u32)> {
        const RATIOS: [(u64, u64); 7] = [(1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)];
        let is_small = self.bool()?;
        let rows = self.jpeg_xl_side(is_small)?;
        let columns = match self.take(3)? {
            0 => self.jpeg_xl_side(is_small)?,
            ratio => {
                let (numerator, denominator) = RATIOS[ratio as usize - 1];
                u32::try_from(u64::from(rows) * numerator / denominator).ok()?
            }
        };
        Some((rows, columns))
    }

    fn jpeg_xl_side(&mut self, is_small: bool) -> Option<u32> {
        if is_small {
            return Some((self.take(5)? + 1) * 8);
        }
        let width = [9, 13, 18, 30][self.take(2)? as usize];
        Some(self.take(width)? + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_jpeg_frame_header_behind_other_segments() {
        let jpeg =
            b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xFF\xC4\0\x02\xFF\xC3\0\x0B\x10\x01\x02\0\x09\x01";
        let shape = Shape { rows: 258, columns: 9, components: 1, precision: 16 };
        assert_eq!(jpeg_shape(jpeg), Some((shape, 3)));
        assert_eq!(jpeg_shape(&jpeg[..20]), None);
        assert_eq!(jpeg_shape(b"\0\0"), None);
    }

    #[test]
    fn names_the_components_of_a_jpeg_in_every_header() {
        let jpeg = b"\xFF\xD8\xFF\xC0\0\x11\x08\0\x01\0\x01\x03\x01\x11\0\x02\x11\0\x03\x11\0\
            \xFF\xDA\0\x08\x01\x01\0\0\x3F\0ab\xFF\0\xFF\xD0c\
            \xFF\xDA\0\x0A\x02\x02\0\x03\0\0\x3F\0d\xFF\xD9";
        let named = jpeg_named_rgb(jpeg).expect("three components");
        let expected = b"\xFF\xD8\xFF\xC0\0\x11\x08\0\x01\0\x01\x03R\x11\0G\x11\0B\x11\0\
            \xFF\xDA\0\x08\x01R\0\0\x3F\0ab\xFF\0\xFF\xD0c\
            \xFF\xDA\0\x0A\x02G\0B\0\0\x3F\0d\xFF\xD9";
        assert_eq!(named, expected);
        let adobe = b"\xFF\xD8\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\x01\xFF\xD9";
        assert_eq!(jpeg_named_rgb(adobe), None);
    }

    #[test]
    fn reads_jpeg_xl_sizes_by_ratio_and_by_number() {
        // Not small, 9-bit rows 300, ratio 1:1, all defaults.
        let bits = (299_u32 << 3) | (1 << 12) | (1 << 15);
        let frame = [&[0xFF, 0x0A][..], &bits.to_le_bytes()].concat();
        let shape = Shape { rows: 300, columns: 300, components: 1, precision: 8 };
        assert_eq!(jpeg_xl_shape(&frame), Some(shape));
        // Small 64 x 80, no defaults, no extra fields, 12-bit integers.
        let bits = 1_u32 | (7 << 1) | (9 << 9) | (2 << 17);
        let frame = [&[0xFF, 0x0A][..], &bits.to_le_bytes()].concat();
        let shape = Shape { rows: 64, columns: 80, components: 1, precision: 12 };
        assert_eq!(jpeg_xl_shape(&frame), Some(shape));
    }
}
