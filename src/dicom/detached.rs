//! Frames read apart from their instance, so that one frame of a large multi-frame object costs
//! the reading of its header and of that frame only.

use super::guard::{PixelPlace, PixelValuePlace};
use super::{DicomError, DicomLimits, GreyFrame, Instance, RgbFrame, identify, part10, pixels};

/// Where the frames of an instance lie in its Part 10 file.
///
/// Byte ranges are `(start, length)` from the first byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePlaces {
    /// Where the header of Pixel Data (7FE0,0010) starts; what is before it describes the pixels.
    pub header_size_bytes: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Native { at: u64, frame_bits: u64, count: u32 },
    Encapsulated { fragments: Vec<(u64, u64)>, bounds: Vec<u64> },
}

impl FramePlaces {
    /// How many frames there are.
    pub fn count(&self) -> u32 {
        match &self.kind {
            Kind::Native { count, .. } => *count,
            Kind::Encapsulated { bounds, .. } => bounds.len().saturating_sub(1) as u32,
        }
    }

    /// Whether the frames are not compressed.
    pub fn is_native(&self) -> bool {
        matches!(self.kind, Kind::Native { .. })
    }

    /// Whether a native frame starts and ends with whole bytes; 1-bit frames may not.
    pub fn is_byte_aligned(&self) -> bool {
        !matches!(self.kind, Kind::Native { frame_bits, .. } if frame_bits % 8 != 0)
    }

    /// The byte ranges that hold frame `number`, counted from 1; a native frame of single bits
    /// starts somewhere in its first byte.
    ///
    /// # Errors
    /// [`DicomError::NoSuchFrame`].
    pub fn ranges(&self, number: u32) -> Result<Vec<(u64, u64)>, DicomError> {
        let count = self.count();
        if number == 0 || number > count {
            return Err(DicomError::NoSuchFrame { number, count });
        }
        let index = u64::from(number) - 1;
        Ok(match &self.kind {
            Kind::Native { at, frame_bits, .. } => {
                let (first, end) = (frame_bits * index, frame_bits * (index + 1));
                vec![(at + first / 8, end.div_ceil(8) - first / 8)]
            }
            Kind::Encapsulated { fragments, bounds } => {
                let range = bounds[index as usize] as usize..bounds[index as usize + 1] as usize;
                fragments.get(range).unwrap_or_default().to_vec()
            }
        })
    }

    /// The byte range of all native pixel data, padding left out.
    pub fn native_range(&self) -> Option<(u64, u64)> {
        match &self.kind {
            Kind::Native { at, frame_bits, count } => {
                Some((*at, (frame_bits * u64::from(*count)).div_ceil(8)))
            }
            Kind::Encapsulated { .. } => None,
        }
    }

    /// The places as numbers, to be kept in an index.
    pub fn to_numbers(&self) -> Vec<u64> {
        let mut numbers = vec![self.header_size_bytes];
        match &self.kind {
            Kind::Native { at, frame_bits, count } => {
                numbers.extend([0, *at, *frame_bits, u64::from(*count)]);
            }
            Kind::Encapsulated { fragments, bounds } => {
                numbers.extend([1, fragments.len() as u64]);
                numbers.extend(fragments.iter().flat_map(|(at, length)| [*at, *length]));
                numbers.extend(bounds);
            }
        }
        numbers
    }

    /// Undoes [`FramePlaces::to_numbers`]; `None` for numbers it does not give.
    pub fn from_numbers(numbers: &[u64]) -> Option<Self> {
        let kind = match numbers.get(1..)? {
            [0, at, frame_bits, count] => Kind::Native {
                at: *at,
                frame_bits: *frame_bits,
                count: u32::try_from(*count).ok()?,
            },
            [1, count, rest @ ..] => {
                let count = usize::try_from(*count).ok()?;
                let (fragments, bounds) = rest.split_at_checked(count.checked_mul(2)?)?;
                let fragments: Vec<(u64, u64)> =
                    fragments.as_chunks().0.iter().map(|[at, length]| (*at, *length)).collect();
                let is_sane = bounds.iter().all(|bound| *bound <= count as u64)
                    && bounds.is_sorted()
                    && !bounds.is_empty();
                is_sane.then(|| Kind::Encapsulated { fragments, bounds: bounds.to_vec() })?
            }
            _ => return None,
        };
        Some(Self { header_size_bytes: *numbers.first()?, kind })
    }
}

