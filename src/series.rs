//! Instances into ordered frames of one stack.

use std::sync::Arc;

use crate::dicom::{Instance, SeriesUid, StudyUid};
use crate::error::{ErrorKind, Finding, Kind};
use crate::geometry::PatientPoint;

/// Modality (0008,0060), as far as this server cares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Modality {
    /// Computed tomography; voxels are Hounsfield units.
    Ct,
    /// Magnetic resonance; voxels are arbitrary units.
    Mr,
    /// Anything else, by its DICOM code.
    Other(String),
}

impl Modality {
    /// From DICOM's code string.
    pub fn parse(code: &str) -> Self {
        match code.trim() {
            "CT" => Self::Ct,
            "MR" => Self::Mr,
            other => Self::Other(other.to_owned()),
        }
    }

    /// DICOM's code string.
    pub fn code(&self) -> &str {
        match self {
            Self::Ct => "CT",
            Self::Mr => "MR",
            Self::Other(code) => code,
        }
    }
}

/// One frame of the source series, and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFrame {
    /// Which of [`Series::instances`] holds it (counts from 0).
    pub instance_index: usize,
    /// Frame number within that instance (counts from 1).
    pub frame_number: u32,
    /// Image Position (Patient): the centre of the first pixel.
    pub position: PatientPoint,
}

/// The frames of one stack, ordered along the slice normal (row direction × column direction).
///
/// All frames share rows, columns, pixel spacing and orientation; positions may be unevenly
/// spaced or sheared (gantry tilt).
#[derive(Clone)]
pub struct Series {
    /// (0020,000D)
    pub study_uid: StudyUid,
    /// (0020,000E)
    pub series_uid: SeriesUid,
    /// (0020,0052); absent in some old series.
    pub frame_of_reference_uid: Option<String>,
    /// (0008,0060)
    pub modality: Modality,
    /// Rows (0028,0010).
    pub rows: usize,
    /// Columns (0028,0011).
    pub columns: usize,
    /// Pixel Spacing: between rows, between columns, in millimetres.
    pub pixel_spacing_mm: [f64; 2],
    /// Image Orientation (Patient): along a row, along a column; unit vectors.
    pub orientation: [[f64; 3]; 2],
    /// Ordered frames.
    pub frames: Vec<SourceFrame>,
    /// The instances that hold them.
    pub instances: Vec<Arc<Instance>>,
}

/// Orders the frames of the instances of one series and picks one stack.
///
/// # Errors
/// [`SeriesError`] with the fact found, when no stack of at least two parallel frames exists.
pub fn assemble(instances: Vec<Arc<Instance>>) -> Result<(Series, Vec<Finding>), SeriesError> {
    let _ = instances;
    unimplemented!("series room")
}

/// Why instances do not make a series that can be segmented.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// There is nothing to order.
    #[error("series has no instances")]
    Empty,
}

impl Kind for SeriesError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
