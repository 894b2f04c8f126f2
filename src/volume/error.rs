//! Why there is no volume.

use crate::dicom::DicomError;
use crate::error::{ErrorKind, Kind};
use crate::geometry::GeometryError;

/// Why a series or a file cannot become a volume. Slices count from 1 along the stack.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Every voxel holds one value.
    #[error("all voxels hold one value, {value}")]
    Constant {
        /// The value.
        value: f32,
    },
    /// Some voxels hold no number.
    #[error("{count} voxels are not finite numbers")]
    NotFinite {
        /// How many.
        count: usize,
    },
    /// One slice is not a volume.
    #[error("series has {count} slice(s), a volume needs at least 2")]
    TooFewSlices {
        /// How many there are.
        count: usize,
    },
    /// A frame points at an instance that is not there.
    #[error("slice {slice_number} has no instance")]
    NoInstance {
        /// Which slice.
        slice_number: usize,
    },
    /// Pixels cannot be decoded.
    #[error("cannot decode the pixels of slice {slice_number}: {source}")]
    Decode {
        /// Which slice.
        slice_number: usize,
        /// What the decoder says.
        #[source]
        source: DicomError,
    },
    /// A decoded frame is not as large as its header says.
    #[error("slice {slice_number} is {found:?} pixels (rows, columns), the series {expected:?}")]
    FrameShape {
        /// Which slice.
        slice_number: usize,
        /// Its rows and columns.
        found: [usize; 2],
        /// The series' rows and columns.
        expected: [usize; 2],
    },
    /// A decoded frame does not fill its rows and columns.
    #[error("slice {slice_number} has {found} pixels, not rows x columns")]
    PixelCount {
        /// Which slice.
        slice_number: usize,
        /// How many pixels came out.
        found: usize,
    },
    /// Rescale slope or intercept is no usable number.
    #[error("slice {slice_number} has an unusable rescale slope or intercept")]
    Rescale {
        /// Which slice.
        slice_number: usize,
    },
    /// A mask does not reach a frame of the series.
    #[error("mask does not cover slice {slice_number} of the series")]
    NotCovered {
        /// Which slice.
        slice_number: usize,
    },
    /// The positions do not make a grid.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

impl Kind for VolumeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Decode { source, .. } => source.kind(),
            Self::NoInstance { .. } => ErrorKind::Internal,
            Self::Constant { .. }
            | Self::NotFinite { .. }
            | Self::TooFewSlices { .. }
            | Self::FrameShape { .. }
            | Self::PixelCount { .. }
            | Self::Rescale { .. }
            | Self::NotCovered { .. }
            | Self::Geometry(_) => ErrorKind::Invalid,
        }
    }
}
