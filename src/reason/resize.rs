//! Resampling of 8-bit pictures with antialiasing, as the libraries behind Hugging Face's image
//! processors do it.
//!
//! Two passes, each rounded to 8 bits, weights in fixed point; columns first, except that Pillow
//! does rows first when they shrink and the columns grow. Pillow
//! (`src/libImaging/Resample.c`) always has 22 fractional bits; PyTorch, which torchvision calls
//! (`aten/src/ATen/native/cpu/UpSampleKernel.cpp`), has as many as keep the largest weight of a
//! pass in 16 bits. The views of the published plans need none of it.

use super::picture::Picture;
use crate::runtime::manifest::ImageArithmetic;

/// Pillow's fractional bits of a weight: 32 bits less 8 for the pixel and 2 for overshoot.
const PILLOW_BITS: u32 = 32 - 8 - 2;

/// PyTorch's most fractional bits; fewer when the largest weight would leave 16 bits.
const TORCH_BITS_MAX: u32 = 22;

/// Shapes of the interpolating kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// A triangle; SAM3's.
    Linear,
    /// Cubic convolution with a = -0.5; Qwen's.
    Cubic,
}

/// Resamples a picture to `rows` × `columns`.
pub(crate) fn resize(
    picture: &Picture,
    (rows, columns): (usize, usize),
    kernel: Kernel,
    arithmetic: ImageArithmetic,
) -> Picture {
    let across = |picture: Picture| {
        if columns == picture.columns {
            return picture;
        }
        let taps = Taps::new(picture.columns, columns, kernel, arithmetic);
        let lines = picture.pixels.chunks_exact(picture.columns);
        let pixels =
            lines.flat_map(|line| (0..columns).map(|column| taps.apply(column, |at| line[at])));
        Picture { rows: picture.rows, columns, pixels: pixels.collect() }
    };
    let down = |picture: Picture| {
        if rows == picture.rows {
            return picture;
        }
        let taps = Taps::new(picture.rows, rows, kernel, arithmetic);
        let columns = picture.columns;
        let sample = |row, column| taps.apply(row, |at| picture.pixels[at * columns + column]);
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let pixels = places.map(|(row, column)| sample(row, column)).collect();
        Picture { rows, columns, pixels }
    };
    // Pillow 13 keeps the picture between the passes small (found by trying 60 pairs of sizes).
    let rows_first = rows < picture.rows && columns > picture.columns;
    if arithmetic == ImageArithmetic::Pillow && rows_first {
        across(down(picture.clone()))
    } else {
        down(across(picture.clone()))
    }
}

/// For each output position, the first input position and the weights from there on.
struct Taps {
    fractional_bits: u32,
    weights: Vec<(usize, Vec<i64>)>,
}

impl Taps {
    fn new(from: usize, to: usize, kernel: Kernel, arithmetic: ImageArithmetic) -> Self {
        let weights: Vec<_> = (0..to).map(|position| kernel.weights(position, from, to)).collect();
        let fractional_bits = match arithmetic {
            ImageArithmetic::Pillow => PILLOW_BITS,
            ImageArithmetic::Torchvision => {
                let all = weights.iter().flat_map(|(_, weights)| weights);
                torch_bits(all.copied().fold(0.0, f64::max))
            }
        };
        // Halves go away from zero, in both libraries.
        let fixed = |weight: f64| (weight * f64::from(1_u32 << fractional_bits)).round() as i64;
        let weights = weights
            .into_iter()
            .map(|(first, weights)| (first, weights.into_iter().map(fixed).collect()))
            .collect();
        Self { fractional_bits, weights }
    }

    fn apply(&self, position: usize, pixel: impl Fn(usize) -> [u8; 3]) -> [u8; 3] {
        let (first, weights) = &self.weights[position];
        let mut sums = [1_i64 << self.fractional_bits >> 1; 3];
        for (offset, weight) in weights.iter().enumerate() {
            let values = pixel(first + offset);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * i64::from(value);
            }
        }
        sums.map(|sum| (sum >> self.fractional_bits).clamp(0, 255) as u8)
    }
}

/// The most fractional bits, up to [`TORCH_BITS_MAX`], with which `highest` stays below 2^15.
fn torch_bits(highest: f64) -> u32 {
    let fits = |bits: u32| 0.5 + highest * f64::from(1_u32 << bits) < f64::from(1 << 15);
    (0..TORCH_BITS_MAX).find(|bits| !fits(bits + 1)).unwrap_or(TORCH_BITS_MAX)
}

