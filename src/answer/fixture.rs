//! A small vocabulary for the tests of this room.

use super::Target;
use crate::runtime::vocabulary::{AbsentTerm, Code, Concept, Laterality, Vocabulary};

fn concept(name: &str, synonyms: &[&str], laterality: Laterality, code: &str) -> Concept {
    let coded = |value: &str| Code {
        value: value.to_owned(),
        scheme: "SCT".to_owned(),
        meaning: name.to_owned(),
    };
    Concept {
        name: name.to_owned(),
        synonyms: synonyms.iter().map(|s| (*s).to_owned()).collect(),
        laterality,
        prompt: name.to_owned(),
        category: coded("91723000"),
        property_type: Code { meaning: code.to_owned(), ..coded(code) },
        modifier: None,
        cielab: [0; 3],
        body_regions: Vec::new(),
        modalities: Vec::new(),
        parts: Vec::new(),
        caution: None,
    }
}

/// Kidneys and hip bones with sides, a liver without, a prostate that cannot be segmented.
pub(super) fn vocabulary() -> Vocabulary {
    let mut concepts = vec![concept("liver", &["hepar"], Laterality::None, "liver")];
    for (one, many, extra) in
        [("kidney", "kidneys", "renal parenchyma"), ("hip bone", "hip bones", "hipbone")]
    {
        for (side, laterality) in [("left", Laterality::Left), ("right", Laterality::Right)] {
            let synonyms = [
                format!("{} {one}", &side[..1]),
                format!("{one} {side}"),
                format!("{side} {extra}"),
            ];
            let synonyms: Vec<&str> = synonyms.iter().map(String::as_str).collect();
            concepts.push(concept(&format!("{side} {one}"), &synonyms, laterality, one));
        }
        let synonyms = [many.to_owned(), one.to_owned(), format!("left and right {one}")];
        let synonyms: Vec<&str> = synonyms.iter().map(String::as_str).collect();
        let mut both = concept(&format!("both {many}"), &synonyms, Laterality::Both, one);
        both.parts = vec![format!("left {one}"), format!("right {one}")];
        concepts.push(both);
    }
    let absent = AbsentTerm {
        name: "prostate".to_owned(),
        synonyms: vec!["prostate gland".to_owned()],
        body_regions: Vec::new(),
    };
    Vocabulary { concepts, absent: vec![absent] }
}

/// The concept of that name, or an unknown phrase.
pub(super) fn target(vocabulary: &Vocabulary, name: &str) -> Target {
    let concept = vocabulary.concepts.iter().find(|concept| concept.name == name).cloned();
    Target { phrase: name.to_owned(), prompt: name.to_owned(), concept }
}
