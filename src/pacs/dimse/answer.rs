//! A result of a search as the identifier of a C-FIND response (PS3.4 §C.4.1.1.3.2).

use dicom_core::header::Header;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use serde_json::{Map, Value};

use super::identifier::Question;
use super::requestor::encode;
use crate::archive::json_key;
use crate::dicom::{DicomLimits, data_set_from_json};

const UTF_8: &str = "ISO_IR 192";

/// The identifier of one result, encoded: every key asked for, empty where the result has nothing,
/// the level, and who has it. Text is in the character set asked for where that has its letters,
/// else in UTF-8. None when a value cannot be written.
pub(super) fn encoded(
    question: &Question,
    result: &Map<String, Value>,
    ae_title: &str,
    transfer_syntax: &str,
) -> Option<Vec<u8>> {
    let mut answer = InMemDicomObject::new_empty();
    for key in &question.keys {
        match key.tag() {
            Tag(_, 0) | tags::SPECIFIC_CHARACTER_SET => {}
            _ => {
                answer.put(told(key, result));
            }
        }
    }
    put(&mut answer, tags::QUERY_RETRIEVE_LEVEL, VR::CS, question.level.word());
    put(&mut answer, tags::RETRIEVE_AE_TITLE, VR::AE, ae_title.trim());
    let asked = question.keys.get(tags::SPECIFIC_CHARACTER_SET);
    let asked = asked.and_then(|asked| asked.value().to_str().ok());
    match asked.as_deref().map(str::trim) {
        Some(set) if !set.is_empty() && !set.contains('\\') && is_known(set) => {
            put(&mut answer, tags::SPECIFIC_CHARACTER_SET, VR::CS, set);
        }
        // Nothing but ASCII can be said without a character set.
        _ if !is_ascii(&answer) => {
            put(&mut answer, tags::SPECIFIC_CHARACTER_SET, VR::CS, UTF_8);
        }
        _ => {}
    }
    // A set that lacks some letter fails to be written.
    encode(&answer, transfer_syntax).or_else(|| {
        put(&mut answer, tags::SPECIFIC_CHARACTER_SET, VR::CS, UTF_8);
        encode(&answer, transfer_syntax)
    })
}

/// Whether text can be written in a character set; an unknown one would be passed over.
fn is_known(set: &str) -> bool {
    dicom_encoding::text::SpecificCharacterSet::from_code(set).is_some()
}

fn is_ascii(object: &InMemDicomObject) -> bool {
    let is_plain = |value: &PrimitiveValue| match value {
        PrimitiveValue::Str(text) => text.is_ascii(),
        PrimitiveValue::Strs(texts) => texts.iter().all(|text| text.is_ascii()),
        _ => true,
    };
    object.iter().all(|element| {
        element.value().primitive().is_none_or(is_plain)
            && element.items().is_none_or(|items| items.iter().all(is_ascii))
    })
}

fn put(answer: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    answer.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// What a result has for a key.
fn told(key: &InMemElement, result: &Map<String, Value>) -> InMemElement {
    let name = json_key(key.tag());
    let found = result.get(&name).and_then(|value| {
        let alone = Map::from_iter([(name, value.clone())]);
        data_set_from_json(&alone, &DicomLimits::default()).ok()?.take(key.tag())
    });
    let found = found.unwrap_or_else(|| empty(key));
    match (key.items().and_then(<[_]>::first), found.items()) {
        (Some(asked), Some(items)) if asked.iter().next().is_some() => narrowed(asked, items, key),
        _ => found,
    }
}

/// Items with only the attributes asked for, all of them.
fn narrowed(
    asked: &InMemDicomObject,
    items: &[InMemDicomObject],
    key: &InMemElement,
) -> InMemElement {
    let item = |item: &InMemDicomObject| {
        let elements = asked.iter().map(|key| {
            let found = item.get(key.tag());
            found.cloned().unwrap_or_else(|| empty(key))
        });
        InMemDicomObject::from_element_iter(elements)
    };
    let items: Vec<InMemDicomObject> = items.iter().map(item).collect();
    DataElement::new(key.tag(), VR::SQ, DataSetSequence::from(items))
}

fn empty(key: &InMemElement) -> InMemElement {
    match key.vr() {
        VR::SQ => DataElement::new(key.tag(), VR::SQ, DataSetSequence::<InMemDicomObject>::empty()),
        vr => DataElement::new(key.tag(), vr, PrimitiveValue::Empty),
    }
}
