//! The concepts a bundle knows (`vocabulary.toml`).

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
