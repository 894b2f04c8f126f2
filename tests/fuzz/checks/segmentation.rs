//! Any bytes as a Segmentation of a series: an error, or masks on the frames of the series.

use seer::dicom::{DicomLimits, Instance};
use seer::dicom_seg::SegReader;

#[path = "../../dicom_seg/fixtures.rs"]
#[allow(dead_code, reason = "tests make more of them")]
mod fixtures;

const PIXEL_SIZE_BYTES_MAX: u64 = 1 << 20;
const INFLATED_SIZE_BYTES_MAX: u64 = 2 << 20;
const ELEMENT_COUNT_MAX: usize = 4_000;
/// An element alone in its item, and what a segment or frame says about itself.
const ELEMENT_BYTES: usize = 4 << 10;

/// Most heap that the check may take.
pub fn heap_bytes_max(input: &[u8]) -> usize {
    let elements = ELEMENT_COUNT_MAX * ELEMENT_BYTES;
    let bytes = input.len() + INFLATED_SIZE_BYTES_MAX as usize;
    (2 << 20) + 8 * bytes + elements + 40 * PIXEL_SIZE_BYTES_MAX as usize
}

thread_local! {
    static SERIES: fixtures::Made = fixtures::make(fixtures::Recipe::default());
}

/// Panics when something else comes of the input.
pub fn check(input: &[u8]) {
    let limits = DicomLimits {
        inflated_size_bytes_max: INFLATED_SIZE_BYTES_MAX,
        pixel_size_bytes_max: PIXEL_SIZE_BYTES_MAX,
        element_count_max: ELEMENT_COUNT_MAX,
        ..DicomLimits::default()
    };
    SERIES.with(|made| {
        let series = &made.series;
        let Ok((instance, _)) = Instance::parse(input, &limits) else { return };
        let Ok((reader, _)) = SegReader::open(&instance, series) else { return };
        let mut numbers = reader.segments().map(|segment| segment.number);
        for number in numbers.by_ref().take(4) {
            if let Ok(mask) = reader.mask(number) {
                assert_eq!(mask.shape(), [series.frames.len(), series.rows, series.columns]);
            }
        }
    });
}
