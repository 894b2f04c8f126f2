//! What a Segmentation takes over from its source: who the patient is, which study it is, and
//! the source's own decimal strings.

use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::SpecificCharacterSet;
use dicom_object::mem::InMemElement;

use super::elements::{DS_LENGTH_MAX, Object, PutElements, decimal_string};
use crate::dicom::{Attributes, Instance};
use crate::series::{Series, SourceFrame};

/// Type 2 attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): there
/// even when the source lacks them.
const ALWAYS: [(Tag, VR); 9] = [
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::STUDY_ID, VR::SH),
    (tags::ACCESSION_NUMBER, VR::SH),
];

/// Further attributes of the Patient, General Study, Patient Study, Clinical Trial and Frame of
/// Reference modules and of the request, copied when there.
const WHEN_PRESENT: &[Tag] = &[
    tags::ISSUER_OF_PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::TYPE_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_TIME,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::OTHER_PATIENT_NAMES,
    tags::PATIENT_COMMENTS,
    tags::PATIENT_SPECIES_DESCRIPTION,
    tags::PATIENT_SPECIES_CODE_SEQUENCE,
    tags::PATIENT_BREED_DESCRIPTION,
    tags::PATIENT_BREED_CODE_SEQUENCE,
    tags::BREED_REGISTRATION_SEQUENCE,
    tags::RESPONSIBLE_PERSON,
    tags::RESPONSIBLE_PERSON_ROLE,
    tags::RESPONSIBLE_ORGANIZATION,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::QUALITY_CONTROL_SUBJECT,
    tags::STUDY_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::CONSULTING_PHYSICIAN_NAME,
    tags::PHYSICIANS_OF_RECORD,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::REQUESTING_SERVICE,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::MEDICAL_ALERTS,
    tags::ALLERGIES,
    tags::OCCUPATION,
    tags::SMOKING_STATUS,
    tags::LAST_MENSTRUAL_DATE,
    tags::PATIENT_STATE,
    tags::PATIENT_BODY_MASS_INDEX,
    tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    tags::REASON_FOR_VISIT,
    tags::REASON_FOR_VISIT_CODE_SEQUENCE,
    tags::SERVICE_EPISODE_ID,
    tags::SERVICE_EPISODE_DESCRIPTION,
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::PREGNANCY_STATUS,
    tags::PATIENT_SEX_NEUTERED,
    tags::ADMISSION_ID,
    tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
    tags::CLINICAL_TRIAL_SPONSOR_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ID,
    tags::CLINICAL_TRIAL_PROTOCOL_NAME,
    tags::CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SITE_NAME,
    tags::CLINICAL_TRIAL_SUBJECT_ID,
    tags::CLINICAL_TRIAL_SUBJECT_READING_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_DESCRIPTION,
    tags::LONGITUDINAL_TEMPORAL_OFFSET_FROM_EVENT,
    tags::LONGITUDINAL_TEMPORAL_EVENT_TYPE,
    tags::BODY_PART_EXAMINED,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
];

/// Decimal strings this close are taken over as the source wrote them.
const POSITION_TOLERANCE_MM: f64 = 1e-6;
const SPACING_TOLERANCE_MM: f64 = 1e-6;
const COSINE_TOLERANCE: f64 = 1e-4;

/// The instance that stands for the series: the one of the first frame.
pub(super) fn representative(series: &Series) -> &Instance {
    let index = series.frames.first().map_or(0, |frame| frame.instance_index);
    &series.instances[index]
}

/// Copies patient, study, clinical trial and request from `source`, and chooses a character set
/// in which the copies and `our_texts` can be written.
pub(super) fn copy_patient_and_study(source: &Object, our_texts: &[&str], into: &mut Object) {
    for (tag, vr) in ALWAYS {
        match source.get(tag) {
            Some(element) => into.put(element.clone()).map_or((), drop),
            None => into.put_empty(tag, vr),
        }
    }
    for tag in WHEN_PRESENT {
        if let Some(element) = source.get(*tag).filter(|element| is_well_formed(element)) {
            into.put(element.clone());
        }
    }
    put_character_set(source, our_texts, into);
}

/// Whether strings of a strict VR keep its rules (PS3.5 §6.2). A malformed value of an optional
/// attribute is left out, because it would make our object malformed too.
fn is_well_formed(element: &InMemElement) -> bool {
    let Some(value) = element.value().primitive() else { return true };
    let holds: fn(&str) -> bool = match element.vr() {
        VR::AS => |text| {
            let (number, unit) = text.split_at_checked(3).unwrap_or_default();
            number.bytes().all(|b| b.is_ascii_digit()) && ["D", "W", "M", "Y"].contains(&unit)
        },
        VR::DA => |text| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()),
        VR::CS => |text| text.len() <= 16 && !text.bytes().any(|b| b.is_ascii_lowercase()),
        VR::DS => |text| text.len() <= DS_LENGTH_MAX && text.parse::<f64>().is_ok(),
        VR::IS => |text| text.parse::<i32>().is_ok(),
        _ => return true,
    };
    value.to_multi_str().iter().map(|text| text.trim()).all(|text| text.is_empty() || holds(text))
}

