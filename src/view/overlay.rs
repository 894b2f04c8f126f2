//! Masks over the scan, as one picture for people.

use image::{ImageEncoder, Rgb, RgbImage};

use super::letters::{self, GLYPH_COLUMNS, GLYPH_ROWS};
use super::resize::Picture;
use super::slice::{Placement, Slices};
use super::{Fit, GreyRule, Plane, Window, grey_square};
use crate::series::Modality;
use crate::volume::{Mask, Volume};

/// Edge of one panel, in pixels.
const PANEL: usize = 420;
/// Between panels, in pixels.
const GAP: usize = 12;
/// Height of a line of the legend.
const LINE: usize = 26;
/// How many screen pixels a font pixel takes.
const FONT_SCALE: usize = 2;
/// How much of a mask's colour its inside gets; its contour gets all.
const FILL: f32 = 0.35;

/// One mask to show.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    /// On the volume's grid.
    pub mask: &'a Mask,
    /// What it is, for the legend.
    pub label: String,
    /// Its colour, 8-bit sRGB.
    pub rgb: [u8; 3],
}

/// Draws an axial, a coronal and a sagittal slice side by side with the masks over them, the sides
/// of the patient at the borders and a legend below.
///
/// Each plane shows the slice on which the masks are largest, or the middle one when they are
/// empty. Display is radiological: the patient's right is on the picture's left.
pub fn overlay(volume: &Volume, overlays: &[Overlay<'_>]) -> RgbImage {
    let height = PANEL + LINE * overlays.len() + 8;
    let mut picture = RgbImage::new((3 * PANEL + 2 * GAP) as u32, height as u32);
    for (panel, plane) in [Plane::Axial, Plane::Coronal, Plane::Sagittal].into_iter().enumerate() {
        draw_panel(&mut picture, panel * (PANEL + GAP), volume, overlays, plane);
    }
    for (line, overlay) in overlays.iter().enumerate() {
        draw_legend(&mut picture, PANEL + 8 + line * LINE, overlay);
    }
    picture
}

/// A picture as a PNG file.
pub fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            image::ExtendedColorType::Rgb8,
        )
        .expect("the buffer fills the picture, and a vector takes any bytes");
    bytes
}

fn draw_panel(
    picture: &mut RgbImage,
    left: usize,
    volume: &Volume,
    overlays: &[Overlay<'_>],
    plane: Plane,
) {
    let slices = Slices::of(volume, plane);
    let masks: Vec<_> = overlays
        .iter()
        .map(|o| Slices::new(o.mask.voxels.view(), &o.mask.geometry, plane))
        .collect();
    let index = largest_slice(&masks).unwrap_or(slices.count() / 2);
    let placement = slices.placement(PANEL, Fit::Pad);
    let rule = GreyRule { window: window_of(volume), gamma: 1.0 };
    let grey = grey_square(&slices, index, rule, PANEL, placement);
    for (at, value) in grey.iter().enumerate() {
        let (row, column) = (at / PANEL, at % PANEL);
        picture.put_pixel((left + column) as u32, row as u32, Rgb([*value; 3]));
    }
    for (mask, overlay) in masks.iter().zip(overlays) {
        tint(picture, left, &square_of(mask, index, placement), overlay.rgb);
    }
    for (letter, (top, x)) in
        plane.letters().into_iter().zip(letters::border_corners(PANEL, FONT_SCALE))
    {
        let letter = letter.to_string();
        for (down, right) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
            write(picture, top + down, left + x + right, &letter, [0; 3]);
        }
        write(picture, top + 1, left + x + 1, &letter, [230, 230, 120]);
    }
}

fn window_of(volume: &Volume) -> Window {
    match volume.modality {
        Modality::Ct => Window::Fixed { center_hu: 50.0, width_hu: 400.0 },
        Modality::Mr | Modality::Other(_) => Window::Percentile { low: 0.5, high: 99.5 },
    }
}

