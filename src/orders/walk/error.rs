//! Why a walk ended without a result.

use crate::answer::AnswerError;
use crate::archive::ArchiveError;
use crate::dicom_seg::SegError;
use crate::error::{ErrorKind, Kind};
use crate::eval::EvalError;
use crate::orders::OrderError;
use crate::reason::ReasonError;
use crate::segment::SegmentError;
use crate::series::SeriesError;
use crate::telemetry::error_chain;
use crate::threads::Stopped;
use crate::view::ViewError;
use crate::volume::VolumeError;

/// Why a walk ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Asked to stop, or out of time.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The archive could not give or take instances.
    #[error("archive failed")]
    Archive(#[from] ArchiveError),
    /// A UID we derived or stored is malformed.
    #[error("stored identity is malformed")]
    Dicom(#[from] crate::dicom::DicomError),
    /// The images could not be fetched.
    #[error("images cannot be fetched")]
    Fetch(#[from] crate::pacs::PacsError),
    /// No series to segment.
    #[error("no series to segment")]
    Series(#[from] SeriesError),
    /// The series is no volume.
    #[error("series is not a volume")]
    Volume(#[from] VolumeError),
    /// No views.
    #[error("views cannot be rendered")]
    View(#[from] ViewError),
    /// No trace.
    #[error("reasoner failed")]
    Reason(#[from] ReasonError),
    /// No answer in the trace.
    #[error("trace has no answer")]
    Answer(#[from] AnswerError),
    /// No masks.
    #[error("backbone failed")]
    Segment(#[from] SegmentError),
    /// The masks of rephrasings cannot be compared.
    #[error("rephrasings cannot be compared")]
    Compare(#[from] EvalError),
    /// No SEG.
    #[error("segmentation cannot be written")]
    Seg(#[from] SegError),
    /// The order's own bookkeeping failed.
    #[error("order cannot be kept")]
    Order(#[from] OrderError),
    /// A bug of ours.
    #[error("the walk panicked")]
    Panicked,
}

impl WalkError {
    /// Whether somebody asked to stop (a passed deadline is a failure).
    pub(in crate::orders) fn is_cancelled(&self) -> bool {
        self.stopped() == Some(Stopped::Cancelled)
    }

    fn stopped(&self) -> Option<Stopped> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                return Some(*stopped);
            }
            // `transparent` errors hide themselves from the chain.
            if let Some(Self::Stopped(stopped)) = error.downcast_ref::<Self>() {
                return Some(*stopped);
            }
            if let Some(crate::pacs::PacsError::Stopped(stopped)) = error.downcast_ref() {
                return Some(*stopped);
            }
            cause = error.source();
        }
        None
    }

    /// The whole chain as one sentence, for people.
    pub fn sentence(&self) -> String {
        error_chain(self)
    }
}

impl Kind for WalkError {
    fn kind(&self) -> ErrorKind {
        if self.stopped().is_some() {
            return ErrorKind::Cancelled;
        }
        match self {
            Self::Stopped(_) => ErrorKind::Cancelled,
            Self::Archive(error) => error.kind(),
            Self::Dicom(error) => error.kind(),
            Self::Fetch(error) => error.kind(),
            Self::Series(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Reason(error) => error.kind(),
            Self::Answer(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::Compare(error) => error.kind(),
            Self::Seg(error) => error.kind(),
            Self::Order(error) => error.kind(),
            Self::Panicked => ErrorKind::Internal,
        }
    }
}
