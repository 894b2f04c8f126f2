//! The vocabulary that ships, read through the answer's rules.

use seer::answer::{Answer, Reading, RefusalReason, UnknownTargets, parse};
use seer::error::Finding;
use seer::runtime::vocabulary::{Concept, Laterality, Vocabulary};

fn vocabulary() -> Vocabulary {
    let text = std::fs::read_to_string("models/seer-mini/vocabulary.toml").unwrap();
    toml::from_str(&text).unwrap()
}

fn read(vocabulary: &Vocabulary, phrase: &str, order: &str) -> (Answer, Vec<Finding>) {
    let answer = format!("Segment the {phrase}.");
    let unknown_targets = UnknownTargets::Refuse;
    let reading = Reading {
        answer: Some(&answer),
        order,
        vocabulary,
        unknown_targets,
        skills: &[],
        refuse_unnamed: true,
    };
    parse(&reading).unwrap()
}

fn names(answer: &Answer) -> Vec<&str> {
    match answer {
        Answer::Segment(targets) => targets.iter().map(|target| target.name()).collect(),
        Answer::Refuse(_) => Vec::new(),
    }
}

fn phrases(concept: &Concept) -> impl Iterator<Item = &String> {
    std::iter::once(&concept.name).chain(&concept.synonyms)
}

#[test]
fn every_phrase_of_the_vocabulary_is_its_concept_without_findings() {
    let vocabulary = vocabulary();
    assert!(vocabulary.concepts.len() > 50);
    for concept in &vocabulary.concepts {
        // Every seventh synonym: the whole list takes a minute in a debug build.
        for phrase in phrases(concept).step_by(7) {
            let (answer, findings) = read(&vocabulary, phrase, &format!("pls outline {phrase}"));
            assert_eq!(names(&answer), [concept.name.as_str()], "{phrase}");
            assert_eq!(findings, [], "{phrase}");
        }
    }
}

#[test]
fn no_phrase_of_one_side_lets_the_other_side_through() {
    let vocabulary = vocabulary();
    let mut checked = 0;
    for both in vocabulary.concepts.iter().filter(|c| c.laterality == Laterality::Both) {
        let [left, right] = &both.parts[..] else { panic!("{} has no two parts", both.name) };
        let concepts = vocabulary.concepts.iter().filter(|c| both.parts.contains(&c.name));
        let concepts = concepts.chain([both]).cloned().collect();
        let vocabulary = Vocabulary { concepts, absent: Vec::new() };
        for (asked, other) in [(left, right), (right, left)] {
            let asked = vocabulary.concepts.iter().find(|c| c.name == *asked).unwrap();
            for phrase in phrases(asked).step_by(3) {
                let orders = [
                    phrase.clone(),
                    phrase.to_uppercase(),
                    format!("64M s/p RT, r/o mets at L4. Please delineate the {phrase}, thanks"),
                    format!("not the {other}, the {phrase} please"),
                ];
                for order in orders {
                    let (answer, _) = read(&vocabulary, other, &order);
                    let refused = matches!(&answer, Answer::Refuse(refusal)
                        if refusal.reason == RefusalReason::Ambiguous);
                    assert!(refused, "{order:?} let {other} through");
                    let (answer, _) = read(&vocabulary, &asked.name, &order);
                    assert_eq!(names(&answer), [asked.name.as_str()], "{order:?}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn terms_known_to_be_absent_are_refused() {
    let vocabulary = vocabulary();
    assert!(!vocabulary.absent.is_empty());
    for term in &vocabulary.absent {
        let (answer, findings) = read(&vocabulary, &term.name, &term.name);
        assert!(matches!(&answer, Answer::Refuse(refusal)
            if refusal.reason == RefusalReason::UnknownTarget));
        assert_eq!(findings[0].code, "target_absent");
    }
}

#[test]
fn a_word_that_is_like_no_name_is_refused() {
    let vocabulary = vocabulary();
    for (phrase, order) in [
        ("left hippocampus", "pls outline the left kraix"),
        ("liver", "Contours of the silver market requested thanks."),
        ("right parotid gland", "is it possible to get a mask of the qr74 r?"),
        ("brainstem", "Region of interest: Okafor's triangle"),
    ] {
        let (answer, findings) = read(&vocabulary, phrase, order);
        assert!(matches!(answer, Answer::Refuse(_)), "{order}: {}", answer.canonical_text());
        assert_eq!(findings[0].code, "target_unnamed", "{order}");
    }
}
