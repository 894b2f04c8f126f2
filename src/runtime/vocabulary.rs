//! The concepts a bundle knows (`vocabulary.toml`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A coded concept (PS3.3 Table 8.8-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Code Value (0008,0100).
    pub value: String,
    /// Coding Scheme Designator (0008,0102).
    pub scheme: String,
    /// Code Meaning (0008,0104).
    pub meaning: String,
}

/// Which side of the body a concept names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Laterality {
    /// The patient's left.
    Left,
    /// The patient's right.
    Right,
    /// Both sides of a paired structure.
    Both,
    /// Not paired.
    None,
}

/// One concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concept {
    /// Canonical phrase: what the answer says.
    pub name: String,
    /// Other phrases that mean exactly this.
    #[serde(default)]
    pub synonyms: Vec<String>,
    /// Its side.
    pub laterality: Laterality,
    /// What the backbone is asked.
    pub prompt: String,
    /// Segmented Property Category.
    pub category: Code,
    /// Segmented Property Type.
    #[serde(rename = "type")]
    pub property_type: Code,
    /// Segmented Property Type Modifier.
    #[serde(default)]
    pub modifier: Option<Code>,
    /// Recommended Display CIELab Value as DICOM's unsigned 16-bit numbers (PS3.3 C.10.7.1.1).
    pub cielab: [u16; 3],
    /// Body regions it can occur in.
    pub body_regions: Vec<String>,
    /// Modality codes it can be seen in.
    pub modalities: Vec<String>,
    /// For a `both` concept, the sided concepts it unites.
    #[serde(default)]
    pub parts: Vec<String>,
    /// What a reader of every mask of it should know, measured: orders carry it as the finding
    /// `target_caution`.
    #[serde(default)]
    pub caution: Option<String>,
}

/// A term the bundle understands but cannot segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsentTerm {
    /// Canonical phrase.
    pub name: String,
    /// Other phrases.
    #[serde(default)]
    pub synonyms: Vec<String>,
    /// Where it occurs.
    #[serde(default)]
    pub body_regions: Vec<String>,
}

/// All of `vocabulary.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// What the bundle can segment.
    #[serde(default, rename = "concept")]
    pub concepts: Vec<Concept>,
    /// What it only knows by name.
    #[serde(default, rename = "absent")]
    pub absent: Vec<AbsentTerm>,
}

/// What a phrase means to a bundle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning<'a> {
    /// The canonical name of a concept.
    Name(&'a Concept),
    /// A synonym of a concept.
    Synonym(&'a Concept),
    /// A term the bundle understands but cannot segment.
    Absent(&'a AbsentTerm),
}

impl Vocabulary {
    /// Looks a phrase up: canonical names first, then synonyms, then absent terms. Never fuzzy.
    ///
    /// Case, punctuation, white space and a leading "the" do not count.
    pub fn find(&self, phrase: &str) -> Option<Meaning<'_>> {
        let phrase = normalise(phrase);
        if phrase.is_empty() {
            return None;
        }
        let same = |other: &str| normalise(other) == phrase;
        let by_name = self.concepts.iter().find(|c| same(&c.name)).map(Meaning::Name);
        let by_synonym = || {
            let found = self.concepts.iter().find(|c| c.synonyms.iter().any(|s| same(s)));
            found.map(Meaning::Synonym)
        };
        let absent = || {
            let found =
                self.absent.iter().find(|a| same(&a.name) || a.synonyms.iter().any(|s| same(s)));
            found.map(Meaning::Absent)
        };
        by_name.or_else(by_synonym).or_else(absent)
    }

    /// Checks that no phrase means two things, that united concepts exist, and that an answer can
    /// hold every name (`.`, `;` and `<` end it).
    ///
    /// # Errors
    /// Names the phrase and both meanings.
    pub fn check_phrases(&self) -> Result<(), String> {
        let mut meanings: BTreeMap<String, &str> = BTreeMap::new();
        let concepts = self.concepts.iter().map(|c| (&c.name, &c.synonyms));
        let absent = self.absent.iter().map(|a| (&a.name, &a.synonyms));
        for (name, synonyms) in concepts.chain(absent) {
            for phrase in std::iter::once(name).chain(synonyms) {
                match meanings.insert(normalise(phrase), name) {
                    Some(other) if other != name => {
                        return Err(format!("phrase {phrase:?} means both {other:?} and {name:?}"));
                    }
                    _ => {}
                }
            }
        }
        for concept in &self.concepts {
            if concept.name.contains(['.', ';', '<', '\n']) {
                return Err(format!(
                    "{:?} has a character that an answer cannot hold",
                    concept.name
                ));
            }
            if let Some(part) =
                concept.parts.iter().find(|&part| !self.concepts.iter().any(|c| c.name == *part))
            {
                return Err(format!("{:?} unites {part:?}, which is no concept", concept.name));
            }
        }
        Ok(())
    }
}

/// The form in which phrases are compared: lower case, punctuation and runs of white space as one
/// space, no leading "the".
pub fn normalise(phrase: &str) -> String {
    let spaced: String =
        phrase.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let lower = spaced.to_lowercase();
    let mut words = lower.split_whitespace().peekable();
    words.next_if_eq(&"the");
    words.collect::<Vec<_>>().join(" ")
}
