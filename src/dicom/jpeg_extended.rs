//! JPEG Extended, sequential, 12 bits, Huffman-coded, one component (ITU-T T.81 Annex F).
//!
//! No other decoder at hand knows more than 8 bits of DCT-based JPEG. Left out: progressive and
//! arithmetic-coded frames, several components.

use super::codestream::segment;

/// Where the coefficients of a block go, in the order of the stream (T.81 figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// No sum of differences of a 12-bit image is larger.
const DC_MAX: i32 = 1 << 17;

/// Decodes one frame to samples of 0 to 4095, row-major. The frame header must have been compared
/// with `rows` and `columns`.
///
/// # Errors
/// A sentence with the numbers found.
pub(super) fn decode(frame: &[u8], rows: usize, columns: usize) -> Result<Vec<u32>, String> {
    let mut scan = Scan::read(frame)?;
    let cosines = cosines();
    let mut samples = vec![0; rows * columns];
    let (blocks_down, blocks_across) = (rows.div_ceil(8), columns.div_ceil(8));
    for index in 0..blocks_down * blocks_across {
        if scan.restart_blocks > 0 && index > 0 && index % scan.restart_blocks == 0 {
            scan.restart().ok_or_else(|| format!("no restart marker before block {index}"))?;
        }
        let block = scan.block().map_err(|problem| format!("{problem} in block {index}"))?;
        let values = inverse_transform(&block, &cosines);
        let (top, left) = (index / blocks_across * 8, index % blocks_across * 8);
        let width = (columns - left).min(8);
        for (row, line) in values.chunks_exact(8).enumerate().take(rows - top) {
            let start = (top + row) * columns + left;
            for (sample, value) in samples[start..start + width].iter_mut().zip(line) {
                *sample = (value.round() as i32 + 2048).clamp(0, 4095).cast_unsigned();
            }
        }
    }
    Ok(samples)
}

/// A Huffman table (T.81 Annex C and §F.2.2.3).
#[derive(Debug, Clone, Default)]
struct Huffman {
    /// For each code length 1 to 16: one past the last code, left-aligned to 16 bits.
    ends: [u32; 16],
    /// For each code length: what to add to a code to get its place in `symbols`.
    places: [i32; 16],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, String> {
        let mut table = Self { symbols: symbols.to_vec(), ..Self::default() };
        let (mut code, mut place) = (0_u32, 0_i32);
        for (index, count) in counts.iter().enumerate() {
            let length = index as u32 + 1;
            table.places[index] = place - code.cast_signed();
            code += u32::from(*count);
            place += i32::from(*count);
            if code > 1 << length {
                return Err(format!("{count} codes of {length} bits"));
            }
            table.ends[index] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// The one scan of the image, in progress.
struct Scan<'a> {
    quantization: [u16; 64],
    dc: Huffman,
    ac: Huffman,
    restart_blocks: usize,
    bits: Bits<'a>,
    predicted_dc: i32,
}

impl<'a> Scan<'a> {
    /// Reads the segments up to the scan, and the tables it names.
    fn read(frame: &'a [u8]) -> Result<Self, String> {
        let mut quantizations: [Option<[u16; 64]>; 4] = [None; 4];
        let mut huffmans: [Option<Huffman>; 8] = Default::default();
        let (mut quantization_index, mut restart_blocks, mut at) = (0, 0, 2);
        loop {
            let (marker, content, end) = segment(frame, at)?;
            at = end;
            match (marker, content) {
                (0xC0 | 0xC1, [_, _, _, _, _, 1, _, _, table]) => {
                    quantization_index = usize::from(*table);
                }
                (0xC4, content) => read_huffman(content, &mut huffmans)?,
                (0xDB, content) => read_quantization(content, &mut quantizations)?,
                (0xDD, [high, low]) => {
                    restart_blocks = usize::from(u16::from_be_bytes([*high, *low]));
                }
                // Some writers give the whole band wrong; a sequential scan has no other.
                (0xDA, [1, _, tables, _, _, _]) => {
                    let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
                    let find = |class: usize, index: usize| {
                        let table = huffmans.get(4 * class + index).filter(|_| index < 4);
                        let table = table.and_then(Option::clone);
                        table.ok_or_else(|| format!("no Huffman table {index} of class {class}"))
                    };
                    let quantization = quantizations.get(quantization_index).copied().flatten();
                    return Ok(Self {
                        quantization: quantization
                            .ok_or_else(|| format!("no quantization table {quantization_index}"))?,
                        dc: find(0, dc)?,
                        ac: find(1, ac)?,
                        restart_blocks,
                        bits: Bits { bytes: &frame[end..], buffer: 0, count: 0 },
                        predicted_dc: 0,
                    });
                }
                (0xE0..=0xEF | 0xFE, _) => {}
                (marker, content) => {
                    return Err(format!("marker {marker:#04x} with {} bytes", content.len()));
                }
            }
        }
    }

    /// Decodes and dequantizes the coefficients of the next block (T.81 §F.2.2).
    fn block(&mut self) -> Result<[f32; 64], String> {
        let mut block = [0.0; 64];
        let size = self.bits.symbol(&self.dc)?;
        self.predicted_dc += self.bits.signed(size)?;
        if self.predicted_dc.abs() > DC_MAX {
            return Err(format!("a DC coefficient of {}", self.predicted_dc));
        }
        block[0] = self.predicted_dc as f32 * f32::from(self.quantization[0]);
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol(&self.ac)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, size) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += zeros;
                    let place = *ZIGZAG.get(at).ok_or_else(|| format!("coefficient {at}"))?;
                    let value = self.bits.signed(size)?;
                    block[place] = value as f32 * f32::from(self.quantization[at]);
                    at += 1;
                }
            }
        }
        Ok(block)
    }

    /// Steps over a restart marker (T.81 §F.2.2.5); `None` when there is none.
    fn restart(&mut self) -> Option<()> {
        self.predicted_dc = 0;
        self.bits = self.bits.after_restart_marker()?;
        Some(())
    }
}

