//! Any bytes: an error, or an instance whose frames decode to an error or a bounded image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seer::dicom::{DicomLimits, Instance};

const PIXEL_SIZE_BYTES_MAX: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let limits = DicomLimits {
        inflated_size_bytes_max: 16 << 20,
        pixel_size_bytes_max: PIXEL_SIZE_BYTES_MAX,
        element_count_max: 10_000,
        ..DicomLimits::default()
    };
    let Ok((instance, _)) = Instance::parse(bytes, &limits) else { return };
    for number in 1..=instance.frame_count().min(4) {
        if let Ok(frame) = instance.decode_frame(number) {
            assert_eq!(frame.values.len(), frame.rows * frame.columns);
            // One-bit pixels are the narrowest.
            assert!(frame.values.len() as u64 <= PIXEL_SIZE_BYTES_MAX * 8);
        }
    }
});
