//! Searches over the index: QIDO-RS matching (PS3.18 §8.3.4, PS3.4 §C.2.2.2) as SQL.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;
use serde_json::{Map, Value, json};

use super::attributes::{Attribute, Level, json_key};
use crate::dicom::{SeriesUid, StudyUid};

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What the results are.
    pub level: Level,
    /// Only of this study.
    pub study: Option<StudyUid>,
    /// Only of this series.
    pub series: Option<SeriesUid>,
    /// All must match.
    pub conditions: Vec<Condition>,
    /// At most this many.
    pub limit: usize,
    /// Skip this many.
    pub offset: usize,
}

/// One attribute that must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// An indexed attribute matches a value as DICOM writes it: empty for any, `*` and `?` as
    /// wildcards, `a-b` as a range of dates and times, several UIDs joined by commas.
    Matches {
        /// The attribute.
        attribute: &'static Attribute,
        /// The value.
        value: String,
    },
    /// The study has a series of this modality.
    ModalityInStudy(String),
}

/// SQL text and its values, grown together.
#[derive(Default)]
struct Sql {
    text: String,
    values: Vec<SqlValue>,
}

impl Sql {
    fn and(&mut self, clause: &str, values: impl IntoIterator<Item = String>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(clause);
        self.values.extend(values.into_iter().map(SqlValue::from));
    }
}

/// Runs a query; each result is a DICOM JSON object of the indexed attributes of its level and of
/// the levels above it, with the counts of PS3.18 Tables 10.6.3-3 to -5.
pub(super) fn search(
    connection: &Connection,
    query: &Query,
) -> rusqlite::Result<Vec<Map<String, Value>>> {
    let mut filter = Sql::default();
    let table = query.level.table();
    if let Some(study) = &query.study {
        filter.and(&format!("{table}.StudyInstanceUID = ?"), [study.to_string()]);
    }
    if let (Some(series), true) = (&query.series, query.level != Level::Study) {
        filter.and(&format!("{table}.SeriesInstanceUID = ?"), [series.to_string()]);
    }
    for condition in &query.conditions {
        add_condition(&mut filter, query.level, condition);
    }
    let text =
        format!("{}{} {} LIMIT ? OFFSET ?", select(query.level), filter.text, order(query.level));
    let mut values = filter.values;
    values.extend(
        [query.limit, query.offset].map(|n| SqlValue::from(i64::try_from(n).unwrap_or(i64::MAX))),
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| row_json(row, query.level))?;
    rows.collect()
}

const STUDY_COUNTS: &str = "(SELECT group_concat(DISTINCT s.Modality) FROM series s \
    WHERE s.StudyInstanceUID = study.StudyInstanceUID), \
    (SELECT count(*) FROM series s WHERE s.StudyInstanceUID = study.StudyInstanceUID), \
    (SELECT count(*) FROM instance i WHERE i.StudyInstanceUID = study.StudyInstanceUID)";
const SERIES_COUNT: &str = "(SELECT count(*) FROM instance i \
    WHERE i.StudyInstanceUID = series.StudyInstanceUID \
    AND i.SeriesInstanceUID = series.SeriesInstanceUID)";

fn select(level: Level) -> String {
    match level {
        Level::Study => format!("SELECT study.json, {STUDY_COUNTS} FROM study"),
        Level::Series => format!(
            "SELECT study.json, series.json, {SERIES_COUNT} \
             FROM series JOIN study USING (StudyInstanceUID)"
        ),
        Level::Instance => "SELECT study.json, series.json, instance.json, \
             instance.transfer_syntax_uid FROM instance \
             JOIN series USING (StudyInstanceUID, SeriesInstanceUID) \
             JOIN study USING (StudyInstanceUID)"
            .to_owned(),
    }
}

/// A fixed order, so that pages neither overlap nor skip: newest studies first, then by number.
fn order(level: Level) -> &'static str {
    match level {
        Level::Study => {
            "ORDER BY study.StudyDate DESC, study.StudyTime DESC, study.StudyInstanceUID"
        }
        Level::Series => {
            "ORDER BY series.StudyInstanceUID, \
            CAST(series.SeriesNumber AS INTEGER), series.SeriesInstanceUID"
        }
        Level::Instance => {
            "ORDER BY instance.StudyInstanceUID, instance.SeriesInstanceUID, \
            CAST(instance.InstanceNumber AS INTEGER), instance.SOPInstanceUID"
        }
    }
}

