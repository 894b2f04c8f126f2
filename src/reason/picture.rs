//! A picture into the patches that a vision encoder reads.
//!
//! The steps and their order are those of Hugging Face's Qwen2-VL image processor.

use ndarray::Array2;

use super::ReasonError;
use super::resize::{Kernel, resize};
use crate::runtime::manifest::{ImageArithmetic, ImageSettings};
use crate::view::View;

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Height in pixels.
    pub rows: usize,
    /// Width in pixels.
    pub columns: usize,
    /// Row-major, `rows * columns`.
    pub pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// A grey view in three equal channels.
    pub fn of_view(view: &View) -> Self {
        let pixels = view.pixels.iter().map(|&grey| [grey; 3]).collect();
        Self { rows: view.size, columns: view.size, pixels }
    }
}

/// How many patches a picture has in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
}

impl Grid {
    /// How many patches there are.
    pub fn patch_count(self) -> usize {
        self.rows * self.columns
    }

    /// The grid of merged tokens: `merge` × `merge` patches become one.
    pub fn merged(self, merge: usize) -> Self {
        Self { rows: self.rows / merge, columns: self.columns / merge }
    }

    /// Row and column of every patch in merge-block order: the patches of one token stand together.
    pub fn merge_order(self, merge: usize) -> Vec<[usize; 2]> {
        let blocks = self.merged(merge);
        let mut order = Vec::with_capacity(self.patch_count());
        for block_row in 0..blocks.rows {
            for block_column in 0..blocks.columns {
                for row in 0..merge {
                    for column in 0..merge {
                        order.push([block_row * merge + row, block_column * merge + column]);
                    }
                }
            }
        }
        order
    }
}

/// A picture as the vision encoder reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// One row per patch in merge-block order; within a row channel, frame, row, column.
    pub values: Array2<f32>,
    /// How the patches lie.
    pub grid: Grid,
}

/// Resizes where the model needs it, normalises and cuts into patches.
///
/// # Errors
/// When the picture is 200 times longer than wide, or empty.
pub fn patches(picture: &Picture, settings: &ImageSettings) -> Result<Patches, ReasonError> {
    let (rows, columns) = smart_size(picture.rows, picture.columns, settings)?;
    if (rows, columns) == (picture.rows, picture.columns) {
        return Ok(cut(picture, settings));
    }
    Ok(cut(&resize(picture, (rows, columns), Kernel::Cubic, settings.arithmetic), settings))
}

/// The size a picture gets: sides that are multiples of patch × merge, the area within bounds and
/// the aspect as near as that allows (`smart_resize` of Qwen2-VL).
fn smart_size(
    rows: usize,
    columns: usize,
    settings: &ImageSettings,
) -> Result<(usize, usize), ReasonError> {
    let (shorter, longer) = (rows.min(columns), rows.max(columns));
    if shorter == 0 || longer > 200 * shorter {
        return Err(ReasonError::PictureShape { rows, columns });
    }
    let factor = settings.patch_size * settings.merge_size;
    let step = factor as f64;
    // Halves go to the even side, as in Python's `round`.
    let nearest = |side: usize| (side as f64 / step).round_ties_even() as usize * factor;
    let (high, wide) = (nearest(rows), nearest(columns));
    let (area, pixels) = (high * wide, (rows * columns) as f64);
    if area > settings.max_pixels {
        let shrink = (pixels / settings.max_pixels as f64).sqrt();
        let side = |s: usize| factor.max((s as f64 / shrink / step).floor() as usize * factor);
        return Ok((side(rows), side(columns)));
    }
    if area < settings.min_pixels {
        let grow = (settings.min_pixels as f64 / pixels).sqrt();
        let side = |s: usize| (s as f64 * grow / step).ceil() as usize * factor;
        return Ok((side(rows), side(columns)));
    }
    Ok((high, wide))
}

fn cut(picture: &Picture, settings: &ImageSettings) -> Patches {
    let (edge, frames) = (settings.patch_size, settings.temporal_patch_size);
    let grid = Grid { rows: picture.rows / edge, columns: picture.columns / edge };
    let normalised: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        let (mean, std) = (settings.mean[channel], settings.std[channel]);
        let scaled = |value: f32| match settings.arithmetic {
            ImageArithmetic::Pillow => (value / 255.0 - mean) / std,
            ImageArithmetic::Torchvision => (value - mean * 255.0) / (std * 255.0),
        };
        std::array::from_fn(|value| scaled(value as f32))
    });
    let mut values = Vec::with_capacity(grid.patch_count() * 3 * frames * edge * edge);
    for [patch_row, patch_column] in grid.merge_order(settings.merge_size) {
        for (channel, table) in normalised.iter().enumerate() {
            for _frame in 0..frames {
                for row in patch_row * edge..(patch_row + 1) * edge {
                    let start = row * picture.columns + patch_column * edge;
                    let line = &picture.pixels[start..start + edge];
                    values.extend(line.iter().map(|pixel| table[usize::from(pixel[channel])]));
                }
            }
        }
    }
    let shape = (grid.patch_count(), 3 * frames * edge * edge);
    let values = Array2::from_shape_vec(shape, values).expect("every patch has the same length");
    Patches { values, grid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ImageSettings {
        ImageSettings {
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
            mean: [0.5; 3],
            std: [0.5; 3],
            min_pixels: 65_536,
            max_pixels: 16_777_216,
            arithmetic: ImageArithmetic::Torchvision,
        }
    }

    /// Expected sizes from `smart_resize` of transformers 5.23.
    #[test]
    fn sizes_are_those_of_the_reference() {
        let check = |rows, columns, expected| {
            let found = smart_size(rows, columns, &settings()).expect("a fair shape");
            assert_eq!(found, expected, "{rows} x {columns}");
        };
        check(448, 448, (448, 448));
        check(512, 512, (512, 512));
        check(240, 400, (256, 384));
        check(272, 400, (256, 384));
        check(304, 336, (320, 320));
        check(128, 128, (256, 256));
        check(100, 37, (448, 160));
        check(5000, 6000, (3712, 4480));
        check(17, 3000, (32, 3008));
    }

    #[test]
    fn refuses_pictures_without_a_fair_shape() {
        for (rows, columns) in [(0, 16), (16, 3201)] {
            let error = smart_size(rows, columns, &settings()).expect_err("no fair shape");
            assert!(error.to_string().contains(&format!("{rows} x {columns}")), "{error}");
        }
    }

    #[test]
    fn patches_of_one_token_stand_together() {
        let order = Grid { rows: 2, columns: 4 }.merge_order(2);
        let expected = [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]];
        assert_eq!(order, expected);
    }
}
