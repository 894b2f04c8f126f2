//! NIfTI-1 files in and out, for evaluation and for the command line.
//!
//! Voxels are taken as they lie in the file: array axes `[slice, row, column]` are NIfTI's
//! `[k, j, i]`. The affine is chosen as nibabel does (sform, then qform, then the base affine of
//! the shape and zooms) and turned from RAS to LPS.

mod affine;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ndarray::Array3;
use nifti::IntoNdArray;
use nifti::writer::WriterOptions;
use nifti::{InMemNiftiVolume, NiftiError, NiftiHeader};

use super::assemble::refuse_constant;
use super::{Mask, Volume, VolumeError};
use crate::error::Finding;
use crate::geometry::VolumeGeometry;
use crate::series::Modality;

/// Files with more voxels than this are refused.
const VOXEL_COUNT_MAX: u64 = 1 << 31;
/// Images whose lowest value is at most this are taken for CT, in Hounsfield units.
const CT_LOWEST_HU: f32 = -500.0;

/// Reads a `.nii` or `.nii.gz` image; a fourth axis may hold one volume.
///
/// Values are scaled by `scl_slope` and `scl_inter`. Without `modality` it is guessed: CT when
/// the lowest value is -500 or less, MR otherwise, with a finding.
///
/// # Errors
/// [`VolumeError`] when the file is not a NIfTI-1 image of one volume, or holds values that are
/// not finite or all equal.
pub fn read(
    path: &Path,
    modality: Option<Modality>,
) -> Result<(Volume, Vec<Finding>), VolumeError> {
    let (values, geometry, mut findings) = read_values(path)?;
    if let Some(count) = geometry.shape().into_iter().find(|count| *count < 2) {
        return Err(VolumeError::TooFewSlices { count });
    }
    let voxels = values.mapv(|value| value as f32);
    refuse_constant(&voxels)?;
    let modality = modality.unwrap_or_else(|| guess(&voxels, &mut findings));
    Ok((Volume { geometry, voxels, modality }, findings))
}

/// Reads an integer label map; values are rounded.
///
/// # Errors
/// As [`read`], and when a value is not a whole number from 0 to 4294967295.
pub fn read_labels(path: &Path) -> Result<(Array3<u32>, VolumeGeometry), VolumeError> {
    let (values, geometry, _) = read_values(path)?;
    let usable = |value: f64| {
        (value - value.round()).abs() < 1e-3 && (0.0..=f64::from(u32::MAX)).contains(&value.round())
    };
    match values.iter().find(|value| !usable(**value)) {
        Some(value) => Err(VolumeError::Nifti(format!("label {value} is not a whole number"))),
        None => Ok((values.mapv(|value| value.round() as u32), geometry)),
    }
}

/// Writes labels on `geometry`'s grid; compressed when the name ends in `.gz`.
///
/// The affine is written as sform, and as qform too when the grid is orthogonal.
///
/// # Errors
/// When the file cannot be written or an axis is longer than NIfTI-1 allows (32767).
pub fn write_labels(
    path: &Path,
    labels: &Array3<u16>,
    geometry: &VolumeGeometry,
) -> Result<(), VolumeError> {
    if let Some(count) = labels.shape().iter().find(|count| **count > i16::MAX as usize) {
        return Err(VolumeError::Nifti(format!("an axis has {count} voxels, more than 32767")));
    }
    let header = affine::header_for(geometry);
    let writer = WriterOptions::new(path).reference_header(&header);
    let written = if labels.iter().all(|label| *label <= u16::from(u8::MAX)) {
        writer.write_nifti(&labels.mapv(|label| label as u8).reversed_axes())
    } else {
        writer.write_nifti(&labels.clone().reversed_axes())
    };
    written.map_err(nifti_error)
}

