//! JPEG-LS (ITU-T T.87), lossless and near-lossless, one component of 2 to 16 bits.
//!
//! Written from the recommendation because the only decoder around is C++. Left out: mapping
//! tables, point transforms, several components.

mod bits;
mod header;

use bits::BitReader;
use header::{Header, Parameters};

/// Contexts of regular mode (T.87 §A.3.4); the two of run interruption follow.
const REGULAR_CONTEXTS: usize = 365;

/// Orders of the run-length code (T.87 §A.7.1.2, J).
const RUN_ORDERS: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

/// Decodes one frame to samples, row-major. The frame header must have been compared with the
/// data set; `pixel_count` says what came out of that.
///
/// # Errors
/// A sentence with the numbers found.
pub(super) fn decode(frame: &[u8], pixel_count: usize) -> Result<Vec<u32>, String> {
    let header = Header::read(frame)?;
    if header.rows * header.columns != pixel_count {
        return Err(format!("{} x {} pixels in the header", header.rows, header.columns));
    }
    let mut samples = Vec::with_capacity(pixel_count);
    let mut scan = Scan::new(&header, BitReader::new(&frame[header.scan_at..]));
    for row in 0..header.rows {
        if header.restart_rows > 0 && row > 0 && row % header.restart_rows == 0 {
            let bits = scan.bits.after_restart_marker();
            let bits = bits.ok_or_else(|| format!("no restart marker before row {row}"))?;
            scan = Scan::new(&header, bits);
        }
        scan.decode_row().map_err(|problem| format!("{problem} in row {row}"))?;
        samples.extend(scan.row().iter().map(|sample| sample.cast_unsigned()));
    }
    Ok(samples)
}

/// Statistics of one context (T.87 §A.2.1): A, B, C, N.
#[derive(Debug, Clone, Copy)]
struct Context {
    error_sum: i64,
    bias_sum: i64,
    correction: i32,
    count: i64,
}

impl Context {
    /// The Golomb order: the smallest `k` with `count << k >= sum` (T.87 §A.5.1).
    fn order(&self, sum: i64) -> u32 {
        let mut order = 0;
        while self.count << order < sum && order < 32 {
            order += 1;
        }
        order
    }
}

/// One scan, or one restart interval of it, in progress.
struct Scan<'a> {
    parameters: Parameters,
    bits: BitReader<'a>,
    contexts: [Context; REGULAR_CONTEXTS + 2],
    /// Negative errors of the two run-interruption contexts (Nn).
    negative_counts: [i64; 2],
    run_index: usize,
    /// The rows above and current, with one sample before and after each.
    above: Vec<i32>,
    current: Vec<i32>,
}

impl<'a> Scan<'a> {
    fn new(header: &Header, bits: BitReader<'a>) -> Self {
        let error_sum = i64::from(((header.parameters.range + 32) / 64).max(2));
        let fresh = Context { error_sum, bias_sum: 0, correction: 0, count: 1 };
        Self {
            parameters: header.parameters,
            bits,
            contexts: [fresh; REGULAR_CONTEXTS + 2],
            negative_counts: [0; 2],
            run_index: 0,
            above: vec![0; header.columns + 2],
            current: vec![0; header.columns + 2],
        }
    }

    /// The row decoded last.
    fn row(&self) -> &[i32] {
        &self.current[1..self.current.len() - 1]
    }