/// The slice with the most inside voxels of all masks together.
fn largest_slice(masks: &[Slices<'_, bool>]) -> Option<usize> {
    let count_on = |index: usize| -> usize {
        masks.iter().map(|m| m.slice(index).iter().filter(|inside| **inside).count()).sum()
    };
    let slice_count = masks.first()?.count();
    let (best, count) =
        (0..slice_count).map(|index| (index, count_on(index))).max_by_key(|(_, count)| *count)?;
    (count > 0).then_some(best)
}

/// One slice of a mask in the panel's pixels, its edge drawn through the middle between voxels.
fn square_of(mask: &Slices<'_, bool>, index: usize, placement: Placement) -> Vec<bool> {
    let slice = mask.slice(index);
    let voxels = Picture {
        rows: slice.nrows(),
        columns: slice.ncols(),
        pixels: slice.iter().map(|inside| if *inside { 255 } else { 0 }).collect(),
    };
    let Placement { top, left, rows, columns } = placement;
    let panel = voxels.resized(rows, columns);
    let mut square = vec![false; PANEL * PANEL];
    for (row, line) in panel.pixels.chunks_exact(columns).enumerate() {
        for (column, share) in line.iter().enumerate() {
            square[(top + row) * PANEL + left + column] = *share >= 128;
        }
    }
    square
}

fn tint(picture: &mut RgbImage, left: usize, inside: &[bool], rgb: [u8; 3]) {
    let is_inside =
        |row: usize, column: usize| row < PANEL && column < PANEL && inside[row * PANEL + column];
    for at in (0..inside.len()).filter(|at| inside[*at]) {
        let (row, column) = (at / PANEL, at % PANEL);
        let neighbours = [
            is_inside(row.wrapping_sub(1), column),
            is_inside(row + 1, column),
            is_inside(row, column.wrapping_sub(1)),
            is_inside(row, column + 1),
        ];
        let share = if neighbours.contains(&false) { 1.0 } else { FILL };
        let pixel = picture.get_pixel_mut((left + column) as u32, row as u32);
        for (value, colour) in pixel.0.iter_mut().zip(rgb) {
            *value = (f32::from(*value) * (1.0 - share) + f32::from(colour) * share) as u8;
        }
    }
}

fn draw_legend(picture: &mut RgbImage, top: usize, overlay: &Overlay<'_>) {
    for row in 0..GLYPH_ROWS * FONT_SCALE {
        for column in 0..GLYPH_ROWS * FONT_SCALE {
            picture.put_pixel((8 + column) as u32, (top + row) as u32, Rgb(overlay.rgb));
        }
    }
    let text = format!("{}  {:.1} ml", overlay.label, overlay.mask.volume_ml());
    write(picture, top, 32, &text, [235, 235, 235]);
}

/// Writes text; what does not fit is cut.
fn write(picture: &mut RgbImage, top: usize, left: usize, text: &str, rgb: [u8; 3]) {
    let advance = (GLYPH_COLUMNS + 1) * FONT_SCALE;
    for (number, character) in text.chars().enumerate() {
        for (row, column) in letters::glyph_pixels(character) {
            for offset in 0..FONT_SCALE * FONT_SCALE {
                let x = left + number * advance + column * FONT_SCALE + offset % FONT_SCALE;
                let y = top + row * FONT_SCALE + offset / FONT_SCALE;
                if let Some(pixel) = picture.get_pixel_mut_checked(x as u32, y as u32) {
                    *pixel = Rgb(rgb);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{PatientPoint, VolumeGeometry};
    use ndarray::Array3;

    #[test]
    fn patient_left_is_tinted_on_the_right_of_the_axial_panel() {
        // Columns run to the patient's right: the grid has a negated cosine.
        let geometry = VolumeGeometry::from_frames(
            [4, 6, 10],
            PatientPoint([9.0, -5.0, 0.0]),
            [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            [2.0, 2.0],
            [0.0, 0.0, 3.0],
        )
        .expect("a good grid");
        let voxels = Array3::from_shape_fn([4, 6, 10], |(z, y, x)| (z + y + x) as f32);
        let volume = Volume { geometry, voxels, modality: Modality::Mr };
        // Column 1 lies at LPS x = +7 mm: left.
        let inside = Array3::from_shape_fn([4, 6, 10], |(_, _, x)| x == 1);
        let mask = Mask { geometry, voxels: inside };
        let shown = Overlay { mask: &mask, label: "left".into(), rgb: [255, 0, 0] };
        let picture = overlay(&volume, &[shown]);
        let red = |x: usize| {
            (0..PANEL).filter(|y| picture.get_pixel(x as u32, *y as u32).0 == [255, 0, 0]).count()
        };
        let (left, right): (usize, usize) =
            ((0..PANEL / 2).map(red).sum(), (PANEL / 2..PANEL).map(red).sum());
        assert!(left == 0 && right > 100, "{left} tinted pixels on the left, {right} on the right");
    }
}
