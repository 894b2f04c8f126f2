//! Lessons into skills: which words of the failing orders mean the target that won the reward.
//!
//! The words of an order that are neither the vocabulary's nor carriers of a request are held
//! against the targets of all practice: a term that goes with one structure, for several patients,
//! is jargon for it; one that goes with several is a carrier the list does not know; one that a
//! single patient's orders have may be a name and is left alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::harvest::{Harvest, Lesson};
use super::material::Material;
use super::terms::{Lexicon, Side, likeness, split_name};
use crate::bank::{NewSkill, tag};
use crate::runtime::vocabulary::{Meaning, Vocabulary, normalise};

/// When a term is taken for jargon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DistilSettings {
    /// Fewest patients whose orders use the term: house jargon recurs, a name does not.
    pub patients_min: usize,
    /// Fewest phrasings that use it.
    pub phrasings_min: usize,
    /// Lowest share of them that mean the one structure.
    pub purity_min: f64,
}

impl Default for DistilSettings {
    fn default() -> Self {
        Self { patients_min: 2, phrasings_min: 2, purity_min: 0.75 }
    }
}

/// A skill that practice suggests, before it is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it says.
    pub skill: NewSkill,
    /// The jargon in it, without a side.
    pub term: String,
    /// Its lessons, as requests of the material.
    pub requests: Vec<usize>,
    /// Patients whose orders taught it.
    pub patients: usize,
    /// Mean Dice of the teachers less mean Dice of the failing phrasings.
    pub gain: f64,
    /// Mean reward of its teachers.
    pub reward: f64,
}

/// Drafts, and why lessons became none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distilled {
    /// By term, side and target.
    pub drafts: Vec<Draft>,
    /// How many lessons ended how: a short word and a count.
    pub dropped: BTreeMap<&'static str, usize>,
}

/// What is known of one term over all practice.
#[derive(Default)]
struct Usage {
    phrasings: usize,
    /// Structure without its side → patients and phrasings.
    structures: BTreeMap<String, (BTreeSet<String>, usize)>,
}

/// Aligns unknown terms with the targets that won.
pub fn distil(
    material: &Material,
    harvest: &Harvest,
    vocabulary: &Vocabulary,
    settings: &DistilSettings,
) -> Distilled {
    let lexicon = Lexicon::of(vocabulary);
    let usage = usages(material, harvest, &lexicon);
    let mut distilled = Distilled::default();
    let mut by_skill: BTreeMap<(String, Option<Side>, String), Vec<&Lesson>> = BTreeMap::new();
    for lesson in &harvest.lessons {
        match align(material, lesson, &lexicon, &usage, settings) {
            Ok((term, side)) => {
                by_skill.entry((term, side, lesson.target.clone())).or_default().push(lesson);
            }
            Err(why) => *distilled.dropped.entry(why).or_default() += 1,
        }
    }
    for ((term, side, target), lessons) in by_skill {
        if vocabulary_contradicts(vocabulary, &term, &target) {
            *distilled.dropped.entry("the vocabulary says otherwise").or_default() += lessons.len();
            continue;
        }
        distilled.drafts.push(draft(material, term, side, target, &lessons, vocabulary));
    }
    distilled
}

fn usages(material: &Material, harvest: &Harvest, lexicon: &Lexicon) -> BTreeMap<String, Usage> {
    let mut usage: BTreeMap<String, Usage> = BTreeMap::new();
    for request in harvest.rewards.keys() {
        let structure = harvest.taught.get(request).map(|target| structure_of(target));
        let read = lexicon.read(&material.requests[*request].text);
        let terms: BTreeSet<String> = read.runs.iter().flat_map(|run| terms_of(run)).collect();
        for term in terms {
            let of = usage.entry(term).or_default();
            of.phrasings += 1;
            if let Some(structure) = &structure {
                let (patients, count) = of.structures.entry(structure.clone()).or_default();
                patients.insert(material.patient_of(*request).to_owned());
                *count += 1;
            }
        }
    }
    usage
}

/// Longest term, in words.
const TERM_WORDS_MAX: usize = 4;

