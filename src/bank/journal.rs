//! The append-only journal and the files of rounds: what the bank is rebuilt from.
//!
//! A change is on disk here before the database sees it. A line is a checksum, a space and one
//! JSON object; a stop in the middle of a line leaves an incomplete last line, which was never
//! acknowledged and is cut off at the next opening.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::change::Entry;
use super::{BankError, RoundHeader, Skill, SkillSet};

const CHECKSUM_LENGTH: usize = 16;

/// The journal of a bank, open for appending.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
}

/// The files of rounds, one skill a line.
#[derive(Debug, Clone)]
pub(super) struct RoundFiles(PathBuf);

impl Journal {
    /// Opens the journal of a folder and cuts off what was never acknowledged.
    pub fn open(folder: &Path) -> Result<Self, BankError> {
        let path = folder.join("journal.jsonl");
        let file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
        sync_folder(folder)?;
        let length = file.metadata()?.len();
        Ok(Self { file, path, length })
    }

    /// Where the next line begins.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Calls `each` with every entry from an offset on, and with the offset after it. The
    /// incomplete last line is cut off.
    ///
    /// # Errors
    /// A damaged line that is not the last; what `each` says.
    pub fn replay(
        &mut self,
        from: u64,
        mut each: impl FnMut(Entry, u64) -> Result<(), BankError>,
    ) -> Result<(), BankError> {
        if from > self.length {
            return Err(BankError::JournalShort { length: self.length, expected: from });
        }
        let mut reader = BufReader::new(File::open(&self.path)?);
        reader.seek(SeekFrom::Start(from))?;
        let mut at = from;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(());
            }
            match parse(&line) {
                Some(entry) => each(entry, at + read)?,
                None if at + read == self.length => {
                    return self.take_back(at);
                }
                None => return Err(BankError::JournalDamaged { offset: at }),
            }
            at += read;
        }
    }

    /// Appends an entry; returns after it is durable.
    ///
    /// # Errors
    /// When the disk refuses; the line is then not there.
    pub fn append(&mut self, entry: &Entry) -> Result<(), BankError> {
        let line = line_of(entry)?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would damage the next one.
            self.file.set_len(self.length)?;
            return Err(error.into());
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Takes back what was appended after an offset, because the database refused it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_back(&mut self, length: u64) -> Result<(), BankError> {
        self.file.set_len(length)?;
        self.file.sync_all()?;
        self.length = length;
        Ok(())
    }
}

impl RoundFiles {
    /// The files of a bank's folder.
    pub fn open(folder: &Path) -> Result<Self, BankError> {
        let rounds = folder.join("rounds");
        std::fs::create_dir_all(&rounds)?;
        Ok(Self(rounds))
    }

    /// Writes the file of a round whole, before the journal names it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, number: u64, skills: &SkillSet) -> Result<String, BankError> {
        let mut bytes = Vec::new();
        for skill in skills.iter() {
            serde_json::to_writer(&mut bytes, skill.as_ref())?;
            bytes.push(b'\n');
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(number)).map_err(|error| error.error)?;
        sync_folder(&self.0)?;
        Ok(hex::encode(Sha256::digest(&bytes)))
    }

    /// Reads the skills of a round back.
    ///
    /// # Errors
    /// When the file is missing or its hash is not the header's.
    pub fn read(&self, header: &RoundHeader) -> Result<Vec<Arc<Skill>>, BankError> {
        let number = header.number;
        let mut bytes = Vec::new();
        File::open(self.path(number))?.read_to_end(&mut bytes)?;
        if hex::encode(Sha256::digest(&bytes)) != header.sha256 {
            return Err(BankError::RoundDamaged { number });
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Ok(Arc::new(serde_json::from_slice(line)?))).collect()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("round-{number:06}.jsonl"))
    }
}

fn line_of(entry: &Entry) -> Result<Vec<u8>, BankError> {
    let json = serde_json::to_vec(entry)?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = (line.get(..CHECKSUM_LENGTH)?, line.get(CHECKSUM_LENGTH + 1..)?);
    (checksum(json).as_bytes() == sum).then(|| serde_json::from_slice(json).ok())?
}

fn checksum(json: &[u8]) -> String {
    hex::encode(&Sha256::digest(json)[..CHECKSUM_LENGTH / 2])
}

/// Makes names in a folder durable.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::change::Change;
    use time::OffsetDateTime;

    fn entry(sequence: u64) -> Entry {
        let at = OffsetDateTime::UNIX_EPOCH;
        Entry { sequence, at, actor: "test".into(), change: Change::Activate { round: sequence } }
    }

    fn read(journal: &mut Journal) -> Result<Vec<u64>, BankError> {
        let mut found = Vec::new();
        journal.replay(0, |entry, _| {
            found.push(entry.sequence);
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_line_cut_anywhere_is_as_if_it_was_never_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("a journal");
        journal.append(&entry(1)).expect("appended");
        let whole = journal.length();
        journal.append(&entry(2)).expect("appended");
        let bytes = std::fs::read(folder.path().join("journal.jsonl")).expect("a file");
        for cut in (whole as usize + 1..bytes.len()).step_by(7) {
            std::fs::write(folder.path().join("journal.jsonl"), &bytes[..cut]).expect("cut");
            let mut journal = Journal::open(folder.path()).expect("a journal");
            assert_eq!(read(&mut journal).expect("readable"), [1], "cut at {cut}");
            journal.append(&entry(3)).expect("appended");
            assert_eq!(read(&mut journal).expect("readable"), [1, 3]);
        }
    }

    #[test]
    fn damage_before_the_end_is_named_by_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("a journal");
        journal.append(&entry(1)).expect("appended");
        journal.append(&entry(2)).expect("appended");
        let path = folder.path().join("journal.jsonl");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[30] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let mut journal = Journal::open(folder.path()).expect("a journal");
        assert!(matches!(read(&mut journal), Err(BankError::JournalDamaged { offset: 0 })));
    }
}
