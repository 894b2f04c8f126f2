//! Whether the answer covers what the order names.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Target;
use super::order::{Order, Standing, Word, is_side_word, words};
use crate::error::Finding;
use crate::runtime::vocabulary::{Concept, Vocabulary};

/// Words for an exam, which a region stands beside.
const EXAMS: &[&str] = &[
    "mri", "mr", "mrt", "ct", "cta", "mra", "cbct", "cect", "t1", "t2", "flair", "mprage", "scan",
];

/// Longest phrase that is looked for, in words.
const PHRASE_WORDS_MAX: usize = 12;

/// Structures that the order names word for word and no target is, one finding each.
///
/// Sides do not count here (the check of sides looks at them): `both hippocampi` is covered by
/// a left hippocampus. Of overlapping names the longest counts. What the order leaves out, or calls
/// normal or done, is not asked for, nor is the region of an exam ("MRI brain"); a structure named in
/// passing otherwise ("pain over the liver") is found as well, so by itself this is a note to the
/// reader and changes no answer.
/// Findings name concepts of the vocabulary, never words of the order.
pub(super) fn unanswered(
    order: &Order<'_>,
    targets: &[Target],
    vocabulary: &Vocabulary,
) -> Vec<Finding> {
    let phrases = phrases(vocabulary);
    let words: Vec<String> = order.words.iter().map(|word| word.lower.clone()).collect();
    let is_covered = |found: &str| {
        let mut concepts = targets.iter().filter_map(|target| target.concept.as_ref());
        concepts.any(|concept| concept.property_type.value == found)
    };
    let mut findings: Vec<Finding> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let longest = (1..=PHRASE_WORDS_MAX.min(words.len() - at))
            .rev()
            .find_map(|length| Some((length, phrases.get(&words[at..at + length])?)));
        let Some((length, concept)) = longest else {
            at += 1;
            continue;
        };
        at += length;
        let place = at - length..at;
        let is_asked =
            order.standing(&place) == Standing::Asked && !is_region_of_exam(order, &place);
        if is_asked && !is_covered(&concept.property_type.value) {
            let name = &concept.property_type.meaning;
            let message = format!("the order names {name}, the answer does not segment it");
            let finding = Finding::new("target_unanswered", message);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// `MRI brain`, `brain MR`, `MR of the brain`.
fn is_region_of_exam(order: &Order<'_>, place: &Range<usize>) -> bool {
    let is_exam = |word: &Word<'_>| EXAMS.contains(&word.lower.as_str());
    let joins = |word: &&Word<'_>| word.gap == " ";
    let mut before = order.words[..place.start].iter().rev().take_while(joins);
    let led = before.find(|word| !matches!(word.lower.as_str(), "of" | "the"));
    let last = &order.words[place.end - 1];
    let followed = order.words.get(place.end).filter(|_| joins(&last));
    led.is_some_and(is_exam) || followed.is_some_and(is_exam)
}

/// Names and synonyms without their sides. Abbreviations of up to three letters mean too much.
fn phrases(vocabulary: &Vocabulary) -> BTreeMap<Vec<String>, &Concept> {
    let mut phrases = BTreeMap::new();
    for concept in &vocabulary.concepts {
        for phrase in std::iter::once(&concept.name).chain(&concept.synonyms) {
            let words: Vec<String> = words(phrase)
                .into_iter()
                .map(|word| word.lower)
                .filter(|word| !is_side_word(word) && !matches!(word.as_str(), "both" | "sided"))
                .collect();
            if words.iter().map(String::len).sum::<usize>() > 3 {
                phrases.entry(words).or_insert(concept);
            }
        }
    }
    phrases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::fixture::{target, vocabulary};

    #[test]
    fn names_what_the_order_asks_and_the_answer_leaves_out() {
        let check = |order: &str, answered: &[&str], expected: usize| {
            let vocabulary = vocabulary();
            let targets: Vec<Target> =
                answered.iter().map(|name| target(&vocabulary, name)).collect();
            let order_read = Order::read(order, &vocabulary);
            let found = unanswered(&order_read, &targets, &vocabulary);
            assert_eq!(found.len(), expected, "{order}: {found:?}");
        };
        check("outline the liver", &["liver"], 0);
        check("outline the liver and the left kidney", &["liver"], 1);
        check("both kidneys", &["left kidney"], 0);
        check("LIVER; right-kidney; liver!", &[], 2);
        check("hello", &[], 0);
        check("CT liver. left kidney", &["left kidney"], 0);
        check("liver MRI, left kidney", &["left kidney"], 0);
        check("CT of the liver. left kidney", &["left kidney"], 0);
        check("CT: liver and left kidney", &["left kidney"], 1);
        check("liver, not the left kidney", &["liver"], 0);
        check("liver. The left kidney looks normal.", &["liver"], 0);
    }
}