/// A run of unknown words and its parts: a word that is not jargon may stand beside one that is.
fn terms_of(run: &str) -> Vec<String> {
    let words: Vec<&str> = run.split(' ').collect();
    let mut terms = Vec::new();
    for from in 0..words.len() {
        for to in from + 1..=words.len().min(from + TERM_WORDS_MAX) {
            if words[from] != "of" && words[to - 1] != "of" {
                terms.push(words[from..to].join(" "));
            }
        }
    }
    terms
}

/// The structure without its side; "both hippocampi" and "left hippocampus" count as different,
/// as a plural is a word of its own.
fn structure_of(target: &str) -> String {
    split_name(target).1.to_owned()
}

/// The term of a lesson's order that means its target, and the side the order names.
fn align(
    material: &Material,
    lesson: &Lesson,
    lexicon: &Lexicon,
    usage: &BTreeMap<String, Usage>,
    settings: &DistilSettings,
) -> Result<(String, Option<Side>), &'static str> {
    let read = lexicon.read(&material.requests[lesson.request].text);
    if read.sides_differ {
        return Err("the order names different sides");
    }
    let (side, structure) = split_name(&lesson.target);
    let other_side = |of_order: Side| side.is_some_and(|of_target| of_target != of_order);
    if read.side.is_some_and(other_side) {
        return Err("the order names another side than the target");
    }
    if read.runs.is_empty() {
        return Err("the order has no unknown term");
    }
    let fits = |term: &&String| {
        let Some(of) = usage.get(*term) else { return false };
        let Some((patients, count)) = of.structures.get(structure) else { return false };
        patients.len() >= settings.patients_min
            && *count >= settings.phrasings_min
            && *count as f64 >= settings.purity_min * of.phrasings as f64
    };
    let rank = |term: &&String| {
        let count = usage.get(*term).and_then(|of| of.structures.get(structure));
        (count.map_or(0, |(_, count)| *count), term.len())
    };
    let terms: Vec<String> = read.runs.iter().flat_map(|run| terms_of(run)).collect();
    let best = terms.iter().filter(fits).max_by_key(rank);
    best.map(|term| (term.clone(), read.side)).ok_or("no unknown term recurs for one structure")
}

/// Whether a term alone already means another structure.
fn vocabulary_contradicts(vocabulary: &Vocabulary, term: &str, target: &str) -> bool {
    match vocabulary.find(term) {
        Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => {
            structure_of(&concept.name) != structure_of(target)
        }
        Some(Meaning::Absent(_)) => true,
        None => false,
    }
}

fn draft(
    material: &Material,
    term: String,
    side: Option<Side>,
    target: String,
    lessons: &[&Lesson],
    vocabulary: &Vocabulary,
) -> Draft {
    let mean = |of: fn(&Lesson) -> f64| -> f64 {
        lessons.iter().map(|lesson| of(lesson)).sum::<f64>() / lessons.len().max(1) as f64
    };
    let patients: BTreeSet<&str> =
        lessons.iter().map(|lesson| material.patient_of(lesson.request)).collect();
    let trigger = match side {
        Some(side) => format!("{} {term}", side.word()),
        None => term.clone(),
    };
    let gain = mean(|lesson| lesson.teacher_dice) - mean(|lesson| lesson.own_dice);
    let skill = NewSkill {
        tag: tag_of(&term, &target, vocabulary).to_owned(),
        trigger,
        target,
        ..NewSkill::default()
    };
    Draft {
        skill,
        term,
        requests: lessons.iter().map(|lesson| lesson.request).collect(),
        patients: patients.len(),
        gain,
        reward: mean(|lesson| lesson.teacher_reward),
    }
}

/// Terms this like a phrase of the target are slips of the keyboard.
const SLIP_LIKENESS: f64 = 0.5;
/// Abbreviations are one word this long at most.
const ABBREVIATION_LENGTH_MAX: usize = 4;

