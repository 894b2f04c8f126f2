//! Searches over work items (PS3.18 §11.9, matching as in PS3.4 §C.2.2.2).

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use serde_json::Value;

use super::item::PROCEDURE_STEP_STATE;
use super::{Attributes, State};
use crate::archive::json_key;

/// Which work items to look for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkitemQuery {
    conditions: Vec<Condition>,
    /// At most this many.
    pub(super) limit: usize,
    /// Skip this many.
    pub(super) offset: usize,
}

/// One attribute that must match.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    /// Keys from the outermost sequence inwards.
    path: Vec<String>,
    value: String,
}

impl WorkitemQuery {
    /// Looks for any, `limit` at most after `offset`.
    pub fn page(limit: usize, offset: usize) -> Self {
        Self { conditions: Vec::new(), limit, offset }
    }

    /// Adds a condition: tags or keywords joined by dots, and a value with wildcards, a range or a
    /// list. Says whether the attribute is one.
    #[must_use]
    pub fn require(&mut self, attribute: &str, value: &str) -> bool {
        let path: Option<Vec<String>> = attribute.split('.').map(key_of).collect();
        let Some(path) = path else { return false };
        self.conditions.push(Condition { path, value: value.to_owned() });
        true
    }

    /// Reads the filter of a subscription: `attribute=value`, joined by commas.
    pub(super) fn of_filter(filter: &str) -> Option<Self> {
        let mut query = Self::page(usize::MAX, 0);
        for condition in filter.split(',') {
            let (attribute, value) = condition.split_once('=')?;
            if !query.require(attribute.trim(), value) {
                return None;
            }
        }
        Some(query)
    }

    /// The one state looked for, if it is one.
    pub(super) fn state(&self) -> Option<&'static str> {
        let state = self.conditions.iter().find(
            |condition| matches!(condition.path.as_slice(), [key] if key == PROCEDURE_STEP_STATE),
        )?;
        State::parse(&state.value).map(State::word)
    }

    /// Whether a work item matches.
    pub(super) fn matches(&self, attributes: &Attributes) -> bool {
        self.conditions
            .iter()
            .all(|condition| matches_at(attributes, &condition.path, &condition.value))
    }
}

/// The DICOM JSON key of a tag or keyword.
fn key_of(name: &str) -> Option<String> {
    if name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(name.to_ascii_uppercase());
    }
    StandardDataDictionary.by_name(name).map(|entry| json_key(entry.tag()))
}

fn matches_at(attributes: &Attributes, path: &[String], wanted: &str) -> bool {
    let Some((key, inner)) = path.split_first() else { return true };
    // Universal matching.
    if wanted.is_empty() || wanted == "*" {
        return true;
    }
    let Some(element) = attributes.get(key) else { return false };
    let vr = element.get("vr").and_then(Value::as_str).unwrap_or_default();
    let values = element.get("Value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    values.iter().any(|value| match value {
        Value::Object(item) if vr == "SQ" => matches_at(item, inner, wanted),
        _ if !inner.is_empty() => false,
        Value::Object(name) => {
            // A person name, in any of its representations.
            name.values().filter_map(Value::as_str).any(|name| matches_name(name, wanted))
        }
        Value::String(text) => matches_text(vr, text.trim(), wanted.trim()),
        Value::Number(number) => number.to_string() == wanted.trim(),
        _ => false,
    })
}

fn matches_name(name: &str, wanted: &str) -> bool {
    wildcard(
        &name.trim_end_matches('^').to_lowercase(),
        &wanted.trim_end_matches('^').to_lowercase(),
    )
}

fn matches_text(vr: &str, text: &str, wanted: &str) -> bool {
    match vr {
        "UI" => wanted.split([',', '\\']).any(|uid| uid.trim() == text),
        "DA" | "TM" | "DT" => match wanted.split_once('-') {
            Some((from, to)) => {
                let until = text.get(..to.len()).unwrap_or(text);
                (from.is_empty() || text >= from) && (to.is_empty() || until <= to)
            }
            // A date finds every time within it.
            None => text.starts_with(wanted),
        },
        _ => wildcard(text, wanted),
    }
}

/// `*` stands for any text, `?` for one character.
fn wildcard(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut in_pattern) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(c) if *c == '?' || *c == text[at] => {
                at += 1;
                in_pattern += 1;
            }
            _ => match &mut star {
                Some((star_at, resumed)) => {
                    *resumed += 1;
                    at = *resumed;
                    in_pattern = *star_at + 1;
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_match_by_value_wildcard_range_and_within_sequences() {
        let item: Attributes = serde_json::from_str(
            r#"{"00741204": {"vr": "LO", "Value": ["Segment hippocampus"]},
                "00404005": {"vr": "DT", "Value": ["20261124120000"]},
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
                "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
                "00404025": {"vr": "SQ", "Value": [
                    {"00080100": {"vr": "SH", "Value": ["OTHER"]}},
                    {"00080100": {"vr": "SH", "Value": ["SEER"]}}]}}"#,
        )
        .unwrap();
        let check = |attribute: &str, value: &str, expected: bool| {
            let mut query = WorkitemQuery::default();
            assert!(query.require(attribute, value), "{attribute}");
            assert_eq!(query.matches(&item), expected, "{attribute}={value}");
        };
        check("ProcedureStepLabel", "Segment*", true);
        check("00741204", "?egment hippocamp??", true);
        check("00741204", "segment*", false);
        check("00404005", "20261124", true);
        check("00404005", "20261101-20261124", true);
        check("00404005", "20261125-", false);
        check("PatientName", "doe^*", true);
        check("0020000D", "1.2,1.2.3", true);
        check("00404025.00080100", "SEER", true);
        check("ScheduledStationNameCodeSequence.CodeValue", "NOBODY", false);
        check("00741202", "X", false);
        check("00741202", "", true);
        assert!(!WorkitemQuery::default().require("NoSuchAttribute", "x"));
        assert!(
            WorkitemQuery::of_filter("00404025.00080100=SEER,ProcedureStepLabel=*")
                .unwrap()
                .matches(&item)
        );
        assert!(WorkitemQuery::of_filter("nonsense").is_none());
    }
}
