//! Which attributes the index knows.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;
use serde_json::{Map, Value, json};

use super::metadata::element_json;
use crate::dicom::Attributes as _;

/// A level of the information model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Studies, with their patients.
    Study,
    /// Series.
    Series,
    /// SOP instances.
    Instance,
}

impl Level {
    pub(super) const ALL: [Self; 3] = [Self::Study, Self::Series, Self::Instance];

    /// Name of its table.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Series => "series",
            Self::Instance => "instance",
        }
    }
}

/// An attribute that is indexed and can be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// PS3.6 keyword.
    pub keyword: &'static str,
    /// Its tag.
    pub tag: Tag,
    /// The sequence it is in, by keyword and tag; any item may match.
    pub within: Option<(&'static str, Tag)>,
    /// Where it belongs.
    pub level: Level,
    /// Decides how it is matched.
    pub vr: VR,
    /// Name of its column.
    pub(super) column: &'static str,
    /// It has several values, of which any may match.
    pub(super) is_multiple: bool,
    /// It is in the results even when the instances do not have it (PS3.18 Tables 10.6.3-3 to -5).
    pub(super) is_always_told: bool,
}

macro_rules! attribute {
    ($level:ident $keyword:ident $tag:ident $vr:ident) => {
        Attribute {
            keyword: stringify!($keyword),
            tag: tags::$tag,
            within: None,
            level: Level::$level,
            vr: VR::$vr,
            column: stringify!($keyword),
            is_multiple: false,
            is_always_told: false,
        }
    };
    ($level:ident $keyword:ident $tag:ident $vr:ident always) => {
        Attribute { is_always_told: true, ..attribute!($level $keyword $tag $vr) }
    };
    ($level:ident $keyword:ident $tag:ident $vr:ident multiple) => {
        Attribute { is_multiple: true, ..attribute!($level $keyword $tag $vr) }
    };
    ($level:ident $keyword:ident $tag:ident $vr:ident in $sequence:ident $sequence_tag:ident) => {
        Attribute {
            within: Some((stringify!($sequence), tags::$sequence_tag)),
            column: concat!(stringify!($sequence), "_", stringify!($keyword)),
            is_multiple: true,
            ..attribute!($level $keyword $tag $vr)
        }
    };
}

