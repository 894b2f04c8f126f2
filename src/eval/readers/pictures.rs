//! Stacks of PNG slices as volumes.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Axis};

use crate::eval::EvalError;
use crate::geometry::{PatientPoint, VolumeGeometry};

/// Reads grey slices (the first channel of coloured ones) from feet to head: rows run to the back,
/// columns to the patient's left, as radiological display shows them.
pub(super) fn read(
    files: &[PathBuf],
    spacing_um: [u32; 3],
) -> Result<(Array3<f32>, VolumeGeometry), EvalError> {
    let first = files.first().map(PathBuf::as_path).unwrap_or(Path::new("."));
    let malformed =
        |path: &Path, reason: String| EvalError::Malformed { path: path.to_owned(), reason };
    let mut voxels: Option<Array3<f32>> = None;
    for (index, path) in files.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(EvalError::io(path))?;
        let picture = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)
            .map_err(|error| malformed(path, error.to_string()))?;
        let (columns, rows) = (picture.width() as usize, picture.height() as usize);
        let grey = picture.to_rgb16();
        let stack = voxels.get_or_insert_with(|| Array3::zeros([files.len(), rows, columns]));
        if stack.dim() != (files.len(), rows, columns) {
            let (_, r, c) = stack.dim();
            let reason = format!("slice of {rows} x {columns} pixels among slices of {r} x {c}");
            return Err(malformed(path, reason));
        }
        let mut slice = stack.index_axis_mut(Axis(0), index);
        for (x, y, pixel) in grey.enumerate_pixels() {
            // 8-bit values are repeated in both bytes of 16.
            slice[[y as usize, x as usize]] = f32::from(pixel.0[0] >> 8);
        }
    }
    let voxels = voxels.ok_or_else(|| malformed(first, "there are no slices".to_owned()))?;
    let [between, row, column] = spacing_um.map(|um| f64::from(um) / 1000.0);
    let (slices, rows, columns) = voxels.dim();
    let geometry = VolumeGeometry::from_frames(
        [slices, rows, columns],
        PatientPoint([
            -column * (columns as f64 - 1.0) / 2.0,
            -row * (rows as f64 - 1.0) / 2.0,
            -between * (slices as f64 - 1.0) / 2.0,
        ]),
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [row, column],
        [0.0, 0.0, between],
    )
    .map_err(|error| malformed(first, error.to_string()))?;
    Ok((voxels, geometry))
}