    fn decode_row(&mut self) -> Result<(), String> {
        std::mem::swap(&mut self.above, &mut self.current);
        let columns = self.current.len() - 2;
        // Beyond the borders (T.87 §A.2.1): left is the sample above, right repeats the last.
        self.above[columns + 1] = self.above[columns];
        self.current[0] = self.above[1];
        let mut at = 1;
        while at <= columns {
            let (left, above) = (self.current[at - 1], self.above[at]);
            let (above_left, above_right) = (self.above[at - 1], self.above[at + 1]);
            let gradients = [above_right - above, above - above_left, above_left - left];
            if gradients.iter().all(|gradient| gradient.abs() <= self.parameters.near) {
                at = self.decode_run(at)?;
            } else {
                let predicted = median_prediction(left, above, above_left);
                self.current[at] = self.decode_regular(gradients, predicted)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Regular mode (T.87 §A.3 to A.6).
    fn decode_regular(&mut self, gradients: [i32; 3], predicted: i32) -> Result<i32, String> {
        let parameters = self.parameters;
        let [first, second, third] = gradients.map(|gradient| parameters.quantize(gradient));
        let signed_index = 81 * first + 9 * second + third;
        let sign = if signed_index < 0 { -1 } else { 1 };
        let context = &mut self.contexts[signed_index.unsigned_abs() as usize];
        let corrected = predicted + sign * context.correction;
        let predicted = corrected.clamp(0, parameters.value_max);
        let order = context.order(context.error_sum);
        let mapped = self.bits.golomb(order, parameters.limit, parameters.quantized_bits)?;
        let is_mirrored =
            parameters.near == 0 && order == 0 && 2 * context.bias_sum <= -context.count;
        let error = unmap(mapped, is_mirrored);
        parameters.check_error(error)?;
        context.update(error, &parameters);
        Ok(parameters.reconstruct(predicted, sign * error as i32))
    }

    /// Run mode (T.87 §A.7); returns the column after the run and its interruption.
    fn decode_run(&mut self, start: usize) -> Result<usize, String> {
        let columns = self.current.len() - 2;
        let value = self.current[start - 1];
        let mut at = start;
        while self.bits.take(1)? == 1 {
            let length = 1_usize << RUN_ORDERS[self.run_index];
            let room = columns + 1 - at;
            at += length.min(room);
            if length <= room {
                self.run_index = (self.run_index + 1).min(31);
            }
            if at > columns {
                self.current[start..at].fill(value);
                return Ok(at);
            }
        }
        let order = RUN_ORDERS[self.run_index];
        at += self.bits.take(order)? as usize;
        if at > columns {
            return Err(format!("a run ends {} samples after the row", at - columns));
        }
        self.current[start..at].fill(value);
        self.current[at] = self.decode_interruption(value, self.above[at], order)?;
        self.run_index = self.run_index.saturating_sub(1);
        Ok(at + 1)
    }

    /// The sample that ends a run (T.87 §A.7.2).
    fn decode_interruption(
        &mut self,
        left: i32,
        above: i32,
        run_order: u32,
    ) -> Result<i32, String> {
        let parameters = self.parameters;
        let kind = usize::from((left - above).abs() <= parameters.near);
        let (predicted, sign) = match kind {
            1 => (left, 1),
            _ if left > above => (above, -1),
            _ => (above, 1),
        };
        let context = &mut self.contexts[REGULAR_CONTEXTS + kind];
        let negative_count = &mut self.negative_counts[kind];
        let half = if kind == 1 { context.count / 2 } else { 0 };
        let order = context.order(context.error_sum + half);
        let limit = parameters.limit - run_order - 1;
        let mapped = self.bits.golomb(order, limit, parameters.quantized_bits)?;
        let folded = i64::from(mapped) + kind as i64;
        let magnitude = (folded + 1) / 2;
        let is_odd = folded % 2 == 1;
        let is_negative = (order != 0 || 2 * *negative_count >= context.count) == is_odd;
        let error = if is_negative { -magnitude } else { magnitude };
        parameters.check_error(error)?;
        *negative_count += i64::from(error < 0);
        context.error_sum += (i64::from(mapped) + 1 - kind as i64) / 2;
        if context.count == parameters.reset {
            context.error_sum /= 2;
            context.count /= 2;
            *negative_count /= 2;
        }
        context.count += 1;
        Ok(parameters.reconstruct(predicted, sign * error as i32))
    }
}

impl Context {
    /// Updates statistics and bias after a regular sample (T.87 §A.6).
    fn update(&mut self, error: i64, parameters: &Parameters) {
        self.bias_sum += error * i64::from(2 * parameters.near + 1);
        self.error_sum += error.abs();
        if self.count == parameters.reset {
            self.error_sum >>= 1;
            self.bias_sum >>= 1;
            self.count >>= 1;
        }
        self.count += 1;
        if self.bias_sum <= -self.count {
            self.bias_sum = (self.bias_sum + self.count).max(1 - self.count);
            self.correction = (self.correction - 1).max(-128);
        } else if self.bias_sum > 0 {
            self.bias_sum = (self.bias_sum - self.count).min(0);
            self.correction = (self.correction + 1).min(127);
        }
    }
}

/// The median edge detector (T.87 §A.4.1).
fn median_prediction(left: i32, above: i32, above_left: i32) -> i32 {
    let (low, high) = (left.min(above), left.max(above));
    if above_left >= high {
        low
    } else if above_left <= low {
        high
    } else {
        left + above - above_left
    }
}

/// Undoes the mapping of errors to non-negative numbers (T.87 §A.5.2).
fn unmap(mapped: u32, is_mirrored: bool) -> i64 {
    let half = i64::from(mapped / 2);
    match (mapped.is_multiple_of(2), is_mirrored) {
        (true, false) | (false, true) => half,
        (false, false) | (true, true) => -half - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of T.87 §H.3: 4 x 4 samples of 8 bits, lossless.
    #[test]
    fn decodes_the_example_of_the_recommendation() {
        let frame = [
            0xFF, 0xD8, 0xFF, 0xF7, 0x00, 0x0B, 0x08, 0x00, 0x04, 0x00, 0x04, 0x01, 0x01, 0x11,
            0x00, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0xC0, 0x00, 0x00,
            0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00, 0x57, 0x40, 0x00, 0x00, 0x6E, 0xE6,
            0x00, 0x00, 0x01, 0xBC, 0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91, 0x60, 0xFF,
            0xD9,
        ];
        let expected = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
        assert_eq!(decode(&frame, 16), Ok(expected.to_vec()));
        for cut in 0..frame.len() - 3 {
            assert!(decode(&frame[..cut], 16).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn unmaps_errors_both_ways() {
        let check = |is_mirrored, expected: [i64; 4]| {
            assert_eq!([0, 1, 2, 3].map(|mapped| unmap(mapped, is_mirrored)), expected);
        };
        check(false, [0, -1, 1, -2]);
        check(true, [-1, 0, -2, 1]);
    }
}
