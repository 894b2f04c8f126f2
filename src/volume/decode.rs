//! One frame into values: stored values, rescaled, padding marked.

use dicom_dictionary_std::tags;
use ndarray::Array2;

use super::VolumeError;
use crate::dicom::Instance;
use crate::series::attributes::{FrameAttributes, number, numbers};
use crate::series::{Modality, Series};

/// The rescaled values of one frame, `[row, column]`; padding is NaN until the whole volume is
/// known.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) values: Array2<f32>,
    pub(super) padding_count: usize,
    /// The stored values ran from white to black (MONOCHROME1) and were turned round.
    pub(super) turned: bool,
}

/// Decodes frame `index` (counts from 0) of the series.
pub(super) fn slice(series: &Series, index: usize) -> Result<Slice, VolumeError> {
    let source = &series.frames[index];
    let slice_number = index + 1;
    let instance = series
        .instances
        .get(source.instance_index)
        .ok_or(VolumeError::NoInstance { slice_number })?;
    let frame = instance
        .decode_frame(source.frame_number)
        .map_err(|source| VolumeError::Decode { slice_number, source })?;
    if (frame.rows, frame.columns) != (series.rows, series.columns) {
        return Err(VolumeError::FrameShape {
            slice_number,
            found: [frame.rows, frame.columns],
            expected: [series.rows, series.columns],
        });
    }
    let attributes = FrameAttributes::of(instance, source.frame_number);
    let stored = Stored::of(instance);
    let rescale = Rescale::of(&attributes, slice_number)?;
    let padding = stored.padding(&attributes);
    // Hounsfield units are physical values, whichever way a display should show them.
    let turned = frame.inverted && series.modality != Modality::Ct;
    let mut padding_count = 0;
    let values = frame.values.iter().map(|stored_value| {
        let value = i64::from(*stored_value);
        if padding.as_ref().is_some_and(|padding| padding.contains(&value)) {
            padding_count += 1;
            return f32::NAN;
        }
        let value = if turned { stored.lowest + stored.highest - value } else { value };
        rescale.apply(value)
    });
    let values = Array2::from_shape_vec((frame.rows, frame.columns), values.collect())
        .map_err(|_| VolumeError::PixelCount { slice_number, found: frame.values.len() })?;
    Ok(Slice { values, padding_count, turned })
}

/// What Bits Stored and Pixel Representation allow.
struct Stored {
    lowest: i64,
    highest: i64,
    bits_allocated: u32,
    signed: bool,
}

impl Stored {
    fn of(instance: &Instance) -> Self {
        let attributes = FrameAttributes::of(instance, 1);
        let count = |tag| attributes.root(tag).and_then(number).map(|n| n.clamp(1.0, 32.0) as u32);
        let bits_allocated = count(tags::BITS_ALLOCATED).unwrap_or(16);
        let bits = count(tags::BITS_STORED).unwrap_or(bits_allocated);
        let representation = attributes.root(tags::PIXEL_REPRESENTATION).and_then(number);
        let signed = representation == Some(1.0);
        let (lowest, highest) = if signed {
            (-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1)
        } else {
            (0, (1_i64 << bits) - 1)
        };
        Self { lowest, highest, bits_allocated, signed }
    }

    /// Stored values that stand for no measurement: Pixel Padding Value (0028,0120), up to Pixel
    /// Padding Range Limit (0028,0121) where there is one (PS3.3 C.7.5.1.1.2).
    fn padding(&self, attributes: &FrameAttributes<'_>) -> Option<std::ops::RangeInclusive<i64>> {
        let value =
            |tag| attributes.root(tag).and_then(number).map(|n| self.signed_value(n as i64));
        let first = value(tags::PIXEL_PADDING_VALUE)?;
        let last = value(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(first);
        Some(first.min(last)..=first.max(last))
    }

    /// Writers give the padding value as US or SS whatever the pixels are: the bits count.
    fn signed_value(&self, value: i64) -> i64 {
        let range = 1_i64 << self.bits_allocated;
        if self.signed && value >= range / 2 {
            value - range
        } else if !self.signed && value < 0 {
            value + range
        } else {
            value
        }
    }
}

/// Rescale Slope (0028,1053) and Intercept (0028,1052); 1 and 0 where absent.
struct Rescale {
    slope: f64,
    intercept: f64,
}

impl Rescale {
    fn of(attributes: &FrameAttributes<'_>, slice_number: usize) -> Result<Self, VolumeError> {
        let group = tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE;
        let read = |tag, absent: f64| match attributes.anywhere(group, tag) {
            None => Ok(absent),
            Some(element) => numbers(element)
                .and_then(|values| values.first().copied())
                .ok_or(VolumeError::Rescale { slice_number }),
        };
        let slope = read(tags::RESCALE_SLOPE, 1.0)?;
        let intercept = read(tags::RESCALE_INTERCEPT, 0.0)?;
        if slope == 0.0 {
            return Err(VolumeError::Rescale { slice_number });
        }
        Ok(Self { slope, intercept })
    }

    fn apply(&self, value: i64) -> f32 {
        (value as f64 * self.slope + self.intercept) as f32
    }
}
