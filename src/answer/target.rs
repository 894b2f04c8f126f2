//! Phrases into targets.

use super::{Reading, Target, UnknownTargets};
use crate::error::Finding;
use crate::runtime::vocabulary::{Concept, Laterality, Meaning, Vocabulary, normalise};

/// Whether a phrase is a concept's name or synonym, or a term known to be absent.
pub(super) fn is_known(phrase: &str, vocabulary: &Vocabulary) -> bool {
    vocabulary.find(phrase).is_some()
}

/// Resolves phrases in order; the same concept twice is one target.
///
/// A target that is dropped or passed through leaves a finding that counts from 1 and does not
/// repeat the phrase, which may hold words of the order.
pub(super) fn resolve(phrases: &[String], reading: &Reading<'_>) -> (Vec<Target>, Vec<Finding>) {
    let mut findings = Vec::new();
    let phrases = split_lists(phrases, reading.vocabulary, &mut findings);
    let mut targets: Vec<Target> = Vec::new();
    for (index, phrase) in phrases.iter().enumerate() {
        let place = format!("target {} of {}", index + 1, phrases.len());
        let resolved = match reading.vocabulary.find(phrase) {
            Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => Some(Target {
                phrase: phrase.clone(),
                prompt: concept.prompt.clone(),
                concept: Some(concept.clone()),
            }),
            Some(Meaning::Absent(_)) => {
                let message = format!("{place} is a term this bundle cannot segment");
                findings.push(Finding::new("target_absent", message));
                None
            }
            None => pass_through(phrase, &place, reading, &mut findings),
        };
        let Some(target) = resolved else { continue };
        let same = |other: &Target| other.prompt.to_lowercase() == target.prompt.to_lowercase();
        if targets.iter().any(same) {
            let message = format!("{place} repeats an earlier one and is left out");
            findings.push(Finding::new("target_repeated", message));
        } else {
            targets.push(target);
        }
    }
    (targets, findings)
}

fn pass_through(
    phrase: &str,
    place: &str,
    reading: &Reading<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Target> {
    let (end, target) = match reading.unknown_targets {
        UnknownTargets::PassThrough => (
            "goes to the backbone as it stands",
            Some(Target { phrase: phrase.to_owned(), prompt: phrase.to_owned(), concept: None }),
        ),
        UnknownTargets::Refuse => ("is not segmented", None),
    };
    let message = format!("{place} is not in the vocabulary and {end}");
    findings.push(Finding::new("target_unresolved", message));
    target
}

/// Splits `the liver and the spleen` or `liver, spleen` where the whole is unknown and every part
/// is a concept. `left hippocampus and amygdala` stays whole: its second side would be a guess.
fn split_lists(
    phrases: &[String],
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let mut out = Vec::new();
    for phrase in phrases {
        match list_parts(phrase, vocabulary) {
            Some(parts) if !is_known(phrase, vocabulary) => {
                let message = format!("one phrase of the answer lists {} targets", parts.len());
                findings.push(Finding::new("target_list_split", message));
                out.extend(parts);
            }
            _ => out.push(phrase.clone()),
        }
    }
    out
}

fn list_parts(phrase: &str, vocabulary: &Vocabulary) -> Option<Vec<String>> {
    let lower = phrase.to_lowercase().replace(", and ", ",").replace(" and ", ",");
    let parts: Vec<&str> =
        lower.split(',').map(|part| part.trim().trim_start_matches("the ")).collect();
    let concepts: Vec<&Concept> = parts
        .iter()
        .map(|part| match vocabulary.find(part)? {
            Meaning::Name(concept) | Meaning::Synonym(concept) => Some(concept),
            Meaning::Absent(_) => None,
        })
        .collect::<Option<_>>()?;
    let says_side = |part: &str| {
        normalise(part).split(' ').any(|w| super::order::is_side_word(w) || w == "both")
    };
    let any_side = parts.iter().any(|part| says_side(part));
    let side_left_out = parts
        .iter()
        .zip(&concepts)
        .any(|(part, concept)| concept.laterality != Laterality::None && !says_side(part));
    if parts.len() < 2 || (any_side && side_left_out) {
        return None;
    }
    Some(parts.iter().map(|part| (*part).to_owned()).collect())
}
