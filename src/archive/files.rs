//! The files of the archive: where they lie and how they become durable.
//!
//! `instances/<study>/<series>/<instance>.dcm` holds what was acknowledged; `incoming/` what is
//! on its way, emptied at start; `unreadable/` what start found and could not read.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::dicom::{Identity, SeriesUid, SopInstanceUid, StudyUid};

const PREAMBLE_LENGTH: usize = 128;

/// The folders of one archive.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folders and empties `incoming/`.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let files = Self { root: root.to_owned() };
        fs::create_dir_all(files.instances())?;
        let incoming = files.incoming();
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir(&incoming)?;
        sync_folder(root)?;
        Ok(files)
    }

    fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Where an instance lies. Safe because UIDs hold only digits and dots and no component of
    /// theirs is empty, so none is `.` or `..`.
    pub(super) fn path(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &SopInstanceUid,
    ) -> PathBuf {
        let folder = self.instances().join(study.as_str()).join(series.as_str());
        folder.join(format!("{instance}.dcm"))
    }

    /// A new empty file on the archive's own disk, deleted when dropped.
    pub(super) fn spool(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.incoming())
    }

    /// Moves a spooled file to its place; it survives a loss of power once this returns.
    pub(super) fn keep(&self, mut spooled: NamedTempFile, identity: &Identity) -> io::Result<()> {
        let file = spooled.as_file_mut();
        file.seek(SeekFrom::Start(0))?;
        // Anything may hide in the preamble (CVE-2019-11687), and nothing needs it (PS3.10 §7.1).
        file.write_all(&[0; PREAMBLE_LENGTH])?;
        file.sync_all()?;
        let path = self.path(&identity.study, &identity.series, &identity.sop_instance);
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        spooled.persist(&path).map_err(|error| error.error)?;
        sync_folder(folder)
    }

    /// Makes a series' folder, durable in its parents.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let above = folder.ancestors().skip(1);
        above.take_while(|parent| parent.starts_with(self.instances())).try_for_each(sync_folder)
    }

    /// Every file below `instances/`, with the UIDs its path names.
    pub(super) fn walk(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for study in folders(&self.instances())? {
            for series in folders(&study)? {
                for entry in fs::read_dir(&series)? {
                    found.extend(Found::at(entry?.path()));
                }
            }
        }
        Ok(found)
    }

    /// Takes a file that cannot be read out of the way; it is kept for inspection.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<()> {
        let folder = self.root.join("unreadable");
        fs::create_dir_all(&folder)?;
        match path.file_name() {
            Some(name) => fs::rename(path, folder.join(name)),
            None => Ok(()),
        }
    }
}

/// A file below `instances/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) sop_instance_uid: String,
}

impl Found {
    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let sop_instance_uid = name.strip_suffix(".dcm")?.to_owned();
        Some(Self { path, sop_instance_uid })
    }
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Hashes a Part 10 file as the archive keeps it: with its preamble zeroed.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    hasher.update([0; PREAMBLE_LENGTH]);
    hasher.update(bytes.get(PREAMBLE_LENGTH..).unwrap_or_default());
    hasher.finalize().into()
}

/// Whether bytes begin with a preamble and the `DICM` prefix (PS3.10 §7.1).
pub(super) fn has_preamble(bytes: &[u8]) -> bool {
    bytes.get(PREAMBLE_LENGTH..PREAMBLE_LENGTH + 4) == Some(b"DICM")
}
