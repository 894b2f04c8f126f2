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

mod attributes;
mod files;
mod index;
mod read;
mod search;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

pub use attributes::{Attribute, Level, json_key};
pub use read::{InstanceRecord, Scope, SeriesRecord};
pub use search::{Condition, Query};

use crate::dicom::{DicomError, DicomLimits, Identity, Instance, StudyUid};
use crate::error::{ErrorKind, Finding, Kind};
use files::Files;
use index::{Entry, Index};

/// The archive. Cheap to clone; methods block.
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    files: Files,
    index: Index,
    limits: DicomLimits,
    /// Held for as long as the archive is open, so that no second server uses the folder.
    _lock: File,
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
}

impl Archive {
    /// Opens the archive in a folder, made when missing, and brings index and files into
    /// agreement: files without a row are indexed, rows without a file are dropped, and files
    /// that cannot be read are set aside.
    ///
    /// # Errors
    /// [`ArchiveError::InUse`] when another process has it open; input and output errors.
    pub fn open(root: &Path, limits: DicomLimits) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(root).map_err(io_error("make the archive folder"))?;
        let lock = lock(root)?;
        let files = Files::open(root).map_err(io_error("make the archive folders"))?;
        let index = Index::open(&root.join("index.sqlite"))?;
        let archive = Self(Arc::new(Inner { files, index, limits, _lock: lock }));
        archive.reconcile()?;
        Ok(archive)
    }

    /// A new file on the archive's own disk to receive an upload; deleted unless stored.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn spool(&self) -> Result<NamedTempFile, ArchiveError> {
        self.0.files.spool().map_err(io_error("make a file for an upload"))
    }

    /// Stores a Part 10 file from memory; returns after it is durable.
    ///
    /// # Errors
    /// As [`Archive::store_spooled`].
    pub fn store(&self, bytes: &[u8]) -> Result<Stored, ArchiveError> {
        let mut spooled = self.spool()?;
        spooled.write_all(bytes).map_err(io_error("write an instance"))?;
        self.admit(bytes, spooled, None)
    }

    /// Stores a copy of a Part 10 file; returns after it is durable.
    ///
    /// # Errors
    /// As [`Archive::store_spooled`].
    pub fn store_file(&self, path: &Path) -> Result<Stored, ArchiveError> {
        let mut file = File::open(path).map_err(io_error("open a file to store"))?;
        let bytes = self.read_within_limits(&mut file)?;
        self.store(&bytes)
    }

    /// Stores an upload that was spooled; returns after it is durable.
    ///
    /// The same bytes again are acknowledged again. The preamble is zeroed. With `only_study`, an
    /// instance of any other study is refused.
    ///
    /// # Errors
    /// [`ArchiveError::Dicom`] when the guard or the parser refuses it,
    /// [`ArchiveError::Conflict`] when its SOP Instance UID is known with other content,
    /// [`ArchiveError::OtherStudy`], [`ArchiveError::TooLarge`] past the limit; input and output
    /// errors.
    pub fn store_spooled(
        &self,
        mut spooled: NamedTempFile,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        let file = spooled.as_file_mut();
        io::Seek::rewind(file).map_err(io_error("read an upload"))?;
        let bytes = self.read_within_limits(file)?;
        self.admit(&bytes, spooled, only_study)
    }

    fn read_within_limits(&self, file: &mut File) -> Result<Vec<u8>, ArchiveError> {
        let found = file.metadata().map_err(io_error("read an instance"))?.len();
        let max = self.0.limits.instance_size_bytes_max;
        if found > max {
            return Err(ArchiveError::TooLarge { found, max });
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(file, &mut bytes).map_err(io_error("read an instance"))?;
        Ok(bytes)
    }

    fn admit(
        &self,
        bytes: &[u8],
        spooled: NamedTempFile,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        let (instance, mut findings) = Instance::parse(bytes, &self.0.limits)?;
        if !files::has_preamble(bytes) {
            let mut stored = self.admit_rewritten(&instance, only_study)?;
            findings.append(&mut stored.findings);
            return Ok(Stored { findings, ..stored });
        }
        let identity = instance.identity().clone();
        if only_study.is_some_and(|study| *study != identity.study) {
            return Err(ArchiveError::OtherStudy(Box::new(identity)));
        }
        let sha256 = files::digest(bytes);
        let mut writer = self.0.index.writer();
        let outcome = match index::digest_of(&writer, identity.sop_instance.as_str())? {
            Some(known) if known == sha256 => Outcome::AlreadyStored,
            Some(_) => return Err(ArchiveError::Conflict(Box::new(identity))),
            None => {
                self.0.files.keep(spooled, &identity).map_err(io_error("keep an instance"))?;
                let size_bytes = bytes.len() as u64;
                index::insert(&mut writer, &Entry { instance: &instance, sha256, size_bytes })?;
                Outcome::New
            }
        };
        Ok(Stored { identity, findings, outcome })
    }

    /// Stores an instance that came without preamble or meta information as a whole Part 10 file,
    /// so that every file of the archive is one.
    fn admit_rewritten(
        &self,
        instance: &Instance,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        let mut bytes = Vec::new();
        let written = instance.object().write_all(&mut bytes);
        if written.is_err() || !files::has_preamble(&bytes) {
            return Err(ArchiveError::NoPreamble);
        }
        let mut spooled = self.spool()?;
        spooled.write_all(&bytes).map_err(io_error("write an instance"))?;
        self.admit(&bytes, spooled, only_study)
    }

    /// Brings index and files into agreement; the files win.
    fn reconcile(&self) -> Result<(), ArchiveError> {
        let mut writer = self.0.index.writer();
        let mut rows: std::collections::HashSet<String> =
            index::all_uids(&writer)?.into_iter().collect();
        let (mut added, mut unreadable) = (0_u64, 0_u64);
        for found in self.0.files.walk().map_err(io_error("list the archive"))? {
            if rows.remove(&found.sop_instance_uid) {
                continue;
            }
            match self.index_file(&mut writer, &found.path) {
                Ok(()) => added += 1,
                Err(ArchiveError::Index(source)) => return Err(ArchiveError::Index(source)),
                Err(_) => {
                    self.0.files.set_aside(&found.path).map_err(io_error("set a file aside"))?;
                    unreadable += 1;
                }
            }
        }
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

    fn index_file(
        &self,
        writer: &mut rusqlite::Connection,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let mut file = File::open(path).map_err(io_error("read an instance"))?;
        let bytes = self.read_within_limits(&mut file)?;
        let (instance, _) = Instance::parse(&bytes, &self.0.limits)?;
        let identity = instance.identity();
        let place = self.0.files.path(&identity.study, &identity.series, &identity.sop_instance);
        if place != path {
            return Err(ArchiveError::Conflict(Box::new(identity.clone())));
        }
        let sha256 = files::digest(&bytes);
        let entry = Entry { instance: &instance, sha256, size_bytes: bytes.len() as u64 };
        Ok(index::insert(writer, &entry)?)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Archive")
    }
}

fn lock(root: &Path) -> Result<File, ArchiveError> {
    let file = File::create(root.join("lock")).map_err(io_error("make the archive's lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(ArchiveError::InUse { path: root.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(io_error("lock the archive")(source)),
    }
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
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::InUse { .. } | Self::Io { .. } | Self::Index(_) => ErrorKind::Unavailable,
        }
    }
}
