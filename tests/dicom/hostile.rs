//! Bytes made to break a reader.

use super::*;
use std::io::Write;

const PREAMBLE_BYTES: usize = 128;

/// A Part 10 file with the given transfer syntax and data set.
fn part10(transfer_syntax_uid: &str, data_set: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; PREAMBLE_BYTES];
    bytes.extend(b"DICM");
    let mut uid = transfer_syntax_uid.as_bytes().to_vec();
    uid.resize(uid.len().next_multiple_of(2), 0);
    bytes.extend(explicit(0x0002, 0x0010, b"UI", &uid));
    bytes.extend(data_set);
    bytes
}

/// An explicit little-endian element with a 16-bit length.
fn explicit(group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let tag = [group.to_le_bytes(), element.to_le_bytes()].concat();
    [&tag, &vr[..], &(value.len() as u16).to_le_bytes(), value].concat()
}

/// An explicit little-endian element with a 32-bit length that may be a lie.
fn long(group: u16, element: u16, vr: &[u8; 2], length: u32, value: &[u8]) -> Vec<u8> {
    let tag = [group.to_le_bytes(), element.to_le_bytes()].concat();
    [&tag, &vr[..], &[0, 0], &length.to_le_bytes(), value].concat()
}

/// The attributes of a grey image of unsigned 16-bit pixels.
fn image(rows: u16, columns: u16, frames: &str) -> Vec<u8> {
    let number = |element, value: u16| explicit(0x0028, element, b"US", &value.to_le_bytes());
    let mut bytes = with_uids(Vec::new(), false);
    bytes.extend(explicit(0x0028, 0x0008, b"IS", frames.as_bytes()));
    bytes.extend([number(0x0010, rows), number(0x0011, columns)].concat());
    bytes.extend([number(0x0100, 16), number(0x0101, 16), number(0x0102, 15)].concat());
    bytes
}

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const RLE: &str = "1.2.840.10008.1.2.5";

#[test]
fn refuses_deep_nesting_without_recursion() {
    let open =
        [long(0x0040, 0xA730, b"SQ", u32::MAX, &[]), b"\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF".to_vec()];
    let bytes = part10(EXPLICIT, &open.concat().repeat(10_000));
    assert_eq!(bytes.len() / 1000, 200);
    let error = refused(&bytes);
    assert!(matches!(error, DicomError::TooDeep { depth_max: 64, .. }), "{error}");
    // The same behind UN, whose content is implicit.
    let implicit = b"\x40\0\x30\xA7\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF".repeat(10_000);
    let un = [long(0x0009, 0x1001, b"UN", u32::MAX, b"\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF"), implicit];
    let error = refused(&part10(EXPLICIT, &un.concat()));
    assert!(matches!(error, DicomError::TooDeep { .. }), "{error}");
}

#[test]
fn reads_nesting_up_to_the_limit() {
    let open =
        [long(0x0040, 0xA730, b"SQ", u32::MAX, &[]), b"\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF".to_vec()];
    let close = b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
    let nested = |depth| [open.concat().repeat(depth), close.repeat(depth)].concat();
    let check = |depth| parse(&part10(EXPLICIT, &with_uids(nested(depth), false)));
    assert!(check(64).is_ok());
    assert!(matches!(check(65), Err(DicomError::TooDeep { .. })));
}

#[test]
fn stops_inflating_a_bomb() {
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflated.write_all(&long(0x7FE0, 0x0010, b"OB", 0x7FFF_FFFE, &[])).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..160 {
        deflated.write_all(&zeros).unwrap();
    }
    let error = refused(&part10(DEFLATED, &deflated.finish().unwrap()));
    assert!(matches!(error, DicomError::TooLarge { max: 0x800_0000, .. }), "{error}");
    let error = refused(&part10(DEFLATED, b"\xFFno deflate"));
    assert!(matches!(error, DicomError::NotDicom(_)), "{error}");
}

#[test]
fn refuses_images_that_are_larger_than_their_data_or_the_limit() {
    let native = |image: Vec<u8>, size: usize| {
        let pixels = long(0x7FE0, 0x0010, b"OW", size as u32, &vec![0; size]);
        part10(EXPLICIT, &[image, pixels].concat())
    };
    let error = refused(&native(image(65535, 65535, "1 "), 8));
    assert_eq!(
        error.to_string(),
        "count of pixels in a frame is 4294836225, the limit is 134217728"
    );
    let error = refused(&native(image(512, 512, "2147483647"), 8));
    assert!(matches!(error, DicomError::TooLarge { .. }), "{error}");
    let error = refused(&native(image(512, 512, "-1"), 8));
    assert_eq!(error.to_string(), "NumberOfFrames (0028,0008) is -1");
    let error = refused(&native(image(512, 512, "2 "), 8));
    assert!(
        matches!(error, DicomError::PixelDataLength { found: 8, needed: 1_048_576 }),
        "{error}"
    );
    let error = refused(&native(image(0, 512, "1 "), 8));
    assert_eq!(error.to_string(), "Rows (0028,0010) is 0");
    assert!(parse(&native(image(2, 2, "1 "), 8)).is_ok());
}

