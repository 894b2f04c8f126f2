//! DICOM JSON as the Native DICOM Model in XML (PS3.19 §A.1).

use axum::response::Response;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesStart, BytesText, Event};
use serde_json::{Map, Value};

use super::DICOM_XML;
use super::multipart::{self, Part, Source};
use crate::archive::tag_named;
use crate::error::ErrorKind;
use crate::http::error::ApiError;

type Xml = Writer<Vec<u8>>;

/// Answers objects of DICOM JSON, each in a part of its own.
pub(super) fn reply(
    objects: impl Iterator<Item = Map<String, Value>>,
) -> Result<Response, ApiError> {
    let parts: Result<Vec<Part>, ApiError> = objects
        .map(|object| {
            Ok(Part {
                content_type: DICOM_XML.to_owned(),
                location: None,
                source: Source::Memory(document(&object)?.into()),
            })
        })
        .collect();
    Ok(multipart::reply(DICOM_XML, parts?))
}

/// One object as a document.
pub(super) fn document(object: &Map<String, Value>) -> Result<Vec<u8>, ApiError> {
    let mut xml = Writer::new(Vec::new());
    let written = write_document(&mut xml, object);
    written.map_err(|_| ApiError::new(ErrorKind::Internal, "XML cannot be written"))?;
    Ok(xml.into_inner())
}

fn write_document(xml: &mut Xml, object: &Map<String, Value>) -> std::io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = BytesStart::new("NativeDicomModel")
        .with_attributes([("xmlns", "http://dicom.nema.org/PS3.19/models/NativeDICOM")]);
    within(xml, root, |xml| write_object(xml, object))
}

fn write_object(xml: &mut Xml, object: &Map<String, Value>) -> std::io::Result<()> {
    for (key, element) in object {
        let Some(tag) = tag_named(key) else { continue };
        let vr = element["vr"].as_str().unwrap_or("UN");
        let mut start = BytesStart::new("DicomAttribute");
        start.push_attribute(("tag", key.as_str()));
        start.push_attribute(("vr", vr));
        if let Some(keyword) = keyword(tag) {
            start.push_attribute(("keyword", keyword));
        }
        if let Some(creator) = private_creator(object, tag) {
            start.push_attribute(("privateCreator", creator));
        }
        within(xml, start, |xml| write_value(xml, vr, element))?;
    }
    Ok(())
}

fn write_value(xml: &mut Xml, vr: &str, element: &Value) -> std::io::Result<()> {
    if let Some(uri) = element["BulkDataURI"].as_str() {
        let bulk = BytesStart::new("BulkData").with_attributes([("uri", uri)]);
        return xml.write_event(Event::Empty(bulk));
    }
    if let Some(inline) = element["InlineBinary"].as_str() {
        return text(xml, BytesStart::new("InlineBinary"), inline);
    }
    let values = element["Value"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, value) in (1..).zip(values) {
        let number = number.to_string();
        let numbered = |name| BytesStart::new(name).with_attributes([("number", number.as_str())]);
        match (vr, value) {
            (_, Value::Null) => {}
            ("SQ", Value::Object(item)) => {
                within(xml, numbered("Item"), |xml| write_object(xml, item))?;
            }
            ("PN", Value::Object(groups)) => {
                within(xml, numbered("PersonName"), |xml| write_name(xml, groups))?;
            }
            (_, Value::String(value)) => text(xml, numbered("Value"), value)?,
            (_, other) => text(xml, numbered("Value"), &other.to_string())?,
        }
    }
    Ok(())
}

fn write_name(xml: &mut Xml, groups: &Map<String, Value>) -> std::io::Result<()> {
    const COMPONENTS: [&str; 5] =
        ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];
    for group in ["Alphabetic", "Ideographic", "Phonetic"] {
        let Some(name) = groups.get(group).and_then(Value::as_str) else { continue };
        within(xml, BytesStart::new(group), |xml| {
            let components = COMPONENTS.iter().zip(name.split('^'));
            components
                .filter(|(_, component)| !component.is_empty())
                .try_for_each(|(kind, component)| text(xml, BytesStart::new(*kind), component))
        })?;
    }
    Ok(())
}

fn within(
    xml: &mut Xml,
    start: BytesStart<'_>,
    content: impl FnOnce(&mut Xml) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let end = start.to_end().into_owned();
    xml.write_event(Event::Start(start))?;
    content(xml)?;
    xml.write_event(Event::End(end))
}

/// Control characters have no place in XML 1.0, escaped or not.
fn text(xml: &mut Xml, start: BytesStart<'_>, value: &str) -> std::io::Result<()> {
    let allowed = |c: &char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let value: String = value.chars().filter(allowed).collect();
    within(xml, start, |xml| xml.write_event(Event::Text(BytesText::new(&value))))
}

fn keyword(tag: Tag) -> Option<&'static str> {
    let entry = StandardDataDictionary.by_tag(tag)?;
    // Entries for ranges of tags, such as private creators, name no single attribute.
    (entry.tag() == tag).then(|| entry.alias())
}

/// The creator of a private element: (gggg,00bb) for (gggg,bbxx) (PS3.5 §7.8.1).
fn private_creator(object: &Map<String, Value>, tag: Tag) -> Option<&str> {
    if tag.group().is_multiple_of(2) || tag.element() < 0x1000 {
        return None;
    }
    let key = format!("{:04X}00{:02X}", tag.group(), tag.element() >> 8);
    object.get(&key)?["Value"][0].as_str()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_names_sequences_private_and_bulk_elements() {
        let object = json!({
            "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "A&B^C", "Ideographic": "山^太" }] },
            "00280030": { "vr": "DS", "Value": [0.5, null, 1] },
            "00400275": { "vr": "SQ", "Value": [{ "00400009": { "vr": "SH", "Value": ["x"] } }] },
            "00090010": { "vr": "LO", "Value": ["ACME"] },
            "00091001": { "vr": "UN", "InlineBinary": "AAE=" },
            "7FE00010": { "vr": "OW", "BulkDataURI": "http://a/b?c&d" },
        });
        let xml = String::from_utf8(document(object.as_object().unwrap()).unwrap()).unwrap();
        for expected in [
            "<DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\">\
             <PersonName number=\"1\"><Alphabetic><FamilyName>A&amp;B</FamilyName>\
             <GivenName>C</GivenName></Alphabetic><Ideographic><FamilyName>山</FamilyName>",
            "<Value number=\"1\">0.5</Value><Value number=\"3\">1</Value>",
            "<Item number=\"1\"><DicomAttribute tag=\"00400009\" vr=\"SH\" \
             keyword=\"ScheduledProcedureStepID\"><Value number=\"1\">x</Value>",
            "tag=\"00091001\" vr=\"UN\" privateCreator=\"ACME\"><InlineBinary>AAE=</InlineBinary>",
            "<BulkData uri=\"http://a/b?c&amp;d\"/>",
        ] {
            assert!(xml.contains(expected), "{expected} is not in {xml}");
        }
    }
}
