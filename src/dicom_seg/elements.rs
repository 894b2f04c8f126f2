//! Data elements in few words.

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::runtime::vocabulary::Code;

pub(super) type Object = InMemDicomObject;

/// Longest Decimal String (PS3.5 §6.2).
pub(super) const DS_LENGTH_MAX: usize = 16;
/// Longest Code Value (0008,0100).
const CODE_VALUE_LENGTH_MAX: usize = 16;
/// Longest Long String, in characters.
pub(super) const LO_LENGTH_MAX: usize = 64;

/// Puts elements by kind.
pub(super) trait PutElements {
    /// One or more strings, already within the limits of their VR.
    fn put_texts<T: Into<String>>(&mut self, tag: Tag, vr: VR, texts: impl IntoIterator<Item = T>);
    /// One string.
    fn put_text(&mut self, tag: Tag, vr: VR, text: &str);
    /// An element without a value (type 2).
    fn put_empty(&mut self, tag: Tag, vr: VR);
    /// Unsigned 16-bit numbers.
    fn put_u16(&mut self, tag: Tag, values: &[u16]);
    /// Unsigned 32-bit numbers.
    fn put_u32(&mut self, tag: Tag, values: &[u32]);
    /// An attribute's tag.
    fn put_tag(&mut self, tag: Tag, value: Tag);
    /// A 64-bit floating point number.
    fn put_f64(&mut self, tag: Tag, value: f64);
    /// Bytes; padded to an even length.
    fn put_bytes(&mut self, tag: Tag, bytes: &[u8]);
    /// A sequence.
    fn put_items(&mut self, tag: Tag, items: Vec<Object>);
}

impl PutElements for Object {
    fn put_texts<T: Into<String>>(&mut self, tag: Tag, vr: VR, texts: impl IntoIterator<Item = T>) {
        let texts = texts.into_iter().map(Into::into).collect();
        self.put(DataElement::new(tag, vr, PrimitiveValue::Strs(texts)));
    }

    fn put_text(&mut self, tag: Tag, vr: VR, text: &str) {
        self.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }

    fn put_empty(&mut self, tag: Tag, vr: VR) {
        self.put(DataElement::new(tag, vr, PrimitiveValue::Empty));
    }

    fn put_u16(&mut self, tag: Tag, values: &[u16]) {
        self.put(DataElement::new(tag, VR::US, PrimitiveValue::U16(values.into())));
    }

    fn put_u32(&mut self, tag: Tag, values: &[u32]) {
        self.put(DataElement::new(tag, VR::UL, PrimitiveValue::U32(values.into())));
    }

    fn put_tag(&mut self, tag: Tag, value: Tag) {
        self.put(DataElement::new(tag, VR::AT, PrimitiveValue::from(value)));
    }

    fn put_f64(&mut self, tag: Tag, value: f64) {
        self.put(DataElement::new(tag, VR::FD, PrimitiveValue::from(value)));
    }

    fn put_bytes(&mut self, tag: Tag, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        self.put(DataElement::new(tag, VR::OB, PrimitiveValue::U8(bytes.into())));
    }

    fn put_items(&mut self, tag: Tag, items: Vec<Object>) {
        let sequence = DataSetSequence::new(items, Length::UNDEFINED);
        self.put(DataElement::new(tag, VR::SQ, Value::from(sequence)));
    }
}

/// An item with a coded concept (PS3.3 Table 8.8-1).
pub(super) fn code_item(code: &Code) -> Object {
    let mut item = Object::new_empty();
    let (tag, vr) = if code.value.len() > CODE_VALUE_LENGTH_MAX {
        (tags::LONG_CODE_VALUE, VR::UC)
    } else {
        (tags::CODE_VALUE, VR::SH)
    };
    item.put_text(tag, vr, code.value.trim());
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, code.scheme.trim());
    item.put_text(tags::CODE_MEANING, VR::LO, &shortened(&code.meaning, LO_LENGTH_MAX));
    item
}

/// A code of DICOM's own scheme.
pub(super) fn dcm_code(value: &str, meaning: &str) -> Code {
    Code { value: value.to_owned(), scheme: "DCM".to_owned(), meaning: meaning.to_owned() }
}

/// A code of SNOMED CT.
pub(super) fn sct(value: &str, meaning: &str) -> Code {
    Code { value: value.to_owned(), scheme: "SCT".to_owned(), meaning: meaning.to_owned() }
}

/// A number as Decimal String: at most 16 characters, as exact as fits.
pub(super) fn decimal_string(value: f64) -> String {
    let fitting = |text: String| (text.len() <= DS_LENGTH_MAX).then_some(text);
    let plain = (0..=14).rev().find_map(|digits| fitting(trimmed(format!("{value:.digits$}"))));
    let scientific = || (0..=10).rev().find_map(|digits| fitting(format!("{value:.digits$e}")));
    plain.or_else(scientific).unwrap_or_else(|| "0".to_owned())
}

fn trimmed(text: String) -> String {
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// The text as one value of at most `max` characters: no backslash, no control characters.
pub(super) fn shortened(text: &str, max: usize) -> String {
    let clean = text.trim().chars().map(|c| match c {
        '\\' => '/',
        c if c.is_control() => ' ',
        c => c,
    });
    clean.take(max).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_numbers_into_sixteen_characters() {
        let check = |value: f64, expected: &str| assert_eq!(decimal_string(value), expected);
        check(0.0, "0");
        check(-0.0, "0");
        check(-1e-17, "0");
        check(2.0, "2");
        check(-78.90161083123456, "-78.901610831235");
        check(0.1 + 0.2, "0.3");
        check(1.0 / 3.0, "0.33333333333333");
        check(-123456789012345678.0, "-1.2345678901e17");
        for value in [-1234.567890123456, 0.000123456789, 99999.999999999, -0.99862953475457] {
            let text = decimal_string(value);
            let back: f64 = text.parse().expect("a number");
            assert!(text.len() <= 16 && (back - value).abs() < 1e-9, "{value} became {text}");
        }
    }

    #[test]
    fn keeps_text_one_clean_value() {
        assert_eq!(shortened(" left\\right\u{1b} ear ", 64), "left/right  ear");
        assert_eq!(shortened("äöü leber", 4), "äöü");
    }

    #[test]
    fn puts_long_codes_where_they_fit() {
        let code = |value: &str| Code {
            value: value.to_owned(),
            scheme: "SCT".to_owned(),
            meaning: "m".to_owned(),
        };
        assert!(code_item(&code("1234567890123456")).get(tags::CODE_VALUE).is_some());
        assert!(code_item(&code("12345678901234567")).get(tags::LONG_CODE_VALUE).is_some());
    }
}
