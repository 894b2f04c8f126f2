//! One line of `requests.jsonl`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::answer::RefusalReason;
use crate::eval::EvalError;

/// The styles in which requests are worded.
pub const STYLES: [&str; 8] = [
    "formal_task",
    "clinical_request",
    "report_style",
    "verbose_request",
    "messy_or_misspelled",
    "ambiguous_abbreviation",
    "abbr_or_short",
    "out_of_region_reference",
];

/// How a request is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In a radiologist's own words.
    Free,
    /// The canonical name of the target and nothing else.
    Label,
}

/// What a right answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// It segments the target.
    Segment,
    /// It refuses.
    Reject,
}

/// Which part of the suite a request belongs to; parts share no patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// SEER-Loop learns from it.
    Practice,
    /// Gates and reports use it.
    Heldout,
}

/// One request about one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The case's folder.
    pub case: String,
    /// Requests of one group mean the same: Ω(q).
    pub group: String,
    /// How it is worded.
    pub mode: Mode,
    /// One of [`STYLES`], or a word of the suite's own.
    pub style: String,
    /// The words.
    pub text: String,
    /// Canonical name of what is meant; several are parted by `;`. For a rejection, what the words
    /// ask for, or nothing.
    #[serde(default)]
    pub target: String,
    /// Labels or segment numbers whose union is the reference.
    #[serde(default)]
    pub labels: Vec<u32>,
    /// The part it belongs to.
    #[serde(default)]
    pub split: Option<Split>,
    /// What a right answer does.
    pub expect: Expect,
    /// For a rejection, the right reason where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RefusalReason>,
}

impl Request {
    /// The names in `target`.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.target.split(';').map(str::trim).filter(|name| !name.is_empty())
    }

    fn fault(&self) -> Option<String> {
        if self.text.trim().is_empty() {
            return Some("the text is empty".to_owned());
        }
        match self.expect {
            Expect::Segment if self.labels.is_empty() => {
                Some("a request to segment has no labels".to_owned())
            }
            Expect::Segment if self.targets().next().is_none() => {
                Some("a request to segment has no target".to_owned())
            }
            Expect::Segment if self.reason.is_some() => {
                Some("a request to segment has a reason to reject".to_owned())
            }
            Expect::Segment | Expect::Reject => None,
        }
    }
}

/// Reads requests, one JSON object a line; empty lines do not count.
///
/// # Errors
/// Names the line (from 1) that is not a request.
pub(super) fn read(path: &Path) -> Result<Vec<Request>, EvalError> {
    let text = std::fs::read_to_string(path).map_err(EvalError::io(path))?;
    let mut requests = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = |reason: String| EvalError::Malformed {
            path: path.to_owned(),
            reason: format!("line {}: {reason}", index + 1),
        };
        let request: Request =
            serde_json::from_str(line).map_err(|error| malformed(error.to_string()))?;
        if let Some(fault) = request.fault() {
            return Err(malformed(fault));
        }
        requests.push(request);
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_the_design_and_refuses_what_cannot_be_scored() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests.jsonl");
        let check = |line: &str, fault: Option<&str>| {
            std::fs::write(&path, format!("\n{line}\n")).expect("written");
            match (read(&path), fault) {
                (Ok(requests), None) => assert_eq!(requests.len(), 1),
                (Err(error), Some(fault)) => {
                    assert!(error.to_string().contains(fault), "{error}");
                    assert!(error.to_string().contains("line 2"), "{error}");
                }
                (found, _) => panic!("{line}: {found:?}"),
            }
        };
        check(
            r#"{"case": "c1", "group": "c1/left hippocampus", "mode": "free", "style": "messy_or_misspelled", "text": "lt hipocampus volumetry pls", "target": "left hippocampus", "labels": [17], "split": null, "expect": "segment"}"#,
            None,
        );
        check(
            r#"{"case":"c1","group":"g","mode":"free","style":"out_of_region_reference","text":"prostate","expect":"reject","reason":"out_of_region"}"#,
            None,
        );
        check(
            r#"{"case":"c1","group":"g","mode":"label","style":"x","text":"liver","target":"liver","expect":"segment"}"#,
            Some("no labels"),
        );
        check(
            r#"{"case":"c1","group":"g","mode":"label","style":"x","text":" ","expect":"reject"}"#,
            Some("text is empty"),
        );
        check(r#"{"case":"c1"}"#, Some("missing field"));
    }
}