fn row_json(row: &rusqlite::Row<'_>, level: Level) -> rusqlite::Result<Map<String, Value>> {
    let mut result = parsed(row.get(0)?);
    match level {
        Level::Study => {
            let modalities: Option<String> = row.get(1)?;
            let modalities: Vec<&str> =
                modalities.as_deref().unwrap_or_default().split(',').collect();
            put(&mut result, tags::MODALITIES_IN_STUDY, "CS", json!(modalities));
            put(
                &mut result,
                tags::NUMBER_OF_STUDY_RELATED_SERIES,
                "IS",
                json!([row.get::<_, i64>(2)?]),
            );
            put(
                &mut result,
                tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
                "IS",
                json!([row.get::<_, i64>(3)?]),
            );
        }
        Level::Series => {
            result.append(&mut parsed(row.get(1)?));
            put(
                &mut result,
                tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
                "IS",
                json!([row.get::<_, i64>(2)?]),
            );
        }
        Level::Instance => {
            result.append(&mut parsed(row.get(1)?));
            result.append(&mut parsed(row.get(2)?));
            put(
                &mut result,
                tags::AVAILABLE_TRANSFER_SYNTAX_UID,
                "UI",
                json!([row.get::<_, String>(3)?]),
            );
        }
    }
    result.sort_keys();
    Ok(result)
}

fn parsed(text: String) -> Map<String, Value> {
    serde_json::from_str(&text).unwrap_or_default()
}

fn put(map: &mut Map<String, Value>, tag: dicom_core::Tag, vr: &str, values: Value) {
    map.insert(json_key(tag), json!({ "vr": vr, "Value": values }));
}

fn add_condition(filter: &mut Sql, level: Level, condition: &Condition) {
    match condition {
        // A search for studies may name attributes of series and instances: some child matches.
        Condition::Matches { attribute, value } if attribute.level > level => {
            let mut inner = Sql::default();
            for key in keys(level) {
                inner.and(&format!("child.{key} = {}.{key}", level.table()), []);
            }
            add_match(&mut inner, &format!("child.{}", attribute.keyword), attribute.vr, value);
            let table = attribute.level.table();
            filter.and(&format!("EXISTS (SELECT 1 FROM {table} child{})", inner.text), []);
            filter.values.extend(inner.values);
        }
        Condition::Matches { attribute, value } => {
            let column = format!("{}.{}", attribute.level.table(), attribute.keyword);
            add_match(filter, &column, attribute.vr, value);
        }
        Condition::ModalityInStudy(value) => {
            let mut inner = Sql::default();
            let study = format!("child.StudyInstanceUID = {}.StudyInstanceUID", level.table());
            inner.and(&study, []);
            add_match(&mut inner, "child.Modality", VR::CS, value);
            filter.and(&format!("EXISTS (SELECT 1 FROM series child{})", inner.text), []);
            filter.values.extend(inner.values);
        }
    }
}

fn keys(level: Level) -> &'static [&'static str] {
    match level {
        Level::Study => &["StudyInstanceUID"],
        Level::Series | Level::Instance => &["StudyInstanceUID", "SeriesInstanceUID"],
    }
}

/// Adds one comparison. `column` comes from our own table, never from a client.
fn add_match(filter: &mut Sql, column: &str, vr: VR, value: &str) {
    let value = value.trim();
    if value.is_empty() || value == "*" {
        return;
    }
    match vr {
        VR::UI => {
            let uids: Vec<String> =
                value.split([',', '\\']).map(|uid| uid.trim().to_owned()).collect();
            let places = vec!["?"; uids.len()].join(", ");
            filter.and(&format!("{column} IN ({places})"), uids);
        }
        VR::DA | VR::TM if value.contains('-') => add_range(filter, column, value),
        // SQLite's LIKE ignores the case of ASCII letters, as name matching may (PS3.4 C.2.2.2.1).
        VR::PN => filter.and(&format!("{column} LIKE ? ESCAPE '\\'"), [like_pattern(value)]),
        VR::IS | VR::US => {
            filter.and(
                &format!("CAST({column} AS INTEGER) = CAST(? AS INTEGER)"),
                [value.to_owned()],
            );
        }
        _ if value.contains(['*', '?']) => {
            filter.and(&format!("{column} GLOB ?"), [value.replace('[', "[[]")]);
        }
        _ => filter.and(&format!("{column} = ?"), [value.to_owned()]),
    }
}

/// `a-b`, `a-` and `-b`, both ends inside.
fn add_range(filter: &mut Sql, column: &str, value: &str) {
    let (from, to) = value.split_once('-').unwrap_or((value, ""));
    if !from.is_empty() {
        filter.and(&format!("{column} >= ?"), [from.to_owned()]);
    }
    if !to.is_empty() {
        // A time of higher precision than the bound still lies within it: 1200 covers 120059.
        filter.and(&format!("substr({column}, 1, {}) <= ?", to.len()), [to.to_owned()]);
    }
}

fn like_pattern(value: &str) -> String {
    let mut pattern = String::with_capacity(value.len() + 4);
    for c in value.trim_end_matches('^').chars() {
        match c {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', c]),
            c => pattern.push(c),
        }
    }
    pattern
}
