//! Instances into ordered frames of one stack.
//!
//! Frames are ordered by where they lie along the slice normal, never by instance number or file
//! name, and the result does not depend on the order in which instances come. What a scanner
//! may put beside the stack (localizers, other orientations, echoes, time points, copies) is
//! left out with a finding that says so.

pub(crate) mod attributes;
mod choose;
mod error;
mod facts;
mod spacing;
mod stack;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dicom::{Instance, SeriesUid, StudyUid};
use crate::error::Finding;
use crate::geometry::{GeometryError, PatientPoint, VolumeGeometry, dot};
use facts::{FrameFacts, Unplaced};

pub use choose::{SeriesCandidate, SeriesChoice, choose};
pub use error::SeriesError;
pub use spacing::SliceSpacing;

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

impl Series {
    /// The unit slice normal: row direction × column direction, LPS.
    pub fn normal(&self) -> [f64; 3] {
        spacing::normal_of(self.orientation)
    }

    /// Where each frame lies along the normal, in millimetres, ascending.
    pub fn positions_mm(&self) -> Vec<f64> {
        let normal = self.normal();
        self.frames.iter().map(|frame| dot(frame.position.0, normal)).collect()
    }

    /// How evenly the frames follow one another.
    pub fn slice_spacing(&self) -> SliceSpacing {
        SliceSpacing::of(&self.positions_mm())
    }

    /// An even grid of `slice_count` slices from the first frame to the last, in the frames'
    /// own rows and columns; sheared when the stack leans (gantry tilt).
    ///
    /// # Errors
    /// As [`VolumeGeometry::new`].
    pub fn grid(&self, slice_count: usize) -> Result<VolumeGeometry, GeometryError> {
        let (first, last) = (self.frames[0].position, self.frames[self.frames.len() - 1].position);
        let steps = slice_count.saturating_sub(1).max(1) as f64;
        let step = std::array::from_fn(|i| (last.0[i] - first.0[i]) / steps);
        let shape = [slice_count, self.rows, self.columns];
        VolumeGeometry::from_frames(shape, first, self.orientation, self.pixel_spacing_mm, step)
    }
}

/// Orders the frames of the instances of one series and picks one stack.
///
/// # Errors
/// [`SeriesError`] with the fact found, when no stack of at least two parallel frames exists.
pub fn assemble(instances: Vec<Arc<Instance>>) -> Result<(Series, Vec<Finding>), SeriesError> {
    let mut findings = Vec::new();
    let instances = distinct(instances, &mut findings)?;
    let frames = placed_frames(&instances, &mut findings)?;
    let same_pixels = |a: &FrameFacts, b: &FrameFacts| {
        let decode = |f: &FrameFacts| instances[f.instance_index].decode_frame(f.frame_number);
        matches!((decode(a), decode(b)), (Ok(a), Ok(b)) if a == b)
    };
    let (frames, more) = stack::pick(frames, &same_pixels)?;
    findings.extend(more);
    let series = series_of(frames, &instances);
    findings.extend(geometry_findings(&series));
    Ok((series, findings))
}

/// Instances in the order of their SOP Instance UIDs, each once, all of one series.
fn distinct(
    mut instances: Vec<Arc<Instance>>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Arc<Instance>>, SeriesError> {
    let given = instances.len();
    instances.sort_by(|a, b| a.identity().sop_instance.cmp(&b.identity().sop_instance));
    instances.dedup_by(|a, b| a.identity().sop_instance == b.identity().sop_instance);
    let Some(first) = instances.first() else { return Err(SeriesError::Empty) };
    let mut uids: Vec<&SeriesUid> = instances.iter().map(|i| &i.identity().series).collect();
    uids.sort();
    uids.dedup();
    if uids.len() > 1 {
        return Err(SeriesError::SeveralSeries { count: uids.len() });
    }
    debug_assert_eq!(uids[0], &first.identity().series);
    if instances.len() < given {
        let message = format!("{} instances came more than once", given - instances.len());
        findings.push(Finding::new("duplicate_instances", message));
    }
    Ok(instances)
}

/// All frames that can be placed in the patient; a finding for each reason that leaves some out.
fn placed_frames(
    instances: &[Arc<Instance>],
    findings: &mut Vec<Finding>,
) -> Result<Vec<FrameFacts>, SeriesError> {
    let (mut frames, mut unplaced) = (Vec::new(), Vec::new());
    for (index, instance) in instances.iter().enumerate() {
        for frame in facts::read(instance, index) {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(reason) => unplaced.push(reason),
            }
        }
    }
    if frames.is_empty() {
        return Err(SeriesError::nothing_placed(unplaced));
    }
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for reason in unplaced {
        *counts.entry(left_out(reason)).or_default() += 1;
    }
    for ((code, what), count) in counts {
        findings.push(Finding::new(code, format!("{count} {what}; they were left out")));
    }
    Ok(frames)
}

