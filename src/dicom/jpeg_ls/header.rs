//! Marker segments and coding parameters of JPEG-LS (T.87 Annex C).

/// What comes before the entropy-coded data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) parameters: Parameters,
    /// Rows between restart markers; 0 for none.
    pub(super) restart_rows: usize,
    /// Where the entropy-coded data start.
    pub(super) scan_at: usize,
}

/// Coding parameters, given or default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    /// Largest sample (MAXVAL).
    pub(super) value_max: i32,
    /// Largest error of a sample (NEAR); 0 is lossless.
    pub(super) near: i32,
    /// Number of different errors (RANGE).
    pub(super) range: i32,
    /// Bits of an error (qbpp).
    pub(super) quantized_bits: u32,
    /// Longest code (LIMIT).
    pub(super) limit: u32,
    thresholds: [i32; 3],
    /// Count at which statistics are halved (RESET).
    pub(super) reset: i64,
}

/// MAXVAL, T1, T2, T3 and RESET as a preset gives them; 0 asks for the default.
type Preset = [i32; 5];

impl Header {
    /// Reads the segments up to the first scan.
    pub(super) fn read(frame: &[u8]) -> Result<Self, String> {
        let mut at = 2;
        let mut shape = None;
        let mut preset = Preset::default();
        let mut restart_rows = 0;
        loop {
            let (marker, segment, end) = segment(frame, at)?;
            match marker {
                0xF7 => shape = Some(read_frame(segment)?),
                0xF8 => read_preset(segment, &mut preset)?,
                0xDD => {
                    restart_rows = segment.iter().take(4).fold(0, |n, b| n << 8 | usize::from(*b));
                }
                0xDA => {
                    let (rows, columns, precision) = shape.ok_or("the scan is before the frame")?;
                    let parameters = Parameters::new(precision, read_scan(segment)?, preset)?;
                    let scan_at = end;
                    return Ok(Self { rows, columns, parameters, restart_rows, scan_at });
                }
                0xE0..=0xEF | 0xFE => {}
                other => return Err(format!("marker {other:#04x}")),
            }
            at = end;
        }
    }
}

/// One marker segment: marker, content and where the next begins.
fn segment(frame: &[u8], mut at: usize) -> Result<(u8, &[u8], usize), String> {
    while frame.get(at..at + 2) == Some(&[0xFF, 0xFF]) {
        at += 1;
    }
    let too_short = || format!("{} bytes end in the header", frame.len());
    let &[fill, marker, high, low] = frame.get(at..at + 4).ok_or_else(too_short)? else {
        return Err(too_short());
    };
    if fill != 0xFF {
        return Err(format!("byte {fill:#04x} where a marker must be"));
    }
    let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
    let content = frame.get(at + 4..end).ok_or_else(too_short)?;
    Ok((marker, content, end))
}

/// Rows, columns and precision of a frame of one component.
fn read_frame(segment: &[u8]) -> Result<(usize, usize, u8), String> {
    match *segment {
        [precision @ 2..=16, y1, y2, x1, x2, 1, _, _, _] => {
            let number = |high, low| usize::from(u16::from_be_bytes([high, low]));
            Ok((number(y1, y2), number(x1, x2), precision))
        }
        [precision, _, _, _, _, components, ..] => {
            Err(format!("{components} components of {precision} bits"))
        }
        _ => Err(format!("a frame header of {} bytes", segment.len())),
    }
}

/// NEAR of a scan of one component.
fn read_scan(segment: &[u8]) -> Result<i32, String> {
    match *segment {
        [1, _, 0, near, 0, 0] => Ok(i32::from(near)),
        [1, _, table, _, interleave, transform] => Err(format!(
            "mapping table {table}, interleave {interleave} or point transform {transform}"
        )),
        _ => Err(format!("a scan header of {} bytes", segment.len())),
    }
}

fn read_preset(segment: &[u8], preset: &mut Preset) -> Result<(), String> {
    match segment {
        [1, values @ ..] if values.len() == 10 => {
            for (place, value) in preset.iter_mut().zip(values.chunks_exact(2)) {
                *place = i32::from(u16::from_be_bytes([value[0], value[1]]));
            }
            Ok(())
        }
        [kind, ..] => Err(format!("preset parameters of kind {kind}")),
        [] => Err("empty preset parameters".to_owned()),
    }
}

