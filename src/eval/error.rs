//! Why a suite cannot be read or a request not be run.

use std::io;
use std::path::PathBuf;

use crate::answer::AnswerError;
use crate::dicom::DicomError;
use crate::dicom_seg::SegError;
use crate::error::{ErrorKind, Kind};
use crate::reason::ReasonError;
use crate::segment::SegmentError;
use crate::series::SeriesError;
use crate::threads::Stopped;
use crate::view::ViewError;
use crate::volume::VolumeError;

/// Why a suite cannot be read or a request not be run.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the suite does not hold what it should.
    #[error("{} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A case that the suite does not have.
    #[error("the suite has no case {case}")]
    NoSuchCase {
        /// Its name.
        case: String,
    },
    /// A case without an image or without labels.
    #[error("case {case} has no {what}")]
    Missing {
        /// Its name.
        case: String,
        /// What is missing.
        what: &'static str,
    },
    /// Labels on another grid than the image.
    #[error("labels of case {case} lie on another grid than its image: {labels:?} and {image:?}")]
    OtherGrid {
        /// Its name.
        case: String,
        /// Shape of the labels.
        labels: [usize; 3],
        /// Shape of the image.
        image: [usize; 3],
    },
    /// Two masks that cannot be compared.
    #[error("masks of {left:?} and {right:?} voxels cannot be compared")]
    Shapes {
        /// One shape.
        left: [usize; 3],
        /// The other.
        right: [usize; 3],
    },
    /// An image or a label map.
    #[error("cannot read the image or the labels of case {case}")]
    Volume {
        /// Its name.
        case: String,
        /// What is wrong.
        #[source]
        source: VolumeError,
    },
    /// DICOM files of a case.
    #[error("cannot read a DICOM file of case {case}")]
    Dicom {
        /// Its name.
        case: String,
        /// What is wrong.
        #[source]
        source: DicomError,
    },
    /// DICOM files that make no series.
    #[error("the DICOM files of case {case} make no series")]
    Series {
        /// Its name.
        case: String,
        /// What is wrong.
        #[source]
        source: SeriesError,
    },
    /// A reference SEG.
    #[error("cannot read the segmentation of case {case}")]
    Seg {
        /// Its name.
        case: String,
        /// What is wrong.
        #[source]
        source: SegError,
    },
    /// Views of a case.
    #[error("cannot render the views")]
    View(#[from] ViewError),
    /// The reasoner.
    #[error("the reasoner failed")]
    Reason(#[from] ReasonError),
    /// An answer out of the grammar.
    #[error("the answer cannot be executed")]
    Answer(#[from] AnswerError),
    /// The backbone.
    #[error("the backbone failed")]
    Segment(#[from] SegmentError),
    /// Skills could not be fetched.
    #[error("skills cannot be fetched: {reason}")]
    Skills {
        /// What the bank said.
        reason: String,
    },
    /// A language model that words requests could not be asked.
    #[error("wordings cannot be fetched: {reason}")]
    Rephrase {
        /// What went wrong.
        reason: String,
    },
    /// Asked to stop, or out of time.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl EvalError {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl Kind for EvalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Rephrase { .. } => ErrorKind::Unavailable,
            Self::Malformed { .. } | Self::OtherGrid { .. } | Self::Missing { .. } => {
                ErrorKind::Invalid
            }
            Self::NoSuchCase { .. } => ErrorKind::NotFound,
            Self::Shapes { .. } | Self::Skills { .. } => ErrorKind::Internal,
            Self::Volume { source, .. } => source.kind(),
            Self::Dicom { source, .. } => source.kind(),
            Self::Series { source, .. } => source.kind(),
            Self::Seg { source, .. } => source.kind(),
            Self::View(source) => source.kind(),
            Self::Reason(source) => source.kind(),
            Self::Answer(source) => source.kind(),
            Self::Segment(source) => source.kind(),
            Self::Stopped(_) => ErrorKind::Cancelled,
        }
    }
}
