//! Texts of DICOM JSON (PS3.18 §F.2): where each data set lies and what its values will take in
//! memory, so that a long text is never held as values as a whole.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::DicomError;

/// Most memory that the values of one data set may take.
const VALUES_BYTES_MAX: u64 = 1 << 30;

/// What an object allocates with its first three members; serde_json keeps their order in a table
/// beside a vector. These four are measured and rounded up; a vector that grows holds its old
/// place beside one of twice the size.
const OBJECT_BYTES: u64 = 640;
/// An array with its first four values.
const ARRAY_BYTES: u64 = 320;
/// One more member or value.
const MEMBER_BYTES: u64 = 384;
/// A character of a name or text.
const TEXT_BYTES: u64 = 4;

/// One data set of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonDataSet {
    /// Where its text lies.
    pub place: Range<usize>,
    /// Most memory that its values take while they are read, in bytes.
    pub values_bytes: u64,
}

/// Finds the data sets of a text: the items of an array, or the single one. Takes memory for the
/// list only.
///
/// # Errors
/// When the text is no JSON, an item is no object, or there are more than `count_max`.
pub fn json_data_sets(text: &str, count_max: u64) -> Result<Vec<JsonDataSet>, DicomError> {
    let not = |what| DicomError::NotDicom(format!("DICOM JSON of {} bytes {what}", text.len()));
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| not("is no JSON"))?;
    let outer = usize::from(text.trim_start().starts_with('['));
    let mut scan = Scan { outer, depth: 0, strings: Strings::default(), found: Vec::new() };
    for (at, byte) in text.bytes().enumerate() {
        scan.step(at, byte).ok_or_else(|| not("has an item that is no object"))?;
        let (what, found) = ("count of data sets in DICOM JSON", scan.found.len() as u64);
        if found > count_max {
            return Err(DicomError::TooLarge { what, found, max: count_max });
        }
    }
    Ok(scan.found)
}

/// Reads one data set of a text into values.
///
/// # Errors
/// When they would take more than 1 GiB of memory, or nest deeper than 127 arrays and objects.
pub fn read_json_data_set(
    text: &str,
    data_set: &JsonDataSet,
) -> Result<Map<String, Value>, DicomError> {
    let (what, found) = ("memory for DICOM JSON in bytes", data_set.values_bytes);
    if found > VALUES_BYTES_MAX {
        return Err(DicomError::TooLarge { what, found, max: VALUES_BYTES_MAX });
    }
    let text = text.get(data_set.place.clone()).unwrap_or_default();
    serde_json::from_str(text).map_err(|_| {
        let problem = "cannot be read: it nests too deep or has a number or text that cannot be";
        DicomError::NotDicom(format!("DICOM JSON of {} bytes {problem}", text.len()))
    })
}

/// A walk over a text that is known to be JSON.
struct Scan {
    /// How many arrays are around a data set.
    outer: usize,
    depth: usize,
    strings: Strings,
    found: Vec<JsonDataSet>,
}

impl Scan {
    /// Takes the next byte; none when an item is no object.
    fn step(&mut self, at: usize, byte: u8) -> Option<()> {
        let is_text = self.strings.is_inside(byte);
        match byte {
            _ if self.depth == self.outer => return self.step_between(at, byte),
            b'[' if self.depth < self.outer => self.depth += 1,
            _ if self.depth < self.outer => {}
            _ if is_text => self.cost(TEXT_BYTES),
            b'{' => self.open(OBJECT_BYTES),
            b'[' => self.open(ARRAY_BYTES),
            b',' => self.cost(MEMBER_BYTES),
            b'}' | b']' => self.close(at),
            _ => {}
        }
        Some(())
    }

    /// Takes a byte that is in no data set.
    fn step_between(&mut self, at: usize, byte: u8) -> Option<()> {
        match byte {
            b'{' => {
                self.found.push(JsonDataSet { place: at..at, values_bytes: 0 });
                self.open(OBJECT_BYTES);
            }
            // Ends the array around the data sets, and with it the text.
            b']' => self.outer = usize::MAX,
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return None,
        }
        Some(())
    }

    fn open(&mut self, bytes: u64) {
        self.depth += 1;
        self.cost(bytes);
    }

    fn close(&mut self, at: usize) {
        self.depth -= 1;
        if let Some(last) = self.found.last_mut().filter(|_| self.depth == self.outer) {
            last.place.end = at + 1;
        }
    }

    fn cost(&mut self, bytes: u64) {
        if let Some(last) = self.found.last_mut() {
            last.values_bytes = last.values_bytes.saturating_add(bytes);
        }
    }
}

/// Tells which bytes belong to strings.
#[derive(Default)]
struct Strings {
    is_open: bool,
    is_escaped: bool,
}

impl Strings {
    /// Whether the next byte belongs to a string, its quotes included.
    fn is_inside(&mut self, byte: u8) -> bool {
        let was_open = self.is_open;
        match byte {
            _ if std::mem::take(&mut self.is_escaped) => {}
            b'\\' => self.is_escaped = was_open,
            b'"' => self.is_open = !was_open,
            _ => {}
        }
        was_open || byte == b'"'
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let sets = json_data_sets(text, 10).unwrap();
        sets.into_iter().map(|set| &text[set.place]).collect()
    }

    #[test]
    fn data_sets_are_found_where_they_lie() {
        assert_eq!(found(" {} "), ["{}"]);
        assert_eq!(found("[]\n"), [""; 0]);
        let first = r#"{"00100020":{"Value":["a]},{\"","\\"]}}"#;
        assert_eq!(found(&format!("\t[ {first} ,{{}}, {first}]\n")), [first, "{}", first]);
    }

    #[test]
    fn what_is_no_list_of_objects_is_refused() {
        let check = |text: &str, word: &str| {
            let error = json_data_sets(text, 2).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        check("", "0 bytes is no JSON");
        check("[{}", "is no JSON");
        check("[{}] {}", "is no JSON");
        check("7", "no object");
        check("\"{}\"", "no object");
        check("[{}, [{}]]", "no object");
        check("[{},{},{}]", "is 3, the limit is 2");
    }

    #[test]
    fn memory_is_told_before_it_is_taken() {
        let cost = |text: &str| json_data_sets(text, 2).unwrap()[0].values_bytes;
        let size = std::mem::size_of::<Value>() as u64;
        assert!(MEMBER_BYTES >= 3 * (size + std::mem::size_of::<String>() as u64 + 8));
        assert!(cost(r#"{"a":[1,1,1,1]}"#) >= cost(r#"{"a":[]}"#) + 3 * 3 * size);
        // Text of 6 MB that would take more than 1 GiB.
        let many =
            format!("{{\"00091001\":{{\"vr\":\"US\",\"Value\":[1{}]}}}}", ",1".repeat(3 << 20));
        let sets = json_data_sets(&many, 1).unwrap();
        let error = read_json_data_set(&many, &sets[0]).unwrap_err().to_string();
        assert!(error.contains("the limit is 1073741824"), "{error}");
        let deep = format!("{}{}", "{\"a\":".repeat(200) + "1", "}".repeat(200));
        let sets = json_data_sets(&deep, 1).unwrap();
        assert!(read_json_data_set(&deep, &sets[0]).is_err());
    }
}