impl Parameters {
    /// Fills defaults in and checks ranges (T.87 §C.2.4.1.1).
    fn new(precision: u8, near: i32, preset: Preset) -> Result<Self, String> {
        let [value_max, t1, t2, t3, reset] = preset;
        let precision_max = (1 << precision) - 1;
        let value_max = if value_max == 0 { precision_max } else { value_max };
        if value_max > precision_max || near > 255.min(value_max / 2) {
            return Err(format!("samples to {value_max} with errors to {near}"));
        }
        let defaults = default_thresholds(value_max, near);
        let or = |given, default| if given == 0 { default } else { given };
        let thresholds = [or(t1, defaults[0]), or(t2, defaults[1]), or(t3, defaults[2])];
        let [t1, t2, t3] = thresholds;
        let reset = or(reset, 64);
        if !(near < t1 && t1 <= t2 && t2 <= t3 && t3 <= value_max) || reset < 3 {
            return Err(format!("thresholds {t1}, {t2}, {t3} and reset {reset}"));
        }
        let range = (value_max + 2 * near) / (2 * near + 1) + 1;
        let bits = bit_count(value_max + 1).max(2);
        Ok(Self {
            value_max,
            near,
            range,
            quantized_bits: bit_count(range),
            limit: 2 * (bits + bits.max(8)),
            thresholds,
            reset: i64::from(reset),
        })
    }

    /// Quantizes a gradient to -4 to 4 (T.87 §A.3.3).
    pub(super) fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let region = match size {
            _ if size <= self.near => 0,
            _ if size < t1 => 1,
            _ if size < t2 => 2,
            _ if size < t3 => 3,
            _ => 4,
        };
        region * gradient.signum()
    }

    /// Refuses errors that no encoder produces, so that sums stay small.
    pub(super) fn check_error(&self, error: i64) -> Result<(), String> {
        let max = i64::from(self.range);
        if error.abs() <= max { Ok(()) } else { Err(format!("an error of {error}")) }
    }

    /// Adds an error to a prediction, modulo the range (T.87 §A.4.5).
    pub(super) fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = predicted + error * step;
        let value = if value < -self.near {
            value + self.range * step
        } else if value > self.value_max + self.near {
            value - self.range * step
        } else {
            value
        };
        value.clamp(0, self.value_max)
    }
}

/// ceil(log2(n)).
fn bit_count(n: i32) -> u32 {
    (n - 1).checked_ilog2().map_or(0, |log| log + 1)
}

/// T1, T2 and T3 (T.87 §C.2.4.1.1.1).
fn default_thresholds(value_max: i32, near: i32) -> [i32; 3] {
    let clamp = |value, low| if value > value_max || value < low { low } else { value };
    let [t1, t2, t3] = if value_max >= 128 {
        let factor = (value_max.min(4095) + 128) / 256;
        [factor + 2 + 3 * near, 4 * factor + 3 + 5 * near, 17 * factor + 4 + 7 * near]
    } else {
        let factor = 256 / (value_max + 1);
        [
            (3 / factor + 3 * near).max(2),
            (7 / factor + 5 * near).max(3),
            (21 / factor + 7 * near).max(4),
        ]
    };
    let t1 = clamp(t1, near + 1);
    let t2 = clamp(t2, t1);
    [t1, t2, clamp(t3, t2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_default_thresholds_of_the_recommendation() {
        // T.87 table C.3.
        assert_eq!(default_thresholds(255, 0), [3, 7, 21]);
        assert_eq!(default_thresholds(255, 3), [12, 22, 42]);
        assert_eq!(default_thresholds(4095, 0), [18, 67, 276]);
        assert_eq!(default_thresholds(65535, 0), [18, 67, 276]);
    }

    #[test]
    fn refuses_impossible_parameters() {
        assert!(Parameters::new(8, 128, Preset::default()).is_err());
        assert!(Parameters::new(8, 0, [256, 0, 0, 0, 0]).is_err());
        assert!(Parameters::new(8, 0, [0, 9, 5, 21, 0]).is_err());
        assert!(Parameters::new(8, 0, [0, 0, 0, 0, 1]).is_err());
    }
}
