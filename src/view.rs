//! A volume into views for the reasoner.
//!
//! Views are rendered along the axes closest to the anatomical ones, without oblique
//! interpolation, in radiological display: the patient's right on the image's left (axial,
//! coronal), the front on the image's left (sagittal). The same volume gives the same bytes.

mod letters;
mod overlay;
mod resize;
mod slice;
mod window;

pub use overlay::{Overlay, overlay, png};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use ndarray::Array2;

use crate::error::{ErrorKind, Kind};
use crate::geometry::{Affine, PatientPoint, ViewPoint};
use crate::series::Modality;
use crate::volume::Volume;
use image::ImageEncoder;
use letters::border_corners;
use resize::Picture;
use slice::{Placement, Slices};
use window::GreyScale;

/// An anatomical plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Seen from the feet.
    Axial,
    /// Seen from the front.
    Coronal,
    /// Seen from the left.
    Sagittal,
}

/// Which views are rendered and how. Manifest data (`[reasoner.view_plan]`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewPlan {
    /// The plan's name, for example `axial-8`.
    pub name: String,
    /// Views are `size` × `size` pixels.
    pub size: usize,
    /// How a slice meets the square.
    pub fit: Fit,
    /// Exponent applied to intensities in 0..1.
    pub gamma: f32,
    /// Burn orientation letters into the borders.
    #[serde(default)]
    pub letters: bool,
    /// Runs of slices.
    pub planes: Vec<PlaneRun>,
    /// Intensity window by modality code; `default` for the rest.
    pub window: BTreeMap<String, Window>,
}

/// How a slice meets the square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Millimetres stay square; the slice is centred on black.
    Pad,
    /// The slice fills the square (the published axial-8).
    Stretch,
}

/// Evenly spread slices of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneRun {
    /// The plane.
    pub plane: Plane,
    /// How many slices.
    pub count: usize,
    /// First slice as a fraction of the scan: foot to head, front to back, right to left.
    pub from: f64,
    /// Last slice.
    pub to: f64,
}

/// From voxel values to 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Window {
    /// A fixed window in Hounsfield units.
    Fixed {
        /// Centre.
        center_hu: f32,
        /// Width.
        width_hu: f32,
    },
    /// Percentiles of the slice's own values.
    Percentile {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, 0..100.
        high: f64,
    },
}

/// One rendered view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The plane.
    pub plane: Plane,
    /// Counts from 1 within the plan.
    pub number: usize,
    /// Position along the plane's axis (LPS z, y or x), at the view's centre, in millimetres.
    pub position_mm: f64,
    /// Edge length in pixels.
    pub size: usize,
    /// Row-major grey pixels, `size * size`.
    pub pixels: Vec<u8>,
    /// The way back to the patient.
    pub view_to_patient: Affine<ViewPoint, PatientPoint>,
    /// SHA-256 of `pixels`, lower-case hex.
    pub sha256: String,
}

impl View {
    /// The view as an 8-bit grey PNG file.
    pub fn png(&self) -> Vec<u8> {
        let size = u32::try_from(self.size).expect("a view's edge was checked when it was made");
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.pixels, size, size, image::ExtendedColorType::L8)
            .expect("pixels fill size x size, and a vector takes any bytes");
        bytes
    }
}

/// Renders the views of a plan. Deterministic: the same volume gives the same bytes.
///
/// Each slice becomes grey levels first (window, gamma, truncation to 8 bits) and is then resized
/// as Pillow does with `BILINEAR`. With [`Fit::Pad`] the longer edge in millimetres fills the
/// square, the shorter one is rounded to whole pixels (halves to even) and starts at half the
/// rest, rounded down. A run of one slice is the middle one.
///
/// # Errors
/// When the plan names no window for the modality and no default, or its numbers are unusable.
pub fn render(volume: &Volume, plan: &ViewPlan) -> Result<Vec<View>, ViewError> {
    let window = plan.window_for(&volume.modality)?;
    plan.check()?;
    let mut views = Vec::new();
    for run in &plan.planes {
        let slices = Slices::of(volume, run.plane);
        for index in slice::slice_indices(slices.count(), run.from, run.to, run.count) {
            views.push(render_one(&slices, index, window, views.len() + 1, run.plane, plan));
        }
    }
    Ok(views)
}

