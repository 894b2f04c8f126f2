//! The bit stream of a JPEG-LS scan (T.87 §A.1 and A.5.3).

/// Reads bits, most significant first; after a byte FF the next one carries seven bits.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bits that were read ahead, left-aligned.
    buffer: u64,
    bit_count: u32,
    last_was_ff: bool,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, bit_count: 0, last_was_ff: false }
    }

    /// Fills the buffer up to the end of the scan: the end of the bytes or a marker.
    fn fill(&mut self) {
        while self.bit_count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if self.last_was_ff && byte >= 0x80 {
                return;
            }
            let width = if self.last_was_ff { 7 } else { 8 };
            self.buffer |= u64::from(byte) << (64 - width - self.bit_count);
            self.bit_count += width;
            self.last_was_ff = byte == 0xFF;
            self.at += 1;
        }
    }

    fn drop(&mut self, count: u32) {
        self.buffer = self.buffer.checked_shl(count).unwrap_or(0);
        self.bit_count -= count;
    }

    /// Takes up to 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, String> {
        if count == 0 {
            return Ok(0);
        }
        if self.bit_count < count {
            self.fill();
        }
        if self.bit_count < count {
            return Err("the data end".to_owned());
        }
        let value = self.buffer >> (64 - count);
        self.drop(count);
        Ok(value as u32)
    }

    /// Decodes a length-limited Golomb code of order `order` (T.87 §A.5.3).
    pub(super) fn golomb(
        &mut self,
        order: u32,
        limit: u32,
        quantized_bits: u32,
    ) -> Result<u32, String> {
        let escape = limit - quantized_bits - 1;
        let zeros = self.zeros(escape)?;
        if zeros >= escape {
            return Ok(self.take(quantized_bits)? + 1);
        }
        if order > 16 {
            return Err(format!("Golomb order {order}"));
        }
        Ok(zeros << order | self.take(order)?)
    }

    /// Counts zeros and takes the one that ends them; more than `max` are an error.
    fn zeros(&mut self, max: u32) -> Result<u32, String> {
        let mut zeros = 0;
        loop {
            self.fill();
            let run = self.buffer.leading_zeros().min(self.bit_count);
            zeros += run;
            if zeros > max {
                return Err(format!("a code of more than {max} zeros"));
            }
            if run < self.bit_count {
                self.drop(run + 1);
                return Ok(zeros);
            }
            if run == 0 {
                return Err("the data end".to_owned());
            }
            self.drop(run);
        }
    }

    /// The reader behind the next restart marker (RST0 to RST7), if that is what comes next.
    pub(super) fn after_restart_marker(&self) -> Option<BitReader<'a>> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        // Read-ahead stops at a marker: the FF itself was taken for data.
        let rest = if self.last_was_ff { rest } else { rest.strip_prefix(&[0xFF])? };
        match rest.split_first()? {
            (0xD0..=0xD7, rest) => Some(BitReader::new(rest)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_the_stuffed_bit_after_ff_and_stops_at_markers() {
        let mut bits = BitReader::new(&[0xFF, 0x7F, 0x80, 0xFF, 0xD9]);
        assert_eq!(bits.take(15), Ok(0x7FFF));
        assert_eq!(bits.take(8), Ok(0x80));
        assert_eq!(bits.take(8), Ok(0xFF));
        assert!(bits.take(1).is_err());
    }

    #[test]
    fn decodes_golomb_codes_and_their_escape() {
        // 001 01 | 0000001 01101 with a limit of 12 and 5 bits: six zeros escape.
        let mut bits = BitReader::new(&[0b0010_1000, 0b0001_0110, 0b1000_0000]);
        assert_eq!(bits.golomb(2, 12, 5), Ok(0b1001));
        assert_eq!(bits.golomb(2, 12, 5), Ok(0b01101 + 1));
    }
}
