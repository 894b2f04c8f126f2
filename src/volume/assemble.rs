//! Slices into one even grid, and masks back onto the slices.

use ndarray::{Array3, ArrayView2, Axis};
use rayon::prelude::*;

use super::decode::{self, Slice};
use super::resample::nearest_index;
use super::{Mask, Volume, VolumeError};
use crate::error::Finding;
use crate::geometry::{PatientPoint, VolumeGeometry, VoxelPoint};
use crate::series::{Modality, Series, SliceSpacing};

/// Air outside the scanner's circle is given this value, in Hounsfield units.
const CT_PADDING_HU: f32 = -1024.0;
/// How far apart, as a share of the smallest spacing, twin voxels of equal grids may lie.
const SAME_GRID_SHARE: f64 = 0.01;
/// How far outside a mask's outermost voxel centres a frame may reach, in voxels.
const COVER_VOXELS: f64 = 1.01;

pub(super) fn assemble(series: &Series) -> Result<(Volume, Vec<Finding>), VolumeError> {
    if series.frames.len() < 2 {
        return Err(VolumeError::TooFewSlices { count: series.frames.len() });
    }
    let slices: Vec<Slice> = (0..series.frames.len())
        .into_par_iter()
        .map(|index| decode::slice(series, index))
        .collect::<Result<_, _>>()?;
    let mut findings = Vec::new();
    if slices.iter().any(|slice| slice.turned) {
        let message = "pixels are MONOCHROME1; values were turned round";
        findings.push(Finding::new("monochrome1", message));
    }
    let mut stack = stack(&slices, series);
    let padding_count = slices.iter().map(|slice| slice.padding_count).sum();
    drop(slices);
    fill_padding(&mut stack, padding_count, &series.modality, &mut findings);
    let (voxels, geometry) = onto_even_grid(stack, series, &mut findings)?;
    refuse_constant(&voxels)?;
    Ok((Volume { geometry, voxels, modality: series.modality.clone() }, findings))
}

fn stack(slices: &[Slice], series: &Series) -> Array3<f32> {
    let mut voxels = Array3::zeros((slices.len(), series.rows, series.columns));
    for (mut plane, slice) in voxels.axis_iter_mut(Axis(0)).zip(slices) {
        plane.assign(&slice.values);
    }
    voxels
}

/// Padding becomes air in CT; elsewhere 0, or the lowest value where that is below 0.
fn fill_padding(
    voxels: &mut Array3<f32>,
    padding_count: usize,
    modality: &Modality,
    findings: &mut Vec<Finding>,
) {
    if padding_count == 0 {
        return;
    }
    let filling = match modality {
        Modality::Ct => CT_PADDING_HU,
        Modality::Mr | Modality::Other(_) => voxels.iter().copied().fold(0.0, f32::min),
    };
    voxels.par_mapv_inplace(|value| if value.is_nan() { filling } else { value });
    let message = format!("{padding_count} padding voxels were set to {filling}");
    findings.push(Finding::new("padding", message));
}

fn onto_even_grid(
    stack: Array3<f32>,
    series: &Series,
    findings: &mut Vec<Finding>,
) -> Result<(Array3<f32>, VolumeGeometry), VolumeError> {
    let Some(EvenSlices { positions, count: slice_count, step_mm: step }) = EvenSlices::of(series)
    else {
        return Ok((stack, series.grid(series.frames.len())?));
    };
    let first = positions[0];
    let mut voxels = Array3::zeros((slice_count, series.rows, series.columns));
    voxels.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(index, mut plane)| {
        let (below, weight) = between(&positions, first + step * index as f64);
        let (low, high): (ArrayView2<'_, f32>, _) =
            (stack.index_axis(Axis(0), below), stack.index_axis(Axis(0), below + 1));
        ndarray::Zip::from(&mut plane).and(low).and(high).for_each(|out, low, high| {
            *out = low * (1.0 - weight) + high * weight;
        });
    });
    let message = format!(
        "{} slices were interpolated onto {slice_count} slices at an even step of {step:.3} mm",
        positions.len()
    );
    findings.push(Finding::new("interpolated_slices", message));
    Ok((voxels, series.grid(slice_count)?))
}

/// The slices that an unevenly spaced stack is brought onto.
struct EvenSlices {
    /// Of the frames, along the normal, in millimetres.
    positions: Vec<f64>,
    count: usize,
    step_mm: f64,
}

impl EvenSlices {
    /// None when the frames are even as they are.
    fn of(series: &Series) -> Option<Self> {
        let spacing = series.slice_spacing();
        if let SliceSpacing::Even { .. } = spacing {
            return None;
        }
        let positions = series.positions_mm();
        let extent = positions[positions.len() - 1] - positions[0];
        let count = (extent / spacing.step_mm()).round() as usize + 1;
        let count = count.clamp(2, 4 * positions.len());
        Some(Self { positions, count, step_mm: extent / (count - 1) as f64 })
    }
}