impl Kernel {
    /// Half the width of the kernel.
    fn reach(self) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Cubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Linear => (1.0 - x).max(0.0),
            Self::Cubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Cubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Cubic => 0.0,
        }
    }

    /// First input position and normalised weights of one output position.
    fn weights(self, position: usize, from: usize, to: usize) -> (usize, Vec<f64>) {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let centre = (position as f64 + 0.5) * scale;
        let reach = self.reach() * stretch;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        // Times the reciprocal, as both libraries do: a quotient rounds otherwise now and then.
        let shrink = 1.0 / stretch;
        let weights: Vec<f64> =
            (first..end).map(|at| self.at((at as f64 - centre + 0.5) * shrink)).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.iter().map(|weight| weight / sum).collect())
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

    fn hash(picture: Picture) -> String {
        let bytes: Vec<u8> = picture.pixels.into_iter().flatten().collect();
        hex::encode(Sha256::digest(&bytes))
    }

    /// Hashes of `PIL.Image.resize(..., BICUBIC)`, Pillow 13.0.0, on the same pictures.
    #[test]
    fn pixels_are_those_of_pillow() {
        let check = |rows, columns, to_rows, to_columns, expected: &str| {
            let to = (to_rows, to_columns);
            let found = resize(&formula(rows, columns), to, Kernel::Cubic, ImageArithmetic::Pillow);
            assert_eq!(hash(found), expected, "{rows} x {columns} to {to_rows} x {to_columns}");
        };
        check(60, 50, 30, 70, "7d73fc5f556d22a9f3fb77d8d0d565180629e34ec84529bf2bbbb9aeab0a30f4");
        check(37, 53, 64, 96, "2f642322837ebced46757725178084120ba27f2834fa0ec5195d81d3b9331600");
        check(100, 80, 32, 32, "30fc8fe4e5e926bf06703e74caf3665e105213da13d30fe22a810641669f9129");
        check(48, 200, 96, 64, "52732bfc86f51017f1a52d2de1f65057ccc8198f426f68fde6b624fac21ecc7e");
    }

    /// Hashes of torchvision 0.29.2's `resize(..., antialias=True)` of 8-bit tensors.
    #[test]
    fn pixels_are_those_of_torchvision() {
        let check = |(rows, columns), to, kernel, expected: &str| {
            let found = resize(&formula(rows, columns), to, kernel, ImageArithmetic::Torchvision);
            assert_eq!(hash(found), expected, "{rows} x {columns} to {to:?}, {kernel:?}");
        };
        check(
            (37, 53),
            (64, 96),
            Kernel::Linear,
            "625a0867bd71a320529fe84f5f752e8b5b732ee98773bc0f053d2c9a94f6654b",
        );
        check(
            (37, 53),
            (64, 96),
            Kernel::Cubic,
            "f05cbcc9d221e881533542beaeaec24727cff71b0e10207d517fa695b02eb00b",
        );
        check(
            (100, 80),
            (32, 32),
            Kernel::Linear,
            "8114b33aeb516cf7e6fe532dc6757afee68679baca513b41cbe94f09b4ba47d2",
        );
        check(
            (100, 80),
            (32, 32),
            Kernel::Cubic,
            "47abb3c993caeb7d34f383d487483ce5ec10ef5d2a90f4ef367c90d10c6edf2d",
        );
        check(
            (48, 200),
            (96, 64),
            Kernel::Linear,
            "3479b16a4e397f2463b293f75757a6d7c317f6fb9e3da390ce6ef6404469f601",
        );
        check(
            (48, 200),
            (96, 64),
            Kernel::Cubic,
            "40b14ca277364c08623cff1bc94b324ac082ada00133f0778c2c97bc324163a5",
        );
        check(
            (64, 100),
            (64, 32),
            Kernel::Linear,
            "34912704e36e5e80ed86fad1490609029d82f58aee10bbdf51818860aeee6d29",
        );
        check(
            (64, 100),
            (64, 32),
            Kernel::Cubic,
            "16c2641e38935af4beff0af66bb23b2fd91133ca005d2b26630f64ec7e84054a",
        );
        check(
            (37, 64),
            (112, 64),
            Kernel::Linear,
            "9f1a2a0124110c49b981d449f00de042c96bf40c7ae532063d9ba692d4f051d7",
        );
        check(
            (37, 64),
            (112, 64),
            Kernel::Cubic,
            "acf835996c6922d57b318804181bcfbd6d84d23df748fc70de4703351a92aeab",
        );
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        for kernel in [Kernel::Linear, Kernel::Cubic] {
            for arithmetic in [ImageArithmetic::Pillow, ImageArithmetic::Torchvision] {
                let plain = Picture { rows: 5, columns: 7, pixels: vec![[9, 130, 255]; 35] };
                let found = resize(&plain, (32, 3), kernel, arithmetic);
                assert!(found.pixels.iter().all(|&pixel| pixel == [9, 130, 255]));
            }
        }
    }
}
