//! Bicubic resampling with antialiasing, as Pillow does it for 8-bit pictures.
//!
//! Two passes, columns first, each rounded to 8 bits; weights in fixed point with 22 fractional
//! bits (Pillow, `src/libImaging/Resample.c`). The views of the published plans need none of it.

use super::picture::Picture;

/// Fractional bits of a weight: 32 bits less 8 for the pixel and 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Half the width of the cubic kernel.
const SUPPORT: f64 = 2.0;

/// Resamples a picture to `rows` × `columns`.
pub(super) fn resize(picture: &Picture, rows: usize, columns: usize) -> Picture {
    let across = Taps::new(picture.columns, columns);
    let down = Taps::new(picture.rows, rows);
    let mut narrowed = Vec::with_capacity(picture.rows * columns);
    for line in picture.pixels.chunks_exact(picture.columns) {
        narrowed.extend((0..columns).map(|column| across.apply(column, |at| line[at])));
    }
    let mut pixels = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        let sample = |column: usize| down.apply(row, |at| narrowed[at * columns + column]);
        pixels.extend((0..columns).map(sample));
    }
    Picture { rows, columns, pixels }
}

/// For each output position, the first input position and the weights from there on.
struct Taps(Vec<(usize, Vec<i64>)>);

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let taps = (0..to).map(|position| {
            let centre = (position as f64 + 0.5) * scale;
            let reach = SUPPORT * stretch;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (first..end).map(|at| cubic((at as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: &f64| (w / sum * f64::from(1_u32 << PRECISION_BITS)).round() as i64;
            (first, weights.iter().map(fixed).collect())
        });
        Self(taps.collect())
    }

    fn apply(&self, position: usize, pixel: impl Fn(usize) -> [u8; 3]) -> [u8; 3] {
        let (first, weights) = &self.0[position];
        let mut sums = [1_i64 << (PRECISION_BITS - 1); 3];
        for (offset, weight) in weights.iter().enumerate() {
            let values = pixel(first + offset);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * i64::from(value);
            }
        }
        sums.map(|sum| (sum >> PRECISION_BITS).clamp(0, 255) as u8)
    }
}

/// The cubic convolution kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn formula(rows: usize, columns: usize) -> Picture {
        let value =
            |r: usize, c: usize, k: usize| ((r * 7 + c * 13 + k * 29 + r * c % 17 * 5) % 256) as u8;
        let pixels = (0..rows * columns)
            .map(|at| std::array::from_fn(|k| value(at / columns, at % columns, k)))
            .collect();
        Picture { rows, columns, pixels }
    }

    /// Hashes of `PIL.Image.resize(..., BICUBIC)`, Pillow 13.0.0, on the same pictures.
    #[test]
    fn pixels_are_those_of_pillow() {
        let check = |rows, columns, to_rows, to_columns, expected: &str| {
            let found = resize(&formula(rows, columns), to_rows, to_columns);
            let bytes: Vec<u8> = found.pixels.into_iter().flatten().collect();
            let hash = hex::encode(Sha256::digest(&bytes));
            assert_eq!(hash, expected, "{rows} x {columns} to {to_rows} x {to_columns}");
        };
        check(37, 53, 64, 96, "2f642322837ebced46757725178084120ba27f2834fa0ec5195d81d3b9331600");
        check(100, 80, 32, 32, "30fc8fe4e5e926bf06703e74caf3665e105213da13d30fe22a810641669f9129");
        check(48, 200, 96, 64, "52732bfc86f51017f1a52d2de1f65057ccc8198f426f68fde6b624fac21ecc7e");
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        let plain = Picture { rows: 5, columns: 7, pixels: vec![[9, 130, 255]; 35] };
        let found = resize(&plain, 32, 3);
        assert!(found.pixels.iter().all(|&pixel| pixel == [9, 130, 255]));
    }
}
