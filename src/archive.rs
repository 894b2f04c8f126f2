//! Instances into durable, searchable studies: files and an SQLite index.
//!
//! The files are the truth: an instance is acknowledged after its file survives a loss of power,
//! and the index can be rebuilt from them. Every UID was checked before it names a path.
//!
//! ```
//! use seer::archive::Archive;
//! use seer::dicom::{DicomLimits, StudyUid};
//!
//! let folder = tempfile::tempdir()?;
//! let archive = Archive::open(folder.path(), DicomLimits::default())?;
//! assert!(!archive.has_study(&StudyUid::parse("1.2.3")?)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admit;
mod attributes;
mod bulk;
mod delete;
mod files;
mod frames;
mod index;
mod listeners;
mod metadata;
mod metadata_cache;
mod names;
mod patients;
mod read;
mod search;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

pub use admit::Upload;
pub use attributes::{Attribute, Level, json_key, tag_named};
pub use bulk::{Bulk, BulkSource};
pub use delete::Deleted;
pub use frames::StoredFrames;
pub use listeners::Listener;
pub use metadata::metadata_json;
pub use read::{InstanceRecord, Scope, SeriesRecord};
pub use search::{Condition, Include, Query};

use crate::clock::Clock;
use crate::dicom::{DicomError, DicomLimits, Identity, Instance};
use crate::error::{ErrorKind, Finding, Kind};
use crate::folder_lock::FolderLock;
use files::Files;
use index::{Entry, Index, Received};

/// The archive. Cheap to clone; methods block.
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    files: Files,
    index: Index,
    settings: ArchiveSettings,
    listeners: listeners::Listeners,
    /// Bytes of all instances.
    used_bytes: AtomicU64,
    /// Instances that wait for the next commit.
    waiting: Mutex<Vec<admit::Waiting>>,
    /// Held for as long as the archive is open, so that no second server uses the folder.
    _lock: FolderLock,
}

/// What the archive takes in and keeps.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// Limits that instances must keep.
    pub limits: DicomLimits,
    /// Most bytes of all instances together.
    pub quota_bytes: Option<u64>,
    /// Let an instance replace a stored one that has its UID but other bytes.
    pub replace_instances: bool,
    /// Tells when an instance was received.
    pub clock: Clock,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            limits: DicomLimits::default(),
            quota_bytes: None,
            replace_instances: false,
            clock: Clock::system(),
        }
    }
}

/// An acknowledged instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Who it is.
    pub identity: Identity,
    /// What was tolerated in it.
    pub findings: Vec<Finding>,
    /// Whether it is new.
    pub outcome: Outcome,
}

/// Whether a stored instance is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not here before.
    New,
    /// The same bytes were here already.
    AlreadyStored,
    /// Other bytes under the same UID were here; they are gone.
    Replaced,
}

impl Archive {
    /// Opens the archive in a folder, made when missing, and brings index and files into
    /// agreement: files without a row are indexed, rows without a file are dropped, and files
    /// that cannot be read are set aside.
    ///
    /// # Errors
    /// [`ArchiveError::InUse`] when another process has it open; input and output errors.
    pub fn open(root: &Path, limits: DicomLimits) -> Result<Self, ArchiveError> {
        Self::open_with(root, ArchiveSettings { limits, ..ArchiveSettings::default() })
    }

