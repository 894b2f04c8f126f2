//! Masks into single bits and back (PS3.5 §8.1.1): least significant bit first, frames following
//! each other without padding, so that a frame may start within a byte.

use super::SegError;

/// Eight bytes of 0 or 1, as one little-endian number, times this have their bits in the top byte.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// Appends bits to bytes that may already hold something else.
pub(super) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    pending: u64,
    pending_count: u32,
}

impl<'a> BitWriter<'a> {
    /// Starts at a byte border, behind what `bytes` holds.
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, pending: 0, pending_count: 0 }
    }

    /// Appends one bit for each value.
    pub(super) fn push(&mut self, values: &[bool]) {
        let (octets, rest) = values.as_chunks::<8>();
        for octet in octets {
            let gathered = u64::from_le_bytes(octet.map(u8::from)).wrapping_mul(GATHER) >> 56;
            self.pending |= gathered << self.pending_count;
            self.bytes.push((self.pending & 0xff) as u8);
            self.pending >>= 8;
        }
        for value in rest {
            self.push_bit(*value);
        }
    }

    fn push_bit(&mut self, value: bool) {
        self.pending |= u64::from(value) << self.pending_count;
        self.pending_count += 1;
        if self.pending_count == 8 {
            self.bytes.push((self.pending & 0xff) as u8);
            self.pending = 0;
            self.pending_count = 0;
        }
    }

    /// Writes what is left of the last byte; unused bits are 0.
    pub(super) fn finish(self) {
        if self.pending_count > 0 {
            self.bytes.push((self.pending & 0xff) as u8);
        }
    }
}

/// Bytes that `bit_count` bits take as a DICOM value: padded to an even number.
pub(super) fn packed_size_bytes(bit_count: usize) -> usize {
    bit_count.div_ceil(16) * 2
}

/// How a writer laid frames out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameLayout {
    /// As the standard says.
    Continuous,
    /// Each frame starts at a byte border, as some old writers do.
    ByteAligned,
}

/// Frames of single bits.
pub(super) struct BitFrames<'a> {
    bytes: &'a [u8],
    frame_size: usize,
    layout: FrameLayout,
}

impl<'a> BitFrames<'a> {
    /// Frames of `frame_size` pixels each; the layout follows from the length.
    ///
    /// # Errors
    /// [`SegError::Truncated`] when there are fewer bits than frames need.
    pub(super) fn new(
        bytes: &'a [u8],
        frame_size: usize,
        frame_count: usize,
    ) -> Result<Self, SegError> {
        let continuous = frame_size.saturating_mul(frame_count).div_ceil(8);
        let aligned = frame_size.div_ceil(8).saturating_mul(frame_count);
        let (found, expected) = (bytes.len(), continuous);
        if found < expected {
            return Err(SegError::Truncated { found, expected });
        }
        let is_aligned =
            found.div_ceil(2) == aligned.div_ceil(2) && found > packed_size_bytes(continuous * 8);
        let layout = if is_aligned { FrameLayout::ByteAligned } else { FrameLayout::Continuous };
        Ok(Self { bytes, frame_size, layout })
    }

    /// How the writer laid frames out.
    pub(super) fn layout(&self) -> FrameLayout {
        self.layout
    }

    /// Sets the values of `mask` (row-major) that are inside in frame `index`, from 0.
    pub(super) fn add_to(&self, index: usize, mask: &mut [bool]) {
        let start = match self.layout {
            FrameLayout::Continuous => index * self.frame_size,
            FrameLayout::ByteAligned => index * self.frame_size.div_ceil(8) * 8,
        };
        for (offset, inside) in mask.iter_mut().enumerate().take(self.frame_size) {
            let bit = start + offset;
            *inside |= self.bytes[bit / 8] >> (bit % 8) & 1 == 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(frames: &[Vec<bool>]) -> Vec<u8> {
        let mut bytes = vec![0xAA];
        let mut writer = BitWriter::new(&mut bytes);
        frames.iter().for_each(|frame| writer.push(frame));
        writer.finish();
        bytes.split_off(1)
    }

    #[test]
    fn packs_the_first_pixel_into_the_lowest_bit() {
        assert_eq!(packed(&[vec![true, false, false, true]]), [0b1001]);
        let nine = vec![false, true, false, false, false, false, false, true, true];
        assert_eq!(packed(&[nine]), [0b1000_0010, 1]);
    }

    #[test]
    fn starts_a_frame_within_a_byte() {
        let frames = [vec![true, true, false], vec![false, true, true]];
        assert_eq!(packed(&frames), [0b0011_0011]);
    }

    #[test]
    fn unpacks_what_it_packed_for_every_frame_size() {
        for frame_size in 1..40 {
            let frames: Vec<Vec<bool>> = (0..5)
                .map(|f| (0..frame_size).map(|i| (i * 7 + f * 3) % 5 < 2).collect())
                .collect();
            let bytes = packed(&frames);
            let bits = BitFrames::new(&bytes, frame_size, 5).expect("long enough");
            assert_eq!(bits.layout(), FrameLayout::Continuous);
            for (index, expected) in frames.iter().enumerate() {
                let mut found = vec![false; frame_size];
                bits.add_to(index, &mut found);
                assert_eq!(&found, expected, "frame {index} of {frame_size}");
            }
        }
    }

    #[test]
    fn reads_frames_that_start_at_byte_borders() {
        let bytes = [0b101, 0b010, 0b111, 0b001, 0b100, 0b110];
        let bits = BitFrames::new(&bytes, 3, 6).expect("long enough");
        assert_eq!(bits.layout(), FrameLayout::ByteAligned);
        let mut found = vec![false; 3];
        bits.add_to(4, &mut found);
        assert_eq!(found, [false, false, true]);
    }

    #[test]
    fn refuses_pixel_data_that_end_early() {
        let error = BitFrames::new(&[0; 3], 5, 5).err().expect("25 bits do not fit into 3 bytes");
        assert!(matches!(error, SegError::Truncated { found: 3, expected: 4 }));
    }
}
