//! Searches over the index: QIDO-RS matching (PS3.18 §8.3.4, PS3.4 §C.2.2.2) as SQL.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;
use serde_json::{Map, Value, json};

use super::attributes::{Attribute, Level, json_key};
use super::{index, names};
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
    /// What the results tell besides the indexed attributes.
    pub include: Include,
    /// At most this many.
    pub limit: usize,
    /// Skip this many.
    pub offset: usize,
}

/// What results tell besides the indexed attributes, which they always tell.
///
/// Attributes of a study or series that are not indexed are those of one of its instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    #[default]
    Indexed,
    /// These attributes, where the instances have them.
    Tags(Vec<Tag>),
    /// Every attribute of the level and the levels above it, without bulk data.
    All,
}

/// One attribute that must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// An indexed attribute matches a value as DICOM writes it: empty for any, `*` and `?` as
    /// wildcards, `a-b` as a range of dates and times, several UIDs joined by commas or
    /// backslashes.
    Matches {
        /// The attribute.
        attribute: &'static Attribute,
        /// The value.
        value: String,
    },
    /// Every word asked for begins a word of the person's name, or sounds like one.
    Fuzzy {
        /// An attribute with value representation PN.
        attribute: &'static Attribute,
        /// The words.
        value: String,
    },
    /// The study has a series of one of these modalities.
    ModalityInStudy(Vec<String>),
}

/// SQL text and its values, grown together.
#[derive(Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<SqlValue>,
}

impl Sql {
    pub(super) fn and(&mut self, clause: &str, values: impl IntoIterator<Item = String>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(clause);
        self.values.extend(values.into_iter().map(SqlValue::from));
    }

    /// The values, with those of `LIMIT ? OFFSET ?` behind them.
    pub(super) fn values_of_page(mut self, query: &Query) -> Vec<SqlValue> {
        let number = |n: usize| SqlValue::from(i64::try_from(n).unwrap_or(i64::MAX));
        self.values.extend([query.limit, query.offset].map(number));
        self.values
    }
}

/// Runs a query; each result is a DICOM JSON object of the indexed attributes of its level and of
/// the levels above it, with the counts of PS3.18 Tables 10.6.3-3 to -5.
pub(super) fn search(
    connection: &Connection,
    query: &Query,
) -> rusqlite::Result<Vec<Map<String, Value>>> {
    let filter = filter(query);
    let select = select(query.level, query.include != Include::Indexed);
    let text = format!("{select}{} {} LIMIT ? OFFSET ?", filter.text, order(query.level));
    let values = filter.values_of_page(query);
    let mut statement = connection.prepare_cached(&text)?;
    let rows =
        statement.query_map(rusqlite::params_from_iter(values), |row| row_json(row, query))?;
    rows.collect()
}

