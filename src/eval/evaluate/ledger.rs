//! Rows on disk: appended case by case, kept over a restart.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Scored, Settings};
use crate::eval::{Configuration, EvalError, Request};

/// The first line of the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    settings_sha256: String,
}

/// The rows of one output folder.
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    rows: BTreeMap<String, Scored>,
}

/// The hash of settings, lower-case hex.
pub(in crate::eval) fn settings_sha256(settings: &Settings) -> String {
    let text = serde_json::to_string(settings).expect("settings are plain text");
    hex::encode(Sha256::digest(text))
}

/// Names a request in a configuration; another wording, label or file gives another key.
pub(super) fn key(request: &Request, configuration: Configuration, fingerprint: &str) -> String {
    let text = serde_json::to_string(&(request, configuration, fingerprint))
        .expect("requests are plain text");
    hex::encode(&Sha256::digest(text)[..16])
}

impl Ledger {
    /// Opens the file and takes the rows it holds; a file of other settings is begun anew.
    ///
    /// A last line that was cut off by a crash is dropped.
    pub(super) fn open(path: &Path, settings: &Settings) -> Result<Self, EvalError> {
        let head = Head { settings_sha256: settings_sha256(settings) };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let same = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
        let mut rows = BTreeMap::new();
        if same.as_ref() == Some(&head) {
            let kept = lines.filter_map(|line| serde_json::from_str::<Scored>(line).ok());
            rows.extend(kept.map(|row| (row.key.clone(), row)));
        }
        let part = path.with_extension("part");
        let mut whole = json_line(&head);
        for row in rows.values() {
            whole += &json_line(row);
        }
        std::fs::write(&part, whole).map_err(EvalError::io(&part))?;
        std::fs::rename(&part, path).map_err(EvalError::io(path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(EvalError::io(path))?;
        Ok(Self { path: path.to_owned(), file, rows })
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.rows.contains_key(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Scored> {
        self.rows.get(key)
    }

    pub(super) fn append(&mut self, rows: Vec<Scored>) -> Result<(), EvalError> {
        let text: String = rows.iter().map(json_line).collect();
        self.file.write_all(text.as_bytes()).map_err(EvalError::io(&self.path))?;
        self.file.sync_data().map_err(EvalError::io(&self.path))?;
        self.rows.extend(rows.into_iter().map(|row| (row.key.clone(), row)));
        Ok(())
    }
}

fn json_line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("rows are plain numbers and text") + "\n"
}
