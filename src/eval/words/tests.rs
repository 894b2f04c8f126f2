use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::answer::RefusalReason;
use crate::runtime::Bundle;
use crate::runtime::vocabulary::Meaning;

fn vocabulary() -> Vocabulary {
    Bundle::open(Path::new("models/seer-mini")).expect("the embedded bundle").vocabulary().clone()
}

fn scene(modality: &str, region: &str) -> Scene {
    Scene {
        modality: modality.to_owned(),
        body_regions: vec![region.to_owned()],
        visible: ["brainstem", "left hippocampus", "right thalamus", "liver"]
            .map(str::to_owned)
            .to_vec(),
        absent: Vec::new(),
    }
}

fn region_of(concept: &Concept) -> &str {
    concept.body_regions.first().map_or("head", String::as_str)
}

/// Expands short forms by the table, to see that an abbreviated phrase still means the target.
fn could_be(surface: &str, phrase: &str) -> bool {
    (0..400).any(|seed| abbreviations::short(phrase, &mut Random::new(seed)) == surface)
}

#[test]
fn thousands_of_distinct_wordings_each_naming_its_target() {
    let vocabulary = vocabulary();
    let words = Synthesizer::new(&vocabulary);
    let mut distinct = BTreeSet::new();
    let mut frames = BTreeSet::new();
    for concept in &vocabulary.concepts {
        let scene = scene("MR", region_of(concept));
        let mut random = Random::of(1, &[&concept.name]);
        for wording in words.wordings(&concept.name, &scene, 70, &mut random) {
            let resolved = words.concept(&wording.phrase).map(|found| &found.name);
            assert_eq!(resolved, Some(&concept.name), "{wording:?}");
            let lower = wording.text.to_lowercase();
            assert!(lower.contains(&wording.surface.to_lowercase()), "{wording:?}");
            let other_side = match concept.laterality {
                Laterality::Left => "right",
                Laterality::Right => "left",
                Laterality::Both | Laterality::None => "no side",
            };
            let said = normalise(&wording.surface);
            assert!(said.split(' ').all(|word| word != other_side), "{wording:?}");
            match wording.style.as_str() {
                "ambiguous_abbreviation" => {
                    let here: Vec<_> = abbreviations::meanings(&wording.surface)
                        .into_iter()
                        .filter(|(_, region)| *region == region_of(concept))
                        .collect();
                    assert_eq!(here.len(), 1, "{wording:?}");
                    assert_eq!(here[0].0, concept.name, "{wording:?}");
                }
                "messy_or_misspelled" => {
                    let (a, b) = (wording.surface.len() as i64, wording.phrase.len() as i64);
                    assert!((a - b).abs() <= 5, "{wording:?}");
                }
                "abbr_or_short" => {}
                _ => assert_eq!(wording.surface, wording.phrase),
            }
            frames.insert(wording.text.replace(&wording.surface, "{t}"));
            distinct.insert(wording.text);
        }
    }
    assert!(distinct.len() > 5000, "{}", distinct.len());
    assert!(frames.len() > 3000, "{}", frames.len());
    assert!(could_be("L hipp", "left hippocampus") || could_be("lt hipp", "left hippocampus"));
}

#[test]
fn the_region_decides_what_an_abbreviation_means() {
    let check = |phrase: &str, region: &str, expected: Option<&str>| {
        let found = abbreviations::ambiguous(phrase, &scene("MR", region), &mut Random::new(3));
        let plain = found.map(|f| f.to_uppercase().replace('.', ""));
        assert_eq!(plain.as_deref(), expected, "{phrase} in the {region}");
    };
    check("both lateral ventricles", "head", Some("LV"));
    check("left lateral ventricle", "head", Some("LLV"));
    check("left ventricle", "chest", Some("LV"));
    check("l lateral ventricle", "head", Some("LLV"));
    check("left lateral ventricle", "chest", None);
    check("larynx", "neck", None);
}

#[test]
fn rejections_have_a_reason_that_the_scene_bears_out() {
    let vocabulary = vocabulary();
    let words = Synthesizer::new(&vocabulary);
    let scene = scene("CT", "head");
    let rejections = words.rejections(&scene, 60, &mut Random::new(2));
    assert!(rejections.len() >= 50, "{}", rejections.len());
    let mut reasons = BTreeSet::new();
    for rejection in rejections {
        reasons.insert(rejection.reason.code());
        if rejection.reason == RefusalReason::OutOfRegion {
            let regions = match vocabulary.find(&rejection.target) {
                Some(Meaning::Name(c) | Meaning::Synonym(c)) => c.body_regions.clone(),
                Some(Meaning::Absent(term)) => term.body_regions.clone(),
                None => panic!("{rejection:?}"),
            };
            assert!(!regions.contains(&"head".to_owned()), "{rejection:?} {regions:?}");
            assert!(!regions.contains(&"neck".to_owned()), "{rejection:?} {regions:?}");
        }
    }
    for reason in ["out_of_region", "ambiguous", "not_a_segmentation_request"] {
        assert!(reasons.contains(reason), "{reasons:?}");
    }
}

#[test]
fn a_seed_gives_the_same_words_and_no_digits_that_look_like_somebody() {
    let vocabulary = vocabulary();
    let words = Synthesizer::new(&vocabulary);
    let make =
        |seed| words.wordings("left kidney", &scene("CT", "abdomen"), 30, &mut Random::new(seed));
    assert_eq!(make(7), make(7));
    assert_ne!(make(7), make(8));
    for wording in make(7) {
        let digits = wording.text.chars().filter(char::is_ascii_digit).count();
        assert!(digits <= 1, "{wording:?}");
    }
}