/// Writes an image as 32-bit numbers; see [`write_labels`].
///
/// # Errors
/// As [`write_labels`].
pub fn write_image(path: &Path, volume: &Volume) -> Result<(), VolumeError> {
    if let Some(count) = volume.voxels.shape().iter().find(|count| **count > i16::MAX as usize) {
        return Err(VolumeError::Nifti(format!("an axis has {count} voxels, more than 32767")));
    }
    let header = affine::header_for(&volume.geometry);
    let writer = WriterOptions::new(path).reference_header(&header);
    writer.write_nifti(&volume.voxels.clone().reversed_axes()).map_err(nifti_error)
}

/// Writes a mask as labels 0 and 1; see [`write_labels`].
///
/// # Errors
/// As [`write_labels`].
pub fn write_mask(path: &Path, mask: &Mask) -> Result<(), VolumeError> {
    write_labels(path, &mask.voxels.mapv(u16::from), &mask.geometry)
}

fn read_values(path: &Path) -> Result<(Array3<f64>, VolumeGeometry, Vec<Finding>), VolumeError> {
    let mut source = open(path)?;
    let mut header = NiftiHeader::from_reader(&mut source).map_err(nifti_error)?;
    if header.magic != *b"n+1\0" {
        return Err(VolumeError::Nifti("it is not a single-file NIfTI-1 image".to_owned()));
    }
    let shape = shape_of(&header)?;
    if header.scl_slope == 0.0 || !header.scl_slope.is_finite() {
        (header.scl_slope, header.scl_inter) = (1.0, 0.0);
    }
    let skipped = (f64::from(header.vox_offset) - 348.0).clamp(0.0, f64::from(1 << 24)) as u64;
    io::copy(&mut (&mut source).take(skipped), &mut io::sink()).map_err(io_error)?;
    let values = InMemNiftiVolume::from_reader(source, &header)
        .and_then(IntoNdArray::into_ndarray::<f64>)
        .map_err(nifti_error)?;
    let count = values.len();
    let (values, _) =
        values.reversed_axes().as_standard_layout().into_owned().into_raw_vec_and_offset();
    let values = Array3::from_shape_vec(shape, values)
        .map_err(|_| VolumeError::Nifti(format!("it holds {count} voxels, not {shape:?}")))?;
    let (to_patient, findings) = affine::voxel_to_patient(&header, shape)?;
    Ok((values, VolumeGeometry::new(shape, to_patient)?, findings))
}

/// `[k, j, i]`; axes beyond the third must have length 1.
fn shape_of(header: &NiftiHeader) -> Result<[usize; 3], VolumeError> {
    let dim = header.dim().map_err(nifti_error)?;
    let wrong = || VolumeError::Nifti(format!("its dimensions are {dim:?}, not one 3-D volume"));
    if dim.len() < 3 || dim[3..].iter().any(|n| *n != 1) {
        return Err(wrong());
    }
    let voxel_count: u64 = dim.iter().map(|n| u64::from(*n)).product();
    if voxel_count > VOXEL_COUNT_MAX {
        return Err(VolumeError::Nifti(format!(
            "it has {voxel_count} voxels, more than {VOXEL_COUNT_MAX}"
        )));
    }
    Ok([dim[2], dim[1], dim[0]].map(usize::from))
}

fn open(path: &Path) -> Result<Box<dyn Read>, VolumeError> {
    let mut magic = Vec::new();
    File::open(path).and_then(|f| f.take(2).read_to_end(&mut magic)).map_err(io_error)?;
    let file = BufReader::new(File::open(path).map_err(io_error)?);
    Ok(if magic == [0x1F, 0x8B] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn guess(voxels: &Array3<f32>, findings: &mut Vec<Finding>) -> Modality {
    let lowest = voxels.iter().copied().fold(f32::INFINITY, f32::min);
    let modality = if lowest <= CT_LOWEST_HU { Modality::Ct } else { Modality::Mr };
    let message = format!("modality was guessed as {}: lowest value {lowest}", modality.code());
    findings.push(Finding::new("modality_guessed", message));
    modality
}

fn io_error(source: io::Error) -> VolumeError {
    VolumeError::Io { source }
}

fn nifti_error(error: NiftiError) -> VolumeError {
    match error {
        NiftiError::Io(source) => VolumeError::Io { source },
        other => VolumeError::Nifti(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