/// The attributes of PS3.18 Tables 10.6.1-5 that searches use, and what viewers and PACS ask for
/// besides.
pub(super) const ATTRIBUTES: &[Attribute] = &[
    attribute!(Study StudyInstanceUID STUDY_INSTANCE_UID UI),
    attribute!(Study StudyDate STUDY_DATE DA always),
    attribute!(Study StudyTime STUDY_TIME TM always),
    attribute!(Study AccessionNumber ACCESSION_NUMBER SH always),
    attribute!(Study ReferringPhysicianName REFERRING_PHYSICIAN_NAME PN always),
    attribute!(Study StudyDescription STUDY_DESCRIPTION LO),
    attribute!(Study StudyID STUDY_ID SH always),
    attribute!(Study TimezoneOffsetFromUTC TIMEZONE_OFFSET_FROM_UTC SH),
    attribute!(Study NameOfPhysiciansReadingStudy NAME_OF_PHYSICIANS_READING_STUDY PN multiple),
    attribute!(Study RequestedProcedureDescription REQUESTED_PROCEDURE_DESCRIPTION LO),
    attribute!(Study CodeValue CODE_VALUE SH in ProcedureCodeSequence PROCEDURE_CODE_SEQUENCE),
    attribute!(Study PatientName PATIENT_NAME PN always),
    attribute!(Study PatientID PATIENT_ID LO always),
    attribute!(Study IssuerOfPatientID ISSUER_OF_PATIENT_ID LO),
    attribute!(Study PatientBirthDate PATIENT_BIRTH_DATE DA always),
    attribute!(Study PatientSex PATIENT_SEX CS always),
    attribute!(Series SeriesInstanceUID SERIES_INSTANCE_UID UI),
    attribute!(Series Modality MODALITY CS always),
    attribute!(Series SeriesNumber SERIES_NUMBER IS always),
    attribute!(Series SeriesDescription SERIES_DESCRIPTION LO),
    attribute!(Series SeriesDate SERIES_DATE DA),
    attribute!(Series SeriesTime SERIES_TIME TM),
    attribute!(Series BodyPartExamined BODY_PART_EXAMINED CS),
    attribute!(Series Laterality LATERALITY CS),
    attribute!(Series ProtocolName PROTOCOL_NAME LO),
    attribute!(Series FrameOfReferenceUID FRAME_OF_REFERENCE_UID UI),
    attribute!(Series Manufacturer MANUFACTURER LO),
    attribute!(Series ManufacturerModelName MANUFACTURER_MODEL_NAME LO),
    attribute!(Series InstitutionName INSTITUTION_NAME LO),
    attribute!(Series StationName STATION_NAME SH),
    attribute!(Series OperatorsName OPERATORS_NAME PN multiple),
    attribute!(Series PerformingPhysicianName PERFORMING_PHYSICIAN_NAME PN multiple),
    attribute!(Series PerformedProcedureStepStartDate PERFORMED_PROCEDURE_STEP_START_DATE DA),
    attribute!(Series PerformedProcedureStepStartTime PERFORMED_PROCEDURE_STEP_START_TIME TM),
    attribute!(Series ScheduledProcedureStepID SCHEDULED_PROCEDURE_STEP_ID SH
        in RequestAttributesSequence REQUEST_ATTRIBUTES_SEQUENCE),
    attribute!(Series RequestedProcedureID REQUESTED_PROCEDURE_ID SH
        in RequestAttributesSequence REQUEST_ATTRIBUTES_SEQUENCE),
    attribute!(Series AccessionNumber ACCESSION_NUMBER SH
        in RequestAttributesSequence REQUEST_ATTRIBUTES_SEQUENCE),
    attribute!(Instance SOPInstanceUID SOP_INSTANCE_UID UI),
    attribute!(Instance SOPClassUID SOP_CLASS_UID UI),
    attribute!(Instance InstanceNumber INSTANCE_NUMBER IS always),
    attribute!(Instance ImageType IMAGE_TYPE CS multiple),
    attribute!(Instance ContentDate CONTENT_DATE DA),
    attribute!(Instance ContentTime CONTENT_TIME TM),
    attribute!(Instance AcquisitionDate ACQUISITION_DATE DA),
    attribute!(Instance AcquisitionNumber ACQUISITION_NUMBER IS),
    attribute!(Instance ContentLabel CONTENT_LABEL CS),
    attribute!(Instance Rows ROWS US),
    attribute!(Instance Columns COLUMNS US),
    attribute!(Instance BitsAllocated BITS_ALLOCATED US),
    attribute!(Instance NumberOfFrames NUMBER_OF_FRAMES IS),
    attribute!(Instance CodeValue CODE_VALUE SH in ConceptNameCodeSequence CONCEPT_NAME_CODE_SEQUENCE),
    attribute!(Instance SeriesInstanceUID SERIES_INSTANCE_UID UI
        in ReferencedSeriesSequence REFERENCED_SERIES_SEQUENCE),
];

impl Attribute {
    /// Finds one by keyword or by eight hexadecimal digits, as a query string names it; inside a
    /// sequence both are joined by a dot: `00400275.00400009`.
    pub fn find(name: &str) -> Option<&'static Self> {
        let mut parts = name.split('.');
        let (first, second) = (parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        ATTRIBUTES.iter().find(|attribute| match (attribute.within, second) {
            (None, None) => is_named(first, attribute.keyword, attribute.tag),
            (Some((keyword, tag)), Some(second)) => {
                is_named(first, keyword, tag) && is_named(second, attribute.keyword, attribute.tag)
            }
            _ => false,
        })
    }

    /// Every attribute that can be searched.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ATTRIBUTES.iter()
    }

    /// Its name in a query string, by keywords.
    pub fn name(&self) -> String {
        match self.within {
            Some((sequence, _)) => format!("{sequence}.{}", self.keyword),
            None => self.keyword.to_owned(),
        }
    }

    pub(super) fn of(level: Level) -> impl Iterator<Item = &'static Self> {
        ATTRIBUTES.iter().filter(move |attribute| attribute.level == level)
    }

    /// The tag of the top-level element that holds it.
    pub(super) fn top_tag(&self) -> Tag {
        self.within.map_or(self.tag, |(_, tag)| tag)
    }
}