/// Counts what a query finds, whatever its limit and offset.
pub(super) fn count(connection: &Connection, query: &Query) -> rusqlite::Result<u64> {
    let filter = filter(query);
    let from = match query.level {
        Level::Study => "study",
        Level::Series => FROM_SERIES,
        Level::Instance => FROM_INSTANCE,
    };
    let text = format!("SELECT count(*) FROM {from}{}", filter.text);
    let mut statement = connection.prepare_cached(&text)?;
    let count: i64 =
        statement.query_row(rusqlite::params_from_iter(filter.values), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn filter(query: &Query) -> Sql {
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
    filter
}

const FROM_SERIES: &str = "series JOIN study USING (StudyInstanceUID)";
const FROM_INSTANCE: &str = "instance \
    JOIN series USING (StudyInstanceUID, SeriesInstanceUID) \
    JOIN study USING (StudyInstanceUID)";
const STUDY_COUNTS: &str = "(SELECT group_concat(DISTINCT s.Modality) FROM series s \
    WHERE s.StudyInstanceUID = study.StudyInstanceUID), \
    (SELECT count(*) FROM series s WHERE s.StudyInstanceUID = study.StudyInstanceUID), \
    (SELECT count(*) FROM instance i WHERE i.StudyInstanceUID = study.StudyInstanceUID)";
const SERIES_COUNT: &str = "(SELECT count(*) FROM instance i \
    WHERE i.StudyInstanceUID = series.StudyInstanceUID \
    AND i.SeriesInstanceUID = series.SeriesInstanceUID)";

/// With `with_metadata`, the last column is the packed metadata of an instance of the result.
fn select(level: Level, with_metadata: bool) -> String {
    let (mut columns, from, metadata) = match level {
        Level::Study => (
            format!("study.json, {STUDY_COUNTS}"),
            "study",
            "(SELECT i.metadata FROM instance i \
              WHERE i.StudyInstanceUID = study.StudyInstanceUID LIMIT 1)",
        ),
        Level::Series => (
            format!("study.json, series.json, {SERIES_COUNT}"),
            FROM_SERIES,
            "(SELECT i.metadata FROM instance i \
              WHERE i.StudyInstanceUID = series.StudyInstanceUID \
              AND i.SeriesInstanceUID = series.SeriesInstanceUID LIMIT 1)",
        ),
        Level::Instance => (
            "study.json, series.json, instance.json, instance.transfer_syntax_uid".to_owned(),
            FROM_INSTANCE,
            "instance.metadata",
        ),
    };
    if with_metadata {
        columns.push_str(&format!(", {metadata} AS packed"));
    }
    format!("SELECT {columns} FROM {from}")
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

fn row_json(row: &rusqlite::Row<'_>, query: &Query) -> rusqlite::Result<Map<String, Value>> {
    let mut result = parsed(row.get(0)?);
    match query.level {
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
    put(&mut result, tags::SPECIFIC_CHARACTER_SET, "CS", json!(["ISO_IR 192"]));
    put(&mut result, tags::INSTANCE_AVAILABILITY, "CS", json!(["ONLINE"]));
    if query.include != Include::Indexed {
        let packed: Option<Vec<u8>> = row.get("packed")?;
        let metadata = packed.and_then(|packed| index::decompress(&packed).ok());
        include(&mut result, parsed(metadata.unwrap_or_default()), query);
    }
    result.sort_keys();
    Ok(result)
}

/// Adds what was asked for and is not told already.
pub(super) fn include(
    result: &mut Map<String, Value>,
    metadata: Map<String, Value>,
    query: &Query,
) {
    let wanted = |key: &str| match &query.include {
        Include::Indexed => false,
        Include::Tags(tags) => tags.iter().any(|tag| json_key(*tag) == key),
        Include::All => belongs(key, query.level),
    };
    for (key, value) in metadata {
        if !result.contains_key(&key) && value.get("BulkDataURI").is_none() && wanted(&key) {
            result.insert(key, value);
        }
    }
}

impl Level {
    /// Whether an attribute describes what is at this level or above it, so that one instance
    /// tells it for all.
    pub fn tells(self, tag: Tag) -> bool {
        let mut indexed = Attribute::all();
        indexed.any(|attribute| attribute.top_tag() == tag && attribute.level <= self)
            || belongs(&json_key(tag), self)
    }
}

/// Whether an attribute describes the patient, the study or the series rather than the instance
/// (PS3.3 §C.7.1 to C.7.3).
fn belongs(key: &str, level: Level) -> bool {
    const STUDY: [&str; 18] = [
        "00080005", "00080051", "00080096", "0008009C", "00080201", "00081032", "00081048",
        "00081049", "00081060", "00081062", "00081080", "00081084", "00081110", "00081120",
        "00200010", "00321032", "00321060", "00401012",
    ];
    const SERIES: [&str; 27] = [
        "00080021", "00080031", "00080060", "00080070", "00080080", "00080081", "00081010",
        "0008103E", "0008103F", "00081040", "00081050", "00081052", "00081070", "00081072",
        "00081090", "00081111", "00081250", "00180015", "00181000", "00181020", "00181030",
        "00185100", "00200052", "00200060", "00201040", "00400275", "00400280",
    ];
    let of_study = || key.starts_with("0010") || STUDY.contains(&key);
    match level {
        Level::Study => of_study(),
        Level::Series => of_study() || SERIES.contains(&key) || key.starts_with("004002"),
        Level::Instance => true,
    }
}

pub(super) fn parsed(text: String) -> Map<String, Value> {
    serde_json::from_str(&text).unwrap_or_default()
}

pub(super) fn put(map: &mut Map<String, Value>, tag: dicom_core::Tag, vr: &str, values: Value) {
    map.insert(json_key(tag), json!({ "vr": vr, "Value": values }));
}

fn add_condition(filter: &mut Sql, level: Level, condition: &Condition) {
    match condition {
        Condition::Matches { attribute, value } => {
            on_attribute(filter, level, attribute, |filter, table| {
                add_match(filter, &format!("{table}.{}", attribute.column), attribute, value);
            });
        }
        Condition::Fuzzy { attribute, value } => {
            let needles = names::fuzzy_needles(value);
            if needles.is_empty() {
                return;
            }
            on_attribute(filter, level, attribute, |filter, table| {
                let column = format!("{table}.{}", index::fuzzy_column(attribute));
                for any in &needles {
                    let clause = vec![format!("instr({column}, ?) > 0"); any.len()].join(" OR ");
                    filter.and(&format!("({clause})"), any.iter().cloned());
                }
            });
        }
        Condition::ModalityInStudy(any) => {
            let mut inner = Sql::default();
            let study = format!("child.StudyInstanceUID = {}.StudyInstanceUID", level.table());
            inner.and(&study, []);
            let clause = vec!["child.Modality GLOB ?"; any.len()].join(" OR ");
            inner.and(&format!("({clause})"), any.iter().map(|value| glob_pattern(value)));
            filter.and(&format!("EXISTS (SELECT 1 FROM series child{})", inner.text), []);
            filter.values.extend(inner.values);
        }
    }
}

/// Adds a condition on an attribute's own table. A search for studies may name attributes of
/// series and instances: then some child matches.
fn on_attribute(
    filter: &mut Sql,
    level: Level,
    attribute: &Attribute,
    add: impl Fn(&mut Sql, &str),
) {
    if attribute.level <= level {
        return add(filter, attribute.level.table());
    }
    let mut inner = Sql::default();
    for key in keys(level) {
        inner.and(&format!("child.{key} = {}.{key}", level.table()), []);
    }
    add(&mut inner, "child");
    let table = attribute.level.table();
    filter.and(&format!("EXISTS (SELECT 1 FROM {table} child{})", inner.text), []);
    filter.values.extend(inner.values);
}

fn keys(level: Level) -> &'static [&'static str] {
    match level {
        Level::Study => &["StudyInstanceUID"],
        Level::Series | Level::Instance => &["StudyInstanceUID", "SeriesInstanceUID"],
    }
}

/// Adds one comparison. `column` comes from our own table, never from a client.
fn add_match(filter: &mut Sql, column: &str, attribute: &Attribute, value: &str) {
    let value = value.trim();
    if value.is_empty() || value == "*" {
        return;
    }
    match attribute.vr {
        VR::UI => {
            let uids: Vec<String> =
                value.split([',', '\\']).map(|uid| uid.trim().to_owned()).collect();
            if attribute.is_multiple {
                let clause = vec![format!("{} GLOB ?", among(column)); uids.len()].join(" OR ");
                filter.and(&format!("({clause})"), uids.iter().map(|uid| among_pattern(uid)));
                return;
            }
            let places = vec!["?"; uids.len()].join(", ");
            filter.and(&format!("{column} IN ({places})"), uids);
        }
        VR::DA | VR::TM if value.contains('-') => add_range(filter, column, value),
        // SQLite's LIKE ignores the case of ASCII letters, as name matching may (PS3.4 C.2.2.2.1).
        // A name matches as a whole or by one of its component groups or values.
        VR::PN => {
            let pattern = like_pattern(value);
            filter.and(
                &format!(
                    "({column} LIKE ? ESCAPE '\\' OR \
                     '=' || replace({column}, '\\', '=') || '=' LIKE ? ESCAPE '\\')"
                ),
                [pattern.clone(), format!("%={pattern}=%")],
            );
        }
        VR::IS | VR::US => {
            filter.and(
                &format!("CAST({column} AS INTEGER) = CAST(? AS INTEGER)"),
                [value.to_owned()],
            );
        }
        _ if attribute.is_multiple => {
            filter.and(&format!("{} GLOB ?", among(column)), [among_pattern(value)]);
        }
        _ if value.contains(['*', '?']) => {
            filter.and(&format!("{column} GLOB ?"), [glob_pattern(value)]);
        }
        _ => filter.and(&format!("{column} = ?"), [value.to_owned()]),
    }
}

/// Several values with a backslash before and after each.
fn among(column: &str) -> String {
    format!("'\\' || {column} || '\\'")
}

fn among_pattern(value: &str) -> String {
    format!("*\\{}\\*", glob_pattern(value))
}

/// DICOM's wildcards are those of GLOB, which has brackets besides.
fn glob_pattern(value: &str) -> String {
    value.replace('[', "[[]")
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
