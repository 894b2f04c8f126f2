//! What went wrong, in a short closed list that every room shares.
//!
//! Each room has one error enum of its own; [`Kind`] says which of the few kinds a value is.
//! `http/error.rs` alone turns kinds into statuses, `cli` alone into exit codes.

use serde::{Deserialize, Serialize};

/// The kinds of failure a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is malformed or impossible; the same input will fail again.
    Invalid,
    /// The thing named does not exist here.
    NotFound,
    /// The request contradicts what is already stored or running.
    Conflict,
    /// Well-formed, but not something this server handles.
    Unsupported,
    /// A limit from the configuration was passed.
    TooLarge,
    /// A queue is full or a resource is busy; trying later may work.
    Overloaded,
    /// The caller asked to stop, or the deadline passed.
    Cancelled,
    /// Something this server needs (a library, a model, a disk) is missing or broken.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The kind as a snake-case word, as clients see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// Names the kind of an error value.
pub trait Kind: std::error::Error {
    /// The kind a caller can act on.
    fn kind(&self) -> ErrorKind;
}

/// Something tolerated that a reader of the result should know.
///
/// Findings never carry patient data: no names, ids, dates or order text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// Stable machine-readable code in snake case, for example `gantry_tilt`.
    pub code: String,
    /// One sentence with the value found.
    pub message: String,
}

impl Finding {
    /// Builds a finding from its code and sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}
