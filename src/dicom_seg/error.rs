//! Why a Segmentation cannot be written or read.

use crate::dicom::DicomError;
use crate::error::{ErrorKind, Kind};

/// Why a Segmentation cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegError {
    /// There is nothing to write.
    #[error("segmentation has no segments")]
    NoSegments,
    /// Something that must be said is blank.
    #[error("{what} is blank")]
    Blank {
        /// What is blank.
        what: &'static str,
    },
    /// A UID is malformed.
    #[error("{what} is not a uid: {length} characters")]
    NotAUid {
        /// What is malformed.
        what: &'static str,
        /// Length of what was found.
        length: usize,
    },
    /// Two segments claim to be one thing.
    #[error("segments {first} and {second} have one tracking uid")]
    TrackingRepeats {
        /// Number of a segment.
        first: usize,
        /// Number of a later segment.
        second: usize,
    },
    /// A label map gives each pixel one segment.
    #[error("segments {first} and {second} overlap, which a label map cannot say")]
    SegmentsOverlap {
        /// Number of a segment.
        first: usize,
        /// Number of a later segment.
        second: usize,
    },
    /// A report needs one volume a segment.
    #[error("{found} volumes for {expected} segments")]
    VolumeCount {
        /// Volumes given.
        found: usize,
        /// Segments there are.
        expected: usize,
    },
    /// A volume that is none.
    #[error("volume of segment {number} is {ml} ml")]
    Volume {
        /// Segment number.
        number: usize,
        /// What was found.
        ml: f64,
    },
    /// A picture whose pixels do not fill it.
    #[error("key image has {found} bytes, not {expected}")]
    PictureSize {
        /// Bytes given.
        found: usize,
        /// Rows x columns x 3.
        expected: usize,
    },
    /// A mask does not lie on the frames of the series.
    #[error("mask of segment {number} has shape {found:?}, series has {expected:?}")]
    ShapeDiffers {
        /// Segment number.
        number: usize,
        /// `[frame, row, column]` of the mask.
        found: [usize; 3],
        /// `[frame, row, column]` of the series.
        expected: [usize; 3],
    },
    /// The series itself is impossible.
    #[error("series cannot carry a segmentation: {0}")]
    Series(String),
    /// The object would be larger than DICOM allows.
    #[error("segmentation has {found} {what}, more than {max}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// The object cannot be encoded.
    #[error("cannot encode segmentation")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The instance is something else.
    #[error("instance is not a segmentation: sop class {sop_class_uid}")]
    NotASegmentation {
        /// SOP Class UID found.
        sop_class_uid: String,
    },
    /// A kind of segmentation that is not read.
    #[error("cannot read segmentation: {0}")]
    Unsupported(String),
    /// An attribute that reading needs.
    #[error("segmentation lacks {name} or it is malformed")]
    Missing {
        /// The attribute.
        name: &'static str,
    },
    /// The pixel data are too short.
    #[error("pixel data of segmentation hold {found} bytes, {expected} are needed")]
    Truncated {
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The segmentation lies on another grid.
    #[error("{what} of segmentation differs from the series: {found} against {expected}")]
    GridDiffers {
        /// What differs.
        what: &'static str,
        /// What the segmentation says.
        found: String,
        /// What the series says.
        expected: String,
    },
    /// A frame lies on none of the series' frames.
    #[error("frame {frame} of segmentation lies on no frame of the series")]
    FrameOffSeries {
        /// Frame number, from 1.
        frame: usize,
    },
    /// No segment has this number.
    #[error("segmentation has no segment {number}")]
    NoSuchSegment {
        /// The number asked for.
        number: u16,
    },
    /// A frame cannot be decoded.
    #[error("cannot decode frame {frame} of segmentation")]
    Decode {
        /// Frame number, from 1.
        frame: u32,
        /// Why.
        #[source]
        source: DicomError,
    },
}

impl Kind for SegError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSegments
            | Self::Blank { .. }
            | Self::NotAUid { .. }
            | Self::TrackingRepeats { .. }
            | Self::ShapeDiffers { .. }
            | Self::SegmentsOverlap { .. }
            | Self::VolumeCount { .. }
            | Self::Volume { .. }
            | Self::PictureSize { .. }
            | Self::Encode(_) => ErrorKind::Internal,
            Self::Series(_)
            | Self::NotASegmentation { .. }
            | Self::Missing { .. }
            | Self::Truncated { .. }
            | Self::GridDiffers { .. }
            | Self::FrameOffSeries { .. }
            | Self::Decode { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::NoSuchSegment { .. } => ErrorKind::NotFound,
        }
    }
}
