//! Requests in a radiologist's words: a grammar, a lexicon, and models of abbreviations and typos.
//!
//! Every wording is made from a phrase that the bundle's vocabulary resolves to the target; what
//! surrounds it (verbs, courtesy, indications, remarks on other structures) never names the target
//! or its other side. The text holds no names, dates or numbers that could belong to a person. A
//! seed and a name give the same wording on every machine.

mod abbreviations;
mod grammar;
mod lexicon;
mod rejections;
mod typos;

use std::collections::BTreeMap;

use super::random::Random;
use crate::runtime::vocabulary::{Concept, Laterality, Vocabulary, normalise};

pub use rejections::Rejection;

/// Where and in what a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Modality code of the scan.
    pub modality: String,
    /// What it shows, in the words of the vocabulary's `body_regions`.
    pub body_regions: Vec<String>,
    /// Concepts that the scan shows for certain, by name.
    pub visible: Vec<String>,
    /// Targets that a reader of the reference looked for and did not find here.
    pub absent: Vec<String>,
}

impl Scene {
    /// The region in words, for example `head and neck`.
    pub fn region(&self) -> String {
        match &self.body_regions[..] {
            [] => "scanned region".to_owned(),
            regions => regions.join(" and "),
        }
    }
}

/// One way to ask for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording {
    /// One of the styles of a suite.
    pub style: String,
    /// The words.
    pub text: String,
    /// The phrase for the target before abbreviation and typos; the vocabulary resolves it.
    pub phrase: String,
    /// As it stands in the text.
    pub surface: String,
    /// Tags of the skills that help to read it.
    pub tags: Vec<&'static str>,
}

/// Makes wordings over a vocabulary.
#[derive(Debug, Clone)]
pub struct Synthesizer<'a> {
    vocabulary: &'a Vocabulary,
    /// What [`Vocabulary::find`] says of every phrase that it knows, looked up in one step.
    concepts: BTreeMap<String, &'a Concept>,
}

/// Styles in which a target is asked for; `out_of_region_reference` is what should be refused.
pub const SEGMENT_STYLES: [&str; 7] = [
    "formal_task",
    "clinical_request",
    "report_style",
    "verbose_request",
    "messy_or_misspelled",
    "ambiguous_abbreviation",
    "abbr_or_short",
];

impl<'a> Synthesizer<'a> {
    /// Over the concepts of a bundle.
    pub fn new(vocabulary: &'a Vocabulary) -> Self {
        let mut concepts: BTreeMap<String, &Concept> = BTreeMap::new();
        for concept in &vocabulary.concepts {
            for phrase in std::iter::once(&concept.name).chain(&concept.synonyms) {
                concepts.entry(normalise(phrase)).or_insert(concept);
            }
        }
        Self { vocabulary, concepts }
    }

    /// One wording of a style; none where the style does not fit the target (an ambiguous
    /// abbreviation of something that has none).
    pub fn wording(
        &self,
        target: &str,
        style: &str,
        scene: &Scene,
        random: &mut Random,
    ) -> Option<Wording> {
        let concept = self.concept(target);
        let phrase = self.phrase(target, concept, random);
        let other = self.distractor(target, scene, random);
        let mut tags = tags_of(style);
        if concept.is_some_and(|c| c.laterality != Laterality::None) {
            tags.push("ANATOMICAL_LOCALIZATION");
        }
        let surface = match style {
            "ambiguous_abbreviation" => abbreviations::ambiguous(&phrase, scene, random)?,
            "abbr_or_short" => abbreviations::short(&phrase, random),
            "messy_or_misspelled" => self.misspelled(&phrase, concept, random),
            _ => phrase.clone(),
        };
        let frame = grammar::Frame { surface: &surface, other: other.as_deref(), scene };
        let text = grammar::sentence(style, &frame, random);
        Some(Wording { style: style.to_owned(), text, phrase, surface, tags })
    }

    /// A request for two targets that have nothing in common; none for two of a kind.
    pub fn pair(&self, targets: [&str; 2], scene: &Scene, random: &mut Random) -> Option<Wording> {
        let [a, b] = targets.map(|target| self.concept(target));
        let kind = |c: Option<&Concept>| c.map(|c| c.property_type.value.clone());
        let nested = |one: Option<&Concept>, name: &str| {
            one.is_some_and(|c| c.parts.iter().any(|part| part == name))
        };
        let related = targets[0].contains(targets[1]) || targets[1].contains(targets[0]);
        if kind(a) == kind(b) || nested(a, targets[1]) || nested(b, targets[0]) || related {
            return None;
        }
        let phrases = [self.phrase(targets[0], a, random), self.phrase(targets[1], b, random)];
        let surface = format!("{} and the {}", phrases[0], phrases[1]);
        const STYLES: [&str; 4] =
            ["formal_task", "clinical_request", "report_style", "verbose_request"];
        let style: &str = STYLES[random.below(STYLES.len())];
        let frame = grammar::Frame { surface: &surface, other: None, scene };
        let text = grammar::sentence(style, &frame, random).replace("the both ", "both ");
        let surface = surface.replace("the both ", "both ");
        Some(Wording {
            style: style.to_owned(),
            text,
            phrase: surface.clone(),
            surface,
            tags: tags_of(style),
        })
    }

