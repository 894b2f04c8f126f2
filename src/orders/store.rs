//! Orders in SQLite: every change is durable before it is told.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use uuid::Uuid;

use super::chain;
use super::delivery;
use super::record::ReasoningRecord;
use super::routing::{self, Fetch};
use super::{Created, NewOrder, Order, OrderError, OrderQuery, OrderResult, OrderState, Step};
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};

/// The table of orders. One connection behind a lock: statements are short.
pub(super) struct Store {
    connection: Mutex<Connection>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS orders (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    study_uid       TEXT NOT NULL,
    series_uid      TEXT,
    text            TEXT NOT NULL,
    priority        INTEGER NOT NULL,
    drop_empty      INTEGER NOT NULL,
    outputs         TEXT NOT NULL DEFAULT '{}',
    rephrasings     TEXT NOT NULL DEFAULT '[]',
    state           TEXT NOT NULL,
    step            TEXT,
    progress        REAL NOT NULL,
    findings        TEXT NOT NULL,
    error           TEXT,
    refusal         TEXT,
    source_series   TEXT,
    seg_series      TEXT,
    seg_sop         TEXT,
    documents       TEXT NOT NULL DEFAULT '[]',
    record          TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    attempt_count   INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_state ON orders (state, priority DESC, sequence);
CREATE INDEX IF NOT EXISTS orders_by_study ON orders (study_uid, sequence);
";

const COLUMNS: &str = "id, idempotency_key, study_uid, series_uid, text, priority, drop_empty, \
     outputs, rephrasings, documents, state, step, progress, findings, error, refusal, source_series, seg_series, seg_sop, \
     created_at, updated_at, attempt_count";

impl Store {
    /// Opens or creates the database; a write-ahead log with full synchronisation, so that a
    /// committed order survives power loss.
    pub(super) fn open(path: &Path) -> Result<Self, OrderError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        add_missing_columns(&connection)?;
        connection.execute_batch(routing::SCHEMA)?;
        connection.execute_batch(delivery::SCHEMA)?;
        connection.execute_batch(super::feedback::SCHEMA)?;
        connection.execute_batch(chain::SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, OrderError>,
    ) -> Result<T, OrderError> {
        let mut connection = self.connection.lock().unwrap_or_else(|poisoned| {
            // A panic while holding the lock leaves at most a transaction that rolls back.
            poisoned.into_inner()
        });
        work(&mut connection)
    }

    /// Inserts a queued order, unless its key is known or `queue_length` orders wait already.
    pub(super) fn insert(
        &self,
        id: Uuid,
        new: &NewOrder,
        now: OffsetDateTime,
        queue_length: u64,
        fetch: Fetch,
    ) -> Result<Created, OrderError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            if let Some(key) = &new.idempotency_key {
                let known = transaction
                    .query_row(
                        &format!(
                            "SELECT {COLUMNS}, {} FROM orders WHERE idempotency_key = ?1",
                            routing::COLUMNS
                        ),
                        [key],
                        read_order,
                    )
                    .optional()?;
                if let Some(known) = known {
                    return if known.new == *new {
                        Ok(Created::Existing(known))
                    } else {
                        Err(OrderError::KeyReused { id: known.id })
                    };
                }
            }
            let waiting = transaction.query_row(
                "SELECT count(*) FROM orders WHERE state = 'queued'",
                [],
                |row| count(row, 0),
            )?;
            if waiting >= queue_length {
                return Err(OrderError::QueueFull { waiting, queue_length });
            }
            transaction.execute(
                "INSERT INTO orders (id, idempotency_key, study_uid, series_uid, text, priority, \
                 drop_empty, state, progress, findings, created_at, updated_at, attempt_count, outputs, \
                 rephrasings) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', 0, '[]', ?8, ?8, 0, ?9, ?10)",
                params![
                    id.to_string(),
                    new.idempotency_key,
                    new.study_uid.as_str(),
                    new.series_uid.as_ref().map(SeriesUid::as_str),
                    new.text,
                    new.priority,
                    new.drop_empty_frames,
                    milliseconds(now),
                    json(&new.outputs)?,
                    json(&new.rephrasings)?,
                ],
            )?;
            routing::insert(&transaction, id, &new.routing, fetch)?;
            let order = select(&transaction, id)?;
            transaction.commit()?;
            Ok(Created::New(order))
        })
    }

    pub(super) fn get(&self, id: Uuid) -> Result<Order, OrderError> {
        self.with(|connection| select(connection, id))
    }

    /// A page of matching orders, newest first, and how many match in all.
    pub(super) fn list(&self, query: &OrderQuery) -> Result<(Vec<Order>, u64), OrderError> {
        let filter = "WHERE (?1 IS NULL OR study_uid = ?1) AND (?2 IS NULL OR state = ?2)";
        let study = query.study_uid.as_ref().map(StudyUid::as_str);
        let state = query.state.map(OrderState::word);
        self.with(|connection| {
            let total = connection.query_row(
                &format!("SELECT count(*) FROM orders {filter}"),
                params![study, state],
                |row| count(row, 0),
            )?;
            let mut statement = connection.prepare(&format!(
                "SELECT {COLUMNS}, {} FROM orders {filter} ORDER BY sequence DESC LIMIT ?3 OFFSET ?4",
                routing::COLUMNS
            ))?;
            let orders = statement
                .query_map(
                    params![study, state, query.limit as i64, query.offset as i64],
                    read_order,
                )?
                .collect::<Result<_, _>>()?;
            Ok((orders, total))
        })
    }

    /// Takes the next waiting order: highest priority, then oldest. It is running afterwards.
    pub(super) fn claim(&self, now: OffsetDateTime) -> Result<Option<Order>, OrderError> {
        self.with(|connection| {
            let id: Option<String> = connection
                .query_row(
                    "UPDATE orders SET state = 'running', progress = 0, step = NULL, \
                     updated_at = ?1, attempt_count = attempt_count + 1 WHERE sequence = \
                     (SELECT sequence FROM orders WHERE state = 'queued' AND NOT EXISTS (SELECT 1 \
                      FROM order_routing r WHERE r.id = orders.id AND r.fetch = 'wanted') \
                      ORDER BY priority DESC, sequence LIMIT 1) RETURNING id",
                    [milliseconds(now)],
                    |row| row.get(0),
                )
                .optional()?;
            id.map(|id| select(connection, parse_id(&id)?)).transpose()
        })
    }

    /// Puts orders that a crash left running back into the queue; those that were started
    /// `attempt_count_max` times fail instead. Returns how many were requeued and how many failed.
    pub(super) fn recover(
        &self,
        attempt_count_max: u32,
        now: OffsetDateTime,
    ) -> Result<(usize, usize), OrderError> {
        let failure = json(&super::OrderFailure {
            kind: "internal".to_owned(),
            message: format!(
                "the server stopped {attempt_count_max} times while running this order"
            ),
        })?;
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let failed = transaction.execute(
                "UPDATE orders SET state = 'failed', step = NULL, error = ?1, updated_at = ?2 \
                 WHERE state = 'running' AND attempt_count >= ?3",
                params![failure, milliseconds(now), attempt_count_max],
            )?;
            let requeued = transaction.execute(
                "UPDATE orders SET state = 'queued', step = NULL, progress = 0, updated_at = ?1 \
                 WHERE state = 'running'",
                [milliseconds(now)],
            )?;
            transaction.commit()?;
            Ok((requeued, failed))
        })
    }

    /// Notes the step and progress of a running order.
    pub(super) fn set_progress(
        &self,
        id: Uuid,
        step: Step,
        progress: f32,
        now: OffsetDateTime,
    ) -> Result<(), OrderError> {
        self.with(|connection| {
            connection.execute(
                "UPDATE orders SET step = ?2, progress = ?3, updated_at = ?4 \
                 WHERE id = ?1 AND state = 'running'",
                params![id.to_string(), step.word(), f64::from(progress), milliseconds(now)],
            )?;
            Ok(())
        })
    }

    /// Keeps the reasoning record of a running order, before its result is stored.
    pub(super) fn append_record(
        &self,
        id: Uuid,
        record: &mut ReasoningRecord,
    ) -> Result<(), OrderError> {
        self.with(|connection| chain::append(connection, id, record))
    }

    /// Brings an order to a final state, with whatever came out. An order that is already final
    /// stays as it is.
    pub(super) fn finish(&self, order: &Order) -> Result<Order, OrderError> {
        let result = order.result.as_ref();
        self.with(|connection| {
            connection.execute(
                "UPDATE orders SET state = ?2, step = NULL, progress = ?3, findings = ?4, \
                 error = ?5, refusal = ?6, source_series = ?7, seg_series = ?8, seg_sop = ?9, \
                 updated_at = ?10, documents = ?11 WHERE id = ?1 AND state IN ('queued', 'running')",
                params![
                    order.id.to_string(),
                    order.state.word(),
                    f64::from(order.progress),
                    json(&order.findings)?,
                    order.error.as_ref().map(json).transpose()?,
                    order.refusal.as_ref().map(json).transpose()?,
                    result.map(|r| r.source_series_uid.as_str()),
                    result.map(|r| r.seg_series_uid.as_str()),
                    result.map(|r| r.seg_sop_instance_uid.as_str()),
                    milliseconds(order.updated_at),
                    json(&result.map(|r| r.documents.as_slice()).unwrap_or_default())?,
                ],
            )?;
            select(connection, order.id)
        })
    }

    /// Cancels an order that still waits; says whether it did.
    pub(super) fn cancel_queued(&self, id: Uuid, now: OffsetDateTime) -> Result<bool, OrderError> {
        self.with(|connection| {
            let changed = connection.execute(
                "UPDATE orders SET state = 'cancelled', updated_at = ?2 \
                 WHERE id = ?1 AND state = 'queued'",
                params![id.to_string(), milliseconds(now)],
            )?;
            Ok(changed > 0)
        })
    }

    pub(super) fn record(&self, id: Uuid) -> Result<Option<String>, OrderError> {
        self.with(|connection| {
            // The column holds the records of releases that had no chain.
            let before_the_chain = connection
                .query_row("SELECT record FROM orders WHERE id = ?1", [id.to_string()], |row| {
                    row.get(0)
                })
                .optional()?
                .ok_or(OrderError::Unknown(id))?;
            Ok(chain::of_order(connection, id)?.or(before_the_chain))
        })
    }

    /// How many orders wait and how many run.
    pub(super) fn depth(&self) -> Result<(u64, u64), OrderError> {
        self.with(|connection| {
            Ok(connection.query_row(
                "SELECT count(*) FILTER (WHERE state = 'queued'), \
                 count(*) FILTER (WHERE state = 'running') FROM orders \
                 WHERE state IN ('queued', 'running')",
                [],
                |row| Ok((count(row, 0)?, count(row, 1)?)),
            )?)
        })
    }
}

