//! Instances as DICOM JSON (PS3.18 Annex F), bulk data by reference.

use dicom_core::header::{HasLength, Header};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use serde_json::{Map, Value, json};

use super::attributes::json_key;
use crate::dicom::Instance;

/// Binary values up to this size stay in the metadata (palettes, small private values); larger
/// ones are told by where to get them.
const INLINE_BINARY_BYTES_MAX: usize = 4096;

/// All attributes of an instance as DICOM JSON, without file meta information.
///
/// DS and IS become numbers, because several viewers compute with them as they come. Text is
/// UTF-8, so Specific Character Set says so (PS3.18 F.2.3). A `BulkDataURI` is the path below the
/// instance's `bulkdata/`: `7FE00010`, or with numbers of items from 1 between the tags of
/// sequences: `52009230.1.00480010`; `with_bulk_root` puts the rest in front.
pub fn metadata_json(instance: &Instance) -> Map<String, Value> {
    let mut metadata = Map::new();
    let object: &InMemDicomObject = instance.object();
    for element in object.iter() {
        if let Some(value) = value_json(element, "") {
            metadata.insert(json_key(element.tag()), value);
        }
    }
    metadata.insert(
        json_key(tags::AVAILABLE_TRANSFER_SYNTAX_UID),
        json!({ "vr": "UI", "Value": [instance.identity().transfer_syntax_uid] }),
    );
    if let Some(set) = metadata.get_mut(&json_key(tags::SPECIFIC_CHARACTER_SET)) {
        *set = json!({ "vr": "CS", "Value": ["ISO_IR 192"] });
    }
    metadata.sort_keys();
    metadata
}

/// One element as DICOM JSON.
pub(super) fn element_json(element: &InMemElement) -> Option<Value> {
    value_json(element, "")
}

/// Puts `root` in front of every `BulkDataURI` of a text that [`metadata_json`] gave. Inside a JSON
/// string the quotes of the pattern would be escaped, so only members match.
pub(super) fn with_bulk_root(text: &str, root: &str) -> String {
    const MEMBER: &str = "\"BulkDataURI\":\"";
    text.replace(MEMBER, &format!("{MEMBER}{root}"))
}

/// `path` ends with a dot or is empty. Recursion is as deep as the guard allows sequences.
fn value_json(element: &InMemElement, path: &str) -> Option<Value> {
    let key = json_key(element.tag());
    let vr = element.vr().to_string();
    if is_bulk(element) {
        return Some(json!({ "vr": vr, "BulkDataURI": format!("{path}{key}") }));
    }
    if let Some(items) = element.items() {
        let items: Vec<Value> = (1..)
            .zip(items)
            .map(|(number, item)| item_json(item, &format!("{path}{key}.{number}.")))
            .collect();
        return Some(if items.is_empty() {
            json!({ "vr": vr })
        } else {
            json!({ "vr": vr, "Value": items })
        });
    }
    let mut value = dicom_json::to_value(element).ok()?;
    tidy(&mut value);
    Some(value)
}

fn item_json(item: &InMemDicomObject, path: &str) -> Value {
    let members = item
        .iter()
        .filter_map(|element| Some((json_key(element.tag()), value_json(element, path)?)));
    Value::Object(members.collect())
}

/// Whether a value is told by where to get it: pixels, documents, and long binary values.
pub(super) fn is_bulk(element: &InMemElement) -> bool {
    let size = element.value().length().get().unwrap_or(u32::MAX) as usize;
    match element.tag() {
        tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA => true,
        tags::ENCAPSULATED_DOCUMENT => size > 0,
        _ => is_binary(element.vr()) && size > INLINE_BINARY_BYTES_MAX,
    }
}

fn is_binary(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

/// The element at a path of [`metadata_json`], and nothing for a path that leads nowhere.
pub(super) fn element_at<'a>(object: &'a InMemDicomObject, path: &str) -> Option<&'a InMemElement> {
    let mut object = object;
    let mut steps = path.split('.');
    loop {
        let element = object.get(tag_of(steps.next()?)?)?;
        let Some(number) = steps.next() else { return Some(element) };
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        object = element.items()?.get(index)?;
    }
}

fn tag_of(step: &str) -> Option<Tag> {
    let number = (step.len() == 8).then(|| u32::from_str_radix(step, 16).ok()).flatten()?;
    Some(Tag((number >> 16) as u16, number as u16))
}

/// Turns DS and IS into numbers and drops padding; empty values go.
fn tidy(element: &mut Value) {
    let Some(fields) = element.as_object_mut() else { return };
    // A value shorter than its words has none (PS3.18 §F.2.5).
    if fields.get("InlineBinary").and_then(Value::as_str) == Some("") {
        fields.remove("InlineBinary");
    }
    let is_number = matches!(fields.get("vr").and_then(Value::as_str), Some("DS" | "IS"));
    let Some(Value::Array(values)) = fields.get_mut("Value") else { return };
    for value in values.iter_mut() {
        if is_number { as_number(value) } else { trim(value) }
    }
    let is_empty =
        |value: &Value| value.as_str() == Some("") || value.as_object().is_some_and(Map::is_empty);
    if values.iter().all(is_empty) {
        fields.remove("Value");
        return;
    }
    // An empty value among others is null (PS3.18 §F.2.5).
    values.iter_mut().filter(|value| is_empty(value)).for_each(|value| *value = Value::Null);
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
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, PrimitiveValue, dicom_value};

    fn nested() -> InMemElement {
        let mut item = InMemDicomObject::new_empty();
        let spacing = dicom_value!(Strs, ["0.5 ", "1"]);
        item.put(DataElement::new(tags::PIXEL_SPACING, VR::DS, spacing));
        let long = PrimitiveValue::from(vec![7_u8; 9999]);
        item.put(DataElement::new(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, long));
        let sequence = DataSetSequence::from(vec![InMemDicomObject::new_empty(), item]);
        DataElement::new(tags::PIXEL_MEASURES_SEQUENCE, VR::SQ, sequence)
    }

    #[test]
    fn decimal_and_integer_strings_become_numbers_at_every_depth() {
        let value = element_json(&nested()).unwrap();
        let item = &value["Value"][1];
        assert_eq!(item["00280030"]["Value"], json!([0.5, 1]));
        assert_eq!(item["00281201"], json!({ "vr": "OW", "BulkDataURI": "00289110.2.00281201" }));
        let rooted = with_bulk_root(&value.to_string(), "http://here/bulkdata/");
        assert!(rooted.contains("\"http://here/bulkdata/00289110.2.00281201\""), "{rooted}");
    }

    #[test]
    fn bulk_data_are_found_by_their_path() {
        let object = InMemDicomObject::from_element_iter([nested()]);
        let found = element_at(&object, "00289110.2.00281201").unwrap();
        assert_eq!(found.value().to_bytes().unwrap().len(), 9999);
        for nowhere in ["", "00289110.3.00281201", "00289110.0.00281201", "../etc", "7FE00010"] {
            assert!(element_at(&object, nowhere).is_none(), "{nowhere}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_stay_text_and_gaps_are_null() {
        let mut value = Value::from("1A");
        as_number(&mut value);
        assert_eq!(value, Value::from("1A"));
        let mut gap = json!({ "vr": "LO", "Value": ["a", "", "b "] });
        tidy(&mut gap);
        assert_eq!(gap["Value"], json!(["a", null, "b"]));
        let mut no_word = json!({ "vr": "OV", "InlineBinary": "" });
        tidy(&mut no_word);
        assert_eq!(no_word, json!({ "vr": "OV" }));
    }
}