fn read_quantization(
    mut content: &[u8],
    tables: &mut [Option<[u16; 64]>; 4],
) -> Result<(), String> {
    while let [kind, rest @ ..] = content {
        let width = if kind >> 4 == 0 { 1 } else { 2 };
        let too_short = || format!("a quantization table of {} bytes", rest.len());
        let (values, following) = rest.split_at_checked(64 * width).ok_or_else(too_short)?;
        let mut table = [0; 64];
        for (place, value) in table.iter_mut().zip(values.chunks_exact(width)) {
            *place = value.iter().fold(0, |number, byte| number << 8 | u16::from(*byte));
        }
        let slot = tables.get_mut(usize::from(kind & 15));
        *slot.ok_or_else(|| format!("quantization table {}", kind & 15))? = Some(table);
        content = following;
    }
    Ok(())
}

fn read_huffman(mut content: &[u8], tables: &mut [Option<Huffman>; 8]) -> Result<(), String> {
    while let [kind, rest @ ..] = content {
        let too_short = || format!("a Huffman table of {} bytes", rest.len());
        let (counts, rest) = rest.split_at_checked(16).ok_or_else(too_short)?;
        let total = counts.iter().map(|count| usize::from(*count)).sum();
        let (symbols, following) = rest.split_at_checked(total).ok_or_else(too_short)?;
        let (class, index) = (usize::from(kind >> 4), usize::from(kind & 15));
        if class > 1 || index > 3 {
            return Err(format!("Huffman table {index} of class {class}"));
        }
        tables[4 * class + index] = Some(Huffman::new(counts, symbols)?);
        content = following;
    }
    Ok(())
}

