//! Typed reading of attributes, with errors that name the attribute.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{PrimitiveValue, Tag};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use super::{DicomError, Instance};

/// Typed reading from a data set or a sequence item.
///
/// A value of zero length counts as absent.
pub trait Attributes {
    /// The data set to read from.
    fn data_set(&self) -> &InMemDicomObject;

    /// Reads text without its padding; several values stay joined by backslashes.
    fn string_opt(&self, tag: Tag) -> Option<String> {
        let text = self.data_set().get(tag)?.to_str().ok()?;
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Reads text without its padding.
    ///
    /// # Errors
    /// [`DicomError::Missing`].
    fn string(&self, tag: Tag) -> Result<String, DicomError> {
        self.string_opt(tag).ok_or_else(|| missing(tag))
    }

    /// Reads every text value, each without padding; none when absent.
    fn strings(&self, tag: Tag) -> Vec<String> {
        match self.data_set().get(tag).and_then(|element| element.value().primitive()) {
            Some(value) => value
                .to_multi_str()
                .iter()
                .map(|v| v.trim_matches(['\0', ' ']).to_owned())
                .collect(),
            None => Vec::new(),
        }
    }

    /// Reads every number of a numeric or decimal-string attribute.
    ///
    /// # Errors
    /// [`DicomError::BadValue`] when one is not a finite number.
    fn f64s_opt(&self, tag: Tag) -> Result<Option<Vec<f64>>, DicomError> {
        present(self.data_set(), tag).map(|value| numbers(tag, value)).transpose()
    }

    /// Reads every number of a numeric or decimal-string attribute.
    ///
    /// # Errors
    /// [`DicomError::Missing`] and [`DicomError::BadValue`].
    fn f64s(&self, tag: Tag) -> Result<Vec<f64>, DicomError> {
        self.f64s_opt(tag)?.ok_or_else(|| missing(tag))
    }

    /// Reads exactly `N` numbers, for example the six of Image Orientation (Patient).
    ///
    /// # Errors
    /// [`DicomError::BadValue`] when there are more or fewer, or one is not finite.
    fn f64_array_opt<const N: usize>(&self, tag: Tag) -> Result<Option<[f64; N]>, DicomError>
    where
        Self: Sized,
    {
        let Some(found) = self.f64s_opt(tag)? else { return Ok(None) };
        let count = found.len();
        let array = <[f64; N]>::try_from(found);
        array.map(Some).map_err(|_| bad_value(tag, format!("has {count} values, not {N}")))
    }

    /// Reads exactly `N` numbers.
    ///
    /// # Errors
    /// [`DicomError::Missing`] and [`DicomError::BadValue`].
    fn f64_array<const N: usize>(&self, tag: Tag) -> Result<[f64; N], DicomError>
    where
        Self: Sized,
    {
        self.f64_array_opt(tag)?.ok_or_else(|| missing(tag))
    }

    /// Reads the first number.
    ///
    /// # Errors
    /// [`DicomError::BadValue`] when it is not a finite number.
    fn f64_opt(&self, tag: Tag) -> Result<Option<f64>, DicomError> {
        Ok(self.f64s_opt(tag)?.and_then(|found| found.first().copied()))
    }

    /// Reads the first value as a whole number.
    ///
    /// # Errors
    /// [`DicomError::BadValue`] when it is not one, or does not fit.
    fn i64_opt(&self, tag: Tag) -> Result<Option<i64>, DicomError> {
        let Some(number) = self.f64_opt(tag)? else { return Ok(None) };
        let is_whole = number.fract() == 0.0 && number.abs() < 9.0e15;
        if is_whole { Ok(Some(number as i64)) } else { Err(not_whole(tag, number)) }
    }

    /// Reads the first value as a number from 0 to 65,535.
    ///
    /// # Errors
    /// [`DicomError::BadValue`] when it is not one.
    fn u16_opt(&self, tag: Tag) -> Result<Option<u16>, DicomError> {
        let number = self.i64_opt(tag)?;
        let narrow = number.map(|number| {
            u16::try_from(number).map_err(|_| bad_value(tag, format!("is {number}")))
        });
        narrow.transpose()
    }

    /// Reads the first value as a number from 0 to 65,535.
    ///
    /// # Errors
    /// [`DicomError::Missing`] and [`DicomError::BadValue`].
    fn u16(&self, tag: Tag) -> Result<u16, DicomError> {
        self.u16_opt(tag)?.ok_or_else(|| missing(tag))
    }

    /// The items of a sequence; none when it is absent or no sequence.
    fn items(&self, tag: Tag) -> &[InMemDicomObject] {
        self.data_set().get(tag).and_then(InMemElement::items).unwrap_or_default()
    }

    /// The first item of a sequence.
    fn item(&self, tag: Tag) -> Option<&InMemDicomObject> {
        self.items(tag).first()
    }
}

impl Attributes for InMemDicomObject {
    fn data_set(&self) -> &InMemDicomObject {
        self
    }
}

impl Attributes for Instance {
    fn data_set(&self) -> &InMemDicomObject {
        self.object()
    }
}

impl Instance {
    /// The item of a functional group that holds for one frame of an enhanced multi-frame
    /// instance: the frame's own if it has one, else the shared one (PS3.3 §C.7.6.16).
    ///
    /// `number` counts from 1; `group` is the functional group's sequence, for example Plane
    /// Position Sequence (0020,9113).
    pub fn functional_group(&self, number: u32, group: Tag) -> Option<&InMemDicomObject> {
        const SHARED: Tag = Tag(0x5200, 0x9229);
        const PER_FRAME: Tag = Tag(0x5200, 0x9230);
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let own = self.items(PER_FRAME).get(index).and_then(|frame| frame.item(group));
        own.or_else(|| self.item(SHARED).and_then(|shared| shared.item(group)))
    }
}

fn present(data_set: &InMemDicomObject, tag: Tag) -> Option<&PrimitiveValue> {
    let value = data_set.get(tag)?.value().primitive()?;
    match value {
        PrimitiveValue::Empty => None,
        PrimitiveValue::Strs(texts) if texts.iter().all(|text| is_blank(text)) => None,
        PrimitiveValue::Str(text) if is_blank(text) => None,
        other => Some(other),
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_matches(['\0', ' ']).is_empty()
}

fn numbers(tag: Tag, value: &PrimitiveValue) -> Result<Vec<f64>, DicomError> {
    let found: Vec<Option<f64>> = match value {
        PrimitiveValue::Strs(texts) => texts.iter().map(|text| number(text)).collect(),
        PrimitiveValue::Str(text) => text.split('\\').map(number).collect(),
        other => match other.to_multi_float64() {
            Ok(numbers) => numbers.into_iter().map(Some).collect(),
            Err(_) => return Err(bad_value(tag, "is not numeric".to_owned())),
        },
    };
    let checked = found.into_iter().enumerate().map(|(index, number)| {
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| bad_value(tag, format!("value {} is not a finite number", index + 1)))
    });
    checked.collect()
}

fn number(text: &str) -> Option<f64> {
    text.trim_matches(['\0', ' ']).parse().ok()
}

fn not_whole(tag: Tag, number: f64) -> DicomError {
    bad_value(tag, format!("is {number}, not a whole number"))
}

/// The error for an absent attribute.
pub(super) fn missing(tag: Tag) -> DicomError {
    DicomError::Missing { name: keyword(tag), tag }
}

/// The error for an impossible value; `problem` follows the attribute's name.
pub(super) fn bad_value(tag: Tag, problem: String) -> DicomError {
    DicomError::BadValue { name: keyword(tag), tag, problem }
}

fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary.by_tag(tag).map_or("attribute", |entry| entry.alias())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::{DataElement, VR};

    fn decimal(text: &str) -> InMemDicomObject {
        let value = PrimitiveValue::from(text);
        InMemDicomObject::from_element_iter([DataElement::new(Tag(0x0028, 0x0030), VR::DS, value)])
    }

    #[test]
    fn reads_decimal_strings_and_names_what_is_wrong() {
        let tag = Tag(0x0028, 0x0030);
        assert_eq!(decimal("0.5\\ 1e0 ").f64_array::<2>(tag).expect("two numbers"), [0.5, 1.0]);
        let check = |text: &str, expected: &str| {
            let error = decimal(text).f64_array::<2>(tag).expect_err("no two numbers");
            assert_eq!(error.to_string(), expected);
        };
        check("  ", "PixelSpacing (0028,0030) is missing");
        check("0.5", "PixelSpacing (0028,0030) has 1 values, not 2");
        check("0.5\\x", "PixelSpacing (0028,0030) value 2 is not a finite number");
        check("0.5\\NaN", "PixelSpacing (0028,0030) value 2 is not a finite number");
    }
}
