//! Work items in SQLite.

use std::path::Path;
use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::Event;
use super::item::{State, Workitem};
use super::{Worklist, WorklistError, subscriptions};
use crate::dicom::SopInstanceUid;
use crate::orders::store::{broken, count as read_count, milliseconds};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS workitems (
    sequence         INTEGER PRIMARY KEY AUTOINCREMENT,
    uid              TEXT NOT NULL UNIQUE,
    state            TEXT NOT NULL,
    attributes       TEXT NOT NULL,
    transaction_uid  TEXT,
    addressed        INTEGER NOT NULL,
    ours             INTEGER NOT NULL DEFAULT 0,
    order_id         TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    updated_at       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS workitems_by_state ON workitems (state, sequence);
CREATE INDEX IF NOT EXISTS workitems_to_do ON workitems (addressed, state);
";

const COLUMNS: &str = "uid, state, attributes, transaction_uid, ours, order_id, cancel_requested";

/// Opens the database; committed changes survive power loss.
pub(super) fn open(path: &Path) -> Result<Connection, WorklistError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(subscriptions::SCHEMA)?;
    Ok(connection)
}

impl Worklist {
    /// Reads the last committed state.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, WorklistError>,
    ) -> Result<T, WorklistError> {
        // A panic while holding the lock leaves at most a transaction that rolls back.
        let connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&connection)
    }

    /// Runs one change as a transaction; its events are told once it is durable.
    pub(super) fn change<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut Vec<Event>) -> Result<T, WorklistError>,
    ) -> Result<T, WorklistError> {
        let mut connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        let mut events = Vec::new();
        let value = work(&transaction, &mut events)?;
        for event in &mut events {
            event.address(&transaction)?;
        }
        transaction.commit()?;
        for event in events {
            // Nobody listening is fine.
            let _ = self.0.events.send(event);
        }
        Ok(value)
    }

    /// Forgets final work items that are old enough and that no subscription holds.
    pub(super) fn purge(&self, now: OffsetDateTime) -> Result<usize, WorklistError> {
        let age = time::Duration::hours(
            i64::try_from(self.0.settings.retention_hours).unwrap_or(i64::MAX / 4000),
        );
        let before =
            milliseconds(now) - i64::try_from(age.whole_milliseconds()).unwrap_or(i64::MAX / 2);
        self.change(|transaction, _| {
            let forgotten = transaction.execute(
                "DELETE FROM workitems WHERE state IN ('COMPLETED', 'CANCELED') \
                 AND updated_at < ?1 AND NOT EXISTS (SELECT 1 FROM item_subscriptions s \
                 WHERE s.uid = workitems.uid AND s.deletion_lock)",
                [before],
            )?;
            transaction.execute(
                "DELETE FROM item_subscriptions WHERE uid NOT IN (SELECT uid FROM workitems)",
                [],
            )?;
            Ok(forgotten)
        })
    }
}

pub(super) fn insert(
    connection: &Connection,
    item: &Workitem,
    addressed: bool,
) -> Result<(), WorklistError> {
    connection.execute(
        "INSERT INTO workitems (uid, state, attributes, addressed) VALUES (?1, ?2, ?3, ?4)",
        params![
            item.uid.as_str(),
            item.state.word(),
            serde_json::to_string(&item.attributes)?,
            addressed
        ],
    )?;
    Ok(())
}

/// Keeps a changed work item. `addressed` matters while it is scheduled.
pub(super) fn update(
    connection: &Connection,
    item: &Workitem,
    addressed: bool,
    now: OffsetDateTime,
) -> Result<(), WorklistError> {
    connection.execute(
        "UPDATE workitems SET state = ?2, attributes = ?3, transaction_uid = ?4, \
         addressed = ?5, ours = ?6, order_id = ?7, updated_at = ?8 WHERE uid = ?1",
        params![
            item.uid.as_str(),
            item.state.word(),
            serde_json::to_string(&item.attributes)?,
            item.transaction_uid,
            addressed,
            item.is_ours,
            item.order_id.map(|id| id.to_string()),
            milliseconds(now),
        ],
    )?;
    Ok(())
}

/// Remembers that we were asked to cancel.
pub(super) fn note_cancel_request(
    connection: &Connection,
    uid: &SopInstanceUid,
) -> Result<(), WorklistError> {
    connection
        .execute("UPDATE workitems SET cancel_requested = 1 WHERE uid = ?1", [uid.as_str()])?;
    Ok(())
}

pub(super) fn count(connection: &Connection) -> Result<u64, WorklistError> {
    let sql = "SELECT count(*) FROM workitems";
    Ok(connection.query_row(sql, [], |row| read_count(row, 0))?)
}

pub(super) fn find(connection: &Connection, uid: &str) -> Result<Option<Workitem>, WorklistError> {
    let sql = format!("SELECT {COLUMNS} FROM workitems WHERE uid = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([uid], read).optional()?)
}

pub(super) fn get(
    connection: &Connection,
    uid: &SopInstanceUid,
) -> Result<Workitem, WorklistError> {
    let unknown = || WorklistError::Unknown { uid: uid.to_string() };
    find(connection, uid.as_str())?.ok_or_else(unknown)
}

/// Visits work items, oldest first, until `visitor` says stop; says whether it did.
pub(super) fn visit(
    connection: &Connection,
    state: Option<&str>,
    mut visitor: impl FnMut(&Workitem) -> bool,
) -> Result<bool, WorklistError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM workitems WHERE (?1 IS NULL OR state = ?1) ORDER BY sequence"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([state])?;
    while let Some(row) = rows.next()? {
        if !visitor(&read(row)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Work items for us to claim, and those we perform.
pub(super) fn to_do(connection: &Connection) -> Result<Vec<Workitem>, WorklistError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM workitems WHERE (addressed AND state = 'SCHEDULED') \
         OR (ours AND state = 'IN PROGRESS') ORDER BY sequence LIMIT 256"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Workitem> {
    let state: String = row.get("state")?;
    let state = State::parse(&state).ok_or_else(|| broken(std::fmt::Error))?;
    let attributes: String = row.get("attributes")?;
    let order_id: Option<String> = row.get("order_id")?;
    Ok(Workitem {
        uid: SopInstanceUid::parse(&row.get::<_, String>("uid")?).map_err(broken)?,
        state,
        attributes: serde_json::from_str(&attributes).map_err(broken)?,
        transaction_uid: row.get("transaction_uid")?,
        is_ours: row.get("ours")?,
        order_id: order_id.map(|id| Uuid::parse_str(&id)).transpose().map_err(broken)?,
        cancel_requested: row.get("cancel_requested")?,
    })
}
