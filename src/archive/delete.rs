//! Taking studies, series and instances out of the archive for good.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::{Archive, ArchiveError, Scope, io_error};
use crate::dicom::StudyUid;

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Of which study.
    pub study: StudyUid,
    /// How many instances.
    pub instance_count: u64,
    /// How many bytes they had.
    pub size_bytes: u64,
}

impl Archive {
    /// Deletes a study, a series or an instance; returns after that is durable.
    ///
    /// The files leave the archive in one rename, under the writer's lock. Should the process die
    /// around it, either all are still there or all are gone at the next start.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when there is nothing of it; input and output errors, after which
    /// everything is still there.
    pub fn delete(&self, scope: &Scope) -> Result<Deleted, ArchiveError> {
        let mut writer = self.0.index.writer();
        let (clause, values) = scope.filter();
        let transaction = writer.transaction()?;
        let sql =
            format!("SELECT count(*), coalesce(sum(size_bytes), 0) FROM instance WHERE {clause}");
        let (count, size): (i64, i64) =
            transaction.query_row(&sql, rusqlite::params_from_iter(&values), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if count == 0 {
            return Err(scope.unknown());
        }
        let sql = format!("DELETE FROM instance WHERE {clause}");
        transaction.execute(&sql, rusqlite::params_from_iter(&values))?;
        let study = scope.study.as_str();
        transaction.execute(
            "DELETE FROM series WHERE StudyInstanceUID = ?1 AND NOT EXISTS (SELECT 1 FROM instance
               WHERE instance.StudyInstanceUID = ?1
                 AND instance.SeriesInstanceUID = series.SeriesInstanceUID)",
            [study],
        )?;
        transaction.execute(
            "DELETE FROM study WHERE StudyInstanceUID = ?1 AND NOT EXISTS
               (SELECT 1 FROM series WHERE series.StudyInstanceUID = ?1)",
            [study],
        )?;
        let taken = self.0.files.take_out(scope).map_err(io_error("take files out"))?;
        if let Err(error) = transaction.commit() {
            taken.undo().map_err(io_error("put files back"))?;
            return Err(error.into());
        }
        drop(writer);
        let size_bytes = size.unsigned_abs();
        self.0.used_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        if let Err(error) = taken.discard() {
            tracing::warn!(%error, "Deleted files still take room; the next start removes them");
        }
        let instance_count = count.unsigned_abs();
        Ok(Deleted { study: scope.study.clone(), instance_count, size_bytes })
    }

    /// Deletes every study of which nothing was received since a time.
    ///
    /// # Errors
    /// As [`Archive::delete`]; what was deleted before stays deleted.
    pub fn delete_received_before(
        &self,
        time: OffsetDateTime,
    ) -> Result<Vec<Deleted>, ArchiveError> {
        let sql = "SELECT StudyInstanceUID, max(received_at) FROM instance \
                   GROUP BY StudyInstanceUID";
        let latest: BTreeMap<String, i64> = self.0.index.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let old = latest.into_iter().filter(|(_, at)| *at < time.unix_timestamp());
        old.map(|(study, _)| self.delete(&Scope::study(StudyUid::parse(&study)?))).collect()
    }
}
