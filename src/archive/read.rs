//! Reading what is stored.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Map, Value};

use sha2::{Digest, Sha256};

use super::{Archive, ArchiveError, Query, index, io_error, metadata, patients, search};
use crate::dicom::{Instance, SeriesUid, SopInstanceUid, StudyUid};

/// A study, one of its series, or one of their instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only this instance.
    pub instance: Option<SopInstanceUid>,
}

impl Scope {
    /// A whole study.
    pub fn study(study: StudyUid) -> Self {
        Self { study, series: None, instance: None }
    }

    /// A whole series.
    pub fn series(study: StudyUid, series: SeriesUid) -> Self {
        Self { study, series: Some(series), instance: None }
    }

    /// One instance.
    pub fn instance(study: StudyUid, series: SeriesUid, instance: SopInstanceUid) -> Self {
        Self { study, series: Some(series), instance: Some(instance) }
    }

    pub(super) fn unknown(&self) -> ArchiveError {
        let (what, uid) = match (&self.series, &self.instance) {
            (_, Some(instance)) => ("instance", instance.to_string()),
            (Some(series), None) => ("series", series.to_string()),
            (None, None) => ("study", self.study.to_string()),
        };
        ArchiveError::Unknown { what, uid }
    }

    /// `WHERE` clause and values over the `instance` table.
    pub(super) fn filter(&self) -> (String, Vec<&str>) {
        let mut clause = "StudyInstanceUID = ?".to_owned();
        let mut values = vec![self.study.as_str()];
        if let Some(series) = &self.series {
            clause.push_str(" AND SeriesInstanceUID = ?");
            values.push(series.as_str());
        }
        if let Some(instance) = &self.instance {
            clause.push_str(" AND SOPInstanceUID = ?");
            values.push(instance.as_str());
        }
        (clause, values)
    }
}

/// A stored instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRecord {
    /// Its series.
    pub series: SeriesUid,
    /// Its own UID.
    pub sop_instance: SopInstanceUid,
    /// Its SOP class.
    pub sop_class_uid: String,
    /// Its transfer syntax.
    pub transfer_syntax_uid: String,
    /// Its size.
    pub size_bytes: u64,
    /// Where its file is.
    pub path: PathBuf,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
}

/// What helps to choose a series of a study without reading its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRecord {
    /// (0020,000E)
    pub series: SeriesUid,
    /// Modality (0008,0060).
    pub modality: String,
    /// Series Number (0020,0011).
    pub number: Option<i64>,
    /// Series Description (0008,103E); may hold patient data, so never logged.
    pub description: Option<String>,
    /// Body Part Examined (0018,0015).
    pub body_part: Option<String>,
    /// SOP Class UID (0008,0016) of its first instance.
    pub sop_class_uid: String,
    /// Image Type (0008,0008) of its first instance, for example `ORIGINAL\PRIMARY\AXIAL`.
    pub image_type: Option<String>,
    /// Rows (0028,0010) of its first instance; 0 without pixels.
    pub rows: u32,
    /// Columns (0028,0011) of its first instance; 0 without pixels.
    pub columns: u32,
    /// How many instances it has.
    pub instance_count: u64,
    /// How many frames they have in all.
    pub frame_count: u64,
}

impl Archive {
    /// How many results a search has in all, whatever its limit and offset.
    ///
    /// # Errors
    /// When the index fails.
    pub fn count(&self, query: &Query) -> Result<u64, ArchiveError> {
        Ok(self.0.index.read(|connection| search::count(connection, query))?)
    }

    /// Searches for studies, series or instances.
    ///
    /// # Errors
    /// When the index fails.
    pub fn search(&self, query: &Query) -> Result<Vec<Map<String, Value>>, ArchiveError> {
        Ok(self.0.index.read(|connection| search::search(connection, query))?)
    }

