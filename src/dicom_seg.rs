//! Masks into a DICOM Segmentation, and back (PS3.3 A.51); what was measured, into a report.
//!
//! [`write()`] makes one BINARY or LABELMAP Segmentation of several segments on the frames of the
//! source series: rows, columns, spacing, orientation, positions and frame of reference are the
//! source's, down to its own decimal strings. A wrong object cannot be built: everything that
//! would make one is a [`SegError`]. The same order gives the same UIDs, so a retry never makes
//! a second result. [`read()`] brings segmentations, ours and those of other writers, back onto a
//! series. This room never computes a mask.
//!
//! ```no_run
//! # use seer::{dicom_seg::*, series::Series, answer::Target};
//! # fn f(series: &Series, target: &Target, mask: &ndarray::Array3<bool>, provenance: Provenance)
//! # -> Result<(), SegError> {
//! let (coding, finding) = SegmentCoding::of(target, 1);
//! let segment = SegmentInput {
//!     label: target.phrase.clone(),
//!     mask,
//!     coding,
//!     tracking: Tracking::derive(&provenance.order_hash, 1),
//!     algorithm_name: "voxtell".to_owned(),
//! };
//! let (object, findings) = write(&SegInput {
//!     series,
//!     segments: vec![segment],
//!     provenance,
//!     created: time::OffsetDateTime::now_utc(),
//!     options: SegOptions::default(),
//! })?;
//! # Ok(()) }
//! ```

mod coding;
mod content;
mod document;
mod elements;
mod error;
mod frames;
mod key_objects;
mod pack;
mod pixels;
mod placement;
mod read;
mod report;
mod segments;
mod source;
mod validate;
mod write;

use ndarray::Array3;
use time::OffsetDateTime;

use crate::dicom::{SeriesUid, SopInstanceUid};
use crate::runtime::vocabulary::Code;
use crate::series::Series;

pub use error::SegError;
pub use key_objects::{Picture, write_key_image, write_key_objects};
pub use read::{SegReader, SegmentDescription, read};
pub use report::write_report;
pub use write::write;

/// Everything a Segmentation says.
#[derive(Clone)]
pub struct SegInput<'a> {
    /// The source series.
    pub series: &'a Series,
    /// Segments in order; they are numbered 1, 2, 3.
    pub segments: Vec<SegmentInput<'a>>,
    /// What made the masks.
    pub provenance: Provenance,
    /// When; shown in the source's time zone where the source names one.
    pub created: OffsetDateTime,
    /// How it is written.
    pub options: SegOptions,
}

/// One segment.
#[derive(Clone)]
pub struct SegmentInput<'a> {
    /// Segment Label: the canonical phrase. Cut to 64 characters, with a finding.
    pub label: String,
    /// `[frame, row, column]` on the frames of the series, as `volume::onto_source` gives it.
    pub mask: &'a Array3<bool>,
    /// Coded meaning and colour.
    pub coding: SegmentCoding,
    /// Identity across objects.
    pub tracking: Tracking,
    /// Segment Algorithm Name, for example the bundle's.
    pub algorithm_name: String,
}

/// What a segment shows, in codes, and how to draw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCoding {
    /// Segmented Property Category.
    pub category: Code,
    /// Segmented Property Type.
    pub property_type: Code,
    /// Segmented Property Type Modifier, mostly a side.
    pub modifier: Option<Code>,
    /// Recommended Display CIELab Value (PS3.3 C.10.7.1.1).
    pub cielab: [u16; 3],
}

/// Tracking ID and Tracking UID: what SEG and SR call the same finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// Tracking ID (0062,0020), for a reader.
    pub id: String,
    /// Tracking UID (0062,0021).
    pub uid: String,
}

/// A model bundle, as provenance names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleIdentity {
    /// The manifest's name.
    pub name: String,
    /// The manifest's version.
    pub version: String,
    /// SHA-256 of the manifest, lower-case hex.
    pub sha256: String,
}

/// What made the masks; no patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The bundle whose backbone made the masks.
    pub backbone: BundleIdentity,
    /// The bundle whose reasoner read the order, if one did.
    pub reasoner: Option<BundleIdentity>,
    /// The round of the skill bank that was active.
    pub skill_round: Option<u64>,
    /// Version of this server.
    pub server_version: String,
    /// Keyed hash of the order's id; the object's UIDs derive from it.
    pub order_hash: String,
    /// UID of this installation (Device UID).
    pub device_uid: String,
}

/// How the pixels say which segment they belong to (Segmentation Type, PS3.3 C.8.20.2).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SegmentationType {
    /// One bit a pixel, one segment a frame; segments may overlap. The longest-supported kind.
    #[default]
    Binary,
    /// The pixel's value is the segment's number, one frame a plane; no overlap. Smaller.
    Labelmap,
}

/// Which frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmptyFrames {
    /// Every segment has every frame; viewers that ignore positions show it right.
    #[default]
    Keep,
    /// Frames without a voxel are left out; a segment without any keeps its first.
    Drop,
}

/// How a Segmentation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegOptions {
    /// How the pixels say which segment they belong to.
    pub segmentation_type: SegmentationType,
    /// Which frames are written.
    pub empty_frames: EmptyFrames,
}

/// A finished Segmentation, report, key object selection or key image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultObject {
    /// (0008,0016)
    pub sop_class_uid: &'static str,
    /// (0008,0018)
    pub sop_instance_uid: SopInstanceUid,
    /// (0020,000E)
    pub series_uid: SeriesUid,
    /// The Part 10 file, Explicit VR Little Endian.
    pub bytes: Vec<u8>,
}

impl ResultObject {
    fn reference(&self) -> content::Reference {
        content::Reference {
            series_uid: self.series_uid.to_string(),
            sop_class_uid: self.sop_class_uid.to_owned(),
            sop_instance_uid: self.sop_instance_uid.to_string(),
            frame_number: None,
            segment_number: None,
        }
    }
}

/// One segment of a Segmentation, brought onto a series.
#[derive(Debug, Clone, PartialEq)]
pub struct SegSegment {
    /// What it says about itself.
    pub description: SegmentDescription,
    /// `[frame, row, column]` on the frames of the series.
    pub mask: Array3<bool>,
}
