//! Any bytes as DICOM JSON: an error, or files that are well-formed; and what they are told as
//! makes the same files again.

use seer::archive::metadata_json;
use seer::dicom::{
    BulkParts, DicomError, DicomLimits, Instance, json_data_sets, part10_from_json,
    read_json_data_set,
};
use seer::error::Finding;
use serde_json::Value;

const DATA_SET_COUNT_MAX: u64 = 64;
const ELEMENT_COUNT_MAX: usize = 2_000;

const LIMITS: DicomLimits = DicomLimits {
    instance_size_bytes_max: 4 << 20,
    inflated_size_bytes_max: 4 << 20,
    pixel_size_bytes_max: 4 << 20,
    nesting_depth_max: 64,
    element_count_max: ELEMENT_COUNT_MAX,
};

/// An element alone in its item, as values, as an object, written, read and told.
const ELEMENT_BYTES: usize = 8 << 10;

/// Most heap that the check may take.
pub fn heap_bytes_max(input: &[u8]) -> usize {
    let text = std::str::from_utf8(input).unwrap_or_default();
    let data_sets = json_data_sets(text, DATA_SET_COUNT_MAX).unwrap_or_default();
    let values = data_sets.iter().map(|data_set| data_set.values_bytes).max().unwrap_or_default();
    (64 << 10) + 2 * values as usize + 64 * input.len() + ELEMENT_COUNT_MAX * ELEMENT_BYTES
}

/// Panics when something else comes of the input.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(data_sets) = json_data_sets(text, DATA_SET_COUNT_MAX) else { return };
    for data_set in data_sets {
        let Ok(values) = read_json_data_set(text, &data_set) else { continue };
        let Ok(file) = part10_from_json(&values, &mut find_bulk, &LIMITS) else { continue };
        if let Some(instance) = parse(&file) {
            check_told_again(&instance);
        }
    }
}

/// Bulk data of every kind: none, native, and encapsulated in the transfer syntax of the URI.
fn find_bulk(uri: &str) -> Option<BulkParts> {
    match uri.split_once('/') {
        None if uri.is_empty() => None,
        None => Some(BulkParts { parts: vec![vec![7; uri.len()]], transfer_syntax_uid: None }),
        Some((syntax, rest)) => Some(BulkParts {
            parts: rest.split('/').map(|part| part.as_bytes().to_vec()).collect(),
            transfer_syntax_uid: Some(syntax.to_owned()),
        }),
    }
}

/// The instance, unless it lacks what an instance must have. What we wrote is never malformed; only
/// InlineBinary of a text may be no text, and then it is told as something else.
fn parse(file: &[u8]) -> Option<Instance> {
    match Instance::parse(file, &LIMITS) {
        Ok((instance, findings)) => {
            let is_text = |finding: &Finding| finding.code == "text_not_in_character_set";
            let tolerated = findings.iter().find(|finding| !is_text(finding));
            assert!(tolerated.is_none(), "what we wrote needs tolerance: {tolerated:?}");
            findings.is_empty().then_some(instance)
        }
        Err(
            DicomError::BadUid { .. }
            | DicomError::TooLarge { .. }
            | DicomError::Missing { .. }
            | DicomError::BadValue { .. }
            | DicomError::PixelDataLength { .. },
        ) => None,
        Err(error) => panic!("what we wrote cannot be read: {error}"),
    }
}

/// What an instance is told as makes an instance that is told the same.
fn check_told_again(instance: &Instance) {
    let told = metadata_json(instance);
    let text = Value::Object(told.clone()).to_string();
    let data_sets = json_data_sets(&text, 1).expect("we tell one data set");
    let values = read_json_data_set(&text, &data_sets[0]).expect("we tell what can be read");
    assert_eq!(values, told, "JSON changes on its way through text");
    let pixels = |_: &str| Some(BulkParts { parts: vec![vec![0; 64]], transfer_syntax_uid: None });
    let Ok(file) = part10_from_json(&values, &mut { pixels }, &LIMITS) else {
        panic!("what we tell is refused");
    };
    if let Some(again) = parse(&file) {
        let again = metadata_json(&again);
        for (key, element) in &told {
            let is_bulk = element.get("BulkDataURI").is_some() || key == "00083002";
            let again = again.get(key).unwrap_or(&Value::Null);
            assert!(is_bulk || is_same(element, again), "{key} is told another way");
        }
    }
}

/// Equal, but for numbers with more digits than the 16 characters of a DS hold.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, l)| right.get(key).is_some_and(|r| is_same(l, r)))
        }
        (Value::Number(left), Value::Number(right)) => {
            let [left, right] = [left, right].map(|n| n.as_f64().unwrap_or(f64::NAN));
            (left - right).abs() <= 1e-8 * left.abs()
        }
        _ => left == right,
    }
}
