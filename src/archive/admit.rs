//! Taking instances in: checked, made durable, and committed together with those that wait.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use rusqlite::Connection;
use tempfile::NamedTempFile;

use super::index::{self, Entry, Received};
use super::{Archive, ArchiveError, Outcome, Stored, files, io_error};
use crate::dicom::{Identity, Instance, StudyUid};

/// Bytes of one upload, wherever they were put.
#[derive(Debug)]
pub enum Upload {
    /// Small enough to stay in memory.
    Memory(Vec<u8>),
    /// In a file of [`Archive::spool`].
    File(NamedTempFile),
}

/// An instance whose file is durable and whose place is not taken yet.
pub(super) struct Waiting {
    entry: Entry,
    file: NamedTempFile,
    reply: mpsc::Sender<Result<Outcome, ArchiveError>>,
}

impl Archive {
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
    /// As [`Archive::store_upload`].
    pub fn store(&self, bytes: &[u8]) -> Result<Stored, ArchiveError> {
        self.admit(bytes, None, None)
    }

    /// Stores a copy of a Part 10 file; returns after it is durable.
    ///
    /// # Errors
    /// As [`Archive::store_upload`].
    pub fn store_file(&self, path: &Path) -> Result<Stored, ArchiveError> {
        let mut file = File::open(path).map_err(io_error("open a file to store"))?;
        let bytes = self.read_within_limits(&mut file)?;
        self.store(&bytes)
    }

    /// Stores an upload that was spooled to a file.
    ///
    /// # Errors
    /// As [`Archive::store_upload`].
    pub fn store_spooled(
        &self,
        spooled: NamedTempFile,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        self.store_upload(Upload::File(spooled), only_study)
    }

    /// Stores an upload; returns after it is durable.
    ///
    /// The same bytes again are acknowledged again. The preamble is zeroed. With `only_study`, an
    /// instance of any other study is refused.
    ///
    /// # Errors
    /// [`ArchiveError::Dicom`] when the guard or the parser refuses it,
    /// [`ArchiveError::Conflict`] when its SOP Instance UID is known with other content and the
    /// settings do not let it replace that, [`ArchiveError::OtherStudy`], [`ArchiveError::TooLarge`]
    /// past the limit, [`ArchiveError::Full`] past the quota; input and output errors.
    pub fn store_upload(
        &self,
        upload: Upload,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        match upload {
            Upload::Memory(bytes) => self.admit(&bytes, None, only_study),
            Upload::File(mut spooled) => {
                let file = spooled.as_file_mut();
                file.rewind().map_err(io_error("read an upload"))?;
                let bytes = self.read_within_limits(file)?;
                self.admit(&bytes, Some(spooled), only_study)
            }
        }
    }

    pub(super) fn read_within_limits(&self, file: &mut File) -> Result<Vec<u8>, ArchiveError> {
        let found = file.metadata().map_err(io_error("read an instance"))?.len();
        self.check_size(found)?;
        let mut bytes = Vec::with_capacity(found as usize);
        file.read_to_end(&mut bytes).map_err(io_error("read an instance"))?;
        Ok(bytes)
    }

    fn check_size(&self, found: u64) -> Result<(), ArchiveError> {
        let max = self.0.settings.limits.instance_size_bytes_max;
        if found > max { Err(ArchiveError::TooLarge { found, max }) } else { Ok(()) }
    }

    fn admit(
        &self,
        bytes: &[u8],
        spooled: Option<NamedTempFile>,
        only_study: Option<&StudyUid>,
    ) -> Result<Stored, ArchiveError> {
        self.check_size(bytes.len() as u64)?;
        let (instance, mut findings) = Instance::parse(bytes, &self.0.settings.limits)?;
        if !files::has_preamble(bytes) {
            let whole = rewritten(&instance)?;
            let mut stored = self.admit(&whole, None, only_study)?;
            findings.append(&mut stored.findings);
            return Ok(Stored { findings, ..stored });
        }
        let identity = instance.identity().clone();
        if only_study.is_some_and(|study| *study != identity.study) {
            return Err(ArchiveError::OtherStudy(Box::new(identity)));
        }
        let sha256 = files::digest(bytes);
        let outcome = match self.known(&identity, sha256)? {
            Some(known) => known,
            None => {
                let received = Received {
                    size_bytes: bytes.len() as u64,
                    at_unix_seconds: self.0.settings.clock.now().unix_timestamp(),
                };
                self.check_room(received.size_bytes)?;
                let entry = Entry::new(&instance, sha256, received);
                let file = self.durable(bytes, spooled)?;
                self.commit(entry, file)?
            }
        };
        if outcome != Outcome::AlreadyStored {
            self.0.listeners.tell(&identity);
        }
        Ok(Stored { identity, findings, outcome })
    }

