//! Patients. They have no table: they are what their studies say.

use dicom_dictionary_std::tags;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::search::{filter, include, parsed, put};
use super::{Include, Query, index};

/// Another study of the same patient.
const SAME: &str = "s.PatientID = study.PatientID \
    AND coalesce(s.IssuerOfPatientID, '') = coalesce(study.IssuerOfPatientID, '')";

/// Runs a query for studies and gives their patients, by Patient ID.
pub(super) fn search(
    connection: &Connection,
    query: &Query,
) -> rusqlite::Result<Vec<Map<String, Value>>> {
    let mut filter = filter(query);
    filter.and("study.PatientID IS NOT NULL", []);
    // With one bare max(), SQLite takes the other columns from the row that has it.
    let text = format!(
        "SELECT study.json, max(coalesce(study.StudyDate, '') || study.StudyInstanceUID), \
         (SELECT count(*) FROM study s WHERE {SAME}), \
         (SELECT count(*) FROM study s JOIN series USING (StudyInstanceUID) WHERE {SAME}), \
         (SELECT count(*) FROM study s JOIN instance USING (StudyInstanceUID) WHERE {SAME}), \
         (SELECT i.metadata FROM instance i \
          WHERE i.StudyInstanceUID = study.StudyInstanceUID LIMIT 1) \
         FROM study{} GROUP BY study.PatientID, coalesce(study.IssuerOfPatientID, '') \
         ORDER BY study.PatientID, coalesce(study.IssuerOfPatientID, '') LIMIT ? OFFSET ?",
        filter.text
    );
    let values = filter.values_of_page(query);
    let mut statement = connection.prepare_cached(&text)?;
    let rows =
        statement.query_map(rusqlite::params_from_iter(values), |row| row_json(row, query))?;
    rows.collect()
}

fn row_json(row: &rusqlite::Row<'_>, query: &Query) -> rusqlite::Result<Map<String, Value>> {
    let mut result = parsed(row.get(0)?);
    let counts = [
        (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, row.get::<_, i64>(2)?),
        (tags::NUMBER_OF_PATIENT_RELATED_SERIES, row.get(3)?),
        (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, row.get(4)?),
    ];
    if query.include != Include::Indexed {
        let packed: Option<Vec<u8>> = row.get(5)?;
        let metadata = packed.and_then(|packed| index::decompress(&packed).ok());
        include(&mut result, parsed(metadata.unwrap_or_default()), query);
    }
    result.retain(|key, _| key.starts_with("0010"));
    for (tag, count) in counts {
        put(&mut result, tag, "IS", json!([count]));
    }
    result.sort_keys();
    Ok(result)
}