fn tag_of(term: &str, target: &str, vocabulary: &Vocabulary) -> &'static str {
    let structure = normalise(split_name(target).1);
    let of = vocabulary.concepts.iter().find(|concept| concept.name == target);
    let synonyms = of.iter().flat_map(|concept| &concept.synonyms).map(|text| normalise(text));
    let alike = std::iter::once(structure)
        .chain(synonyms)
        .map(|phrase| likeness(term, split_name(&phrase).1))
        .fold(0.0, f64::max);
    if alike >= SLIP_LIKENESS {
        tag::MESSY_INPUT_REPAIR
    } else if !term.contains(' ') && term.chars().count() <= ABBREVIATION_LENGTH_MAX {
        tag::ABBR_DISAMBIGUATE
    } else {
        tag::CLINICAL_REQUEST_NORMALIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::{material, request, vocabulary};

    fn taught(requests: &[(&str, &str, &str)], failing: &[usize]) -> (Material, Harvest) {
        let material = material(
            requests.iter().map(|(case, target, text)| request(case, target, text)).collect(),
        );
        let mut harvest = Harvest::default();
        for (index, (_, target, _)) in requests.iter().enumerate() {
            harvest.rewards.insert(index, vec![0.5]);
            harvest.taught.insert(index, (*target).to_owned());
        }
        harvest.lessons = failing
            .iter()
            .map(|&request| Lesson {
                request,
                target: requests[request].1.to_owned(),
                teacher_dice: 0.8,
                teacher_reward: 0.9,
                teacher: (0, 0),
                own_reward: 0.1,
                own_dice: 0.0,
                direct: 0.0,
            })
            .collect();
        (material, harvest)
    }

    #[test]
    fn the_term_that_recurs_for_one_structure_is_the_jargon() {
        let (material, harvest) = taught(
            &[
                ("a", "left hippocampus", "pls contour L seahorse frobly"),
                ("b", "left hippocampus", "seahorse left, smithers"),
                ("b", "right hippocampus", "R seahorse"),
                ("a", "liver", "KLB frobly"),
                ("b", "liver", "klb now"),
                ("a", "spleen", "lienn"),
                ("b", "spleen", "the lienn of smithers"),
                ("a", "left kidney", "outline the left kidney"),
            ],
            &[0, 1, 2, 3, 4, 5, 6],
        );
        let distilled = distil(&material, &harvest, &vocabulary(), &DistilSettings::default());
        let found: Vec<(&str, &str, &str, usize)> = distilled
            .drafts
            .iter()
            .map(|d| (&d.skill.trigger[..], &d.skill.target[..], &d.skill.tag[..], d.patients))
            .collect();
        assert_eq!(
            found,
            [
                ("klb", "liver", tag::ABBR_DISAMBIGUATE, 2),
                ("lienn", "spleen", tag::MESSY_INPUT_REPAIR, 2),
                ("left seahorse", "left hippocampus", tag::CLINICAL_REQUEST_NORMALIZE, 2),
                ("right seahorse", "right hippocampus", tag::CLINICAL_REQUEST_NORMALIZE, 1),
            ]
        );
        assert!(distilled.dropped.is_empty(), "{:?}", distilled.dropped);
    }

    #[test]
    fn another_side_than_the_order_names_is_never_taught() {
        let (material, mut harvest) = taught(
            &[
                ("a", "left kidney", "left bean"),
                ("b", "left kidney", "left bean"),
                ("c", "left kidney", "outline the lien"),
            ],
            &[0, 1, 2],
        );
        for lesson in &mut harvest.lessons {
            lesson.target = "right kidney".to_owned();
        }
        let drafts =
            |m: &Material, h: &Harvest| distil(m, h, &vocabulary(), &DistilSettings::default());
        assert_eq!(drafts(&material, &harvest).drafts, []);
        // Nor does a term come to mean what the vocabulary denies.
        assert!(vocabulary_contradicts(&vocabulary(), "hepar", "spleen"));
        assert!(!vocabulary_contradicts(&vocabulary(), "hepar", "liver"));
    }

    #[test]
    fn what_only_one_patient_has_is_left_alone() {
        let (material, harvest) =
            taught(&[("a", "liver", "smithers please"), ("a", "liver", "for smithers")], &[0, 1]);
        let distilled = distil(&material, &harvest, &vocabulary(), &DistilSettings::default());
        assert_eq!(distilled.drafts, []);
    }
}