#[test]
fn refuses_lengths_that_lie() {
    let check = |data_set: &[u8], expected: &str| {
        assert_eq!(refused(&part10(EXPLICIT, data_set)).to_string(), expected);
    };
    let at = |length: u32| long(0x0009, 0x1001, b"OB", length, b"ab");
    check(&at(0xFFFF_FFFE), "(0009,1001) at byte 160 declares 4294967294 bytes, 2 remain");
    check(
        &at(u32::MAX),
        "(0009,1001) at byte 160: undefined length, but neither sequence nor pixel data",
    );
    let sequence = long(0x0040, 0xA730, b"SQ", u32::MAX, b"\xFE\xFF\0\xE0\x10\0\0\0ab");
    check(&sequence, "(FFFE,E000) at byte 172 declares 16 bytes, 2 remain");
    let unfinished = long(0x0040, 0xA730, b"SQ", u32::MAX, &[]);
    check(&unfinished, "(0040,A730) at byte 172 declares 8 bytes, 0 remain");
    let no_item = long(0x0040, 0xA730, b"SQ", u32::MAX, b"\x08\0\x16\0UI\0\0");
    check(&no_item, "(0008,0016) at byte 172: found where an item of (0040,A730) must start");
    let no_vr = [explicit(8, 8, b"CS", b"A "), b"\x09\0\x01\x10\x01\x02\x03\x04".to_vec()];
    check(&no_vr.concat(), "(0009,1001) at byte 170: the value representation is bytes 0x01 0x02");
}

#[test]
fn tolerates_padding_after_the_last_element() {
    for (padding, expected) in [(vec![], None), (vec![0; 300], Some(300)), (vec![7; 3], Some(3))] {
        let data_set = [with_uids(Vec::new(), false), padding].concat();
        let (_, findings) =
            Instance::parse(&part10(EXPLICIT, &data_set), &DicomLimits::default()).unwrap();
        let message = expected.map(|count| format!("{count} bytes after the last data element"));
        let found = findings.into_iter().find(|finding| finding.code == "trailing_bytes");
        assert_eq!(found.map(|finding| finding.message), message);
    }
}

#[test]
fn refuses_more_elements_and_texts_than_the_limit() {
    let limits = DicomLimits { element_count_max: 100, ..DicomLimits::default() };
    let check = |data_set: Vec<u8>, expected: &str| {
        let error = Instance::parse(&part10(EXPLICIT, &data_set), &limits).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        explicit(0x0009, 0x1001, b"US", &[1, 0]).repeat(200),
        "count of data elements, items and fragments is 101, the limit is 100",
    );
    check(
        explicit(0x0009, 0x1001, b"LO", &[b'\\'; 1000]),
        "count of text values is 1001, the limit is 800",
    );
}

#[test]
fn refuses_broken_rle_headers() {
    let check = |frame: &[u8], expected: &str| {
        let mut pixels = b"\xFE\xFF\0\xE0\0\0\0\0\xFE\xFF\0\xE0".to_vec();
        pixels.extend((frame.len() as u32).to_le_bytes());
        pixels.extend(frame);
        pixels.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        let pixels = long(0x7FE0, 0x0010, b"OB", u32::MAX, &pixels);
        let error = refused(&part10(RLE, &[image(512, 512, "1 "), pixels].concat()));
        assert_eq!(error.to_string(), format!("cannot decode frame 1 (RLE): {expected}"));
    };
    check(&[1; 8], "8 bytes are too few for the header");
    check(&[0xFF; 64], "4294967295 segments where 2 are needed");
    let header = |words: [u32; 3]| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(80, 0);
        bytes
    };
    check(&header([2, 64, 4000]), "a segment from byte 64 to 4000 in 80 bytes");
    check(&header([2, 70, 64]), "a segment from byte 70 to 64 in 80 bytes");
    check(&header([2, 64, 70]), "a segment of 6 bytes cannot give 262144");
}

/// Small, fixed, and good enough to choose bytes: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    /// Breaks some bytes: values that lengths fear, runs, cuts, and pieces of the file itself.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.roll(4) {
            // Headers first: most of the structure is in the first bytes.
            let reach = if self.roll(2) == 0 { bytes.len() } else { bytes.len().min(2000) };
            let at = self.roll(reach);
            match self.roll(6) {
                0 => bytes[at] ^= 1 << self.roll(8),
                1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][self.roll(6)],
                2 => {
                    let end = (at + 1 + self.roll(4)).min(bytes.len());
                    bytes[at..end].fill(0xFF);
                }
                3 if bytes.len() > 1000 => bytes.truncate(at.max(900)),
                _ => {
                    let length = 1 + self.roll(16);
                    let from = self.roll(bytes.len());
                    let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                    let end = (at + piece.len()).min(bytes.len());
                    bytes.splice(at..end, piece);
                }
            }
        }
    }
}

/// Thousands of broken files: an error or an image within the limits, never a panic.
#[test]
fn survives_mutations_of_every_small_file() {
    const MUTATIONS_PER_FILE: usize = 150;
    let limits = DicomLimits { pixel_size_bytes_max: 1 << 20, ..DicomLimits::default() };
    let (mut read_count, mut decoded_count, mut file_count) = (0, 0, 0);
    for topic in ["pydicom", "codecs"] {
        let entries = std::fs::read_dir(data(topic)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
        paths.sort();
        for (seed, path) in paths.into_iter().enumerate() {
            let original = with_uids(std::fs::read(path).unwrap(), false);
            if original.len() > 45_000 {
                continue;
            }
            file_count += 1;
            let mut dice = Dice(seed as u64);
            for _ in 0..MUTATIONS_PER_FILE {
                let mut bytes = original.clone();
                dice.mutate(&mut bytes);
                let Ok((instance, _)) = Instance::parse(&bytes, &limits) else { continue };
                read_count += 1;
                for number in 1..=instance.frame_count().min(2) {
                    let Ok(frame) = instance.decode_frame(number) else { continue };
                    assert_eq!(frame.values.len(), frame.rows * frame.columns);
                    assert!(frame.values.len() <= 1 << 23);
                    decoded_count += 1;
                }
            }
        }
    }
    assert!(file_count >= 40, "{file_count} files");
    // The mutations must reach the decoders, else this proves little.
    assert!(read_count > 1000 && decoded_count > 500, "{read_count} read, {decoded_count} decoded");
}
