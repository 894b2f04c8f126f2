//! Bytes into instances, and back.

use dicom_object::DefaultDicomObject;
use std::fmt;

use crate::error::{ErrorKind, Finding, Kind};

macro_rules! uid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);
        impl $name {
            /// Parses a UID: 1 to 64 characters, digits and dots, no empty component (PS3.5 §9.1).
            /// Leading zeros in a component are tolerated, because scanners send them.
            ///
            /// # Errors
            /// [`DicomError::BadUid`] with the attribute and the reason.
            pub fn parse(text: &str) -> Result<Self, DicomError> {
                check_uid(stringify!($name), text).map(|()| Self(text.trim_end_matches(['\0', ' ']).to_owned()))
            }
            /// The UID's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid_type!(
    /// Study Instance UID (0020,000D).
    StudyUid
);
uid_type!(
    /// Series Instance UID (0020,000E).
    SeriesUid
);
uid_type!(
    /// SOP Instance UID (0008,0018).
    SopInstanceUid
);

fn check_uid(name: &'static str, text: &str) -> Result<(), DicomError> {
    let text = text.trim_end_matches(['\0', ' ']);
    let well_formed = !text.is_empty()
        && text.len() <= 64
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if well_formed { Ok(()) } else { Err(DicomError::BadUid { name, length: text.len() }) }
}

/// Who an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// (0020,000D)
    pub study: StudyUid,
    /// (0020,000E)
    pub series: SeriesUid,
    /// (0008,0018)
    pub sop_instance: SopInstanceUid,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0002,0010)
    pub transfer_syntax_uid: String,
}

/// Limits that bytes from outside must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DicomLimits {
    /// Largest Part 10 file, in bytes.
    pub instance_size_bytes_max: u64,
    /// Largest data set after inflation, in bytes.
    pub inflated_size_bytes_max: u64,
    /// Largest decoded pixel data of one instance, in bytes.
    pub pixel_size_bytes_max: u64,
    /// Deepest nesting of sequences.
    pub nesting_depth_max: usize,
    /// Most elements in one instance, nested ones included.
    pub element_count_max: usize,
}

impl Default for DicomLimits {
    fn default() -> Self {
        Self {
            instance_size_bytes_max: 2 << 30,
            inflated_size_bytes_max: 2 << 30,
            pixel_size_bytes_max: 4 << 30,
            nesting_depth_max: 64,
            element_count_max: 1_000_000,
        }
    }
}

/// One SOP instance that passed the guard.
pub struct Instance {
    identity: Identity,
    object: DefaultDicomObject,
}

impl Instance {
    /// Parses a Part 10 file after the guard has walked it.
    ///
    /// # Errors
    /// [`DicomError`] naming the thing and the value found; never panics on any input.
    pub fn parse(bytes: &[u8], limits: &DicomLimits) -> Result<(Self, Vec<Finding>), DicomError> {
        let _ = (bytes, limits);
        unimplemented!("dicom room")
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The data set with its file meta information.
    pub fn object(&self) -> &DefaultDicomObject {
        &self.object
    }

    /// How many frames the pixel data has; 0 without pixel data.
    pub fn frame_count(&self) -> u32 {
        unimplemented!("dicom room")
    }

    /// Decodes one frame to stored values. `number` counts from 1.
    ///
    /// # Errors
    /// When the frame does not exist, the transfer syntax cannot be decoded, the pixels are not
    /// grey, or the codec fails (a codec's panic included).
    pub fn decode_frame(&self, number: u32) -> Result<GreyFrame, DicomError> {
        let _ = number;
        unimplemented!("dicom room")
    }
}

/// The stored values of one grey frame, sign-extended from Bits Stored, before any rescale;
/// MONOCHROME1 is left as stored (the flag says so).
#[derive(Debug, Clone, PartialEq)]
pub struct GreyFrame {
    /// Rows (0028,0010).
    pub rows: usize,
    /// Columns (0028,0011).
    pub columns: usize,
    /// Row-major stored values, `rows * columns` of them.
    pub values: Vec<i32>,
    /// Photometric Interpretation is MONOCHROME1.
    pub inverted: bool,
}

/// What can be wrong with bytes that claim to be DICOM.
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
}

impl Kind for DicomError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
