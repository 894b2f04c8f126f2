//! The SQLite index of the archive. It can always be rebuilt from the files.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::attributes::{Attribute, Level, indexed_text, level_json, metadata_json};
use crate::dicom::Instance;

/// Raised when the tables change; an index of another version is thrown away and rebuilt.
const VERSION: i64 = 1;

/// One writer, and readers that are reused.
pub(super) struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// What the index needs to know about an instance besides its data set.
pub(super) struct Entry<'a> {
    pub(super) instance: &'a Instance,
    pub(super) sha256: [u8; 32],
    pub(super) size_bytes: u64,
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
        "CREATE INDEX study_by_date ON study (StudyDate);
         CREATE INDEX study_by_patient ON study (PatientID);
         CREATE INDEX instance_by_series ON instance (StudyInstanceUID, SeriesInstanceUID);",
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// One column per indexed attribute, named by its keyword, beside the level's DICOM JSON.
fn table_sql(level: Level) -> String {
    let columns: Vec<String> =
        Attribute::of(level).map(|attribute| format!("{} TEXT", attribute.keyword)).collect();
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
             metadata BLOB NOT NULL, transfer_syntax_uid TEXT NOT NULL, sha256 BLOB NOT NULL, \
             size_bytes INTEGER NOT NULL, PRIMARY KEY (SOPInstanceUID))"
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

/// Adds an instance, its series and its study in one transaction. The first instance of a study
/// or series decides its attributes.
pub(super) fn insert(connection: &mut Connection, entry: &Entry<'_>) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for level in Level::ALL {
        insert_level(&transaction, level, entry)?;
    }
    transaction.commit()
}

fn insert_level(connection: &Connection, level: Level, entry: &Entry<'_>) -> rusqlite::Result<()> {
    let identity = entry.instance.identity();
    let object = entry.instance.object();
    let json = serde_json::Value::Object(level_json(object, level)).to_string();
    let mut columns = vec!["json"];
    let mut values: Vec<rusqlite::types::Value> = vec![json.into()];
    for attribute in Attribute::of(level) {
        columns.push(attribute.keyword);
        values.push(match attribute.keyword {
            // The identity's UIDs are checked and without padding.
            "StudyInstanceUID" => identity.study.as_str().to_owned().into(),
            "SeriesInstanceUID" => identity.series.as_str().to_owned().into(),
            "SOPInstanceUID" => identity.sop_instance.as_str().to_owned().into(),
            _ => indexed_text(object, attribute).into(),
        });
    }
    if level != Level::Study {
        columns.push("StudyInstanceUID");
        values.push(identity.study.as_str().to_owned().into());
    }
    if level == Level::Instance {
        columns.extend(["SeriesInstanceUID", "metadata", "transfer_syntax_uid", "sha256"]);
        columns.push("size_bytes");
        let metadata = serde_json::Value::Object(metadata_json(entry.instance)).to_string();
        values.push(identity.series.as_str().to_owned().into());
        values.push(compress(&metadata).into());
        values.push(identity.transfer_syntax_uid.clone().into());
        values.push(entry.sha256.to_vec().into());
        values.push(i64::try_from(entry.size_bytes).unwrap_or(i64::MAX).into());
    }
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!(
        "INSERT OR IGNORE INTO {} ({}) VALUES ({places})",
        level.table(),
        columns.join(", ")
    );
    connection.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values)).map(|_| ())
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

/// Every SOP Instance UID in the index.
pub(super) fn all_uids(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT SOPInstanceUID FROM instance")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn compress(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// Undoes [`compress`].
pub(super) fn decompress(bytes: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::DeflateDecoder::new(bytes), &mut text)?;
    Ok(text)
}
