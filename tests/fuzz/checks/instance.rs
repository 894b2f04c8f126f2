//! Any bytes as a Part 10 file: an error, or an instance whose frames decode to an error or to as
//! many values as it says, and which can be told as DICOM JSON.

use seer::archive::metadata_json;
use seer::dicom::{DicomLimits, Instance};

const PIXEL_SIZE_BYTES_MAX: u64 = 1 << 20;
const ELEMENT_COUNT_MAX: usize = 4_000;
const INFLATED_SIZE_BYTES_MAX: u64 = 2 << 20;

/// An element alone in its item: a node of the map around it.
const ELEMENT_BYTES: usize = 2 << 10;
/// For each byte of the file or of what it inflates to: values, and one more copy of them.
const COPIES: usize = 8;
/// For each byte of decoded pixels: a decoder's planes of 32 bits, its workspace and the values. Eight
/// one-bit pixels become 32 bytes.
const PIXEL_COPIES: usize = 40;
const ALWAYS_BYTES: usize = 2 << 20;

/// Most heap that the check may take.
pub fn heap_bytes_max(input: &[u8]) -> usize {
    let bytes = input.len() + INFLATED_SIZE_BYTES_MAX as usize;
    let elements = ELEMENT_COUNT_MAX * ELEMENT_BYTES;
    ALWAYS_BYTES + COPIES * bytes + elements + PIXEL_COPIES * PIXEL_SIZE_BYTES_MAX as usize
}

/// Panics when something else comes of the input.
pub fn check(input: &[u8]) {
    let limits = DicomLimits {
        inflated_size_bytes_max: INFLATED_SIZE_BYTES_MAX,
        pixel_size_bytes_max: PIXEL_SIZE_BYTES_MAX,
        element_count_max: ELEMENT_COUNT_MAX,
        ..DicomLimits::default()
    };
    let Ok((instance, _)) = Instance::parse(input, &limits) else { return };
    for number in 1..=instance.frame_count().min(4) {
        if let Ok(frame) = instance.decode_frame(number) {
            assert_eq!(frame.values.len(), frame.rows * frame.columns);
            // One-bit pixels are the narrowest.
            assert!(frame.values.len() as u64 <= PIXEL_SIZE_BYTES_MAX * 8);
        }
        let _ = instance.native_frame(number);
    }
    let told = metadata_json(&instance);
    assert!(told.contains_key("00080018"), "the instance is told without its UID");
}
