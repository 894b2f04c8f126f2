//! Which skills an order calls for, from what a live order has: its words, the modality, the body
//! part and cues of the views. Labels, references, datasets and styles play no part.

mod index;
mod rank;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::words::normalised;
use super::{Skill, SkillId};
use crate::answer::asked_for;
use crate::reason::OfferedSkill;
use index::Index;

/// What a live order has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrievalQuery {
    /// Its free text; never kept. Words for what it leaves out call for no skill.
    pub text: String,
    /// Modality code; empty when unknown.
    pub modality: String,
    /// Body part; empty when unknown.
    pub body_part: String,
    /// Cues of the views, for example `axial`.
    pub cues: Vec<String>,
}

/// How many skills are offered, and which are worth offering.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalSettings {
    /// Most skills offered.
    pub top_k: usize,
    /// Lowest score offered, 0 to 1.
    pub score_min: f32,
    /// How much a skill that resembles a better one loses, 0 to 1.
    pub diversity: f32,
}

impl Default for RetrievalSettings {
    fn default() -> Self {
        Self { top_k: 3, score_min: 0.6, diversity: 0.5 }
    }
}

/// A skill that an order calls for.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The skill.
    pub skill: Arc<Skill>,
    /// How well it fits, 0 to 1.
    pub score: f32,
    /// Why.
    pub why: Why,
}

impl Offer {
    /// The skill as the prompt shows it, for the words that called for it.
    pub fn for_prompt(&self) -> OfferedSkill {
        self.skill.offered_for(&self.why.phrase)
    }

    /// Whether the order has the target's own name, letter by letter: then the skill tells the
    /// reasoner what it reads anyway, and draws it away from `brain tumour` to `brain`.
    fn says_nothing(&self) -> bool {
        self.why.lexical >= 1.0 && normalised(&self.why.phrase) == normalised(&self.skill.target)
    }
}

/// Why a skill was offered. Says words of the skill, never of the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Why {
    /// The trigger or alias that fits best.
    pub phrase: String,
    /// The share of its words that the order has, typos counted in part, rare words more, 0 to 1.
    pub lexical: f32,
    /// Closeness of meaning, 0 to 1; absent without an encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<f32>,
    /// Whether the order's body part is one of the skill's; absent when either is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_part_fits: Option<bool>,
    /// The share of the skill's view cues that the order has; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cues: Option<f32>,
    /// What the score lost to a better skill like it, when the offers were chosen.
    pub lost_to_diversity: f32,
}

/// Says how close in meaning an order is to phrases; the backbone's text encoder, for example.
pub trait PhraseEncoder: Send + Sync {
    /// One embedding per text, all of the same length; `None` when it cannot say.
    fn encode(&self, texts: &[String]) -> Option<Vec<Vec<f32>>>;
}

/// Skills to retrieve from: a published round, or a candidate that is not. Cheap to clone.
#[derive(Clone)]
pub struct SkillSet(Arc<Inner>);

struct Inner {
    /// By id, each once.
    skills: Vec<Arc<Skill>>,
    /// Built by the first retrieval.
    index: OnceLock<Index>,
}

impl SkillSet {
    /// A set of skills; of those with the same id the first stays.
    pub fn new(skills: impl IntoIterator<Item = Arc<Skill>>) -> Self {
        let mut skills: Vec<Arc<Skill>> = skills.into_iter().collect();
        skills.sort_by(|left, right| left.id.cmp(&right.id));
        skills.dedup_by(|later, first| later.id == first.id);
        Self(Arc::new(Inner { skills, index: OnceLock::new() }))
    }

    /// One of them.
    pub fn get(&self, id: &SkillId) -> Option<&Arc<Skill>> {
        let skills = &self.0.skills;
        skills.binary_search_by(|skill| skill.id.cmp(id)).ok().map(|at| &skills[at])
    }

    /// All, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Skill>> {
        self.0.skills.iter()
    }

    /// How many: the paper's `K_t`.
    pub fn len(&self) -> usize {
        self.0.skills.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.skills.is_empty()
    }

    /// Builds what retrieval needs; without it the first retrieval does.
    pub fn prepare(&self) {
        self.index();
    }

    fn index(&self) -> &Index {
        self.0.index.get_or_init(|| Index::build(&self.0.skills))
    }

    /// The skills that an order calls for, best first; equal scores by id. The same inputs give
    /// the same offers.
    pub fn retrieve(&self, query: &RetrievalQuery, settings: &RetrievalSettings) -> Vec<Offer> {
        self.retrieve_except(query, settings, &HashSet::new(), None)
    }

    /// The same without some skills, and with closeness of meaning where an encoder is given.
    pub fn retrieve_except(
        &self,
        query: &RetrievalQuery,
        settings: &RetrievalSettings,
        left_out: &HashSet<SkillId>,
        encoder: Option<&dyn PhraseEncoder>,
    ) -> Vec<Offer> {
        if self.is_empty() || settings.top_k == 0 {
            return Vec::new();
        }
        let fits = |skill: &Skill| {
            !left_out.contains(&skill.id) && rank::modality_fits(skill, &query.modality)
        };
        let mut found = self.index().candidates(&asked_for(&query.text));
        found.retain(|candidate| fits(&self.0.skills[candidate.skill as usize]));
        let mut offers = rank::score(&self.0.skills, found, query, encoder);
        offers.retain(|offer| !offer.says_nothing());
        rank::choose(offers, settings)
    }
}

impl std::fmt::Debug for SkillSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SkillSet({} skills)", self.len())
    }
}

/// The skills of `skills` that an order calls for; for a set that is used once.
pub fn offers_in(
    skills: &[Skill],
    query: &RetrievalQuery,
    settings: &RetrievalSettings,
) -> Vec<Offer> {
    SkillSet::new(skills.iter().cloned().map(Arc::new)).retrieve(query, settings)
}

#[cfg(test)]
mod tests;