pub(super) fn onto_grid<T: Clone>(
    on_frames: &Array3<T>,
    series: &Series,
) -> Result<(Array3<T>, VolumeGeometry), VolumeError> {
    if series.frames.len() < 2 {
        return Err(VolumeError::TooFewSlices { count: series.frames.len() });
    }
    let Some(EvenSlices { positions, count, step_mm }) = EvenSlices::of(series) else {
        return Ok((on_frames.clone(), series.grid(series.frames.len())?));
    };
    let nearest: Vec<usize> = (0..count)
        .map(|index| {
            let (below, weight) = between(&positions, positions[0] + step_mm * index as f64);
            if weight > 0.5 { below + 1 } else { below }
        })
        .collect();
    Ok((on_frames.select(Axis(0), &nearest), series.grid(count)?))
}

/// The slice before `at` (never the last) and the weight of the one after it.
fn between(positions: &[f64], at: f64) -> (usize, f32) {
    let after = positions.partition_point(|position| *position <= at);
    let below = after.saturating_sub(1).min(positions.len() - 2);
    let weight = (at - positions[below]) / (positions[below + 1] - positions[below]);
    (below, weight.clamp(0.0, 1.0) as f32)
}

/// Also refuses values that are not finite: none can come from stored integers and a finite
/// rescale, unless the rescale overflows.
pub(super) fn refuse_constant(voxels: &Array3<f32>) -> Result<(), VolumeError> {
    let not_finite = voxels.iter().filter(|value| !value.is_finite()).count();
    if not_finite > 0 {
        return Err(VolumeError::NotFinite { count: not_finite });
    }
    match voxels.first() {
        Some(first) if voxels.iter().all(|value| value == first) => {
            Err(VolumeError::Constant { value: *first })
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn onto_source(mask: &Mask, series: &Series) -> Result<Array3<bool>, VolumeError> {
    let shape = [series.frames.len(), series.rows, series.columns];
    if series.frames.len() >= 2 && matches!(series.slice_spacing(), SliceSpacing::Even { .. }) {
        let grid = series.grid(series.frames.len())?;
        let tolerance = SAME_GRID_SHARE * grid.spacing_mm().into_iter().fold(f64::MAX, f64::min);
        if mask.geometry.is_close(&grid, tolerance) {
            return Ok(mask.voxels.clone());
        }
    }
    let mut pixels = Array3::from_elem(shape, false);
    for (index, frame) in series.frames.iter().enumerate() {
        let placed = FramePlane::new(series, frame.position);
        refuse_uncovered(&placed, mask, series, index + 1)?;
        let mut plane = pixels.index_axis_mut(Axis(0), index);
        for ((row, column), pixel) in plane.indexed_iter_mut() {
            let at = mask.geometry.patient_to_voxel().apply(placed.at(row as f64, column as f64));
            *pixel = nearest_index(at, mask.geometry.shape()).is_some_and(|at| mask.voxels[at]);
        }
    }
    Ok(pixels)
}

/// The plane of one source frame.
struct FramePlane {
    position: PatientPoint,
    to_next_row: [f64; 3],
    to_next_column: [f64; 3],
}

impl FramePlane {
    fn new(series: &Series, position: PatientPoint) -> Self {
        Self {
            position,
            to_next_row: series.orientation[1].map(|v| v * series.pixel_spacing_mm[0]),
            to_next_column: series.orientation[0].map(|v| v * series.pixel_spacing_mm[1]),
        }
    }

    fn at(&self, row: f64, column: f64) -> PatientPoint {
        PatientPoint(std::array::from_fn(|i| {
            self.position.0[i] + row * self.to_next_row[i] + column * self.to_next_column[i]
        }))
    }
}

/// A mask that ends more than a voxel before a frame's corner pixels says nothing of the frame.
fn refuse_uncovered(
    plane: &FramePlane,
    mask: &Mask,
    series: &Series,
    slice_number: usize,
) -> Result<(), VolumeError> {
    let last = [(series.rows - 1) as f64, (series.columns - 1) as f64];
    for corner in 0..4 {
        let row = if corner & 1 == 1 { last[0] } else { 0.0 };
        let column = if corner & 2 == 2 { last[1] } else { 0.0 };
        let VoxelPoint(at) = mask.geometry.patient_to_voxel().apply(plane.at(row, column));
        let inside = (0..3).all(|axis| {
            let last = (mask.geometry.shape()[axis] - 1) as f64;
            at[axis] >= -COVER_VOXELS && at[axis] <= last + COVER_VOXELS
        });
        if !inside {
            return Err(VolumeError::NotCovered { slice_number });
        }
    }
    Ok(())
}
