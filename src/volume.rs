//! A series into voxels and geometry; masks and resampling.

mod region;
mod reorient;
pub mod resample;

use ndarray::Array3;

use crate::error::{ErrorKind, Finding, Kind};
use crate::geometry::VolumeGeometry;
use crate::series::{Modality, Series};

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
/// # Errors
/// [`VolumeError`] naming the frame and the fact.
pub fn assemble(series: &Series) -> Result<(Volume, Vec<Finding>), VolumeError> {
    let _ = series;
    unimplemented!("volume room")
}

/// Brings a mask back onto the frames of its source series, `[frame, row, column]` in the order
/// of [`Series::frames`]: each source pixel takes the nearest mask voxel.
///
/// # Errors
/// When the mask does not cover the series.
pub fn onto_source(mask: &Mask, series: &Series) -> Result<Array3<bool>, VolumeError> {
    let _ = (mask, series);
    unimplemented!("volume room")
}

/// Why a series cannot become a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Every voxel holds one value.
    #[error("all voxels hold one value, {value}")]
    Constant {
        /// The value.
        value: f32,
    },
}

impl Kind for VolumeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
