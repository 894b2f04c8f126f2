//! Why instances do not make a stack.

use super::facts::Unplaced;
use crate::error::{ErrorKind, Kind};

/// Why instances do not make a series that can be segmented.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// There is nothing to order.
    #[error("series has no instances")]
    Empty,
    /// Instances of several series were mixed.
    #[error("instances belong to {count} series, not to one")]
    SeveralSeries {
        /// How many Series Instance UIDs there are.
        count: usize,
    },
    /// No instance has pixels.
    #[error("none of {count} instances has pixel data")]
    NoPixels {
        /// How many instances there are.
        count: usize,
    },
    /// Every frame is a localizer.
    #[error("all {count} frames are localizers")]
    OnlyLocalizers {
        /// How many frames there are.
        count: usize,
    },
    /// The pixels are not grey.
    #[error("pixels are in colour ({photometric}), grey is needed")]
    Colour {
        /// Photometric Interpretation (0028,0004).
        photometric: String,
    },
    /// No frame says where it lies.
    #[error("none of {count} frames has {attribute}")]
    Missing {
        /// Name and tag.
        attribute: &'static str,
        /// How many frames were looked at.
        count: usize,
    },
    /// What the frames say cannot be.
    #[error("{attribute} is unusable: {found:?}")]
    Bad {
        /// Name and tag.
        attribute: &'static str,
        /// The value found.
        found: String,
    },
    /// There is no stack.
    #[error("series has {count} usable slice(s), a volume needs at least 2")]
    TooFewSlices {
        /// How many there are.
        count: usize,
    },
    /// The frames do not lie behind one another.
    #[error(
        "slice positions leave a straight line by {deviation_mm:.1} mm, more than {limit_mm:.1} mm"
    )]
    Crooked {
        /// The greatest distance found.
        deviation_mm: f64,
        /// What is tolerated.
        limit_mm: f64,
    },
    /// No series of a study can be segmented.
    #[error("study has no suitable series: {}", list(.reasons))]
    NoSuitableSeries {
        /// A reason for each series.
        reasons: Vec<String>,
    },
}

fn list(reasons: &[String]) -> String {
    if reasons.is_empty() { "it has none at all".to_owned() } else { reasons.join("; ") }
}

impl SeriesError {
    /// The most telling of the reasons why no frame at all could be placed.
    pub(super) fn nothing_placed(reasons: Vec<Unplaced>) -> Self {
        let count = reasons.len();
        let telling = |reason: &&Unplaced| match reason {
            Unplaced::Bad { .. } => 4,
            Unplaced::Missing(_) => 3,
            Unplaced::Colour(_) => 2,
            Unplaced::Localizer => 1,
            Unplaced::NoPixels => 0,
        };
        match reasons.iter().max_by_key(telling).cloned() {
            None => Self::Empty,
            Some(Unplaced::NoPixels) => Self::NoPixels { count },
            Some(Unplaced::Localizer) => Self::OnlyLocalizers { count },
            Some(Unplaced::Colour(photometric)) => Self::Colour { photometric },
            Some(Unplaced::Missing(attribute)) => Self::Missing { attribute, count },
            Some(Unplaced::Bad { attribute, found }) => Self::Bad { attribute, found },
        }
    }
}

impl Kind for SeriesError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Colour { .. } | Self::NoSuitableSeries { .. } | Self::OnlyLocalizers { .. } => {
                ErrorKind::Unsupported
            }
            Self::Empty
            | Self::SeveralSeries { .. }
            | Self::NoPixels { .. }
            | Self::Missing { .. }
            | Self::Bad { .. }
            | Self::TooFewSlices { .. }
            | Self::Crooked { .. } => ErrorKind::Invalid,
        }
    }
}