    /// As [`Archive::open`], with more to say about what it takes in and keeps.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_with(root: &Path, settings: ArchiveSettings) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(root).map_err(io_error("make the archive folder"))?;
        let lock = lock(root)?;
        let files = Files::open(root).map_err(io_error("make the archive folders"))?;
        let index = Index::open(&root.join("index.sqlite"))?;
        let archive = Self(Arc::new(Inner {
            files,
            index,
            settings,
            listeners: listeners::Listeners::default(),
            used_bytes: AtomicU64::new(0),
            waiting: Mutex::default(),
            _lock: lock,
        }));
        archive.reconcile()?;
        archive.count_used()?;
        Ok(archive)
    }

    /// Brings index and files into agreement; the files win.
    fn reconcile(&self) -> Result<(), ArchiveError> {
        let mut writer = self.0.index.writer();
        let mut rows: std::collections::HashSet<String> =
            index::all_uids(&writer)?.into_iter().collect();
        let (mut added, mut unreadable) = (0_u64, 0_u64);
        let transaction = writer.transaction()?;
        for found in self.0.files.walk().map_err(io_error("list the archive"))? {
            if rows.remove(&found.sop_instance_uid) {
                continue;
            }
            match self.index_file(&transaction, &found.path) {
                Ok(()) => added += 1,
                Err(ArchiveError::Index(source)) => return Err(ArchiveError::Index(source)),
                Err(_) => {
                    self.0.files.set_aside(&found.path).map_err(io_error("set a file aside"))?;
                    unreadable += 1;
                }
            }
        }
        transaction.commit()?;
        let lost: Vec<String> = rows.into_iter().collect();
        if !lost.is_empty() {
            index::forget(&mut writer, &lost)?;
        }
        if added > 0 || unreadable > 0 || !lost.is_empty() {
            tracing::warn!(
                instance.added_count = added,
                instance.unreadable_count = unreadable,
                instance.lost_count = lost.len(),
                "Archive index differed from the files; the files won"
            );
        }
        Ok(())
    }

    fn index_file(&self, writer: &rusqlite::Connection, path: &Path) -> Result<(), ArchiveError> {
        let mut file = File::open(path).map_err(io_error("read an instance"))?;
        let changed = file.metadata().and_then(|metadata| metadata.modified());
        let changed = changed.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let bytes = self.read_within_limits(&mut file)?;
        let (instance, _) = Instance::parse(&bytes, &self.0.settings.limits)?;
        let identity = instance.identity();
        let place = self.0.files.path(&identity.study, &identity.series, &identity.sop_instance);
        if place != path {
            return Err(ArchiveError::Conflict(Box::new(identity.clone())));
        }
        let received = Received {
            size_bytes: bytes.len() as u64,
            at_unix_seconds: changed.map_or(0, |time| time.as_secs().cast_signed()),
        };
        let entry = Entry::new(&instance, files::digest(&bytes), received);
        Ok(index::insert(writer, &entry)?)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Archive")
    }
}

fn lock(root: &Path) -> Result<FolderLock, ArchiveError> {
    FolderLock::take(root)
        .map_err(io_error("lock the archive"))?
        .ok_or_else(|| ArchiveError::InUse { path: root.display().to_string() })
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { doing, source }
}

/// Why the archive cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are not DICOM that this server takes in.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// The data set came without the 128-byte preamble and cannot be written with one.
    #[error("instance has no preamble with DICM at byte 128 and cannot be given one")]
    NoPreamble,
    /// A file is too large.
    #[error("instance is {found} bytes, the limit is {max}")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The SOP Instance UID is known with other content.
    #[error("an instance with this SOP Instance UID but other content is already stored")]
    Conflict(Box<Identity>),
    /// There is no room for it.
    #[error("storage quota of {quota} bytes leaves no room for {size} bytes, {used} are used")]
    Full {
        /// Size of the instance in bytes.
        size: u64,
        /// Bytes used.
        used: u64,
        /// The quota in bytes.
        quota: u64,
    },
    /// It belongs to another study than the request names.
    #[error("Study Instance UID of the instance differs from the one in the request")]
    OtherStudy(Box<Identity>),
    /// There is no such study, series or instance.
    #[error("{what} {uid} is not stored here")]
    Unknown {
        /// `study`, `series` or `instance`.
        what: &'static str,
        /// The UID asked for.
        uid: String,
    },
    /// The instance has no bulk data at a path.
    #[error("the instance has no bulk data at a path of {length} characters")]
    UnknownBulk {
        /// Length of the path.
        length: usize,
    },
    /// Another process has the archive open.
    #[error("archive {path} is in use by another process")]
    InUse {
        /// Its folder.
        path: String,
    },
    /// The disk refused.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The index refused.
    #[error("archive index failed")]
    Index(#[from] rusqlite::Error),
}

impl Kind for ArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Dicom(error) => error.kind(),
            Self::NoPreamble | Self::OtherStudy(_) => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Unknown { .. } | Self::UnknownBulk { .. } => ErrorKind::NotFound,
            Self::Full { .. } => ErrorKind::Overloaded,
            Self::InUse { .. } | Self::Io { .. } | Self::Index(_) => ErrorKind::Unavailable,
        }
    }
}