    /// Whether there is nothing to write, looked up before any work is done.
    fn known(
        &self,
        identity: &Identity,
        sha256: [u8; 32],
    ) -> Result<Option<Outcome>, ArchiveError> {
        let uid = identity.sop_instance.as_str();
        match self.0.index.read(|connection| index::digest_of(connection, uid))? {
            Some(known) if known == sha256 => Ok(Some(Outcome::AlreadyStored)),
            Some(_) if !self.0.settings.replace_instances => {
                Err(ArchiveError::Conflict(Box::new(identity.clone())))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn check_room(&self, size: u64) -> Result<(), ArchiveError> {
        let Some(quota) = self.0.settings.quota_bytes else { return Ok(()) };
        let used = self.0.used_bytes.load(Ordering::Relaxed);
        if used.saturating_add(size) > quota {
            return Err(ArchiveError::Full { size, used, quota });
        }
        Ok(())
    }

    /// The upload as a file whose bytes survive a loss of power. Many threads may be here, and
    /// the disk serves their syncs together.
    fn durable(
        &self,
        bytes: &[u8],
        spooled: Option<NamedTempFile>,
    ) -> Result<NamedTempFile, ArchiveError> {
        let mut file = match spooled {
            Some(file) => file,
            None => {
                let mut file = self.spool()?;
                file.write_all(bytes).map_err(io_error("write an instance"))?;
                file
            }
        };
        self.0.files.finish(&mut file).map_err(io_error("write an instance"))?;
        Ok(file)
    }

    /// Gives the instance its place and its row. Whoever gets the writer commits all that wait,
    /// with one sync of each folder and one transaction; the others find theirs done.
    fn commit(&self, entry: Entry, file: NamedTempFile) -> Result<Outcome, ArchiveError> {
        let (reply, result) = mpsc::channel();
        let waiting = || self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().push(Waiting { entry, file, reply });
        let mut writer = self.0.index.writer();
        let batch = std::mem::take(&mut *waiting());
        if !batch.is_empty() {
            self.commit_all(&mut writer, batch);
        }
        drop(writer);
        let lost = |_| io_error("keep an instance")(io::Error::other("its commit broke off"));
        result.recv().map_err(lost)?
    }

    fn commit_all(&self, writer: &mut Connection, batch: Vec<Waiting>) {
        let mut done = Vec::with_capacity(batch.len());
        let mut placed = Placed::default();
        let outcome = self.place_all(writer, batch, &mut placed, &mut done);
        if let Err(error) = outcome {
            // Rows were rolled back, so the files must not come back at the next start as if they
            // had been acknowledged.
            placed.files.iter().for_each(|path| drop(std::fs::remove_file(path)));
            for (reply, result) in done {
                let failed = io::Error::other(error.to_string());
                let result = result.and_then(|_| Err(io_error("commit an instance")(failed)));
                let _ = reply.send(result);
            }
            return;
        }
        self.0.used_bytes.fetch_add(placed.size_bytes, Ordering::Relaxed);
        for (reply, result) in done {
            let _ = reply.send(result);
        }
    }

    fn place_all(
        &self,
        writer: &mut Connection,
        batch: Vec<Waiting>,
        placed: &mut Placed,
        done: &mut Vec<Done>,
    ) -> Result<(), ArchiveError> {
        self.forget_replaced(writer, &batch)?;
        let transaction = writer.transaction()?;
        for Waiting { entry, file, reply } in batch {
            let result = self.place_one(&transaction, &entry, file, placed);
            done.push((reply, result));
        }
        files::sync_folders(&placed.folders).map_err(io_error("keep an instance"))?;
        Ok(transaction.commit()?)
    }

    /// Drops the rows of instances that will be replaced, in a transaction of its own: should the
    /// process die before the end, the next start indexes whichever file is there.
    fn forget_replaced(
        &self,
        writer: &mut Connection,
        batch: &[Waiting],
    ) -> Result<(), ArchiveError> {
        if !self.0.settings.replace_instances {
            return Ok(());
        }
        for waiting in batch {
            let uid = waiting.entry.identity.sop_instance.as_str();
            let known = index::known(writer, uid)?;
            if let Some(known) = known.filter(|known| known.sha256 != waiting.entry.sha256) {
                index::forget(writer, &[uid.to_owned()])?;
                self.0.used_bytes.fetch_sub(known.size_bytes, Ordering::Relaxed);
                // It may lie in another series or study.
                if known.path_of(&self.0.files).as_deref() != Some(&*self.place_of(&waiting.entry))
                {
                    let _ = known.path_of(&self.0.files).map(std::fs::remove_file);
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, entry: &Entry) -> PathBuf {
        let Identity { study, series, sop_instance, .. } = &entry.identity;
        self.0.files.path(study, series, sop_instance)
    }

    fn place_one(
        &self,
        writer: &Connection,
        entry: &Entry,
        file: NamedTempFile,
        placed: &mut Placed,
    ) -> Result<Outcome, ArchiveError> {
        match index::digest_of(writer, entry.identity.sop_instance.as_str())? {
            Some(known) if known == entry.sha256 => return Ok(Outcome::AlreadyStored),
            Some(_) => return Err(ArchiveError::Conflict(Box::new(entry.identity.clone()))),
            None => {}
        }
        self.check_room(placed.size_bytes + entry.size_bytes)?;
        let path = self.place_of(entry);
        let outcome = if path.exists() { Outcome::Replaced } else { Outcome::New };
        let placing = self.0.files.place(file, &entry.identity, &mut placed.folders);
        placing.map_err(io_error("keep an instance"))?;
        placed.files.push(path);
        index::insert(writer, entry)?;
        placed.size_bytes += entry.size_bytes;
        Ok(outcome)
    }

    /// Counts the bytes of all instances anew.
    pub(super) fn count_used(&self) -> Result<(), ArchiveError> {
        let used = self.0.index.read(index::size_bytes)?;
        self.0.used_bytes.store(used, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of all stored instances.
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }
}

/// Who waits, and for what.
type Done = (mpsc::Sender<Result<Outcome, ArchiveError>>, Result<Outcome, ArchiveError>);

/// What one commit put into place.
#[derive(Default)]
struct Placed {
    folders: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    size_bytes: u64,
}

/// An instance that came without preamble or meta information as a whole Part 10 file, so that
/// every file of the archive is one.
fn rewritten(instance: &Instance) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    let written = instance.object().write_all(&mut bytes);
    match written.is_ok() && files::has_preamble(&bytes) {
        true => Ok(bytes),
        false => Err(ArchiveError::NoPreamble),
    }
}
