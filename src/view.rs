//! A volume into views for the reasoner.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::error::{ErrorKind, Kind};
use crate::geometry::{Affine, PatientPoint, ViewPoint};
use crate::volume::Volume;

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

/// Renders the views of a plan. Deterministic: the same volume gives the same bytes.
///
/// # Errors
/// When the plan names no window for the modality and no default.
pub fn render(volume: &Volume, plan: &ViewPlan) -> Result<Vec<View>, ViewError> {
    let _ = (volume, plan);
    unimplemented!("view room")
}

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
}

impl Kind for ViewError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
