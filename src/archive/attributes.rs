//! Which attributes the index knows, and instances as DICOM JSON (PS3.18 Annex F).

use dicom_core::header::{HasLength, Header};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use serde_json::{Map, Value};

use crate::dicom::Instance;

/// Binary values up to this size stay in the metadata (palettes, small private values); larger
/// ones, pixel data above all, are left out.
const INLINE_BINARY_BYTES_MAX: usize = 4096;

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
    /// PS3.6 keyword; also the name of its column.
    pub keyword: &'static str,
    /// Its tag.
    pub tag: Tag,
    /// Where it belongs.
    pub level: Level,
    /// Decides how it is matched.
    pub vr: VR,
}

const fn attribute(level: Level, keyword: &'static str, tag: Tag, vr: VR) -> Attribute {
    Attribute { keyword, tag, level, vr }
}

/// The attributes of PS3.18 Tables 10.6.1-5 that searches use, and what viewers list besides.
pub(super) const ATTRIBUTES: &[Attribute] = {
    use Level::{Instance, Series, Study};
    &[
        attribute(Study, "StudyInstanceUID", tags::STUDY_INSTANCE_UID, VR::UI),
        attribute(Study, "StudyDate", tags::STUDY_DATE, VR::DA),
        attribute(Study, "StudyTime", tags::STUDY_TIME, VR::TM),
        attribute(Study, "AccessionNumber", tags::ACCESSION_NUMBER, VR::SH),
        attribute(Study, "ReferringPhysicianName", tags::REFERRING_PHYSICIAN_NAME, VR::PN),
        attribute(Study, "StudyDescription", tags::STUDY_DESCRIPTION, VR::LO),
        attribute(Study, "StudyID", tags::STUDY_ID, VR::SH),
        attribute(Study, "PatientName", tags::PATIENT_NAME, VR::PN),
        attribute(Study, "PatientID", tags::PATIENT_ID, VR::LO),
        attribute(Study, "PatientBirthDate", tags::PATIENT_BIRTH_DATE, VR::DA),
        attribute(Study, "PatientSex", tags::PATIENT_SEX, VR::CS),
        attribute(Series, "SeriesInstanceUID", tags::SERIES_INSTANCE_UID, VR::UI),
        attribute(Series, "Modality", tags::MODALITY, VR::CS),
        attribute(Series, "SeriesNumber", tags::SERIES_NUMBER, VR::IS),
        attribute(Series, "SeriesDescription", tags::SERIES_DESCRIPTION, VR::LO),
        attribute(Series, "SeriesDate", tags::SERIES_DATE, VR::DA),
        attribute(Series, "SeriesTime", tags::SERIES_TIME, VR::TM),
        attribute(Series, "BodyPartExamined", tags::BODY_PART_EXAMINED, VR::CS),
        attribute(Series, "ProtocolName", tags::PROTOCOL_NAME, VR::LO),
        attribute(Series, "FrameOfReferenceUID", tags::FRAME_OF_REFERENCE_UID, VR::UI),
        attribute(Instance, "SOPInstanceUID", tags::SOP_INSTANCE_UID, VR::UI),
        attribute(Instance, "SOPClassUID", tags::SOP_CLASS_UID, VR::UI),
        attribute(Instance, "InstanceNumber", tags::INSTANCE_NUMBER, VR::IS),
        attribute(Instance, "ImageType", tags::IMAGE_TYPE, VR::CS),
        attribute(Instance, "ContentDate", tags::CONTENT_DATE, VR::DA),
        attribute(Instance, "Rows", tags::ROWS, VR::US),
        attribute(Instance, "Columns", tags::COLUMNS, VR::US),
        attribute(Instance, "BitsAllocated", tags::BITS_ALLOCATED, VR::US),
        attribute(Instance, "NumberOfFrames", tags::NUMBER_OF_FRAMES, VR::IS),
    ]
};

impl Attribute {
    /// Finds one by keyword or by eight hexadecimal digits, as a query string names it.
    pub fn find(name: &str) -> Option<&'static Self> {
        let tag = (name.len() == 8).then(|| u32::from_str_radix(name, 16).ok()).flatten();
        ATTRIBUTES.iter().find(|attribute| match tag {
            Some(number) => key_number(attribute.tag) == number,
            None => attribute.keyword == name,
        })
    }

    pub(super) fn of(level: Level) -> impl Iterator<Item = &'static Self> {
        ATTRIBUTES.iter().filter(move |attribute| attribute.level == level)
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
    let element = object.get(attribute.tag)?;
    let text = element.value().to_str().ok()?;
    let trimmed = text.trim_matches(|c: char| c == ' ' || c == '\0');
    let trimmed = if attribute.vr == VR::PN { trimmed.trim_end_matches('^') } else { trimmed };
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// The attributes of one level as DICOM JSON; those of the level's table that the instance has.
pub(super) fn level_json(object: &InMemDicomObject, level: Level) -> Map<String, Value> {
    Attribute::of(level)
        .filter_map(|attribute| {
            Some((json_key(attribute.tag), element_json(object.get(attribute.tag)?)?))
        })
        .collect()
}

