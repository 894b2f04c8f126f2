//! What can be wrong with bytes that claim to be DICOM.

use dicom_core::Tag;

use crate::error::{ErrorKind, Kind};

/// What can be wrong with bytes that claim to be DICOM.
///
/// Errors name tags and numbers, never the text of a value.
#[derive(Debug, thiserror::Error)]
pub enum DicomError {
    /// A UID is missing or malformed. Its text is not repeated.
    #[error("{name} is missing or malformed ({length} characters)")]
    BadUid {
        /// Which UID.
        name: &'static str,
        /// Length of what was found.
        length: usize,
    },
    /// The bytes are not a DICOM file.
    #[error("not a DICOM file: {0}")]
    NotDicom(String),
    /// A value or header reaches past the end of what holds it.
    #[error("{tag} at byte {offset} declares {declared} bytes, {remaining} remain")]
    Truncated {
        /// The element, item or fragment.
        tag: Tag,
        /// Where its header starts in the (inflated) data set.
        offset: usize,
        /// Its declared length.
        declared: u64,
        /// What is left in the enclosing item, sequence or file.
        remaining: u64,
    },
    /// The stream cannot be read on from here.
    #[error("{tag} at byte {offset}: {problem}")]
    BadStructure {
        /// The element, item or fragment.
        tag: Tag,
        /// Where its header starts in the (inflated) data set.
        offset: usize,
        /// What was found instead of what must be there.
        problem: String,
    },
    /// Sequences nest too deep.
    #[error("{tag} at byte {offset} is nested deeper than {depth_max} sequences")]
    TooDeep {
        /// The sequence that went too far.
        tag: Tag,
        /// Where its header starts.
        offset: usize,
        /// The limit.
        depth_max: usize,
    },
    /// Something is larger than the configured limit.
    #[error("{what} is {found}, the limit is {max}")]
    TooLarge {
        /// The thing and its unit.
        what: &'static str,
        /// The size or count found (a lower bound where counting stopped at the limit).
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A required attribute is absent or empty.
    #[error("{name} {tag} is missing")]
    Missing {
        /// The attribute's keyword.
        name: &'static str,
        /// Its tag.
        tag: Tag,
    },
    /// An attribute has a value that cannot be.
    #[error("{name} {tag} {problem}")]
    BadValue {
        /// The attribute's keyword.
        name: &'static str,
        /// Its tag.
        tag: Tag,
        /// What was found; numbers only.
        problem: String,
    },
    /// Native pixel data do not have the length the attributes promise.
    #[error("(7FE0,0010) holds {found} bytes, rows, columns and frames need {needed}")]
    PixelDataLength {
        /// Bytes found.
        found: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// There are no pixels to decode.
    #[error("the instance has no pixel data (7FE0,0010)")]
    NoPixelData,
    /// A frame number outside 1 to the number of frames.
    #[error("frame {number} does not exist, the instance has {count}")]
    NoSuchFrame {
        /// The number asked for.
        number: u32,
        /// How many there are.
        count: u32,
    },
    /// Colour where grey is needed.
    #[error(
        "colour where grey is needed: photometric interpretation {photometric}, {samples} samples per pixel"
    )]
    Colour {
        /// The photometric interpretation, when it is a defined term.
        photometric: &'static str,
        /// Samples per Pixel (0028,0002).
        samples: u16,
    },
    /// Well-formed, but not decoded by this server.
    #[error("cannot decode {0}")]
    Unsupported(String),
    /// The encapsulated stream of fragments does not give the frames it should.
    #[error("cannot find frame {number} in the pixel data: {problem}")]
    BadFragments {
        /// The frame, counted from 1.
        number: u32,
        /// What was found; numbers only.
        problem: String,
    },
    /// The compressed frame is broken.
    #[error("cannot decode frame {number} ({codec}): {problem}")]
    Codec {
        /// The frame, counted from 1.
        number: u32,
        /// The compression.
        codec: &'static str,
        /// What the decoder found.
        problem: String,
    },
}

impl Kind for DicomError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::TooDeep { .. } => ErrorKind::TooLarge,
            Self::Unsupported(_) | Self::Colour { .. } => ErrorKind::Unsupported,
            Self::NoSuchFrame { .. } => ErrorKind::NotFound,
            Self::BadUid { .. }
            | Self::NotDicom(_)
            | Self::Truncated { .. }
            | Self::BadStructure { .. }
            | Self::Missing { .. }
            | Self::BadValue { .. }
            | Self::PixelDataLength { .. }
            | Self::NoPixelData
            | Self::BadFragments { .. }
            | Self::Codec { .. } => ErrorKind::Invalid,
        }
    }
}
