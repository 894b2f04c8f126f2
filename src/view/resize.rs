//! Pillow's bilinear resize of 8-bit grey pictures, byte by byte.
//!
//! A triangle filter, widened when the picture shrinks (so that it does not alias), applied along
//! rows and then along columns with 22-bit fixed-point weights and a rounding to 8 bits in
//! between (`ImagingResample` with `Image.Resampling.BILINEAR`). Rows come first, as in every
//! Pillow before 13; Pillow 13 takes columns first where the height shrinks much more than the
//! width, and single pixels then differ by one grey level.

/// Fraction bits of a weight: 32 bits less 8 for the pixel and 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A row-major 8-bit grey picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    /// Resizes to `rows` × `columns`; a side that keeps its length is left alone.
    pub(super) fn resized(&self, rows: usize, columns: usize) -> Self {
        let wide = if columns == self.columns { self.clone() } else { self.with_columns(columns) };
        if rows == wide.rows { wide } else { wide.with_rows(rows) }
    }

    fn with_columns(&self, columns: usize) -> Self {
        let taps = taps(self.columns, columns);
        let lines = self.pixels.chunks_exact(self.columns);
        let pixels = lines.flat_map(|line| {
            taps.iter().map(move |tap| {
                let from = &line[tap.first..tap.first + tap.weights.len()];
                weigh(from.iter().copied(), &tap.weights)
            })
        });
        Self { rows: self.rows, columns, pixels: pixels.collect() }
    }

    fn with_rows(&self, rows: usize) -> Self {
        let pixels = taps(self.rows, rows).into_iter().flat_map(|tap| {
            (0..self.columns).map(move |column| {
                let first = tap.first * self.columns + column;
                let from = self.pixels[first..].iter().step_by(self.columns).copied();
                weigh(from, &tap.weights)
            })
        });
        Self { rows, columns: self.columns, pixels: pixels.collect() }
    }
}

fn weigh(pixels: impl Iterator<Item = u8>, weights: &[i64]) -> u8 {
    let sum: i64 = pixels.zip(weights).map(|(pixel, weight)| i64::from(pixel) * weight).sum();
    ((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Which input pixels make one output pixel.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

fn taps(input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let support = scale.max(1.0);
    (0..output)
        .map(|index| {
            let center = (index as f64 + 0.5) * scale;
            // Casts truncate towards zero, as C does; negative values become 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let triangle = |x: usize| {
                let distance = (x as f64 - center + 0.5) * (1.0 / support);
                (1.0 - distance.abs()).max(0.0)
            };
            let weights: Vec<f64> = (first..end).map(triangle).collect();
            let total: f64 = weights.iter().sum();
            let fixed = weights.iter().map(|weight| {
                let share = if total == 0.0 { *weight } else { weight / total };
                (0.5 + share * f64::from(1_u32 << PRECISION_BITS)) as i64
            });
            Taps { first, weights: fixed.collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests;