impl Instance {
    /// Where the frames lie in the file this was parsed from; `None` without pixel data, and where
    /// the data set is deflated or big-endian or the frames cannot be told apart.
    pub fn frame_places(&self) -> Option<FramePlaces> {
        let description = self.pixels.as_ref().filter(|pixels| !pixels.is_float)?;
        let PixelPlace { header_at, value } = self.pixel_place.as_ref()?;
        let kind = match (value, &self.frame_index) {
            (PixelValuePlace::Native { at, .. }, None) => Kind::Native {
                at: *at as u64,
                frame_bits: description.frame_bits(),
                count: description.frames,
            },
            (PixelValuePlace::Fragments(fragments), Some(Ok(index))) => Kind::Encapsulated {
                fragments: fragments.iter().map(|(at, size)| (*at as u64, *size as u64)).collect(),
                bounds: index.bounds().iter().map(|bound| *bound as u64).collect(),
            },
            _ => return None,
        };
        Some(FramePlaces { header_size_bytes: *header_at as u64, kind })
    }

    /// Parses what stands before the pixel data of a file, to decode frames that are read apart.
    ///
    /// # Errors
    /// As [`Instance::parse`].
    pub fn parse_header(bytes: &[u8], limits: &DicomLimits) -> Result<Self, DicomError> {
        let part10 = part10::read(bytes, limits)?;
        let identity = identify(&part10.object, part10.transfer_syntax_uid)?;
        let pixels = Some(pixels::PixelDescription::read_detached(&part10.object)?);
        let object = part10.object;
        Ok(Self { identity, object, pixels, frame_index: None, pixel_place: None })
    }

    /// As [`Instance::decode_frame`], from the bytes of [`FramePlaces::ranges`].
    ///
    /// # Errors
    /// As [`Instance::decode_frame`].
    pub fn decode_frame_from(&self, number: u32, bytes: &[u8]) -> Result<GreyFrame, DicomError> {
        self.source(number, Some(bytes))?.decode()
    }

    /// As [`Instance::native_frame`], from the bytes of [`FramePlaces::ranges`].
    ///
    /// # Errors
    /// As [`Instance::native_frame`].
    pub fn native_frame_from(&self, number: u32, bytes: &[u8]) -> Result<Vec<u8>, DicomError> {
        self.source(number, Some(bytes))?.native()
    }

    /// As [`Instance::decode_rgb`], from the bytes of [`FramePlaces::ranges`].
    ///
    /// # Errors
    /// As [`Instance::decode_rgb`].
    pub fn decode_rgb_from(&self, number: u32, bytes: &[u8]) -> Result<RgbFrame, DicomError> {
        self.rgb(self.source(number, Some(bytes))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind) -> FramePlaces {
        let places = FramePlaces { header_size_bytes: 700, kind };
        assert_eq!(FramePlaces::from_numbers(&places.to_numbers()).as_ref(), Some(&places));
        places
    }

    #[test]
    fn places_come_back_from_their_numbers() {
        let bits = check(Kind::Native { at: 712, frame_bits: 5, count: 4 });
        assert_eq!(bits.ranges(1).expect("first"), [(712, 1)]);
        assert_eq!(bits.ranges(2).expect("second"), [(712, 2)]);
        assert_eq!(bits.native_range(), Some((712, 3)));
        assert!(bits.ranges(5).is_err() && bits.ranges(0).is_err());
        let fragments = vec![(720, 10), (738, 4), (750, 6)];
        let coded = check(Kind::Encapsulated { fragments, bounds: vec![0, 2, 3] });
        assert_eq!(coded.ranges(1).expect("first"), [(720, 10), (738, 4)]);
        assert_eq!(coded.ranges(2).expect("second"), [(750, 6)]);
        for broken in [&[][..], &[7], &[7, 0, 1], &[7, 1, 9, 1], &[7, 1, 0, 5], &[7, 1, u64::MAX]] {
            assert_eq!(FramePlaces::from_numbers(broken), None);
        }
    }
}
