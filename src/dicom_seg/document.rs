//! What every object of this server says, whatever it is: equipment, time, encoding.

use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::FileMetaTableBuilder;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use super::elements::{LO_LENGTH_MAX, Object, PutElements, shortened};
use super::{Provenance, SegError, segments, source};
use crate::dicom::Attributes;
use crate::series::Series;

/// Series numbers of results lie above those of scanners.
pub(super) const SERIES_NUMBER_BASE: i64 = 9000;
/// Series numbers of different kinds of results lie this far apart.
pub(super) const SERIES_NUMBER_STEP: i64 = 9000;
/// Implementation Class UID of this writer (a UUID under 2.25).
const IMPLEMENTATION_CLASS_UID: &str = "2.25.217064797362660415649801726194167947893";

/// Type 2 and type 1 of the General Series Module (PS3.3 C.7.3.1); the number counts on from the
/// source's by `offset`.
pub(super) fn put_series(object: &mut Object, series: &Series, about: &SeriesText<'_>) {
    let source = source::representative(series);
    let number = source.i64_opt(tags::SERIES_NUMBER).ok().flatten().unwrap_or(0);
    let number = about.number_base + number.rem_euclid(SERIES_NUMBER_STEP);
    object.put_text(tags::MODALITY, VR::CS, about.modality);
    object.put_text(tags::SERIES_INSTANCE_UID, VR::UI, about.series_uid);
    object.put_text(tags::SERIES_NUMBER, VR::IS, &number.to_string());
    let description = shortened(about.description, LO_LENGTH_MAX);
    object.put_text(tags::SERIES_DESCRIPTION, VR::LO, &description);
    object.put_text(tags::INSTANCE_NUMBER, VR::IS, "1");
    object.put_text(tags::SOP_CLASS_UID, VR::UI, about.sop_class_uid);
    object.put_text(tags::SOP_INSTANCE_UID, VR::UI, about.sop_instance_uid);
}

/// What differs between the series of our objects.
pub(super) struct SeriesText<'a> {
    pub(super) modality: &'a str,
    pub(super) series_uid: &'a str,
    pub(super) number_base: i64,
    pub(super) description: &'a str,
    pub(super) sop_class_uid: &'a str,
    pub(super) sop_instance_uid: &'a str,
}

/// (Enhanced) General Equipment (PS3.3 C.7.5.1, C.7.5.2): this server.
pub(super) fn put_equipment(object: &mut Object, provenance: &Provenance, source: &Object) {
    object.put_text(tags::MANUFACTURER, VR::LO, segments::ALGORITHM_SOURCE);
    object.put_text(tags::MANUFACTURER_MODEL_NAME, VR::LO, "SEER segmentation server");
    object.put_text(tags::DEVICE_SERIAL_NUMBER, VR::LO, &provenance.device_uid);
    object.put_text(tags::DEVICE_UID, VR::UI, &provenance.device_uid);
    let version = shortened(&provenance.server_version, LO_LENGTH_MAX);
    object.put_text(tags::SOFTWARE_VERSIONS, VR::LO, &version);
    copy(object, source, &[tags::INSTITUTION_NAME]);
}

pub(super) fn copy(object: &mut Object, source: &Object, tags: &[Tag]) {
    for element in tags.iter().filter_map(|tag| source.get(*tag)) {
        object.put(DataElement::clone(element));
    }
}

/// When the object was made, in DICOM's words.
pub(super) struct Moment {
    date: String,
    time: String,
    /// As DT, with the offset.
    pub(super) date_time: String,
    offset: Option<String>,
}

impl Moment {
    /// In the source's time zone, where it names one, because one object has one.
    pub(super) fn of(created: OffsetDateTime, source: &Object) -> Self {
        let zone = source::utc_offset(source);
        let at = zone.as_ref().map_or(created, |(_, offset)| created.to_offset(*offset));
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let date = format!("{year:04}{:02}{day:02}", u8::from(month));
        let time = format!("{hour:02}{minute:02}{second:02}");
        let date_time = format!("{date}{time}{}", offset_text(at.offset()));
        Self { date, time, date_time, offset: zone.map(|(text, _)| text) }
    }

    pub(super) fn put(&self, object: &mut Object) {
        for tag in [tags::INSTANCE_CREATION_DATE, tags::SERIES_DATE, tags::CONTENT_DATE] {
            object.put_text(tag, VR::DA, &self.date);
        }
        for tag in [tags::INSTANCE_CREATION_TIME, tags::SERIES_TIME, tags::CONTENT_TIME] {
            object.put_text(tag, VR::TM, &self.time);
        }
        if let Some(offset) = &self.offset {
            object.put_text(tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, offset);
        }
    }
}

fn offset_text(offset: UtcOffset) -> String {
    let format = format_description!("[offset_hour sign:mandatory][offset_minute]");
    offset.format(&format).unwrap_or_else(|_| "+0000".to_owned())
}

/// A Part 10 file, Explicit VR Little Endian.
pub(super) fn encode(object: Object) -> Result<Vec<u8>, SegError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| SegError::Encode(error);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name("SEER");
    let file = object.with_meta(meta).map_err(|error| failed(error.into()))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|error| failed(error.into()))?;
    Ok(bytes)
}
