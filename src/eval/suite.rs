//! A suite: a folder of labelled cases and requests (`DESIGN.md` §3.11).
//!
//! ```text
//! suite.toml               name, source, licence, [labels]
//! requests.jsonl           one request a line
//! cases/<case>/            image.nii.gz or dicom/
//!                          labels.nii.gz, or a DICOM SEG (labels.dcm or any other *.dcm)
//!                          case.toml (optional): modality, patient, body_regions, split,
//!                          [labels], [targets]
//! ```

mod case;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EvalError;
use crate::dicom::DicomLimits;
use crate::runtime::vocabulary::normalise;

pub use case::{Case, CaseFacts};
pub use request::{Expect, Mode, Request, STYLES, Split};

/// What `suite.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteFacts {
    /// What it is called.
    pub name: String,
    /// Where the data come from, with the attribution that their licence asks for.
    pub source: String,
    /// Licence of the data.
    pub licence: String,
    /// Names of labels (or segment numbers) where every case has the same; a case may name its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A suite that was opened: its facts and requests; images are read case by case.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    folder: PathBuf,
    facts: SuiteFacts,
    requests: Vec<Request>,
    limits: DicomLimits,
}

/// Ω(q): all wordings of one request about one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    /// The name that its requests give.
    pub name: String,
    /// The case it asks about.
    pub case: String,
    /// Its wordings, in the order of the file.
    pub requests: Vec<&'a Request>,
}

impl Suite {
    /// Opens the suite in `folder` and checks that every request names a case that is there.
    ///
    /// # Errors
    /// Names the file and line that cannot be used.
    pub fn open(folder: &Path) -> Result<Self, EvalError> {
        Self::open_with(folder, DicomLimits::default())
    }

    /// Opens a suite that has no requests yet.
    ///
    /// # Errors
    /// As [`Suite::open`].
    pub fn open_cases(folder: &Path) -> Result<Self, EvalError> {
        let facts: SuiteFacts = read_toml(&folder.join("suite.toml"))?;
        let limits = DicomLimits::default();
        Ok(Self { folder: folder.to_owned(), facts, requests: Vec::new(), limits })
    }

    /// The same with limits for DICOM files.
    ///
    /// # Errors
    /// As [`Suite::open`].
    pub fn open_with(folder: &Path, limits: DicomLimits) -> Result<Self, EvalError> {
        let path = folder.join("suite.toml");
        let facts: SuiteFacts = read_toml(&path)?;
        let requests = request::read(&folder.join("requests.jsonl"))?;
        let suite = Self { folder: folder.to_owned(), facts, requests, limits };
        suite.check()?;
        Ok(suite)
    }

    /// Where the suite lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `suite.toml` says.
    pub fn facts(&self) -> &SuiteFacts {
        &self.facts
    }

    /// Every request, in the order of the file.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Keeps the requests that meet a condition; groups keep what is left of them.
    #[must_use]
    pub fn with_requests(mut self, keep: impl Fn(&Request) -> bool) -> Self {
        self.requests.retain(|request| keep(request));
        self
    }

    /// Names of the cases that requests ask about, sorted.
    pub fn case_names(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.requests.iter().map(|request| &request.case).collect();
        names.into_iter().cloned().collect()
    }

    /// Names of all case folders, sorted, whether requests ask about them or not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn case_folders(&self) -> Result<Vec<String>, EvalError> {
        let folder = self.folder.join("cases");
        let entries = std::fs::read_dir(&folder).map_err(EvalError::io(&folder))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Groups of requests, by case and then by first appearance.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for request in &self.requests {
            let place = *places.entry((&request.case, &request.group)).or_insert_with(|| {
                groups.push(Group {
                    name: request.group.clone(),
                    case: request.case.clone(),
                    requests: Vec::new(),
                });
                groups.len() - 1
            });
            groups[place].requests.push(request);
        }
        groups.sort_by(|a, b| a.case.cmp(&b.case));
        groups
    }

    /// Reads one case: its image, and where its labels are.
    ///
    /// # Errors
    /// When image or labels are missing, broken, or lie on different grids.
    pub fn case(&self, name: &str) -> Result<Case, EvalError> {
        let folder = self.case_folder(name)?;
        Case::read(name, &folder, &self.case_facts(name)?, &self.limits)
    }

    /// What is written about a case, with the suite's label names where it has none of its own.
    ///
    /// # Errors
    /// When there is no such case or its `case.toml` is malformed.
    pub fn case_facts(&self, name: &str) -> Result<CaseFacts, EvalError> {
        let path = self.case_folder(name)?.join("case.toml");
        let mut facts: CaseFacts =
            if path.is_file() { read_toml(&path)? } else { CaseFacts::default() };
        if facts.labels.is_empty() {
            facts.labels.clone_from(&self.facts.labels);
        }
        if let Some(key) = facts.labels.keys().find(|key| key.parse::<u32>().is_err()) {
            let reason = format!("label {key:?} is not a whole number");
            return Err(EvalError::Malformed { path, reason });
        }
        Ok(facts)
    }

    /// Labels of a case by the normalised name of what they show: from its requests, and from its
    /// label names.
    ///
    /// # Errors
    /// As [`Suite::case_facts`].
    pub fn labels_by_name(&self, case: &str) -> Result<BTreeMap<String, Vec<u32>>, EvalError> {
        let mut labels: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let facts = self.case_facts(case)?;
        for (value, name) in facts.labels {
            if let Ok(value) = value.parse() {
                labels.entry(normalise(&name)).or_default().push(value);
            }
        }
        for (name, values) in facts.targets {
            labels.insert(normalise(&name), values);
        }
        let asked = self.requests.iter().filter(|r| r.case == case && !r.labels.is_empty());
        for request in asked {
            labels.insert(normalise(&request.target), request.labels.clone());
        }
        Ok(labels)
    }

    /// Names and sizes of a case's files, so that a changed case is noticed.
    ///
    /// # Errors
    /// When there is no such case or its folder cannot be read.
    pub fn case_fingerprint(&self, name: &str) -> Result<String, EvalError> {
        let folder = self.case_folder(name)?;
        let mut files = Vec::new();
        for folder in [folder.clone(), folder.join("dicom")] {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if let Ok(facts) = entry.metadata()
                    && facts.is_file()
                {
                    files.push(format!("{} {}", entry.file_name().to_string_lossy(), facts.len()));
                }
            }
        }
        files.sort();
        Ok(files.join("\n"))
    }

    fn case_folder(&self, name: &str) -> Result<PathBuf, EvalError> {
        let folder = self.folder.join("cases").join(name);
        let plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "." && name != "..";
        if plain && folder.is_dir() {
            return Ok(folder);
        }
        Err(EvalError::NoSuchCase { case: name.to_owned() })
    }

    fn check(&self) -> Result<(), EvalError> {
        for name in self.case_names() {
            self.case_facts(&name)?;
        }
        Ok(())
    }
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, EvalError> {
    let text = std::fs::read_to_string(path).map_err(EvalError::io(path))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let reason = format!("line {line}: {}", error.message().replace('\n', " "));
        EvalError::Malformed { path: path.to_owned(), reason }
    })
}
