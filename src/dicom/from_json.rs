//! DICOM JSON (PS3.18 Annex F) into Part 10 files.
//!
//! What peers really send is taken: numbers for DS and IS or texts for them, names as objects or
//! texts, lower-case tags, a missing `vr` of a known attribute.

use dicom_core::value::{C, DataSetSequence, PixelFragmentSequence, PrimitiveValue};
use dicom_core::{DataElement, Length, Tag, VR};
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use serde_json::{Map, Value};

use super::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, PixelCoding, pixel_coding};
use super::value::dictionary_vr;
use super::{Attributes, DicomError, DicomLimits, PIXEL_DATA};

const TRANSFER_SYNTAX: &str = "00020010";
const AVAILABLE_TRANSFER_SYNTAX: Tag = Tag(0x0008, 0x3002);
const AVAILABLE_TRANSFER_SYNTAX_KEY: &str = "00083002";
const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// Longest DS (PS3.5 §6.2).
const DECIMAL_LENGTH_MAX: usize = 16;

/// Bulk data that a `BulkDataURI` names.
#[derive(Debug, Clone, Default)]
pub struct BulkParts {
    /// One value, or one compressed frame each.
    pub parts: Vec<Vec<u8>>,
    /// The transfer syntax they were sent in, if that was said.
    pub transfer_syntax_uid: Option<String>,
}

/// Looks up what a `BulkDataURI` names.
pub type FindBulk<'a> = dyn FnMut(&str) -> Option<BulkParts> + 'a;