fn render_one(
    slices: &Slices<'_, f32>,
    index: usize,
    window: Window,
    number: usize,
    plane: Plane,
    plan: &ViewPlan,
) -> View {
    let size = plan.size;
    let placement = slices.placement(size, plan.fit);
    let mut pixels =
        grey_square(slices, index, GreyRule { window, gamma: plan.gamma }, size, placement);
    if plan.letters {
        burn_letters(&mut pixels, size, plane);
    }
    let view_to_patient = slices.view_to_patient(index, placement);
    let middle = (size as f64 - 1.0) / 2.0;
    let center = view_to_patient.apply(ViewPoint([0.0, middle, middle]));
    View {
        plane,
        number,
        position_mm: center.0[plane.patient_axis()],
        size,
        sha256: hex::encode(Sha256::digest(&pixels)),
        pixels,
        view_to_patient,
    }
}

/// Slice `index` of a plane in 8-bit grey `[row, column]`, in the order and the sense in which it is
/// displayed, windowed but neither gamma-corrected nor resized.
///
/// # Panics
/// When the volume has no such slice.
pub fn grey_slice(volume: &Volume, plane: Plane, index: usize, window: Window) -> Array2<u8> {
    let slices = Slices::of(volume, plane);
    let slice = slices.slice(index);
    let scale = GreyScale::of(window, 1.0, slice);
    slice.mapv(|value| scale.grey(value))
}

/// How values become grey.
#[derive(Debug, Clone, Copy)]
struct GreyRule {
    window: Window,
    gamma: f32,
}

fn grey_square(
    slices: &Slices<'_, f32>,
    index: usize,
    rule: GreyRule,
    size: usize,
    placement: Placement,
) -> Vec<u8> {
    let slice = slices.slice(index);
    let scale = GreyScale::of(rule.window, rule.gamma, slice);
    let grey = Picture {
        rows: slice.nrows(),
        columns: slice.ncols(),
        pixels: slice.iter().map(|value| scale.grey(*value)).collect(),
    };
    let grey = grey.resized(placement.rows, placement.columns);
    let mut square = vec![0; size * size];
    for (row, line) in grey.pixels.chunks_exact(grey.columns).enumerate() {
        let first = (placement.top + row) * size + placement.left;
        square[first..first + grey.columns].copy_from_slice(line);
    }
    square
}

fn burn_letters(pixels: &mut [u8], size: usize, plane: Plane) {
    let scale = (size / 128).max(1);
    for (letter, (top, left)) in plane.letters().into_iter().zip(border_corners(size, scale)) {
        for (row, column) in letters::glyph_pixels(letter) {
            for offset in 0..scale * scale {
                let row = top + row * scale + offset / scale;
                let column = left + column * scale + offset % scale;
                if row < size && column < size {
                    pixels[row * size + column] = 255;
                }
            }
        }
    }
}

impl ViewPlan {
    /// The window for a modality, or the default one.
    fn window_for(&self, modality: &Modality) -> Result<Window, ViewError> {
        let named = self.window.get(modality.code()).or_else(|| self.window.get("default"));
        named.copied().ok_or_else(|| ViewError::NoWindow {
            plan: self.name.clone(),
            modality: modality.code().to_owned(),
        })
    }

    /// Says whether the plan's numbers can be used.
    ///
    /// # Errors
    /// [`ViewError::BadPlan`] with the number found.
    pub fn check(&self) -> Result<(), ViewError> {
        let bad = |what: String| Err(ViewError::BadPlan { plan: self.name.clone(), what });
        if !(1..=SIZE_MAX).contains(&self.size) {
            return bad(format!("size is {}, not 1 to {SIZE_MAX}", self.size));
        }
        if !(self.gamma.is_finite() && self.gamma > 0.0) {
            return bad(format!("gamma is {}", self.gamma));
        }
        for run in &self.planes {
            let fractions = [run.from, run.to];
            if run.count == 0 || fractions.iter().any(|share| !(0.0..=1.0).contains(share)) {
                let PlaneRun { count, from, to, .. } = run;
                return bad(format!("a run has {count} slices from {from} to {to}"));
            }
        }
        for window in self.window.values() {
            let usable = match window {
                Window::Fixed { center_hu, width_hu } => {
                    center_hu.is_finite() && width_hu.is_finite() && *width_hu > 0.0
                }
                Window::Percentile { low, high } => 0.0 <= *low && low < high && *high <= 100.0,
            };
            if !usable {
                return bad(format!("window {window:?} is unusable"));
            }
        }
        Ok(())
    }
}

/// Views are at most this many pixels wide.
const SIZE_MAX: usize = 4096;

/// Why views cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No window fits.
    #[error("view plan {plan} has no window for modality {modality} and no default")]
    NoWindow {
        /// The plan's name.
        plan: String,
        /// Modality code.
        modality: String,
    },
    /// The plan holds a number that cannot be used.
    #[error("view plan {plan} is unusable: {what}")]
    BadPlan {
        /// The plan's name.
        plan: String,
        /// What and the value found.
        what: String,
    },
}

impl Kind for ViewError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

#[cfg(test)]
mod tests;
