//! Refuses text that may say who a patient is, before it becomes part of a skill.
//!
//! Skills outlive studies and travel between hospitals, so the check is strict: it may refuse a
//! harmless phrase, and a person can word it otherwise. It looks at form (dates, ages, long
//! numbers, addresses), at words that announce an identity (`MRN`, `Mrs`), at DICOM person names
//! (`Doe^Jane`), and at common given and family names that are not also words of anatomy.

mod names;

use super::words::words;
use crate::error::{ErrorKind, Kind};

/// Most digits that a word of a skill may have: `L5`, `T12`, `IV3`.
const DIGITS_MAX: usize = 3;

/// Words that announce who somebody is.
const IDENTITY_WORDS: [&str; 31] = [
    "mrs",
    "mister",
    "prof",
    "professor",
    "herr",
    "frau",
    "monsieur",
    "madame",
    "senor",
    "senora",
    "mrn",
    "dob",
    "ssn",
    "nhs",
    "nino",
    "accession",
    "accno",
    "patid",
    "patientid",
    "patientname",
    "surname",
    "lastname",
    "firstname",
    "forename",
    "birthdate",
    "birthday",
    "passport",
    "insurance",
    "phone",
    "tel",
    "email",
];

const MONTHS: [&str; 21] = [
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "jan",
    "feb",
    "mar",
    "apr",
    "jun",
    "jul",
    "aug",
    "sept",
    "oct",
    "nov",
];

/// Why a text may not become part of a skill. The text itself is never quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivacyFault {
    /// A name of a person.
    #[error("the text of {length} characters holds what may be a person's name")]
    Name {
        /// Characters of the text.
        length: usize,
    },
    /// A date, a year or an age.
    #[error("the text of {length} characters holds what may be a date or an age")]
    Date {
        /// Characters of the text.
        length: usize,
    },
    /// A number that looks like an identifier.
    #[error("the text of {length} characters holds a number that looks like an identifier")]
    Number {
        /// Characters of the text.
        length: usize,
    },
    /// A word that announces an identity, or an address.
    #[error("the text of {length} characters announces an identity or an address")]
    Identity {
        /// Characters of the text.
        length: usize,
    },
}

impl Kind for PrivacyFault {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Refuses names, dates, ages, addresses and numbers that look like identifiers.
///
/// # Errors
/// The first kind of fault found; the text is not quoted.
pub fn check(text: &str) -> Result<(), PrivacyFault> {
    let length = text.chars().count();
    let words = words(text);
    if text.contains('@') || text.contains("://") || announces_identity(text, &words) {
        return Err(PrivacyFault::Identity { length });
    }
    if has_date(text, &words) {
        return Err(PrivacyFault::Date { length });
    }
    if has_long_number(text, &words) {
        return Err(PrivacyFault::Number { length });
    }
    if has_name(text, &words) {
        return Err(PrivacyFault::Name { length });
    }
    Ok(())
}

fn announces_identity(text: &str, words: &[String]) -> bool {
    let patient_is = |pair: &[String]| {
        matches!(pair[0].as_str(), "patient" | "pt" | "pat")
            && matches!(pair[1].as_str(), "name" | "id" | "no" | "number" | "named" | "called")
    };
    // `MR` is a modality and `dr` a side in some languages: as titles they are written like this.
    let titles = ["Dr. ", "Dr ", "dr. ", "Mr. ", "Mr ", "mr. "];
    titles.iter().any(|title| text.contains(title))
        || words.iter().any(|word| IDENTITY_WORDS.contains(&word.as_str()))
        || words.windows(2).any(patient_is)
}

fn has_date(text: &str, words: &[String]) -> bool {
    let number = |word: &str| word.parse::<u32>().ok();
    let year =
        |word: &str| word.len() == 4 && number(word).is_some_and(|n| (1900..=2099).contains(&n));
    let age = |word: &str| {
        let letters = word.trim_start_matches(|c: char| c.is_ascii_digit());
        letters.len() < word.len()
            && matches!(letters, "yo" | "yr" | "yrs" | "y" | "year" | "years" | "jahre" | "ans")
    };
    let month_and_number = |pair: &[String]| {
        let [first, second] = pair else { return false };
        let month = |word: &str| MONTHS.contains(&word);
        let day =
            |word: &str| number(word.trim_end_matches(['s', 't', 'n', 'd', 'r', 'h'])).is_some();
        (month(first) || first == "may") && day(second)
            || (month(second) || second == "may") && day(first)
    };
    let number_and_age = |pair: &[String]| {
        number(&pair[0]).is_some()
            && matches!(pair[1].as_str(), "yo" | "y" | "yr" | "yrs" | "year" | "years" | "jahre")
    };
    words.iter().any(|word| year(word) || age(word))
        || words.windows(2).any(|pair| month_and_number(pair) || number_and_age(pair))
        || runs_of_digits(text, &['/', '-', '.']).iter().any(|run| is_date(run))
}

/// Two or three groups of digits like a day, a month and a year.
fn is_date(run: &str) -> bool {
    let groups: Vec<&str> = run.split(['/', '-', '.']).filter(|group| !group.is_empty()).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    matches!(lengths[..], [1 | 2, 1 | 2, 2 | 4] | [4, 1 | 2, 1 | 2])
        || run.contains('/') && matches!(lengths[..], [1 | 2, 4] | [4, 1 | 2])
}

fn has_long_number(text: &str, words: &[String]) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    words.iter().any(|word| digits(word) > DIGITS_MAX)
        || runs_of_digits(text, &['-', '.', ' ', '/', '(', ')', '+', '_', ':'])
            .iter()
            .any(|run| digits(run) > 2 * DIGITS_MAX)
        // A UID: four groups or more.
        || runs_of_digits(text, &['.']).iter().any(|run| run.split('.').count() > 3)
}

