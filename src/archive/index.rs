//! The SQLite index of the archive. It can always be rebuilt from the files.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::attributes::{Attribute, Level, indexed_text, level_json};
use super::files::Files;
use super::metadata::metadata_json;
use super::names;
use crate::dicom::{FramePlaces, Identity, Instance, SeriesUid, SopInstanceUid, StudyUid};
use dicom_core::VR;

/// Raised when the tables change; an index of another version is thrown away and rebuilt.
const VERSION: i64 = 2;

/// One writer, and readers that are reused.
pub(super) struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// What is written about one instance, made ready outside the writer's lock.
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) sha256: [u8; 32],
    pub(super) size_bytes: u64,
    rows: [Row; 3],
}

/// Columns and values for one table.
struct Row {
    columns: Vec<String>,
    values: Vec<SqlValue>,
}

impl Entry {
    pub(super) fn new(instance: &Instance, sha256: [u8; 32], received: Received) -> Self {
        let mut rows = Level::ALL.map(|level| level_row(instance, level));
        let metadata = serde_json::Value::Object(metadata_json(instance)).to_string();
        let frames = instance.frame_places().map(|places| pack_places(&places));
        let size = i64::try_from(received.size_bytes).unwrap_or(i64::MAX);
        let own: [(&str, SqlValue); 6] = [
            ("metadata", compress(metadata.as_bytes()).into()),
            ("frames", frames.into()),
            ("transfer_syntax_uid", instance.identity().transfer_syntax_uid.clone().into()),
            ("sha256", sha256.to_vec().into()),
            ("size_bytes", size.into()),
            ("received_at", received.at_unix_seconds.into()),
        ];
        for (column, value) in own {
            rows[2].columns.push(column.to_owned());
            rows[2].values.push(value);
        }
        let identity = instance.identity().clone();
        Self { identity, sha256, size_bytes: received.size_bytes, rows }
    }
}

/// What the archive knows of an instance besides its data set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) size_bytes: u64,
    pub(super) at_unix_seconds: i64,
}

fn level_row(instance: &Instance, level: Level) -> Row {
    let (identity, object) = (instance.identity(), instance.object());
    let json = serde_json::Value::Object(level_json(object, level)).to_string();
    let mut row = Row { columns: vec!["json".to_owned()], values: vec![json.into()] };
    let mut put = |column: String, value: SqlValue| {
        row.columns.push(column);
        row.values.push(value);
    };
    for attribute in Attribute::of(level) {
        let text = match attribute.column {
            // The identity's UIDs are checked and without padding.
            "StudyInstanceUID" => Some(identity.study.as_str().to_owned()),
            "SeriesInstanceUID" => Some(identity.series.as_str().to_owned()),
            "SOPInstanceUID" => Some(identity.sop_instance.as_str().to_owned()),
            _ => indexed_text(object, attribute),
        };
        if attribute.vr == VR::PN {
            put(fuzzy_column(attribute), text.as_deref().map(names::fuzzy_key).into());
        }
        put(attribute.column.to_owned(), text.into());
    }
    if level != Level::Study {
        put("StudyInstanceUID".to_owned(), identity.study.as_str().to_owned().into());
    }
    if level == Level::Instance {
        put("SeriesInstanceUID".to_owned(), identity.series.as_str().to_owned().into());
    }
    row
}

/// The column of a person name's words and sounds.
pub(super) fn fuzzy_column(attribute: &Attribute) -> String {
    format!("{}_fuzzy", attribute.column)
}

