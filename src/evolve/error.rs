//! Why a round cannot be run.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::archive::ArchiveError;
use crate::bank::BankError;
use crate::error::{ErrorKind, Kind};
use crate::eval::EvalError;
use crate::threads::Stopped;

/// Why a round cannot be run. Texts of orders are never quoted.
#[derive(Debug, thiserror::Error)]
pub enum EvolveError {
    /// Suite, models or masks.
    #[error("a round cannot run its requests")]
    Eval(#[from] EvalError),
    /// The archive.
    #[error("labelled orders cannot be taken out of the archive")]
    Archive(#[from] ArchiveError),
    /// The bank.
    #[error("the bank cannot do what the round asks")]
    Bank(#[from] BankError),
    /// Cancelled.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A number that makes no round.
    #[error("{name} is {found} but must be {wanted}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What was given.
        found: f64,
        /// What is taken.
        wanted: &'static str,
    },
    /// There are no requests.
    #[error("there is no labelled request to learn from")]
    NothingToLearnFrom,
    /// One side of the split would be empty.
    #[error("{found} patients cannot be parted into practice and held-out")]
    TooFewPatients {
        /// How many there are.
        found: usize,
    },
    /// A split that requests give must not cut through a patient.
    #[error("the patient of case {case} is both in practice and held out")]
    PatientOnBothSides {
        /// One case of the patient.
        case: String,
    },
    /// Only some requests say their side.
    #[error("{given} of {of} requests say which part they belong to")]
    SplitIncomplete {
        /// How many do.
        given: usize,
        /// Of how many.
        of: usize,
    },
    /// A round that goes on finds other requests than it began with.
    #[error("the requests are not those that the round began with")]
    OtherMaterial,
    /// The ledger holds something else.
    #[error("{} is malformed", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file or folder cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No such round.
    #[error("evolution round {0} does not exist")]
    Unknown(Uuid),
    /// The round is not where it would have to be.
    #[error("evolution round {id} is {found} and cannot be {wanted}")]
    NotNow {
        /// The round.
        id: Uuid,
        /// Its state.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The gate was measured against a bank that is not active any more.
    #[error("round {measured} was active when the gate was measured, but {active} is active now")]
    BankMoved {
        /// The base of the gate.
        measured: u64,
        /// The active round.
        active: u64,
    },
    /// Too many rounds wait.
    #[error("{waiting} evolution rounds wait already")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// A suite that is not in the configured folder.
    #[error("there is no suite of that name of {length} characters in the folder of suites")]
    UnknownSuite {
        /// Characters of the name.
        length: usize,
    },
    /// No folder of suites is configured.
    #[error("evolution.suites names no folder, so rounds over HTTP have no suites")]
    NoSuites,
    /// There are no models to run requests with.
    #[error("no models are loaded to run a round with")]
    NoModels,
    /// The round panicked.
    #[error("the round panicked")]
    Panicked,
}

impl EvolveError {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Whether the round was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }
}

impl Kind for EvolveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Eval(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Bank(error) => error.kind(),
            Self::Stopped(_) => ErrorKind::Cancelled,
            Self::Setting { .. }
            | Self::NothingToLearnFrom
            | Self::TooFewPatients { .. }
            | Self::PatientOnBothSides { .. }
            | Self::SplitIncomplete { .. } => ErrorKind::Invalid,
            Self::OtherMaterial | Self::NotNow { .. } | Self::BankMoved { .. } => {
                ErrorKind::Conflict
            }
            Self::Unknown(_) | Self::UnknownSuite { .. } => ErrorKind::NotFound,
            Self::QueueFull { .. } => ErrorKind::Overloaded,
            Self::NoSuites => ErrorKind::Unsupported,
            Self::NoModels => ErrorKind::Unavailable,
            Self::Ledger { .. } | Self::Io { .. } | Self::Panicked => ErrorKind::Internal,
        }
    }
}