/// Columns that came after the first release, with what they hold for orders from before.
const ADDED_COLUMNS: [(&str, &str); 3] = [
    ("outputs", "TEXT NOT NULL DEFAULT '{}'"),
    ("documents", "TEXT NOT NULL DEFAULT '[]'"),
    ("rephrasings", "TEXT NOT NULL DEFAULT '[]'"),
];

fn add_missing_columns(connection: &Connection) -> Result<(), OrderError> {
    for (name, kind) in ADDED_COLUMNS {
        let is_there = connection.query_row(
            "SELECT count(*) FROM pragma_table_info('orders') WHERE name = ?1",
            [name],
            |row| count(row, 0),
        )? > 0;
        if !is_there {
            connection.execute_batch(&format!("ALTER TABLE orders ADD COLUMN {name} {kind}"))?;
        }
    }
    Ok(())
}

/// SQLite's integers are signed; a count is not.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

pub(super) fn select(connection: &Connection, id: Uuid) -> Result<Order, OrderError> {
    connection
        .query_row(
            &format!("SELECT {COLUMNS}, {} FROM orders WHERE id = ?1", routing::COLUMNS),
            [id.to_string()],
            read_order,
        )
        .optional()?
        .ok_or(OrderError::Unknown(id))
}

fn read_order(row: &Row<'_>) -> rusqlite::Result<Order> {
    let uid = |column: &str| row.get::<_, Option<String>>(column);
    let result = match (uid("source_series")?, uid("seg_series")?, uid("seg_sop")?) {
        (Some(source), Some(series), Some(sop)) => Some(OrderResult {
            source_series_uid: SeriesUid::parse(&source).map_err(broken)?,
            seg_series_uid: SeriesUid::parse(&series).map_err(broken)?,
            seg_sop_instance_uid: SopInstanceUid::parse(&sop).map_err(broken)?,
            documents: from_json(&row.get::<_, String>("documents")?)?,
        }),
        _ => None,
    };
    let routing::Way { routing, fetch, deliveries } = routing::read(row)?;
    Ok(Order {
        fetch,
        deliveries,
        id: Uuid::parse_str(&row.get::<_, String>("id")?).map_err(broken)?,
        new: NewOrder {
            study_uid: StudyUid::parse(&row.get::<_, String>("study_uid")?).map_err(broken)?,
            series_uid: uid("series_uid")?
                .map(|text| SeriesUid::parse(&text))
                .transpose()
                .map_err(broken)?,
            text: row.get("text")?,
            rephrasings: from_json(&row.get::<_, String>("rephrasings")?)?,
            priority: row.get("priority")?,
            idempotency_key: row.get("idempotency_key")?,
            drop_empty_frames: row.get("drop_empty")?,
            outputs: from_json(&row.get::<_, String>("outputs")?)?,
            routing,
        },
        state: from_word(&row.get::<_, String>("state")?)?,
        step: uid("step")?.map(|text| from_word(&text)).transpose()?,
        progress: row.get::<_, f64>("progress")? as f32,
        findings: from_json(&row.get::<_, String>("findings")?)?,
        error: uid("error")?.map(|text| from_json(&text)).transpose()?,
        refusal: uid("refusal")?.map(|text| from_json(&text)).transpose()?,
        result,
        created_at: from_milliseconds(row.get("created_at")?)?,
        updated_at: from_milliseconds(row.get("updated_at")?)?,
        attempt_count: row.get("attempt_count")?,
    })
}

pub(super) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn parse_id(text: &str) -> Result<Uuid, OrderError> {
    Uuid::parse_str(text).map_err(|error| broken(error).into())
}

pub(super) fn from_word<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(broken)
}

fn json(value: &impl Serialize) -> Result<String, OrderError> {
    Ok(serde_json::to_string(value)?)
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(broken)
}

pub(super) fn milliseconds(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

pub(super) fn from_milliseconds(value: i64) -> rusqlite::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(value) * 1_000_000).map_err(broken)
}