    /// Searches for patients: a query for studies, answered by one result per Patient ID and
    /// issuer, with the attributes of the patient as the newest study has them and the counts of
    /// PS3.4 Table C.6-1. Studies without Patient ID have no patient.
    ///
    /// # Errors
    /// When the index fails.
    pub fn patients(&self, query: &Query) -> Result<Vec<Map<String, Value>>, ArchiveError> {
        Ok(self.0.index.read(|connection| patients::search(connection, query))?)
    }

    /// Whether anything of a study is stored.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_study(&self, study: &StudyUid) -> Result<bool, ArchiveError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM study WHERE StudyInstanceUID = ?)";
        Ok(self
            .0
            .index
            .read(|connection| connection.query_row(sql, [study.as_str()], |row| row.get(0)))?)
    }

    /// The instances of a scope, by series and instance number.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when there are none.
    pub fn instances(&self, scope: &Scope) -> Result<Vec<InstanceRecord>, ArchiveError> {
        let (clause, values) = scope.filter();
        let sql = format!(
            "SELECT SeriesInstanceUID, SOPInstanceUID, coalesce(SOPClassUID, ''), \
             transfer_syntax_uid, size_bytes, sha256 FROM instance WHERE {clause} {ORDER}"
        );
        let rows = self.0.index.read(|connection| {
            connection
                .prepare_cached(&sql)?
                .query_map(rusqlite::params_from_iter(values), |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                })?
                .collect::<rusqlite::Result<Vec<(String, String, String, String, i64, [u8; 32])>>>()
        })?;
        if rows.is_empty() {
            return Err(scope.unknown());
        }
        rows.into_iter()
            .map(|(series, sop_instance, sop_class_uid, transfer_syntax_uid, size, sha256)| {
                let series = SeriesUid::parse(&series)?;
                let sop_instance = SopInstanceUid::parse(&sop_instance)?;
                let path = self.0.files.path(&scope.study, &series, &sop_instance);
                let size_bytes = u64::try_from(size).unwrap_or_default();
                Ok(InstanceRecord {
                    series,
                    sop_instance,
                    sop_class_uid,
                    transfer_syntax_uid,
                    size_bytes,
                    path,
                    sha256,
                })
            })
            .collect()
    }

    /// A digest of what a scope holds: it changes whenever an instance comes, goes or changes.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when there is nothing.
    pub fn fingerprint(&self, scope: &Scope) -> Result<[u8; 32], ArchiveError> {
        let (clause, values) = scope.filter();
        let sql = format!("SELECT sha256 FROM instance WHERE {clause} {ORDER}");
        let mut hasher = Sha256::new();
        let count = self.0.index.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            let mut count = 0_u64;
            while let Some(row) = rows.next()? {
                hasher.update(row.get_ref(0)?.as_blob()?);
                count += 1;
            }
            Ok(count)
        })?;
        if count == 0 { Err(scope.unknown()) } else { Ok(hasher.finalize().into()) }
    }

    /// DICOM JSON metadata (PS3.18 §10.4.1.1.2) of the instances of a scope, one text each.
    ///
    /// A `BulkDataURI` is absolute and lies below `dicomweb_root`, the URL of the service.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when there are none.
    pub fn metadata(
        &self,
        scope: &Scope,
        dicomweb_root: &str,
    ) -> Result<Vec<String>, ArchiveError> {
        let mut texts = Vec::new();
        self.each_metadata(scope, dicomweb_root, |text| {
            texts.push(text);
            Ok(())
        })?;
        Ok(texts)
    }

    /// Gives the metadata of one instance after the other, so that a long series is never held
    /// as a whole.
    pub(super) fn each_metadata(
        &self,
        scope: &Scope,
        dicomweb_root: &str,
        mut take: impl FnMut(String) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (clause, values) = scope.filter();
        let sql = format!(
            "SELECT SeriesInstanceUID, SOPInstanceUID, metadata FROM instance \
             WHERE {clause} {ORDER}"
        );
        let mut count = 0_u64;
        let outcome = self.0.index.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                let (series, instance): (String, String) = (row.get(0)?, row.get(1)?);
                let unpacked = index::decompress(row.get_ref(2)?.as_blob()?);
                let study = &scope.study;
                let root = format!(
                    "{dicomweb_root}/studies/{study}/series/{series}/instances/{instance}/bulkdata/"
                );
                let taken = unpacked
                    .map_err(io_error("unpack metadata"))
                    .and_then(|text| take(metadata::with_bulk_root(&text, &root)));
                if let Err(error) = taken {
                    return Ok(Err(error));
                }
                count += 1;
            }
            Ok(Ok(()))
        })?;
        outcome?;
        if count == 0 { Err(scope.unknown()) } else { Ok(()) }
    }

    /// The files of a series, by instance number.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when the series is not stored.
    pub fn series_instances(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Vec<PathBuf>, ArchiveError> {
        let scope = Scope::series(study.clone(), series.clone());
        Ok(self.instances(&scope)?.into_iter().map(|record| record.path).collect())
    }

    /// Reads one stored instance.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when it is not stored; when the disk fails.
    pub fn load_instance(&self, scope: &Scope) -> Result<Instance, ArchiveError> {
        let record = self.instances(scope)?.into_iter().next().ok_or_else(|| scope.unknown())?;
        self.load(&record.path)
    }

    /// Reads every instance of a series, by instance number.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when the series is not stored; when the disk fails.
    pub fn load_series(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Vec<Arc<Instance>>, ArchiveError> {
        let paths = self.series_instances(study, series)?;
        paths.iter().map(|path| self.load(path).map(Arc::new)).collect()
    }

    pub(super) fn load(&self, path: &std::path::Path) -> Result<Instance, ArchiveError> {
        let bytes = std::fs::read(path).map_err(io_error("read a stored instance"))?;
        Ok(Instance::parse(&bytes, &self.0.settings.limits)?.0)
    }

    /// What there is to choose from in a study, by series number.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] when the study is not stored.
    pub fn series_of(&self, study: &StudyUid) -> Result<Vec<SeriesRecord>, ArchiveError> {
        let candidates = self.0.index.read(|connection| candidates(connection, study))?;
        if candidates.is_empty() {
            return Err(Scope::study(study.clone()).unknown());
        }
        Ok(candidates)
    }
}

pub(super) const ORDER: &str =
    "ORDER BY SeriesInstanceUID, CAST(InstanceNumber AS INTEGER), SOPInstanceUID";

fn candidates(connection: &Connection, study: &StudyUid) -> rusqlite::Result<Vec<SeriesRecord>> {
    // With a bare min(), SQLite takes the other columns from the row that has it.
    let sql = "SELECT series.SeriesInstanceUID, Modality, SeriesNumber, SeriesDescription, \
         BodyPartExamined, SOPClassUID, ImageType, Rows, Columns, count(*), \
         sum(coalesce(CAST(NumberOfFrames AS INTEGER), Rows IS NOT NULL)), \
         min(coalesce(CAST(InstanceNumber AS INTEGER), 0)) \
         FROM series JOIN instance USING (StudyInstanceUID, SeriesInstanceUID) \
         WHERE series.StudyInstanceUID = ? GROUP BY series.SeriesInstanceUID \
         ORDER BY CAST(SeriesNumber AS INTEGER), series.SeriesInstanceUID";
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<i64>().ok());
    let size = move |text| number(text).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    connection
        .prepare_cached(sql)?
        .query_map([study.as_str()], |row| {
            let uid: String = row.get(0)?;
            let series = SeriesUid::parse(&uid).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    0,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?;
            Ok(SeriesRecord {
                series,
                modality: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                number: number(row.get(2)?),
                description: row.get(3)?,
                body_part: row.get(4)?,
                sop_class_uid: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
                image_type: row.get(6)?,
                rows: size(row.get(7)?),
                columns: size(row.get(8)?),
                instance_count: row.get::<_, i64>(9)?.unsigned_abs(),
                frame_count: row.get::<_, i64>(10)?.unsigned_abs(),
            })
        })?
        .collect()
}