fn left_out(reason: Unplaced) -> (&'static str, String) {
    match reason {
        Unplaced::NoPixels => ("no_pixels", "instances have no pixel data".to_owned()),
        Unplaced::Localizer => ("localizers", "frames are localizers".to_owned()),
        Unplaced::Colour(_) => ("colour_frames", "frames are in colour".to_owned()),
        Unplaced::Missing(attribute) => ("unplaced_frames", format!("frames lack {attribute}")),
        Unplaced::Bad { attribute, .. } => {
            ("unplaced_frames", format!("frames have an unusable {attribute}"))
        }
    }
}

fn series_of(frames: Vec<FrameFacts>, instances: &[Arc<Instance>]) -> Series {
    let first = frames[0].clone();
    let first_instance = &instances[first.instance_index];
    let modality = attributes::FrameAttributes::of(first_instance, 1)
        .root(dicom_dictionary_std::tags::MODALITY)
        .map(|element| attributes::texts(element).join(""))
        .unwrap_or_default();
    let mut used: Vec<usize> = Vec::new();
    let ordered = frames.iter().map(|frame| {
        let seen = used.iter().rposition(|index| *index == frame.instance_index);
        let instance_index = seen.unwrap_or_else(|| {
            used.push(frame.instance_index);
            used.len() - 1
        });
        SourceFrame {
            instance_index,
            frame_number: frame.frame_number,
            position: PatientPoint(frame.position),
        }
    });
    let ordered = ordered.collect();
    Series {
        study_uid: first_instance.identity().study.clone(),
        series_uid: first_instance.identity().series.clone(),
        frame_of_reference_uid: first.frame_of_reference_uid,
        modality: Modality::parse(&modality),
        rows: first.rows,
        columns: first.columns,
        pixel_spacing_mm: first.pixel_spacing_mm,
        orientation: first.orientation,
        frames: ordered,
        instances: used.into_iter().map(|index| Arc::clone(&instances[index])).collect(),
    }
}

/// What a reader should know of where the frames lie.
fn geometry_findings(series: &Series) -> Vec<Finding> {
    let mut findings = Vec::new();
    if series.frame_of_reference_uid.is_none() {
        let message = "series has no Frame of Reference UID (0020,0052)";
        findings.push(Finding::new("no_frame_of_reference", message));
    }
    let count = series.frames.len();
    match series.slice_spacing() {
        SliceSpacing::Even { .. } => {}
        SliceSpacing::Missing { step_mm, missing_count } => {
            let message = format!(
                "{missing_count} slices are missing between {count} slices at a step of \
                 {step_mm:.3} mm"
            );
            findings.push(Finding::new("missing_slices", message));
        }
        SliceSpacing::Uneven { min_mm, max_mm, .. } => {
            let message = format!("slice spacing varies from {min_mm:.3} mm to {max_mm:.3} mm");
            findings.push(Finding::new("uneven_spacing", message));
        }
    }
    if let Ok(grid) = series.grid(count) {
        let tilt_deg = grid.shear_deg();
        if tilt_deg > TILT_DEG {
            let message = format!("the stack leans by {tilt_deg:.1} degrees (gantry tilt)");
            findings.push(Finding::new("gantry_tilt", message));
        }
    }
    findings
}

/// A lean above this is told as gantry tilt, in degrees.
const TILT_DEG: f64 = 0.1;