/// All attributes of an instance as DICOM JSON, without bulk data and file meta information.
///
/// DS and IS become numbers, because several viewers compute with them as they come. Text is
/// UTF-8, so Specific Character Set says so (PS3.18 F.2.3).
pub(super) fn metadata_json(instance: &Instance) -> Map<String, Value> {
    let object: &InMemDicomObject = instance.object();
    let mut metadata = Map::new();
    for element in object.iter().filter(|element| !is_bulk(element)) {
        if let Some(value) = element_json(element) {
            metadata.insert(json_key(element.tag()), value);
        }
    }
    metadata.insert(
        json_key(tags::AVAILABLE_TRANSFER_SYNTAX_UID),
        serde_json::json!({ "vr": "UI", "Value": [instance.identity().transfer_syntax_uid] }),
    );
    if let Some(set) = metadata.get_mut(&json_key(tags::SPECIFIC_CHARACTER_SET)) {
        *set = serde_json::json!({ "vr": "CS", "Value": ["ISO_IR 192"] });
    }
    metadata.sort_keys();
    metadata
}

fn is_bulk(element: &InMemElement) -> bool {
    let binary =
        matches!(element.vr(), VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN);
    let size = element.value().length().get().unwrap_or(u32::MAX) as usize;
    element.tag() == tags::PIXEL_DATA || (binary && size > INLINE_BINARY_BYTES_MAX)
}

fn element_json(element: &InMemElement) -> Option<Value> {
    let mut value = dicom_json::to_value(element).ok()?;
    tidy(&mut value);
    Some(value)
}

/// Turns DS and IS into numbers and drops long binary values, at every depth of one element.
fn tidy(element: &mut Value) {
    let Some(fields) = element.as_object_mut() else { return };
    let vr = fields.get("vr").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(Value::String(binary)) = fields.get("InlineBinary")
        && binary.len() / 4 * 3 > INLINE_BINARY_BYTES_MAX + 2
    {
        fields.remove("InlineBinary");
    }
    let Some(Value::Array(values)) = fields.get_mut("Value") else { return };
    for value in values.iter_mut() {
        match vr.as_str() {
            "SQ" => value.as_object_mut().into_iter().flatten().for_each(|(_, child)| tidy(child)),
            "DS" | "IS" => as_number(value),
            _ => trim(value),
        }
    }
    if values.iter().all(|value| value.as_str() == Some("")) {
        fields.remove("Value");
    }
}

fn as_number(value: &mut Value) {
    let Some(text) = value.as_str() else { return };
    let text = text.trim_matches([' ', '\0']);
    let number = match text.parse::<i64>() {
        Ok(whole) => Some(serde_json::Number::from(whole)),
        Err(_) => text.parse().ok().and_then(serde_json::Number::from_f64),
    };
    if let Some(number) = number {
        *value = Value::Number(number);
    }
}

fn trim(value: &mut Value) {
    if let Value::String(text) = value {
        text.truncate(text.trim_end_matches([' ', '\0']).len());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue};

    #[test]
    fn attributes_are_found_by_keyword_and_by_tag() {
        assert_eq!(Attribute::find("PatientName").unwrap().tag, tags::PATIENT_NAME);
        assert_eq!(Attribute::find("00100010").unwrap().keyword, "PatientName");
        assert_eq!(Attribute::find("0020000d").unwrap().keyword, "StudyInstanceUID");
        assert!(Attribute::find("PixelData").is_none() && Attribute::find("7FE00010").is_none());
    }

    #[test]
    fn decimal_and_integer_strings_become_numbers_at_every_depth() {
        let mut item = InMemDicomObject::new_empty();
        item.put(DataElement::new(
            tags::PIXEL_SPACING,
            VR::DS,
            dicom_core::dicom_value!(Strs, ["0.5 ", "1"]),
        ));
        item.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(vec![0u8; 9999])));
        let sequence = dicom_core::value::DataSetSequence::from(vec![item]);
        let value =
            element_json(&DataElement::new(tags::PIXEL_MEASURES_SEQUENCE, VR::SQ, sequence))
                .unwrap();
        let item = &value["Value"][0];
        assert_eq!(item["00280030"]["Value"], serde_json::json!([0.5, 1]));
        assert!(item["7FE00010"].get("InlineBinary").is_none());
    }

    #[test]
    fn values_that_are_no_numbers_stay_text() {
        let mut value = Value::from("1A");
        as_number(&mut value);
        assert_eq!(value, Value::from("1A"));
    }
}