impl Index {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut writer = Connection::open(path)?;
        configure(&writer)?;
        let version: i64 = writer.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            create(&mut writer)?;
        }
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    /// The only connection that writes; whoever holds it decides alone.
    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere rolled its transaction back, so the connection is still good.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on a connection that sees the last committed state.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match spare {
            Some(connection) => connection,
            None => {
                let connection =
                    Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                connection.busy_timeout(Duration::from_secs(10))?;
                connection
            }
        };
        let result = read(&connection);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The files are synced before a row is written; a row lost with the power comes back from
    // its file at the next start, so the log need not be synced at each commit.
    connection.pragma_update(None, "synchronous", "NORMAL")
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for level in Level::ALL.into_iter().rev() {
        transaction.execute(&format!("DROP TABLE IF EXISTS {}", level.table()), [])?;
    }
    for level in Level::ALL {
        transaction.execute_batch(&table_sql(level))?;
    }
    transaction.execute_batch(
        "CREATE INDEX study_by_date
           ON study (StudyDate DESC, StudyTime DESC, StudyInstanceUID);
         CREATE INDEX study_by_patient ON study (PatientID);
         CREATE INDEX study_by_accession ON study (AccessionNumber);
         CREATE INDEX series_by_modality ON series (Modality, StudyInstanceUID);
         CREATE INDEX instance_by_series ON instance (StudyInstanceUID, SeriesInstanceUID);
         CREATE INDEX instance_by_time ON instance (StudyInstanceUID, received_at);",
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// One column per indexed attribute, named by its keyword, beside the level's DICOM JSON.
fn table_sql(level: Level) -> String {
    let mut columns = Vec::new();
    for attribute in Attribute::of(level) {
        columns.push(format!("{} TEXT", attribute.column));
        if attribute.vr == VR::PN {
            columns.push(format!("{} TEXT", fuzzy_column(attribute)));
        }
    }
    let columns = columns.join(", ");
    match level {
        Level::Study => format!(
            "CREATE TABLE study ({columns}, json TEXT NOT NULL, PRIMARY KEY (StudyInstanceUID))"
        ),
        Level::Series => format!(
            "CREATE TABLE series (StudyInstanceUID TEXT NOT NULL, {columns}, json TEXT NOT NULL, \
             PRIMARY KEY (StudyInstanceUID, SeriesInstanceUID))"
        ),
        Level::Instance => format!(
            "CREATE TABLE instance (StudyInstanceUID TEXT NOT NULL, \
             SeriesInstanceUID TEXT NOT NULL, {columns}, json TEXT NOT NULL, \
             metadata BLOB NOT NULL, frames BLOB, transfer_syntax_uid TEXT NOT NULL, \
             sha256 BLOB NOT NULL, size_bytes INTEGER NOT NULL, received_at INTEGER NOT NULL, \
             PRIMARY KEY (SOPInstanceUID))"
        ),
    }
}

/// The digest under which a SOP instance is known.
pub(super) fn digest_of(connection: &Connection, uid: &str) -> rusqlite::Result<Option<[u8; 32]>> {
    connection
        .prepare_cached("SELECT sha256 FROM instance WHERE SOPInstanceUID = ?")?
        .query_row([uid], |row| row.get(0))
        .optional()
}

/// Adds an instance, its series and its study. The first instance of a study or series decides
/// its attributes.
pub(super) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    for (level, row) in Level::ALL.into_iter().zip(&entry.rows) {
        let places = vec!["?"; row.columns.len()].join(", ");
        let sql = format!(
            "INSERT OR IGNORE INTO {} ({}) VALUES ({places})",
            level.table(),
            row.columns.join(", ")
        );
        connection.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(&row.values))?;
    }
    Ok(())
}

/// Forgets instances whose files are gone, and series and studies left empty.
pub(super) fn forget(connection: &mut Connection, uids: &[String]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for uid in uids {
        transaction.execute("DELETE FROM instance WHERE SOPInstanceUID = ?", params![uid])?;
    }
    transaction.execute_batch(
        "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM instance
           WHERE instance.StudyInstanceUID = series.StudyInstanceUID
             AND instance.SeriesInstanceUID = series.SeriesInstanceUID);
         DELETE FROM study WHERE NOT EXISTS (SELECT 1 FROM series
           WHERE series.StudyInstanceUID = study.StudyInstanceUID);",
    )?;
    transaction.commit()
}

/// Bytes of all files.
pub(super) fn size_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(size_bytes), 0) FROM instance";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Every SOP Instance UID in the index.
pub(super) fn all_uids(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT SOPInstanceUID FROM instance")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// Undoes the compression of metadata.
pub(super) fn decompress(bytes: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::DeflateDecoder::new(bytes), &mut text)?;
    Ok(text)
}

fn pack_places(places: &FramePlaces) -> Vec<u8> {
    let bytes: Vec<u8> = places.to_numbers().into_iter().flat_map(u64::to_le_bytes).collect();
    compress(&bytes)
}

/// Undoes the packing of frame places; `None` for bytes that were not packed here.
pub(super) fn unpack_places(packed: &[u8]) -> Option<FramePlaces> {
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::DeflateDecoder::new(packed);
    std::io::Read::read_to_end(&mut decoder, &mut bytes).ok()?;
    let numbers: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    FramePlaces::from_numbers(&numbers)
}

/// A row that is known under a SOP Instance UID.
pub(super) struct Known {
    pub(super) sha256: [u8; 32],
    pub(super) size_bytes: u64,
    uids: [String; 3],
}

impl Known {
    /// Where its file is.
    pub(super) fn path_of(&self, files: &Files) -> Option<PathBuf> {
        let [study, series, instance] = &self.uids;
        let study = StudyUid::parse(study).ok()?;
        let series = SeriesUid::parse(series).ok()?;
        Some(files.path(&study, &series, &SopInstanceUid::parse(instance).ok()?))
    }
}

/// Looks an instance up by its UID alone.
pub(super) fn known(connection: &Connection, uid: &str) -> rusqlite::Result<Option<Known>> {
    let sql = "SELECT sha256, size_bytes, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID \
               FROM instance WHERE SOPInstanceUID = ?";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Known {
            sha256: row.get(0)?,
            size_bytes: row.get::<_, i64>(1)?.unsigned_abs(),
            uids: [row.get(2)?, row.get(3)?, row.get(4)?],
        })
    };
    connection.prepare_cached(sql)?.query_row([uid], read).optional()
}