/// Builds a Part 10 file from one data set. Pixel data named by URI are native, or encapsulated when
/// their transfer syntax compresses them.
///
/// # Errors
/// When a member is not what Annex F says, nests too deep, or names bulk data that did not come.
pub fn part10_from_json(
    data_set: &Map<String, Value>,
    find_bulk: &mut FindBulk<'_>,
    limits: &DicomLimits,
) -> Result<Vec<u8>, DicomError> {
    let declared = data_set.get(TRANSFER_SYNTAX).and_then(|element| element["Value"][0].as_str());
    let mut reader = Reader {
        find_bulk,
        limits,
        elements_left: limits.element_count_max,
        transfer_syntax_uid: declared.map(str::to_owned),
    };
    let mut object = reader.data_set(data_set, 0)?;
    // Strings in JSON are UTF-8, whatever the data set says.
    if object.get(SPECIFIC_CHARACTER_SET).is_some() || !is_ascii(data_set) {
        object.put(DataElement::new(SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"));
    }
    let transfer_syntax = match reader.transfer_syntax_uid.as_deref() {
        Some(uid) if is_encapsulated(uid) => uid.to_owned(),
        _ => EXPLICIT_LITTLE_ENDIAN.to_owned(),
    };
    let text = |tag| object.string_opt(tag).unwrap_or_default();
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(text(Tag(0x0008, 0x0016)))
        .media_storage_sop_instance_uid(text(Tag(0x0008, 0x0018)))
        .build()
        .map_err(|_| {
            DicomError::NotDicom("it lacks what file meta information needs".to_owned())
        })?;
    let mut bytes = Vec::new();
    object
        .with_exact_meta(meta)
        .write_all(&mut bytes)
        .map_err(|_| DicomError::NotDicom("its values cannot be written".to_owned()))?;
    Ok(bytes)
}

/// Builds a data set that is no file, such as a query's answer; bulk data are left empty.
///
/// # Errors
/// As [`part10_from_json`].
pub fn data_set_from_json(
    data_set: &Map<String, Value>,
    limits: &DicomLimits,
) -> Result<InMemDicomObject, DicomError> {
    let mut reader = Reader {
        find_bulk: &mut |_| Some(BulkParts::default()),
        limits,
        elements_left: limits.element_count_max,
        transfer_syntax_uid: None,
    };
    let mut object = reader.data_set(data_set, 0)?;
    if let Some(element) = data_set.get(AVAILABLE_TRANSFER_SYNTAX_KEY) {
        object.put(reader.element(AVAILABLE_TRANSFER_SYNTAX, element, 0)?);
    }
    Ok(object)
}

fn is_ascii(data_set: &Map<String, Value>) -> bool {
    fn of(value: &Value) -> bool {
        match value {
            Value::String(text) => text.is_ascii(),
            Value::Array(values) => values.iter().all(of),
            Value::Object(members) => members.values().all(of),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    data_set.values().all(of)
}

fn is_encapsulated(uid: &str) -> bool {
    match pixel_coding(uid) {
        Some(PixelCoding::Native) => false,
        Some(_) => true,
        // A video, for example: not decoded here, and still encapsulated.
        None => super::TransferSyntax::find(uid).is_some(),
    }
}

struct Reader<'a, 'f> {
    find_bulk: &'a mut FindBulk<'f>,
    limits: &'a DicomLimits,
    elements_left: usize,
    transfer_syntax_uid: Option<String>,
}

impl Reader<'_, '_> {
    fn data_set(
        &mut self,
        members: &Map<String, Value>,
        depth: usize,
    ) -> Result<InMemDicomObject, DicomError> {
        let depth_max = self.limits.nesting_depth_max;
        let mut object = InMemDicomObject::new_empty();
        for (key, element) in members {
            let tag = tag_of(key)?;
            // Meta information is made anew; the second tells what a server has.
            if tag.group() == 0x0002 || tag == AVAILABLE_TRANSFER_SYNTAX {
                continue;
            }
            // Commands and the marks of items, which would be read as such.
            if matches!(tag.group(), 0x0000 | 0xFFFE) {
                return Err(bad(tag, "is no attribute of a data set"));
            }
            if depth > depth_max {
                return Err(DicomError::TooDeep { tag, offset: 0, depth_max });
            }
            self.count()?;
            object.put(self.element(tag, element, depth)?);
        }
        Ok(object)
    }

    /// Counts one more element or item.
    fn count(&mut self) -> Result<(), DicomError> {
        let max = self.limits.element_count_max as u64;
        self.elements_left = self.elements_left.checked_sub(1).ok_or(DicomError::TooLarge {
            what: "count of data elements and items",
            found: max.saturating_add(1),
            max,
        })?;
        Ok(())
    }

    fn element(
        &mut self,
        tag: Tag,
        element: &Value,
        depth: usize,
    ) -> Result<InMemElement, DicomError> {
        let named = element["vr"].as_str().map(str::parse::<VR>);
        let vr = match named {
            Some(Ok(vr)) => vr,
            Some(Err(_)) => return Err(bad(tag, "has an unknown vr")),
            None => dictionary_vr(tag, false).ok_or_else(|| bad(tag, "has no vr"))?,
        };
        let has_bytes =
            ["BulkDataURI", "InlineBinary"].iter().any(|name| element[name].is_string());
        if vr == VR::SQ && has_bytes {
            return Err(bad(tag, "is a sequence told as bytes"));
        }
        if let Some(uri) = element["BulkDataURI"].as_str() {
            return self.bulk(tag, vr, uri);
        }
        if let Some(text) = element["InlineBinary"].as_str() {
            let bytes =
                base64(text).ok_or_else(|| bad(tag, "has InlineBinary that is no base64"))?;
            return Ok(DataElement::new(tag, vr, PrimitiveValue::U8(C::from_vec(bytes))));
        }
        let values = match &element["Value"] {
            Value::Null => &[][..],
            Value::Array(values) => values,
            _ => return Err(bad(tag, "has a Value that is no array")),
        };
        if vr == VR::SQ {
            let mut items = C::new();
            for item in values {
                let item =
                    item.as_object().ok_or_else(|| bad(tag, "has an item that is no object"))?;
                self.count()?;
                items.push(self.data_set(item, depth + 1)?);
            }
            let sequence = DataSetSequence::new(items, Length::UNDEFINED);
            return Ok(DataElement::new_with_len(tag, vr, Length::UNDEFINED, sequence));
        }
        Ok(DataElement::new(tag, vr, primitive(tag, vr, values)?))
    }

    fn bulk(&mut self, tag: Tag, vr: VR, uri: &str) -> Result<InMemElement, DicomError> {
        let missing = || bad(tag, "names bulk data that did not come");
        let BulkParts { parts, transfer_syntax_uid } = (self.find_bulk)(uri).ok_or_else(missing)?;
        if tag == PIXEL_DATA && transfer_syntax_uid.is_some() {
            self.transfer_syntax_uid = transfer_syntax_uid;
        }
        let is_encapsulated = self.transfer_syntax_uid.as_deref().is_some_and(is_encapsulated);
        if tag == PIXEL_DATA && is_encapsulated {
            let padded = parts.into_iter().map(|mut part| {
                part.resize(part.len().next_multiple_of(2), 0);
                part
            });
            let fragments = PixelFragmentSequence::new_fragments(padded.collect::<C<_>>());
            return Ok(DataElement::new_with_len(tag, VR::OB, Length::UNDEFINED, fragments));
        }
        Ok(DataElement::new(tag, vr, PrimitiveValue::U8(C::from_vec(parts.concat()))))
    }
}

fn tag_of(key: &str) -> Result<Tag, DicomError> {
    let number = (key.len() == 8).then(|| u32::from_str_radix(key, 16).ok()).flatten();
    let number = number.ok_or_else(|| {
        DicomError::NotDicom(format!("a member name of {} characters is no tag", key.len()))
    })?;
    Ok(Tag((number >> 16) as u16, number as u16))
}

fn primitive(tag: Tag, vr: VR, values: &[Value]) -> Result<PrimitiveValue, DicomError> {
    if values.is_empty() {
        return Ok(PrimitiveValue::Empty);
    }
    let each =
        |value: &Value| number(value).ok_or_else(|| bad(tag, "has a value that is no number"));
    let floats = || values.iter().map(each).collect::<Result<Vec<f64>, _>>();
    let whole = || {
        let wholes = values.iter().map(|value| {
            integer(value).ok_or_else(|| bad(tag, "has a value that is no whole number"))
        });
        wholes.collect::<Result<Vec<i128>, _>>()
    };
    macro_rules! narrow {
        ($variant:ident $kind:ty) => {{
            let narrowed =
                whole()?.into_iter().map(<$kind>::try_from).collect::<Result<Vec<_>, _>>();
            let narrowed = narrowed.map_err(|_| bad(tag, "has a number out of range"))?;
            PrimitiveValue::$variant(C::from_vec(narrowed))
        }};
    }
    Ok(match vr {
        VR::US => narrow!(U16 u16),
        VR::SS => narrow!(I16 i16),
        VR::UL => narrow!(U32 u32),
        VR::SL => narrow!(I32 i32),
        VR::UV => narrow!(U64 u64),
        VR::SV => narrow!(I64 i64),
        VR::FL => PrimitiveValue::F32(floats()?.into_iter().map(|number| number as f32).collect()),
        VR::FD => PrimitiveValue::F64(floats()?.into_iter().collect()),
        VR::AT => {
            let tags = values.iter().map(|value| tag_of(value.as_str().unwrap_or_default()));
            PrimitiveValue::Tags(tags.collect::<Result<C<Tag>, _>>()?)
        }
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => {
            return Err(bad(tag, "has a Value where InlineBinary belongs"));
        }
        _ => {
            let texts = values.iter().map(|value| text(tag, vr, value));
            let texts = texts.collect::<Result<C<String>, _>>()?;
            // Whatever Specific Character Set says, these are ASCII (PS3.5 §6.1.2.3), and other
            // characters would be read as others.
            if is_always_ascii(vr) && !texts.iter().all(|text| text.is_ascii()) {
                return Err(bad(tag, &format!("has a character that vr {vr} cannot hold")));
            }
            PrimitiveValue::Strs(texts)
        }
    })
}

fn is_always_ascii(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | TM | UI)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        // PS3.18 §F.2.3.1 has no number for these; peers write them as text.
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15);
            let exact = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            exact.or(whole.map(|float| float as i128))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn text(tag: Tag, vr: VR, value: &Value) -> Result<String, DicomError> {
    match (vr, value) {
        (_, Value::Null) => Ok(String::new()),
        (_, Value::String(text)) => Ok(text.clone()),
        (VR::IS | VR::DS, Value::Number(number)) => Ok(decimal(number)),
        (VR::PN, Value::Object(groups)) => {
            let group = |name: &str| groups.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = ["Alphabetic", "Ideographic", "Phonetic"].map(group).join("=");
            Ok(name.trim_end_matches('=').to_owned())
        }
        _ => Err(bad(tag, "has a value of the wrong type")),
    }
}

/// A number as a decimal string of at most 16 characters: its own digits, or as many as fit.
fn decimal(number: &serde_json::Number) -> String {
    let own = number.to_string();
    if own.len() <= DECIMAL_LENGTH_MAX {
        return own;
    }
    let Some(float) = number.as_f64() else { return own };
    let fits = |text: &String| text.len() <= DECIMAL_LENGTH_MAX;
    let plain = (0..=DECIMAL_LENGTH_MAX).rev().map(|digits| format!("{float:.digits$}")).find(fits);
    let short =
        (0..=DECIMAL_LENGTH_MAX).rev().map(|digits| format!("{float:.digits$e}")).find(fits);
    let error = |text: &Option<String>| {
        let back = text.as_ref().and_then(|text| text.parse::<f64>().ok());
        back.map_or(f64::INFINITY, |back| (back - float).abs())
    };
    let best = if error(&plain) <= error(&short) { plain } else { short };
    best.unwrap_or(own)
}

/// Decodes base64 (RFC 4648 §4), white space between lines allowed.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits, mut padding) = (0_u32, 0, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        buffer = buffer << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    (bits < 6 && padding <= 2).then_some(bytes)
}

fn bad(tag: Tag, problem: &str) -> DicomError {
    super::attributes::bad_value(tag, problem.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dicom::Instance;
    use serde_json::json;

    fn minimal() -> Value {
        json!({
            "00020010": { "vr": "UI", "Value": ["1.2.840.10008.1.2.1"] },
            "00080016": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"] },
            "00080018": { "vr": "UI", "Value": ["1.2.3.4"] },
            "0020000d": { "vr": "UI", "Value": ["1.2.3"] },
            "0020000E": { "Value": ["1.2.3.1"] },
        })
    }

    fn read(data_set: &Value) -> Result<Instance, DicomError> {
        let limits = DicomLimits::default();
        let mut find = |uri: &str| {
            (uri == "pixels")
                .then(|| BulkParts { parts: vec![vec![1, 2, 3, 4]], transfer_syntax_uid: None })
        };
        let bytes = part10_from_json(data_set.as_object().unwrap(), &mut find, &limits)?;
        Ok(Instance::parse(&bytes, &limits)?.0)
    }

    #[test]
    fn takes_numbers_and_texts_names_and_nested_items() {
        let mut data_set = minimal();
        data_set["00280030"] = json!({ "vr": "DS", "Value": [0.1, "2.5", 0.12345678901234568] });
        data_set["00200013"] = json!({ "vr": "IS", "Value": [7.0] });
        data_set["00100010"] =
            json!({ "vr": "PN", "Value": [{ "Alphabetic": "A^B", "Phonetic": "山" }] });
        data_set["00281052"] = json!({ "vr": "DS" });
        data_set["00400275"] =
            json!({ "vr": "SQ", "Value": [{ "00400009": { "vr": "SH", "Value": ["x"] } }] });
        let instance = read(&data_set).unwrap();
        let spacing = instance.f64s(Tag(0x0028, 0x0030)).unwrap();
        assert_eq!(spacing[..2], [0.1, 2.5]);
        assert!((spacing[2] - 0.123_456_789_012_345_68).abs() < 1e-13);
        assert_eq!(instance.i64_opt(Tag(0x0020, 0x0013)).unwrap(), Some(7));
        assert_eq!(instance.string(Tag(0x0010, 0x0010)).unwrap(), "A^B==山");
        assert_eq!(instance.string(SPECIFIC_CHARACTER_SET).unwrap(), "ISO_IR 192");
        let item = instance.item(Tag(0x0040, 0x0275)).unwrap();
        assert_eq!(item.string(Tag(0x0040, 0x0009)).unwrap(), "x");
    }

    #[test]
    fn bulk_data_become_pixels() {
        let mut data_set = minimal();
        let us = |number: u16| json!({ "vr": "US", "Value": [number] });
        for (key, number) in
            [("00280010", 2), ("00280011", 2), ("00280100", 8), ("00280101", 8), ("00280002", 1)]
        {
            data_set[key] = us(number);
        }
        data_set["7FE00010"] = json!({ "vr": "OB", "BulkDataURI": "pixels" });
        assert_eq!(read(&data_set).unwrap().decode_frame(1).unwrap().values, [1, 2, 3, 4]);
        data_set["7FE00010"] = json!({ "vr": "OB", "InlineBinary": "BAMCAQ==" });
        assert_eq!(read(&data_set).unwrap().decode_frame(1).unwrap().values, [4, 3, 2, 1]);
        data_set["7FE00010"] = json!({ "vr": "OB", "BulkDataURI": "elsewhere" });
        let error = read(&data_set).err().unwrap().to_string();
        assert_eq!(error, "PixelData (7FE0,0010) names bulk data that did not come");
    }

    #[test]
    fn refuses_what_is_no_dicom_json() {
        let check = |key: &str, element: Value| {
            let mut data_set = minimal();
            data_set[key] = element;
            assert!(read(&data_set).is_err(), "{key}");
        };
        check("0010", json!({ "vr": "LO", "Value": ["x"] }));
        check("00100010", json!({ "vr": "ZZ", "Value": ["x"] }));
        check("00280010", json!({ "vr": "US", "Value": [70000] }));
        check("00280010", json!({ "vr": "US", "Value": ["x"] }));
        check("00100020", json!({ "vr": "LO", "Value": "x" }));
        check("00400275", json!({ "vr": "SQ", "Value": ["x"] }));
        check("00091001", json!({ "vr": "OB", "InlineBinary": "A" }));
        check("00180015", json!({ "vr": "CS", "Value": ["FUß"] }));
        check("00280030", json!({ "vr": "DS", "Value": ["0,5\u{a0}"] }));
        check("00400275", json!({ "vr": "SQ", "InlineBinary": "/v8A4AAAAAA=" }));
        check("00400275", json!({ "vr": "SQ", "BulkDataURI": "pixels" }));
        check("FFFEE00D", json!({ "vr": "UL" }));
        check("00000100", json!({ "vr": "US", "Value": [1] }));
        check("0020000D", json!({ "vr": "UI", "Value": ["../../etc"] }));
        let mut deep = json!({ "vr": "SQ", "Value": [] });
        for _ in 0..100 {
            deep = json!({ "vr": "SQ", "Value": [{ "00400275": deep }] });
        }
        check("00400275", deep);
    }

    #[test]
    fn empty_items_count_as_elements_do() {
        let mut data_set = minimal();
        data_set["00400275"] = json!({ "vr": "SQ", "Value": vec![json!({}); 100] });
        let limits = DicomLimits { element_count_max: 50, ..DicomLimits::default() };
        let error = part10_from_json(data_set.as_object().unwrap(), &mut |_| None, &limits);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "count of data elements and items is 51, the limit is 50");
    }

    #[test]
    fn texts_too_long_for_their_vr_are_refused() {
        let mut data_set = minimal();
        let mut of_length = |length: usize| {
            data_set["00081030"] = json!({ "vr": "LO", "Value": ["x".repeat(length)] });
            read(&data_set)
        };
        let instance = of_length(65_534).unwrap();
        assert_eq!(instance.string(Tag(0x0008, 0x1030)).unwrap().len(), 65_534);
        assert!([65_535, 65_536, 70_001].into_iter().all(|length| of_length(length).is_err()));
    }

    #[test]
    fn decimals_keep_as_many_digits_as_fit() {
        let check = |number: f64, expected: &str| {
            let number = serde_json::Number::from_f64(number).unwrap();
            assert_eq!(decimal(&number), expected);
            assert!(decimal(&number).len() <= DECIMAL_LENGTH_MAX);
        };
        check(0.5, "0.5");
        check(-0.12345678901234567, "-0.1234567890123");
        check(1.2345678901234567e-20, "1.2345678901e-20");
        check(123456789012345680.0, "1.23456789012e17");
    }
}