fn is_named(name: &str, keyword: &str, tag: Tag) -> bool {
    match hexadecimal(name) {
        Some(number) => key_number(tag) == number,
        None => keyword == name,
    }
}

fn hexadecimal(name: &str) -> Option<u32> {
    (name.len() == 8).then(|| u32::from_str_radix(name, 16).ok()).flatten()
}

/// The tag that a keyword of the dictionary or eight hexadecimal digits name.
pub fn tag_named(name: &str) -> Option<Tag> {
    match hexadecimal(name) {
        Some(number) => Some(Tag((number >> 16) as u16, number as u16)),
        None => StandardDataDictionary.by_name(name).map(|entry| entry.tag()),
    }
}

fn key_number(tag: Tag) -> u32 {
    u32::from(tag.group()) << 16 | u32::from(tag.element())
}

/// The key of an attribute in DICOM JSON.
pub fn json_key(tag: Tag) -> String {
    format!("{:08X}", key_number(tag))
}

/// The text of an attribute as the index keeps it: values joined by backslashes, without padding;
/// absent when missing or empty.
pub(super) fn indexed_text(object: &InMemDicomObject, attribute: &Attribute) -> Option<String> {
    let Some((_, sequence)) = attribute.within else {
        return own_text(object, attribute.tag, attribute.vr);
    };
    let texts = object.items(sequence).iter();
    let texts: Vec<String> =
        texts.filter_map(|item| own_text(item, attribute.tag, attribute.vr)).collect();
    (!texts.is_empty()).then(|| texts.join("\\"))
}

fn own_text(object: &InMemDicomObject, tag: Tag, vr: VR) -> Option<String> {
    let text = object.get(tag)?.value().to_str().ok()?;
    let values = text.split('\\').map(|value| {
        let value = value.trim_matches([' ', '\0']);
        if vr == VR::PN { value.trim_end_matches('^') } else { value }
    });
    let text = values.collect::<Vec<_>>().join("\\");
    (!text.is_empty()).then_some(text)
}

/// The attributes of one level as DICOM JSON: those of the level's table that the instance has,
/// and those that are always told.
pub(super) fn level_json(object: &InMemDicomObject, level: Level) -> Map<String, Value> {
    let mut told = Map::new();
    for attribute in Attribute::of(level) {
        let tag = attribute.top_tag();
        match object.get(tag).and_then(element_json) {
            Some(value) => {
                told.insert(json_key(tag), value);
            }
            None if attribute.is_always_told => {
                told.insert(json_key(tag), json!({ "vr": attribute.vr.to_string() }));
            }
            None => {}
        }
    }
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_are_found_by_keyword_and_by_tag() {
        assert_eq!(Attribute::find("PatientName").unwrap().tag, tags::PATIENT_NAME);
        assert_eq!(Attribute::find("00100010").unwrap().keyword, "PatientName");
        assert_eq!(Attribute::find("0020000d").unwrap().keyword, "StudyInstanceUID");
        assert!(Attribute::find("PixelData").is_none() && Attribute::find("7FE00010").is_none());
        for name in [
            "RequestAttributesSequence.ScheduledProcedureStepID",
            "00400275.00400009",
            "RequestAttributesSequence.00400009",
        ] {
            let found = Attribute::find(name).unwrap();
            assert_eq!(found.column, "RequestAttributesSequence_ScheduledProcedureStepID");
        }
        assert_eq!(Attribute::find("AccessionNumber").unwrap().within, None);
        assert!(Attribute::find("00400275.00400009.00080100").is_none());
    }

    #[test]
    fn keywords_are_those_of_the_dictionary_and_columns_differ() {
        let mut columns = std::collections::BTreeSet::new();
        for attribute in ATTRIBUTES {
            let entry = StandardDataDictionary.by_tag(attribute.tag).unwrap();
            assert_eq!(entry.alias(), attribute.keyword);
            assert!(columns.insert((attribute.level.table(), attribute.column)));
        }
    }
}