    /// Distinct wordings, the styles taking turns; fewer than `count` when there are no more.
    pub fn wordings(
        &self,
        target: &str,
        scene: &Scene,
        count: usize,
        random: &mut Random,
    ) -> Vec<Wording> {
        let mut found: Vec<Wording> = Vec::new();
        let mut styles = SEGMENT_STYLES;
        random.shuffle(&mut styles);
        for attempt in 0..count * 6 {
            if found.len() == count {
                break;
            }
            let style = styles[attempt % styles.len()];
            let wording = self.wording(target, style, scene, random);
            found.extend(wording.filter(|new| found.iter().all(|old| old.text != new.text)));
        }
        found
    }

    /// Something that should be refused in this scene; none when the vocabulary offers nothing.
    pub fn rejection(
        &self,
        kind: rejections::Kind,
        scene: &Scene,
        random: &mut Random,
    ) -> Option<Rejection> {
        rejections::make(self, kind, scene, random)
    }

    /// Distinct rejections, the kinds taking turns.
    pub fn rejections(&self, scene: &Scene, count: usize, random: &mut Random) -> Vec<Rejection> {
        let mut found: Vec<Rejection> = Vec::new();
        for attempt in 0..count * 6 {
            if found.len() == count {
                break;
            }
            let kind = rejections::Kind::TURNS[attempt % rejections::Kind::TURNS.len()];
            let made = self.rejection(kind, scene, random);
            found.extend(made.filter(|new| found.iter().all(|old| old.text != new.text)));
        }
        found
    }

    /// The concept that a phrase names, if the vocabulary has it.
    pub fn concept(&self, phrase: &str) -> Option<&'a Concept> {
        self.concepts.get(&normalise(phrase)).copied()
    }

    /// The name or one of its synonyms; the name more often than each of the others.
    fn phrase(&self, target: &str, concept: Option<&Concept>, random: &mut Random) -> String {
        let Some(concept) = concept else { return target.to_owned() };
        if concept.synonyms.is_empty() || random.chance(0.3) {
            return concept.name.clone();
        }
        random.pick(&concept.synonyms).clone()
    }

    /// A structure that may be mentioned in passing: visible here, of another kind than the target.
    fn distractor(&self, target: &str, scene: &Scene, random: &mut Random) -> Option<String> {
        let kind = self.concept(target).map(|concept| concept.property_type.value.clone());
        let bare = |name: &str| -> String {
            let words = normalise(name);
            let words = words.split(' ').filter(|w| !["left", "right", "both"].contains(w));
            words.collect::<Vec<_>>().join(" ")
        };
        let target_words = bare(target);
        let others: Vec<&String> = scene
            .visible
            .iter()
            .filter(|name| {
                let words = bare(name);
                let related = words.contains(&target_words) || target_words.contains(&words);
                let same = self.concept(name).map(|c| &c.property_type.value) == kind.as_ref();
                !(related || same && kind.is_some())
            })
            .collect();
        (!others.is_empty()).then(|| (*random.pick(&others)).clone())
    }

    /// Typing slips; never into another phrase that the vocabulary knows.
    fn misspelled(&self, phrase: &str, concept: Option<&Concept>, random: &mut Random) -> String {
        for _ in 0..8 {
            let slipped = typos::slip(phrase, random);
            let meant = self.concept(&slipped).map(|found| &found.name);
            if slipped != phrase && (meant.is_none() || meant == concept.map(|c| &c.name)) {
                return slipped;
            }
        }
        phrase.to_owned()
    }
}

fn tags_of(style: &str) -> Vec<&'static str> {
    match style {
        "clinical_request" => vec!["CLINICAL_REQUEST_NORMALIZE"],
        "report_style" => vec!["REPORT_STYLE_PARSE"],
        "verbose_request" => vec!["VERBOSE_PRUNE"],
        "messy_or_misspelled" => vec!["MESSY_INPUT_REPAIR"],
        "ambiguous_abbreviation" | "abbr_or_short" => vec!["ABBR_DISAMBIGUATE"],
        "out_of_region_reference" => vec!["OUT_OF_REGION_REJECT"],
        _ => vec!["PROMPT_NORMALIZE"],
    }
}

#[cfg(test)]
mod tests;
