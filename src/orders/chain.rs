//! Reasoning records as a chain: each names the SHA-256 of the one before, so that a record that
//! was changed or taken away shows.
//!
//! The table is append-only. An order that is walked again after a crash appends a second record;
//! the last one counts.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::OrderError;
use super::record::ReasoningRecord;
use super::store::count;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL,
    sha256   TEXT NOT NULL,
    record   TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS records_by_order ON records (id, sequence);
";

/// Whether the chain of reasoning records is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordChain {
    /// How many records there are, repeated walks included.
    pub record_count: u64,
    /// SHA-256 of the last record; note it elsewhere, and a cut-off end shows as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sha256: Option<String>,
    /// The first record that does not fit; absent when the chain is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<ChainFault>,
}

/// A record that does not fit into the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChainFault {
    /// Its place, counted from 1.
    pub sequence: i64,
    /// Its order.
    pub order_id: String,
    /// What is wrong.
    #[schema(example = "the record was changed: its SHA-256 is another")]
    pub message: String,
}

/// Appends the record of an order, which then names its predecessor.
pub(super) fn append(
    connection: &mut Connection,
    id: Uuid,
    record: &mut ReasoningRecord,
) -> Result<(), OrderError> {
    let transaction = connection.transaction()?;
    record.previous_sha256 = transaction
        .query_row("SELECT sha256 FROM records ORDER BY sequence DESC LIMIT 1", [], |row| {
            row.get(0)
        })
        .optional()?;
    let text = serde_json::to_string_pretty(record)?;
    transaction.execute(
        "INSERT INTO records (id, sha256, record) VALUES (?1, ?2, ?3)",
        params![id.to_string(), sha256_of(&text), text],
    )?;
    Ok(transaction.commit()?)
}

/// The last record of an order.
pub(super) fn of_order(connection: &Connection, id: Uuid) -> Result<Option<String>, OrderError> {
    Ok(connection
        .query_row(
            "SELECT record FROM records WHERE id = ?1 ORDER BY sequence DESC LIMIT 1",
            [id.to_string()],
            |row| row.get(0),
        )
        .optional()?)
}

/// Checks the chain in a database of orders. Reads every record over a connection of its own, so
/// that a server goes on taking orders meanwhile.
///
/// # Errors
/// When the file is no such database.
pub fn verify_records(database: &Path) -> Result<RecordChain, OrderError> {
    let reading = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, reading)?;
    let has_chain = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'records'",
        [],
        |row| count(row, 0),
    )? > 0;
    if has_chain {
        return verify(&connection);
    }
    Ok(RecordChain { record_count: 0, last_sha256: None, fault: None })
}

/// Reads every record and checks its hash and the link to the one before.
fn verify(connection: &Connection) -> Result<RecordChain, OrderError> {
    let record_count =
        connection.query_row("SELECT count(*) FROM records", [], |row| count(row, 0))?;
    let mut chain = RecordChain { record_count, last_sha256: None, fault: None };
    let mut statement =
        connection.prepare("SELECT sequence, id, sha256, record FROM records ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    let mut expected = 1;
    while let Some(row) = rows.next()? {
        let (sequence, order_id) = (row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
        let (sha256, text) = (row.get::<_, String>(2)?, row.get::<_, String>(3)?);
        if let Some(message) =
            fault((sequence, expected), &sha256, &text, chain.last_sha256.as_deref())
        {
            chain.fault = Some(ChainFault { sequence, order_id, message: message.to_owned() });
            return Ok(chain);
        }
        expected = sequence + 1;
        chain.last_sha256 = Some(sha256);
    }
    Ok(chain)
}

fn fault(
    (sequence, expected): (i64, i64),
    sha256: &str,
    text: &str,
    previous: Option<&str>,
) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Link {
        previous_sha256: Option<String>,
    }
    if sequence != expected {
        return Some("a record before it is missing");
    }
    if sha256_of(text) != sha256 {
        return Some("the record was changed: its SHA-256 is another");
    }
    let Ok(link) = serde_json::from_str::<Link>(text) else {
        return Some("the record is not JSON");
    };
    (link.previous_sha256.as_deref() != previous)
        .then_some("the record names another predecessor than the one before it")
}

fn sha256_of(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Three records in a database of their own.
    fn chain() -> Connection {
        let mut connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(SCHEMA).expect("a schema");
        let mut record = record();
        for _ in 0..3 {
            append(&mut connection, Uuid::now_v7(), &mut record).expect("kept");
        }
        connection
    }

    fn record() -> ReasoningRecord {
        let bundle = json!({ "name": "mini", "version": "1", "files": {} });
        serde_json::from_value(json!({
            "schema_version": 1,
            "text": "outline the left hippocampus",
            "source": { "modality": "MR", "shape": [1, 2, 3], "spacing_mm": [1.0, 1.0, 1.0] },
            "views": [],
            "trace": { "raw": "", "format_ok": false },
            "decoding": {
                "seed": 0, "temperature": 0.0, "prompt_token_count": 1, "token_count": 1,
                "mean_log_probability": 0.0, "finish_reason": "stop", "constrained": true
            },
            "answer": {},
            "models": {
                "reasoner": bundle, "backbone": bundle, "onnx_runtime": "1", "provider": "cpu"
            },
            "findings": [],
            "seconds": {},
            "server_version": "1"
        }))
        .expect("a record")
    }

    fn fault_after(change: &str) -> Option<(i64, String)> {
        let connection = chain();
        connection.execute_batch(change).expect("a change");
        let fault = verify(&connection).expect("readable").fault?;
        Some((fault.sequence, fault.message))
    }

    #[test]
    fn whole_chain_has_no_fault_and_each_record_names_the_one_before() {
        let connection = chain();
        let verified = verify(&connection).expect("readable");
        assert_eq!((verified.record_count, verified.fault), (3, None));
        let mut statement = connection.prepare("SELECT sha256, record FROM records").expect("one");
        let rows: Vec<(String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .expect("rows");
        assert!(!rows[0].1.contains("previous_sha256"));
        assert!(rows[1].1.contains(&rows[0].0) && rows[2].1.contains(&rows[1].0));
        assert_eq!(verified.last_sha256.as_ref(), Some(&rows[2].0));
    }

    #[test]
    fn changed_removed_and_moved_records_are_found() {
        let message = |text: &str| text.to_owned();
        assert_eq!(
            fault_after(
                "UPDATE records SET record = replace(record, 'left', 'right') WHERE sequence = 2"
            ),
            Some((2, message("the record was changed: its SHA-256 is another")))
        );
        assert_eq!(
            fault_after("DELETE FROM records WHERE sequence = 2"),
            Some((3, message("a record before it is missing")))
        );
        // Somebody who also makes the numbers and the hash fit is caught by the next record.
        let forged = "DELETE FROM records WHERE sequence = 2; \
                      UPDATE records SET sequence = 2 WHERE sequence = 3";
        assert_eq!(
            fault_after(forged),
            Some((2, message("the record names another predecessor than the one before it")))
        );
    }
}
