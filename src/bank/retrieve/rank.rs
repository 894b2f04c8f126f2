//! Scores of candidates, and the choice among them.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::{Candidate, spoken};
use super::{Offer, PhraseEncoder, RetrievalQuery, RetrievalSettings, Skill, Why};

/// How many of the best go into the choice by diversity.
const CHOICE_MAX: usize = 48;
/// How much of a score words alone can give; the rest is body part and cues.
const WORDS_SHARE: f32 = 0.86;
const BODY_PART_SHARE: f32 = 0.10;
const CUES_SHARE: f32 = 0.04;
/// Cosines of unrelated phrases reach this.
const COSINE_UNRELATED: f32 = 0.5;
/// How many candidates, the best by words, are encoded.
const MEANINGS_MAX: usize = 24;
/// Meaning alone never fits as well as the same words.
const MEANING_SHARE: f32 = 0.9;
/// Two skills for one target resemble each other at least this much.
const SAME_TARGET: f32 = 0.7;

/// Whether a skill may be offered on a modality; an unknown one fits.
pub(super) fn modality_fits(skill: &Skill, modality: &str) -> bool {
    let known = &skill.cues.modalities;
    modality.is_empty()
        || known.is_empty()
        || known.iter().any(|m| m.eq_ignore_ascii_case(modality))
}

/// Scores candidates, best first; equal scores by id.
pub(super) fn score(
    skills: &[Arc<Skill>],
    mut candidates: Vec<Candidate>,
    query: &RetrievalQuery,
    encoder: Option<&dyn PhraseEncoder>,
) -> Vec<Offer> {
    candidates.sort_by(|left, right| {
        right.lexical.total_cmp(&left.lexical).then(left.skill.cmp(&right.skill))
    });
    let meanings = meanings(skills, &candidates, query, encoder);
    let mut offers: Vec<Offer> = candidates
        .iter()
        .zip(meanings)
        .map(|(candidate, meaning)| offer(skills, candidate, query, meaning))
        .collect();
    offers.sort_by(|left, right| {
        right.score.total_cmp(&left.score).then_with(|| left.skill.id.cmp(&right.skill.id))
    });
    offers
}

fn offer(
    skills: &[Arc<Skill>],
    candidate: &Candidate,
    query: &RetrievalQuery,
    meaning: Option<f32>,
) -> Offer {
    let skill = &skills[candidate.skill as usize];
    let body_part_fits = body_part_fits(&skill.cues.body_parts, &query.body_part);
    let cues = cues_share(&skill.cues.views, &query.cues);
    let words = candidate.lexical.max(MEANING_SHARE * meaning.unwrap_or(0.0));
    let body = match body_part_fits {
        Some(true) => 1.0,
        // Unknown is no fault of the skill.
        None => 1.0,
        Some(false) => 0.0,
    };
    let context = WORDS_SHARE + BODY_PART_SHARE * body + CUES_SHARE * cues.unwrap_or(1.0);
    let phrase = skill.phrases().nth(candidate.phrase as usize).unwrap_or_default().to_owned();
    Offer {
        skill: Arc::clone(skill),
        score: (words * context).clamp(0.0, 1.0),
        why: Why {
            phrase,
            lexical: candidate.lexical,
            meaning,
            body_part_fits,
            cues,
            lost_to_diversity: 0.0,
        },
    }
}

/// Body parts are told apart by words, so `HEAD` fits `HEAD AND NECK`.
fn body_part_fits(known: &[String], found: &str) -> Option<bool> {
    let found = spoken(found);
    if known.is_empty() || found.is_empty() {
        return None;
    }
    Some(known.iter().any(|part| spoken(part).iter().any(|word| found.contains(word))))
}

fn cues_share(wanted: &[String], found: &[String]) -> Option<f32> {
    if wanted.is_empty() || found.is_empty() {
        return None;
    }
    let met = wanted.iter().filter(|cue| found.iter().any(|f| f.eq_ignore_ascii_case(cue))).count();
    Some(met as f32 / wanted.len() as f32)
}

/// Closeness of meaning of the first candidates' phrases to the order, where an encoder can say.
fn meanings(
    skills: &[Arc<Skill>],
    candidates: &[Candidate],
    query: &RetrievalQuery,
    encoder: Option<&dyn PhraseEncoder>,
) -> Vec<Option<f32>> {
    let unknown = || vec![None; candidates.len()];
    let Some(encoder) = encoder.filter(|_| !candidates.is_empty()) else { return unknown() };
    let phrases = candidates.iter().take(MEANINGS_MAX).map(|candidate| {
        let skill = &skills[candidate.skill as usize];
        skill.phrases().nth(candidate.phrase as usize).unwrap_or_default().to_owned()
    });
    let texts: Vec<String> = std::iter::once(query.text.clone()).chain(phrases).collect();
    match encoder.encode(&texts) {
        Some(rows) if rows.len() == texts.len() => {
            let known = rows[1..].iter().map(|row| Some(closeness(&rows[0], row)));
            known.chain(std::iter::repeat(None)).take(candidates.len()).collect()
        }
        _ => unknown(),
    }
}

fn closeness(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let norm = (dot(left, left) * dot(right, right)).sqrt();
    if norm <= f32::EPSILON || left.len() != right.len() {
        return 0.0;
    }
    ((dot(left, right) / norm - COSINE_UNRELATED) / (1.0 - COSINE_UNRELATED)).clamp(0.0, 1.0)
}

/// Takes the best, then again and again the best of what is unlike those taken (maximal marginal
/// relevance). A skill that falls below the least score by that is still offered when there is
/// room: likeness changes the order, the score alone decides on worth.
pub(super) fn choose(offers: Vec<Offer>, settings: &RetrievalSettings) -> Vec<Offer> {
    let mut rest: Vec<(Offer, HashSet<String>)> = offers
        .into_iter()
        .filter(|offer| offer.score >= settings.score_min)
        .take(CHOICE_MAX.max(settings.top_k))
        .map(|offer| {
            let words = offer.skill.phrases().flat_map(spoken).collect();
            (offer, words)
        })
        .collect();
    let mut chosen: Vec<(Offer, HashSet<String>)> = Vec::new();
    while chosen.len() < settings.top_k && !rest.is_empty() {
        let (mut best, mut best_value) = (0, f32::NEG_INFINITY);
        for (at, entry) in rest.iter().enumerate() {
            let likeness =
                chosen.iter().map(|other| likeness(entry, other)).fold(0.0_f32, f32::max);
            let value = entry.0.score * (1.0 - settings.diversity * likeness);
            // `rest` is sorted, so that the first of equal values has the better score or id.
            if value > best_value {
                (best, best_value) = (at, value);
            }
        }
        let mut taken = rest.remove(best);
        taken.0.why.lost_to_diversity = taken.0.score - best_value;
        chosen.push(taken);
    }
    let mut offers: Vec<Offer> = chosen.into_iter().map(|(offer, _)| offer).collect();
    offers.sort_by(|left, right| {
        right.score.total_cmp(&left.score).then_with(|| left.skill.id.cmp(&right.skill.id))
    });
    offers
}

fn likeness(left: &(Offer, HashSet<String>), right: &(Offer, HashSet<String>)) -> f32 {
    let shared = left.1.intersection(&right.1).count() as f32;
    let all = left.1.union(&right.1).count().max(1) as f32;
    let same_target = left.0.skill.target == right.0.skill.target;
    let floor = if same_target { SAME_TARGET } else { 0.0 };
    (shared / all).max(floor)
}
