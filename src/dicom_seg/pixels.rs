//! Pixel Data of a Segmentation: bits of one segment, or numbers of all (PS3.3 C.8.20.2).

use ndarray::Axis;

use super::frames::FramePlan;
use super::pack::{BitWriter, packed_size_bytes};
use super::{SegInput, SegmentationType};

/// Segment numbers above this take two bytes.
const BYTE_MAX: usize = 255;

/// How large pixels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelLayout {
    /// Bits Allocated: 1, 8 or 16.
    pub(super) bits: u16,
    /// All frames, padded to an even length.
    pub(super) size_bytes: usize,
}

impl PixelLayout {
    pub(super) fn of(input: &SegInput<'_>, frame_count: usize) -> Self {
        let pixel_count = frame_count * input.series.rows * input.series.columns;
        match input.options.segmentation_type {
            SegmentationType::Binary => {
                Self { bits: 1, size_bytes: packed_size_bytes(pixel_count) }
            }
            SegmentationType::Labelmap if input.segments.len() > BYTE_MAX => {
                Self { bits: 16, size_bytes: pixel_count * 2 }
            }
            SegmentationType::Labelmap => {
                Self { bits: 8, size_bytes: pixel_count.next_multiple_of(2) }
            }
        }
    }
}

/// Appends Pixel Data (7FE0,0010), the data set's last element: OB, or OW for 16-bit pixels
/// (PS3.5 §8.2).
pub(super) fn append(
    bytes: &mut Vec<u8>,
    input: &SegInput<'_>,
    plan: &[FramePlan],
    layout: PixelLayout,
) {
    bytes.reserve_exact(layout.size_bytes + 12);
    bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00]);
    bytes.extend_from_slice(if layout.bits == 16 { b"OW\0\0" } else { b"OB\0\0" });
    bytes.extend_from_slice(&(layout.size_bytes as u32).to_le_bytes());
    let start = bytes.len();
    match input.options.segmentation_type {
        SegmentationType::Binary => append_bits(bytes, input, plan),
        SegmentationType::Labelmap => append_numbers(bytes, input, plan, layout),
    }
    bytes.resize(start + layout.size_bytes, 0);
}

fn append_bits(bytes: &mut Vec<u8>, input: &SegInput<'_>, plan: &[FramePlan]) {
    let mut writer = BitWriter::new(bytes);
    for frame in plan {
        let Some(segment_index) = frame.segment_index else { continue };
        let mask = input.segments[segment_index].mask;
        let values = mask.index_axis(Axis(0), frame.frame_index);
        match values.to_slice() {
            Some(values) => writer.push(values),
            None => writer.push(&values.iter().copied().collect::<Vec<bool>>()),
        }
    }
    writer.finish();
}

fn append_numbers(
    bytes: &mut Vec<u8>,
    input: &SegInput<'_>,
    plan: &[FramePlan],
    layout: PixelLayout,
) {
    let mut numbers = vec![0_u16; input.series.rows * input.series.columns];
    for frame in plan {
        numbers.fill(0);
        for (number, segment) in (1..).zip(&input.segments) {
            let mask = segment.mask.index_axis(Axis(0), frame.frame_index);
            let inside = numbers.iter_mut().zip(mask).filter(|(_, inside)| **inside);
            inside.for_each(|(value, _)| *value = number);
        }
        match layout.bits {
            16 => bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            _ => bytes.extend(numbers.iter().map(|number| *number as u8)),
        }
    }
}