/// The source's character set where every text can be written in it, else UTF-8.
///
/// Texts with ISO 2022 escapes were not decoded; they go back byte for byte, so the set that
/// explains their escapes stays.
fn put_character_set(source: &Object, our_texts: &[&str], into: &mut Object) {
    let source_set = source.get(tags::SPECIFIC_CHARACTER_SET);
    let codes = source.strings(tags::SPECIFIC_CHARACTER_SET);
    let known = match codes.as_slice() {
        [] => has_only(into, &|text| text.is_ascii()),
        [code] => SpecificCharacterSet::from_code(code).is_some(),
        _ => false,
    };
    let ours_fit = our_texts.iter().all(|text| text.is_ascii());
    let undecoded = !has_only(into, &|text| !text.contains('\u{1b}'));
    if undecoded || (known && ours_fit) {
        if let Some(element) = source_set {
            into.put(element.clone());
        }
    } else {
        into.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    }
}

/// Whether every text of the object and its items satisfies `holds`.
fn has_only(object: &Object, holds: &dyn Fn(&str) -> bool) -> bool {
    object.iter().all(|element| match element.value() {
        dicom_core::value::Value::Primitive(PrimitiveValue::Strs(texts)) => {
            texts.iter().all(|text| holds(text))
        }
        dicom_core::value::Value::Primitive(PrimitiveValue::Str(text)) => holds(text),
        value => value.items().unwrap_or_default().iter().all(|item| has_only(item, holds)),
    })
}

/// Whether labels that are not ASCII would be written beside undecoded escapes.
pub(super) fn has_undecoded_text(object: &Object) -> bool {
    !has_only(object, &|text| !text.contains('\u{1b}'))
}

/// Pixel Spacing as the source writes it.
pub(super) fn pixel_spacing(series: &Series) -> Vec<String> {
    let group = tags::PIXEL_MEASURES_SEQUENCE;
    let expected = series.pixel_spacing_mm;
    first_frame_strings(series, group, tags::PIXEL_SPACING, &expected, SPACING_TOLERANCE_MM)
}

/// Image Orientation (Patient) as the source writes it.
pub(super) fn orientation(series: &Series) -> Vec<String> {
    let group = tags::PLANE_ORIENTATION_SEQUENCE;
    let expected = series.orientation.concat();
    first_frame_strings(series, group, tags::IMAGE_ORIENTATION_PATIENT, &expected, COSINE_TOLERANCE)
}

/// Image Position (Patient) of one frame as the source writes it.
pub(super) fn position(series: &Series, frame: &SourceFrame) -> Vec<String> {
    let (group, tag) = (tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT);
    strings(series, frame, group, tag)
        .filter(|texts| agree(texts, &frame.position.0, POSITION_TOLERANCE_MM))
        .unwrap_or_else(|| frame.position.0.map(decimal_string).to_vec())
}

/// Slice Thickness of the first frame, when the source gives a positive one.
pub(super) fn slice_thickness(series: &Series) -> Option<String> {
    let frame = series.frames.first()?;
    let texts = strings(series, frame, tags::PIXEL_MEASURES_SEQUENCE, tags::SLICE_THICKNESS)?;
    let value: f64 = texts.first()?.parse().ok()?;
    (value.is_finite() && value > 0.0).then(|| match texts[0].len() <= DS_LENGTH_MAX {
        true => texts[0].clone(),
        false => decimal_string(value),
    })
}

fn first_frame_strings(
    series: &Series,
    group: Tag,
    tag: Tag,
    expected: &[f64],
    tolerance: f64,
) -> Vec<String> {
    let frame = series.frames.first();
    frame
        .and_then(|frame| strings(series, frame, group, tag))
        .filter(|texts| agree(texts, expected, tolerance))
        .unwrap_or_else(|| expected.iter().copied().map(decimal_string).collect())
}

/// The strings of an attribute of one frame: from its functional group, or from the data set of
/// a classic instance.
fn strings(series: &Series, frame: &SourceFrame, group: Tag, tag: Tag) -> Option<Vec<String>> {
    let instance = series.instances.get(frame.instance_index)?;
    let found = match instance.functional_group(frame.frame_number, group) {
        Some(item) => item.strings(tag),
        None => instance.strings(tag),
    };
    (!found.is_empty()).then_some(found)
}

fn agree(texts: &[String], expected: &[f64], tolerance: f64) -> bool {
    texts.len() == expected.len()
        && texts.iter().zip(expected).all(|(text, expected)| {
            let value: Result<f64, _> = text.parse();
            text.len() <= DS_LENGTH_MAX
                && value.is_ok_and(|value| (value - expected).abs() <= tolerance)
        })
}

/// Whether frames of this instance have numbers.
pub(super) fn is_multi_frame(object: &Object) -> bool {
    object.string_opt(tags::NUMBER_OF_FRAMES).is_some()
        || object.item(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).is_some()
}

/// The source's Timezone Offset From UTC (0008,0201), when well-formed.
pub(super) fn utc_offset(source: &Object) -> Option<(String, time::UtcOffset)> {
    let text = source.string_opt(tags::TIMEZONE_OFFSET_FROM_UTC)?;
    let format = time::macros::format_description!("[offset_hour sign:mandatory][offset_minute]");
    let offset = time::UtcOffset::parse(&text, &format).ok()?;
    Some((text, offset))
}
