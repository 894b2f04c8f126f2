//! What a round has done so far, durably: a resumed round repeats nothing and ends the same.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EvolveError;

/// Results by key, appended to a file one line at a time and synced before they count.
///
/// A line that a crash tore is cut off when the file is opened again.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: Value,
}

impl Ledger {
    /// Opens the ledger at `path`, made when missing.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, EvolveError> {
        let at = EvolveError::io(path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(&at)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(&at)?;
        let mut entries = BTreeMap::new();
        let mut whole = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let parsed: Option<Line> =
                line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
            let Some(Line { key, value }) = parsed else { break };
            entries.insert(key, value);
            whole += line.len() as u64;
        }
        file.set_len(whole).map_err(&at)?;
        file.seek(SeekFrom::End(0)).map_err(&at)?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// Whether a result is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A result of that key.
    ///
    /// # Errors
    /// When it is of another form.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, EvolveError> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let malformed = |source| EvolveError::Ledger { path: self.path.clone(), source };
        serde_json::from_value(value.clone()).map(Some).map_err(malformed)
    }

    /// Keeps a result; it is on disk when this answers.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), EvolveError> {
        let malformed = |source| EvolveError::Ledger { path: self.path.clone(), source };
        let value = serde_json::to_value(value).map_err(malformed)?;
        let line = Line { key: key.to_owned(), value };
        let mut text = serde_json::to_vec(&line).map_err(malformed)?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .map_err(EvolveError::io(&self.path))?;
        self.entries.insert(line.key, line.value);
        Ok(())
    }

    /// The result of that key, made and kept when it is missing.
    ///
    /// # Errors
    /// As [`Ledger::put`], or what `make` says.
    pub fn get_or<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        make: impl FnOnce() -> Result<T, EvolveError>,
    ) -> Result<T, EvolveError> {
        if let Some(found) = self.get(key)? {
            return Ok(found);
        }
        let made = make()?;
        self.put(key, &made)?;
        // What comes back is what a resumed round would read.
        self.get(key)?.ok_or(EvolveError::NothingToLearnFrom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_torn_line_wherever_it_is_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path).expect("a ledger");
        ledger.put("a", &0.1_f64).expect("kept");
        ledger.put("b", &vec!["ü".to_owned()]).expect("kept");
        let whole = std::fs::read(&path).expect("a file");
        let first = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).expect("torn");
            let mut torn = Ledger::open(&path).expect("a ledger");
            assert_eq!(torn.get::<f64>("a").expect("a number").is_some(), length >= first);
            assert_eq!(torn.has("b"), length == whole.len());
            let again = torn.get_or("b", || Ok(vec!["ü".to_owned()])).expect("made");
            assert_eq!(again, ["ü"]);
            torn.get_or("a", || Ok(0.1)).expect("made");
            let reopened = Ledger::open(&path).expect("a ledger");
            assert_eq!(reopened.get::<f64>("a").expect("a number"), Some(0.1));
            assert!(reopened.has("b"), "cut at {length}");
        }
    }
}
