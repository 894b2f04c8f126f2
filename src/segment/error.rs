//! Why masks cannot be made.

use std::path::PathBuf;

use crate::error::{ErrorKind, Kind};
use crate::runtime::RuntimeError;
use crate::threads::Stopped;

/// Why [`Backbone`](super::Backbone) cannot load or segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// There is nothing to ask.
    #[error("there are no prompts")]
    NoPrompts,
    /// A prompt does not fit the text encoder.
    #[error("prompt {number} has {token_count} tokens, more than {limit}")]
    PromptTooLong {
        /// Which prompt, counted from 1.
        number: usize,
        /// Tokens with template and suffix.
        token_count: usize,
        /// Tokens allowed by the manifest.
        limit: usize,
    },
    /// The volume does not fit the memory set aside for a call.
    #[error(
        "volume of {shape:?} voxels needs {needed_mib} MiB to segment, more than the limit of {limit_mib} MiB"
    )]
    TooMuchMemory {
        /// `[slices, rows, columns]`.
        shape: [usize; 3],
        /// What one prompt needs.
        needed_mib: u64,
        /// What is allowed.
        limit_mib: u64,
    },
    /// The volume needs too many patches.
    #[error("volume of {shape:?} voxels needs {count} patches, more than the limit of {limit}")]
    TooManyPatches {
        /// `[slices, rows, columns]`.
        shape: [usize; 3],
        /// What it needs.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The manifest asks for something impossible.
    #[error("manifest's backbone.{key} is {value}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The tokenizer cannot be used.
    #[error("{}: {reason}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt cannot be tokenised.
    #[error("a prompt cannot be tokenised: {reason}")]
    Prompt {
        /// What the tokenizer said.
        reason: String,
    },
    /// The bundle has a bank of prompts but no text encoder.
    #[error("prompt {number} is not in the bundle's text bank, and it has no text encoder")]
    UnknownPrompt {
        /// Which prompt, counted from 1.
        number: usize,
    },
    /// A decoder wants a tensor that no graph before it gives.
    #[error("graph {graph} wants input {input}, which no graph before it gives")]
    Unwired {
        /// The graph.
        graph: String,
        /// The input.
        input: String,
    },
    /// A graph gave something other than its manifest says.
    #[error("graph {graph} gave {output} of shape {found:?} instead of {expected:?}")]
    OutputShape {
        /// The graph.
        graph: String,
        /// The output.
        output: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A logit is infinite or not a number.
    #[error("backbone gave a logit that is not finite for prompt {number}")]
    NotFinite {
        /// Which prompt of its group, counted from 1.
        number: usize,
    },
    /// A thread of ours ended early.
    #[error("a thread that feeds the graphs or adds up logits ended early")]
    ThreadEnded,
    /// A graph or bundle failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The caller asked to stop, or the deadline passed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Kind for SegmentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPrompts => ErrorKind::Invalid,
            Self::PromptTooLong { .. } | Self::UnknownPrompt { .. } => ErrorKind::Unsupported,
            Self::TooMuchMemory { .. } | Self::TooManyPatches { .. } => ErrorKind::TooLarge,
            Self::Setting { .. }
            | Self::Tokenizer { .. }
            | Self::Unwired { .. }
            | Self::OutputShape { .. } => ErrorKind::Unavailable,
            Self::NotFinite { .. } | Self::Prompt { .. } | Self::ThreadEnded => ErrorKind::Internal,
            Self::Runtime(error) => error.kind(),
            Self::Stopped(_) => ErrorKind::Cancelled,
        }
    }
}
