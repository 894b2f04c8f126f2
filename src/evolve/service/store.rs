//! The folders of rounds.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::RoundView;
use crate::evolve::report::Report;
use crate::evolve::{EvolveError, page};

pub(super) const ROUND: &str = "round.json";
pub(super) const LEDGER: &str = "ledger.jsonl";
pub(super) const REPORT: &str = "report.json";
pub(super) const PAGE: &str = "report.html";

pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, EvolveError> {
        fs::create_dir_all(path).map_err(EvolveError::io(path))?;
        Ok(Self { path: path.to_owned() })
    }

    pub(super) fn file(&self, id: Uuid, name: &str) -> PathBuf {
        self.path.join(id.to_string()).join(name)
    }

    /// Every round, oldest first. A folder that holds no readable round is left alone.
    pub(super) fn rounds(&self) -> Result<Vec<RoundView>, EvolveError> {
        let mut rounds = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(EvolveError::io(&self.path))?.flatten() {
            let text = fs::read_to_string(entry.path().join(ROUND));
            let round = text.ok().and_then(|text| serde_json::from_str::<RoundView>(&text).ok());
            rounds.extend(round);
        }
        rounds.sort_by_key(|round| round.id);
        Ok(rounds)
    }

    pub(super) fn keep(&self, round: &RoundView) -> Result<(), EvolveError> {
        let path = self.file(round.id, ROUND);
        let malformed = |source| EvolveError::Ledger { path: path.clone(), source };
        let text = serde_json::to_string_pretty(round).map_err(malformed)?;
        self.keep_text(round.id, ROUND, &text)
    }

    /// Writes a file whole or not at all.
    pub(super) fn keep_text(&self, id: Uuid, name: &str, text: &str) -> Result<(), EvolveError> {
        let path = self.file(id, name);
        let folder = self.path.join(id.to_string());
        fs::create_dir_all(&folder).map_err(EvolveError::io(&folder))?;
        let begun = path.with_extension("begun");
        let write = || {
            let mut file = fs::File::create(&begun)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&begun, &path)?;
            fs::File::open(&folder)?.sync_all()
        };
        write().map_err(EvolveError::io(&path))
    }

    pub(super) fn text(&self, id: Uuid, name: &str) -> Result<String, EvolveError> {
        let path = self.file(id, name);
        fs::read_to_string(&path).map_err(EvolveError::io(&path))
    }

    /// Keeps a report, and the page made of it.
    pub(super) fn keep_report(&self, report: &Report) -> Result<(), EvolveError> {
        let malformed = |source| EvolveError::Ledger { path: self.file(report.id, REPORT), source };
        let text = serde_json::to_string_pretty(report).map_err(malformed)?;
        self.keep_text(report.id, REPORT, &text)?;
        self.keep_text(report.id, PAGE, &page::html(report))
    }
}