/// Entropy-coded bits, most significant first; FF is followed by a stuffed 00 (T.81 §B.1.1.5).
struct Bits<'a> {
    bytes: &'a [u8],
    /// Left-aligned.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn fill(&mut self) {
        while self.count <= 56 {
            let (byte, rest) = match self.bytes {
                [0xFF, 0, rest @ ..] => (0xFF, rest),
                [0xFF, ..] | [] => return,
                [byte, rest @ ..] => (*byte, rest),
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.bytes = rest;
        }
    }

    fn take(&mut self, count: u32) -> Result<u32, String> {
        if self.count < count {
            self.fill();
        }
        if self.count < count {
            return Err("the data end".to_owned());
        }
        let bits = self.buffer.checked_shr(64 - count).unwrap_or(0);
        self.buffer <<= count;
        self.count -= count;
        Ok(bits as u32)
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8, String> {
        self.fill();
        let ahead = (self.buffer >> 48) as u32;
        let index = table.ends.iter().position(|end| ahead < *end);
        let index = index.ok_or_else(|| format!("no code for bits {ahead:016b}"))?;
        let code = self.take(index as u32 + 1)?;
        let place = usize::try_from(table.places[index] + code.cast_signed()).ok();
        place
            .and_then(|place| table.symbols.get(place))
            .copied()
            .ok_or_else(|| format!("no symbol for code {code}"))
    }

    /// Takes `size` bits as a signed number (T.81 §F.2.2.1, EXTEND).
    fn signed(&mut self, size: u8) -> Result<i32, String> {
        if size > 15 {
            return Err(format!("a coefficient of {size} bits"));
        }
        let bits = self.take(u32::from(size))?.cast_signed();
        let is_negative = size > 0 && bits < 1 << (size - 1);
        Ok(if is_negative { bits - (1 << size) + 1 } else { bits })
    }

    fn after_restart_marker(&self) -> Option<Bits<'a>> {
        match self.bytes {
            [0xFF, 0xD0..=0xD7, rest @ ..] => Some(Bits { bytes: rest, buffer: 0, count: 0 }),
            _ => None,
        }
    }
}

/// The basis of the transform: `[position][frequency]`, scaled (T.81 §A.3.3).
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|position| {
        std::array::from_fn(|frequency| {
            let scale = if frequency == 0 { 0.125_f64.sqrt() } else { 0.5 };
            let angle = (2 * position + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0;
            (scale * angle.cos()) as f32
        })
    })
}

/// The inverse cosine transform, rows then columns.
fn inverse_transform(block: &[f32; 64], cosines: &[[f32; 8]; 8]) -> [f32; 64] {
    let mut rows = [0.0; 64];
    for row in 0..8 {
        let coefficients = &block[8 * row..8 * row + 8];
        for column in 0..8 {
            let terms = coefficients.iter().zip(&cosines[column]);
            rows[8 * row + column] = terms.map(|(value, cosine)| value * cosine).sum();
        }
    }
    let mut values = [0.0; 64];
    for row in 0..8 {
        for column in 0..8 {
            let terms = cosines[row].iter().enumerate();
            values[8 * row + column] =
                terms.map(|(frequency, cosine)| rows[8 * frequency + column] * cosine).sum();
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_a_constant_and_a_single_frequency() {
        let mut block = [0.0; 64];
        block[0] = 80.0;
        let flat = inverse_transform(&block, &cosines());
        assert!(flat.iter().all(|value| (value - 10.0).abs() < 1e-4));
        block = [0.0; 64];
        block[1] = 8.0;
        let wave = inverse_transform(&block, &cosines());
        let expected = 8.0 * 0.125_f32.sqrt() * 0.5 * (std::f32::consts::PI / 16.0).cos();
        assert!((wave[0] - expected).abs() < 1e-4 && (wave[7] + expected).abs() < 1e-4);
        assert_eq!(wave[0], wave[56], "the frequency is horizontal");
    }

    #[test]
    fn extends_signs_and_refuses_overfull_tables() {
        let mut bits = Bits { bytes: &[0b0101_1000, 0xFF, 0x00], buffer: 0, count: 0 };
        assert_eq!((bits.signed(0), bits.signed(1), bits.signed(2)), (Ok(0), Ok(-1), Ok(2)));
        assert_eq!((bits.take(5), bits.take(8)), (Ok(0b11000), Ok(0xFF)));
        assert!(bits.take(1).is_err());
        assert!(Huffman::new(&[3], &[0, 1, 2]).is_err());
    }
}
