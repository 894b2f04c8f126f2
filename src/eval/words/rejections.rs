//! What should be refused, and why.

use super::lexicon::{CHATTER, UNCLEAR};
use super::{Scene, Synthesizer, grammar, typos};
use crate::answer::RefusalReason;
use crate::eval::random::Random;
use crate::runtime::vocabulary::{Concept, normalise};

/// A kind of refusal, with how it comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A known structure of another region.
    OutOfRegion,
    /// A structure of this region that this modality does not show.
    WrongModality,
    /// A structure of this region that this scan does not show.
    NotVisible,
    /// Several readings.
    Ambiguous,
    /// No request for a segmentation.
    NotARequest,
}

impl Kind {
    /// Out of region is the most frequent.
    pub(super) const TURNS: [Self; 7] = [
        Self::OutOfRegion,
        Self::NotARequest,
        Self::OutOfRegion,
        Self::Ambiguous,
        Self::OutOfRegion,
        Self::WrongModality,
        Self::NotVisible,
    ];
}

/// A request that should be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One of the styles of a suite.
    pub style: String,
    /// The words.
    pub text: String,
    /// What it asks for; empty when it asks for nothing in particular.
    pub target: String,
    /// The right reason.
    pub reason: RefusalReason,
    /// Tags of the skills that help to refuse it.
    pub tags: Vec<&'static str>,
}

pub(super) fn make(
    words: &Synthesizer<'_>,
    kind: Kind,
    scene: &Scene,
    random: &mut Random,
) -> Option<Rejection> {
    match kind {
        Kind::OutOfRegion => {
            let (name, phrase) = elsewhere(words, scene, random)?;
            let style = "out_of_region_reference";
            Some(asked(style, RefusalReason::OutOfRegion, (&name, &phrase), scene, random))
        }
        Kind::WrongModality => {
            let here = |c: &Concept| overlaps(&c.body_regions, scene);
            let unseen =
                |c: &Concept| !c.modalities.is_empty() && !c.modalities.contains(&scene.modality);
            let (name, phrase) = one_of(words, |c| here(c) && unseen(c), random)?;
            let style = any_style(random);
            Some(asked(style, RefusalReason::UnsupportedModality, (&name, &phrase), scene, random))
        }
        Kind::NotVisible => {
            let (name, phrase) = one_of(words, |c| could_be_seen(c, scene), random)?;
            let style = any_style(random);
            Some(asked(style, RefusalReason::NotVisible, (&name, &phrase), scene, random))
        }
        Kind::Ambiguous => {
            let reason = RefusalReason::Ambiguous;
            Some(said(&UNCLEAR, "ambiguous_abbreviation", reason, random))
        }
        Kind::NotARequest => {
            let reason = RefusalReason::NotASegmentationRequest;
            Some(said(&CHATTER, "clinical_request", reason, random))
        }
    }
}

/// A concept or a term known by name of a region that shares nothing with the scan's.
fn elsewhere(
    words: &Synthesizer<'_>,
    scene: &Scene,
    random: &mut Random,
) -> Option<(String, String)> {
    if scene.body_regions.is_empty() {
        return None;
    }
    let far = |regions: &[String]| {
        !regions.is_empty() && !regions.iter().any(|r| near(scene).any(|near| near == *r))
    };
    let absent: Vec<_> = words.vocabulary.absent.iter().filter(|a| far(&a.body_regions)).collect();
    if !absent.is_empty() && random.chance(0.3) {
        let term = *random.pick(&absent);
        let mut phrases = vec![term.name.clone()];
        phrases.extend(term.synonyms.iter().cloned());
        return Some((term.name.clone(), random.pick(&phrases).clone()));
    }
    one_of(words, |concept| far(&concept.body_regions), random)
}

/// A scan of one region may show the edge of the next; only what is farther is surely out.
fn near(scene: &Scene) -> impl Iterator<Item = &'static str> {
    const CHAIN: [&str; 5] = ["head", "neck", "chest", "abdomen", "pelvis"];
    let at: Vec<usize> = scene
        .body_regions
        .iter()
        .filter_map(|region| CHAIN.iter().position(|name| name == region))
        .collect();
    (0..CHAIN.len())
        .filter(move |place| at.iter().any(|at| at.abs_diff(*place) <= 1))
        .map(|p| CHAIN[p])
}

/// Belongs here, would be seen in this modality, and was looked for in vain.
fn could_be_seen(concept: &Concept, scene: &Scene) -> bool {
    let name = normalise(&concept.name);
    scene.absent.iter().any(|absent| normalise(absent) == name)
        && overlaps(&concept.body_regions, scene)
        && concept.modalities.contains(&scene.modality)
}

fn overlaps(regions: &[String], scene: &Scene) -> bool {
    regions.iter().any(|region| scene.body_regions.contains(region))
}

fn one_of(
    words: &Synthesizer<'_>,
    fits: impl Fn(&Concept) -> bool,
    random: &mut Random,
) -> Option<(String, String)> {
    let found: Vec<&Concept> = words.vocabulary.concepts.iter().filter(|c| fits(c)).collect();
    if found.is_empty() {
        return None;
    }
    let concept = *random.pick(&found);
    Some((concept.name.clone(), words.phrase(&concept.name, Some(concept), random)))
}

fn any_style(random: &mut Random) -> &'static str {
    const MANNERS: [&str; 4] =
        ["formal_task", "clinical_request", "report_style", "verbose_request"];
    random.pick::<&'static str>(&MANNERS)
}

fn asked(
    style: &str,
    reason: RefusalReason,
    (name, phrase): (&str, &str),
    scene: &Scene,
    random: &mut Random,
) -> Rejection {
    let frame = grammar::Frame { surface: phrase, other: None, scene };
    let manner = if style == "out_of_region_reference" { any_style(random) } else { style };
    Rejection {
        style: style.to_owned(),
        text: grammar::sentence(manner, &frame, random),
        target: name.to_owned(),
        reason,
        tags: match reason {
            RefusalReason::OutOfRegion => vec!["OUT_OF_REGION_REJECT"],
            _ => vec!["ANATOMICAL_LOCALIZATION"],
        },
    }
}

fn said(sentences: &[&str], style: &str, reason: RefusalReason, random: &mut Random) -> Rejection {
    let mut text = (*random.pick(sentences)).to_owned();
    if random.chance(0.3) {
        text = text.to_lowercase();
    }
    if random.chance(0.2) {
        text = typos::slip_sentence(&text, &text.clone()[..1], random);
    }
    let tags = match reason {
        RefusalReason::Ambiguous => vec!["ABBR_DISAMBIGUATE"],
        _ => vec!["PROMPT_NORMALIZE"],
    };
    Rejection { style: style.to_owned(), text, target: String::new(), reason, tags }
}