/// Longest stretches of digits and the given joints that begin and end with a digit.
fn runs_of_digits(text: &str, joints: &[char]) -> Vec<String> {
    let mut runs = Vec::new();
    let mut run = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_digit() || !run.is_empty() && joints.contains(&letter) {
            run.push(letter);
        } else if !run.is_empty() {
            let kept = run.trim_end_matches(|c: char| !c.is_ascii_digit());
            runs.push(kept.to_owned());
            run.clear();
        }
    }
    runs
}

fn has_name(text: &str, words: &[String]) -> bool {
    // DICOM's person names: components between carets.
    let carets = text.split_whitespace().any(|word| {
        word.split_once('^').is_some_and(|(family, given)| {
            family.chars().any(char::is_alphabetic) && given.chars().any(char::is_alphabetic)
        })
    });
    carets || words.iter().any(|word| names::is_name(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_may_say_who_a_patient_is() {
        for text in [
            "outline the liver for John Smith",
            "hip of DOE^JANE",
            "Dr. Quincke asks for the spleen",
            "Mrs Q left kidney",
            "Mr. Q left kidney",
            "scan of 12.03.2024",
            "since 2019",
            "3/24",
            "on 4 March",
            "72yo liver",
            "45 y old kidney",
            "MRN kidney",
            "kidney 0048213",
            "room 1234",
            "call 555-123-456",
            "1.2.840.113619.2",
            "patient name liver",
            "x@example.org",
            "garcia hip",
        ] {
            // 3/24 alone is a ratio as often as a month; with a year it is refused.
            let expected = text != "3/24";
            assert_eq!(check(text).is_err(), expected, "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn lets_the_words_of_radiology_pass() {
        for text in [
            "lt hippo volumetry",
            "XQZ",
            "MR brain ACC",
            "L5/S1 disc",
            "T12 vertebral body",
            "circle of Willis",
            "Broca area",
            "T1w FLAIR 3D",
            "mark the left ventricle",
            "white matter",
            "Sylvian fissure",
            "pls outline R iliac bone, 3 mm margin",
            "may include the head of the caudate",
            "ABBR_DISAMBIGUATE",
            "bone window 360",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_fault_never_quotes_the_text() {
        let fault = check("liver of John").expect_err("a name");
        assert!(!fault.to_string().to_lowercase().contains("john"), "{fault}");
    }
}
