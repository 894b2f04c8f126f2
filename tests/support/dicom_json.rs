//! Comparing DICOM JSON of different writers.

use serde_json::{Map, Value};

/// Whether an element has no value that says anything.
pub fn is_empty(element: &Value) -> bool {
    let blank = |value: &Value| {
        value.is_null()
            || value.as_str().is_some_and(|text| text.trim_matches([' ', '\0']).is_empty())
            || value.as_object().is_some_and(|object| object.values().all(|v| v == ""))
    };
    !is_binary(element) && element["Value"].as_array().is_none_or(|values| values.iter().all(blank))
}

/// Whether an element's value is bytes, sent along or told by URL.
pub fn is_binary(element: &Value) -> bool {
    element.get("InlineBinary").is_some() || element.get("BulkDataURI").is_some()
}

/// Numbers within the precision of what was written; texts without padding; empty ones are null.
pub fn is_same(our: &Value, their: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::String(text) => text.trim_matches([' ', '\0']).parse::<f64>().ok(),
        value => value.as_f64(),
    };
    if let (Some(our), Some(their)) = (number(our), number(their)) {
        return (our - their).abs() <= 1e-6 * our.abs().max(1.0);
    }
    let text = |value: &Value| {
        value.as_str().unwrap_or_default().trim_matches([' ', '\0']).replace("\r\n", "\n")
    };
    match (our, their) {
        (Value::Object(ours), Value::Object(theirs)) => theirs.iter().all(|(group, name)| {
            let own = ours.get(group).map(text).unwrap_or_default();
            own.trim_end_matches('^') == text(name).trim_end_matches('^')
        }),
        _ => text(our) == text(their),
    }
}

/// Whether a tag of eight hexadecimal digits is private.
pub fn is_private(tag: &str) -> bool {
    tag.get(..4).and_then(|group| u16::from_str_radix(group, 16).ok()).is_some_and(|g| g % 2 == 1)
}

/// What two data sets have in common, and how they differ.
#[derive(Default)]
pub struct Compared {
    pub equal: usize,
    pub differences: std::collections::BTreeSet<String>,
}

impl Compared {
    /// What `theirs` tells must be in `ours`, and be the same. `skip` are tags that are explained.
    pub fn objects(
        &mut self,
        place: &str,
        ours: &Map<String, Value>,
        theirs: &Map<String, Value>,
        skip: &dyn Fn(&str) -> bool,
    ) {
        for (tag, their) in theirs.iter().filter(|(tag, _)| !skip(tag)) {
            let place = format!("{place}{tag}");
            match ours.get(tag) {
                Some(our) => self.elements(&place, tag, [our, their], skip),
                None if is_empty(their) => self.equal += 1,
                None => self.differ(format!("{place} is missing: {their}")),
            }
        }
    }

    fn elements(
        &mut self,
        place: &str,
        tag: &str,
        [our, their]: [&Value; 2],
        skip: &dyn Fn(&str) -> bool,
    ) {
        if is_binary(our) && is_binary(their) || is_empty(our) && is_empty(their) {
            self.equal += 1;
            return;
        }
        // Private dictionaries differ: the vr of what a file wrote without or as UN.
        if our["vr"] != their["vr"] && is_private(tag) {
            return;
        }
        let values = |element: &Value| element["Value"].as_array().cloned().unwrap_or_default();
        let (ours, theirs) = (values(our), values(their));
        if our["vr"] != their["vr"] || ours.len() != theirs.len() {
            return self.differ(format!("{place}: {our} here, {their} there"));
        }
        for (our, their) in ours.iter().zip(&theirs) {
            match (our.as_object(), their.as_object()) {
                (Some(ours), Some(theirs)) if their.get("Alphabetic").is_none() => {
                    self.objects(&format!("{place}."), ours, theirs, skip);
                }
                _ if is_same(our, their) => self.equal += 1,
                _ => self.differ(format!("{place}: {our} here, {their} there")),
            }
        }
    }

    fn differ(&mut self, what: String) {
        self.differences.insert(what.chars().take(400).collect());
    }
}
