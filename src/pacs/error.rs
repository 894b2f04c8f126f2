//! Why another node could not be used.

use crate::archive::ArchiveError;
use crate::dicom::{DicomError, TranscodeError};
use crate::error::{ErrorKind, Kind};
use crate::threads::{LaneError, Stopped};

/// Why another node could not be used. Sentences name the node and what was tried.
#[derive(Debug, thiserror::Error)]
pub enum PacsError {
    /// No such node in the configuration.
    #[error("node {name} is not configured")]
    UnknownNode {
        /// The name asked for.
        name: String,
    },
    /// No connection.
    #[error("cannot connect to node {node}")]
    Connect {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The node refused the association.
    #[error("node {node} rejected the association: {reason}")]
    Rejected {
        /// The node.
        node: String,
        /// In the words of PS3.8 Table 9-21.
        reason: String,
    },
    /// The node broke the association off.
    #[error("node {node} broke the association off while {doing}")]
    Aborted {
        /// The node.
        node: String,
        /// What was going on.
        doing: &'static str,
    },
    /// The node was silent for too long.
    #[error("node {node} was silent for {seconds} seconds while {doing}")]
    Silent {
        /// The node.
        node: String,
        /// What was going on.
        doing: &'static str,
        /// `pacs.idle_timeout_seconds`.
        seconds: u64,
    },
    /// The node does not follow the protocol.
    #[error("node {node} sent {what}")]
    Protocol {
        /// The node.
        node: String,
        /// What it should not have sent.
        what: String,
    },
    /// The node takes none of the presentation contexts that are needed.
    #[error("node {node} accepts no presentation context for {what}")]
    NoContext {
        /// The node.
        node: String,
        /// What needs one.
        what: String,
    },
    /// A DIMSE operation ended with a failure status (PS3.7 Annex C).
    #[error("node {node} answered {operation} with status {status:04X}H")]
    Status {
        /// The node.
        node: String,
        /// For example `C-STORE`.
        operation: &'static str,
        /// The status.
        status: u16,
    },
    /// No answer over HTTP.
    #[error("cannot ask node {node}")]
    Http {
        /// The node.
        node: String,
        /// Why not; without the URL, which may hold UIDs and secrets.
        #[source]
        source: reqwest::Error,
    },
    /// An HTTP request ended with a failure status.
    #[error("node {node} answered {operation} with HTTP status {status}")]
    HttpStatus {
        /// The node.
        node: String,
        /// For example `STOW-RS`.
        operation: &'static str,
        /// The status.
        status: u16,
    },
    /// The node keeps no such study or series.
    #[error("node {node} has no {what} of study {study}")]
    NotThere {
        /// The node.
        node: String,
        /// What was looked for.
        what: String,
        /// The study.
        study: String,
    },
    /// No node keeps the study.
    #[error("study {study} is not stored here, and none of {node_count} nodes has it")]
    Nowhere {
        /// The study.
        study: String,
        /// How many were asked.
        node_count: usize,
    },
    /// Less came than the node has.
    #[error("node {node} has {expected} instances of a series, {found} came")]
    Incomplete {
        /// The node.
        node: String,
        /// How many it has.
        expected: u64,
        /// How many came.
        found: u64,
    },
    /// C-MOVE needs a port of ours.
    #[error("node {node} is retrieved from by C-MOVE, but pacs.bind is not set")]
    NotListening {
        /// The node.
        node: String,
    },
    /// The certificates in the configuration cannot be used.
    #[error("pacs.ca_certificates {path} cannot be used: {why}")]
    Certificates {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Our own port cannot be opened.
    #[error("cannot listen for associations on {bind}")]
    Listen {
        /// `pacs.bind`.
        bind: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of ours cannot be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// DICOM that cannot be read.
    #[error("DICOM of node {node} cannot be read")]
    Dicom {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        source: DicomError,
    },
    /// An instance cannot be converted for a node.
    #[error("an instance cannot be written in a transfer syntax that node {node} takes")]
    Transcode {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        source: TranscodeError,
    },
    /// Work of ours failed.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// Asked to stop, or out of time.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl PacsError {
    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Aborted { .. }
            | Self::Silent { .. }
            | Self::Http { .. }
            | Self::Incomplete { .. }
            | Self::Io { .. }
            | Self::Lane(_)
            // A node that does not know us yet, or is being set up, is set right by people.
            | Self::Rejected { .. } => true,
            Self::Archive(error) => {
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded)
            }
            // PS3.4 §B.2.3 and §C.4: A7xx is out of resources, Cxxx and 0110 unable to process.
            Self::Status { status, .. } => {
                matches!(status, 0xA700..=0xA7FF | 0xC000..=0xCFFF | 0x0110 | 0x0124 | 0xA801)
            }
            // An archive that refuses our key, is too busy or failed may be mended.
            Self::HttpStatus { status, .. } => {
                matches!(status, 401 | 403 | 408 | 425 | 429 | 500..=599)
            }
            Self::UnknownNode { .. }
            | Self::Protocol { .. }
            | Self::NoContext { .. }
            | Self::NotThere { .. }
            | Self::Nowhere { .. }
            | Self::NotListening { .. }
            | Self::Certificates { .. }
            | Self::Listen { .. }
            | Self::Dicom { .. }
            | Self::Transcode { .. }
            | Self::Stopped(_) => false,
        }
    }
}

impl Kind for PacsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownNode { .. } | Self::NotThere { .. } | Self::Nowhere { .. } => {
                ErrorKind::NotFound
            }
            Self::Connect { .. }
            | Self::Rejected { .. }
            | Self::Aborted { .. }
            | Self::Silent { .. }
            | Self::Protocol { .. }
            | Self::NoContext { .. }
            | Self::Status { .. }
            | Self::Http { .. }
            | Self::HttpStatus { .. }
            | Self::Incomplete { .. }
            | Self::NotListening { .. }
            | Self::Listen { .. }
            | Self::Io { .. } => ErrorKind::Unavailable,
            Self::Certificates { .. } => ErrorKind::Invalid,
            Self::Archive(error) => error.kind(),
            Self::Dicom { source, .. } => source.kind(),
            Self::Transcode { .. } => ErrorKind::Unsupported,
            Self::Lane(error) => error.kind(),
            Self::Stopped(_) => ErrorKind::Cancelled,
        }
    }
}
