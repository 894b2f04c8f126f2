//! The files of the archive: where they lie and how they become durable.
//!
//! `instances/<study>/<series>/<instance>.dcm` holds what was acknowledged; `incoming/` what is
//! on its way, emptied at start; `unreadable/` what start found and could not read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Scope;
use crate::dicom::{Identity, SeriesUid, SopInstanceUid, StudyUid};

const PREAMBLE_LENGTH: usize = 128;

/// The folders of one archive.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folders and empties `incoming/` and `deleted/`.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let files = Self { root: root.to_owned() };
        fs::create_dir_all(files.instances())?;
        fs::create_dir_all(files.cache())?;
        for passing in [files.incoming(), files.deleted()] {
            if passing.exists() {
                fs::remove_dir_all(&passing)?;
            }
            fs::create_dir(&passing)?;
        }
        sync_folder(root)?;
        Ok(files)
    }

    fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn deleted(&self) -> PathBuf {
        self.root.join("deleted")
    }

    /// Where texts made from the archive are kept; what is in it can be made again.
    pub(super) fn cache(&self) -> PathBuf {
        self.root.join("cache")
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

    /// Zeroes the preamble of a spooled file and makes its bytes durable.
    pub(super) fn finish(&self, spooled: &mut NamedTempFile) -> io::Result<()> {
        let file = spooled.as_file_mut();
        file.seek(SeekFrom::Start(0))?;
        // Anything may hide in the preamble (CVE-2019-11687), and nothing needs it (PS3.10 §7.1).
        file.write_all(&[0; PREAMBLE_LENGTH])?;
        file.sync_data()
    }

    /// Moves a finished file to its place. Its name is durable once `unsynced`, to which the folders
    /// are added that got a new name, are synced.
    pub(super) fn place(
        &self,
        spooled: NamedTempFile,
        identity: &Identity,
        unsynced: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        let path = self.path(&identity.study, &identity.series, &identity.sop_instance);
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            let above = folder.ancestors().skip(1);
            let above = above.take_while(|parent| parent.starts_with(self.instances()));
            unsynced.extend(above.map(Path::to_owned));
        }
        spooled.persist(&path).map_err(|error| error.error)?;
        unsynced.insert(folder.to_owned());
        Ok(())
    }

    /// Takes a study's, a series' or an instance's files out of the archive in one step, which
    /// is durable once this returns. What is left of empty folders above goes too.
    pub(super) fn take_out(&self, scope: &Scope) -> io::Result<Taken> {
        let study = self.instances().join(scope.study.as_str());
        let path = match (&scope.series, &scope.instance) {
            (Some(series), Some(instance)) => self.path(&scope.study, series, instance),
            (Some(series), None) => study.join(series.as_str()),
            (None, _) => study,
        };
        let aside = tempfile::Builder::new().prefix("taken").tempdir_in(self.deleted())?.keep();
        fs::rename(&path, aside.join("it"))?;
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| folder.starts_with(self.instances())) {
            sync_folder(folder)?;
            // Refused where something else is in it, and for the root of all.
            if *folder == self.instances() || fs::remove_dir(folder).is_err() {
                break;
            }
            above = folder.parent();
        }
        Ok(Taken { from: path, aside })
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

/// Files that were taken out and are not gone yet.
#[derive(Debug)]
pub(super) struct Taken {
    from: PathBuf,
    aside: PathBuf,
}

impl Taken {
    /// Puts the files back.
    pub(super) fn undo(self) -> io::Result<()> {
        if let Some(folder) = self.from.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(self.aside.join("it"), self.from)
    }

    /// Frees the disk. What cannot be removed now goes at the next start.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(self.aside)
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

/// Makes the names in several folders durable, at the same time, so that the disk serves them
/// together.
pub(super) fn sync_folders(folders: &BTreeSet<PathBuf>) -> io::Result<()> {
    if let (Some(only), 1) = (folders.first(), folders.len()) {
        return sync_folder(only);
    }
    std::thread::scope(|scope| {
        let syncing: Vec<_> =
            folders.iter().map(|folder| scope.spawn(move || sync_folder(folder))).collect();
        syncing.into_iter().try_for_each(|syncing| {
            syncing.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))
        })
    })
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
