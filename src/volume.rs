//! A series into voxels and geometry; masks and resampling.

mod assemble;
mod decode;
mod digest;
mod error;
pub mod nifti;
mod region;
mod reorient;
pub mod resample;

use ndarray::Array3;

use crate::error::Finding;
use crate::geometry::VolumeGeometry;
use crate::series::{Modality, Series};

pub use error::VolumeError;

/// Voxels with their geometry.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Where the voxels lie.
    pub geometry: VolumeGeometry,
    /// `[slice, row, column]`; Hounsfield units for CT, rescaled values otherwise. All finite.
    pub voxels: Array3<f32>,
    /// What made them.
    pub modality: Modality,
}

/// A binary mask on a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// Where the voxels lie.
    pub geometry: VolumeGeometry,
    /// `[slice, row, column]`; true inside.
    pub voxels: Array3<bool>,
}

impl Mask {
    /// How many voxels are inside.
    pub fn voxel_count(&self) -> usize {
        self.voxels.iter().filter(|inside| **inside).count()
    }

    /// The volume inside, in millilitres.
    pub fn volume_ml(&self) -> f64 {
        self.voxel_count() as f64 * self.geometry.voxel_volume_mm3() / 1000.0
    }
}

/// Decodes and stacks the frames of a series.
///
/// Frames are decoded in parallel on the current rayon pool and rescaled (slope and intercept,
/// per frame in enhanced objects). Padding (Pixel Padding Value, Range Limit) becomes -1024 HU in
/// CT and 0, or the lowest value below it, elsewhere. A stack with missing or unevenly spaced
/// slices is interpolated linearly onto an even grid from its first frame to its last. A tilted
/// stack keeps its voxels: its grid is sheared.
///
/// # Errors
/// [`VolumeError`] naming the slice (counts from 1, along the normal) and the fact.
pub fn assemble(series: &Series) -> Result<(Volume, Vec<Finding>), VolumeError> {
    assemble::assemble(series)
}

/// Brings a mask back onto the frames of its source series, `[frame, row, column]` in the order
/// of [`Series::frames`]: each source pixel takes the nearest mask voxel, through patient space.
/// A mask on the frames' own grid comes back as it is.
///
/// # Errors
/// [`VolumeError::NotCovered`] when the mask does not reach a frame.
pub fn onto_source(mask: &Mask, series: &Series) -> Result<Array3<bool>, VolumeError> {
    assemble::onto_source(mask, series)
}

/// Brings labels on the frames of a series, `[frame, row, column]`, onto the grid of its volume
/// without decoding a pixel: the inverse of [`onto_source`], by the nearest frame.
///
/// # Errors
/// [`VolumeError::TooFewSlices`]; geometry that makes no grid.
pub fn onto_grid<T: Clone>(
    on_frames: &Array3<T>,
    series: &Series,
) -> Result<(Array3<T>, VolumeGeometry), VolumeError> {
    assemble::onto_grid(on_frames, series)
}
