//! What an order gets from the bank, and what the bank learns from it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::warn;
use uuid::Uuid;

use super::{Engine, Walked};
use crate::answer::Answer;
use crate::bank::{
    Bank, Episode, EpisodeSource, Evidence, Exposure, Offered, RetrievalQuery, SkillId, withhold,
};
use crate::dicom::Attributes;
use crate::reason::OfferedSkill;
use crate::series::Series;
use crate::telemetry::metrics;
use crate::volume::Volume;

/// How orders use the bank.
#[derive(Debug, Clone)]
pub struct SkillPolicy {
    /// The bank.
    pub bank: Bank,
    /// The chance of each skill to be withheld from an order, so that its gain can be estimated.
    pub withhold_rate: f64,
    /// Seed of that chance.
    pub seed: u64,
}

/// What one order is offered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrderSkills {
    round: u64,
    modality: String,
    body_part: Option<String>,
    offered: Offered,
}

/// A skill that retrieval brought for an order, as its record shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordSkill {
    /// `seer:` and a hash.
    #[schema(example = "seer:4f0c9a1be27d")]
    pub id: String,
    /// For example `ABBR_DISAMBIGUATE`.
    #[schema(example = "ABBR_DISAMBIGUATE")]
    pub tag: String,
    /// How well it fits the order, 0 to 1.
    pub score: f32,
    /// The round it came from.
    pub round: u64,
    /// Its place in the prompt, counted from 1; absent when it was withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Chosen by chance not to be shown.
    pub withheld: bool,
    /// Whether the rationale names it.
    pub named: bool,
    /// Its content as the prompt showed it; absent when it was withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Its audit line as the prompt showed it; absent when it was withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
}

impl OrderSkills {
    /// Retrieves skills for an order from its text, the modality, the body part of the series and
    /// the planes of the views.
    pub fn choose(
        policy: &SkillPolicy,
        order_id: Uuid,
        text: &str,
        (engine, series, volume): (&Engine, &Series, &Volume),
    ) -> Self {
        let round = policy.bank.active();
        let body_part = body_part(series);
        let modality = volume.modality.code().to_owned();
        let query = RetrievalQuery {
            text: text.to_owned(),
            modality: modality.clone(),
            body_part: body_part.clone().unwrap_or_default(),
            cues: cues(engine),
        };
        let offers = policy.bank.retrieve_from(&round.skills, &query);
        let offered = withhold(&offers, policy.withhold_rate, policy.seed, order_id);
        Self { round: round.number(), modality, body_part, offered }
    }

    /// What a record says was shown, to be shown again.
    pub(super) fn of_record(skills: &[RecordSkill]) -> Self {
        let mut ranked: Vec<_> = skills.iter().filter(|skill| skill.rank.is_some()).collect();
        ranked.sort_by_key(|skill| skill.rank);
        let shown = ranked.into_iter().map(|skill| OfferedSkill {
            id: skill.id.clone(),
            tag: skill.tag.clone(),
            content: skill.content.clone().unwrap_or_default(),
            audit: skill.audit.clone().unwrap_or_default(),
        });
        let offered = Offered { shown: shown.collect(), exposures: Vec::new() };
        Self { offered, ..Self::default() }
    }

    /// Those that the prompt shows, best first.
    pub fn shown(&self) -> &[OfferedSkill] {
        &self.offered.shown
    }

    /// The round they came from; absent when none was brought.
    pub fn round(&self) -> Option<u64> {
        (!self.offered.exposures.is_empty()).then_some(self.round)
    }

    /// The skill that a rationale names: by its place in the prompt (`Skill 1: …`, `[1]`), its id
    /// or, where only one has it, its tag.
    pub fn named(&self, rationale: &str) -> Option<&SkillId> {
        let shown = || self.offered.exposures.iter().filter(|exposure| !exposure.withheld);
        let by_rank = |rank: u32| shown().find(|exposure| exposure.rank == Some(rank));
        let by_id = || shown().find(|exposure| rationale.contains(exposure.skill.as_str()));
        let by_tag = || {
            let mut tagged = shown().filter(|e| rationale.contains(e.tag.as_str()));
            tagged.next().filter(|_| tagged.next().is_none())
        };
        let found = rank_in(rationale).and_then(by_rank).or_else(by_id).or_else(by_tag);
        found.map(|exposure| &exposure.skill)
    }

    /// What the record says of them.
    pub fn record(&self, rationale: Option<&str>) -> Vec<RecordSkill> {
        let named = rationale.and_then(|rationale| self.named(rationale));
        let row = |exposure: &Exposure| {
            let shown = exposure.rank.and_then(|rank| self.offered.shown.get(rank as usize - 1));
            RecordSkill {
                id: exposure.skill.to_string(),
                tag: exposure.tag.to_string(),
                score: exposure.score,
                round: self.round,
                rank: exposure.rank,
                withheld: exposure.withheld,
                named: named == Some(&exposure.skill),
                content: shown.map(|skill| skill.content.clone()),
                audit: shown.map(|skill| skill.audit.clone()),
            }
        };
        self.offered.exposures.iter().map(row).collect()
    }

    /// The order as an episode; its reward comes with feedback, if ever.
    fn episode(&self, rate: f64, id: Uuid, at: OffsetDateTime, walked: &Walked) -> Episode {
        let rationale = walked.trace.rationale.as_deref().unwrap_or_default();
        let (targets, refusal) = match &walked.answer {
            Answer::Segment(targets) => {
                let names = targets.iter().map(|target| match &target.concept {
                    Some(concept) => concept.name.clone(),
                    // Words outside the vocabulary may be the patient's.
                    None => "unresolved".to_owned(),
                });
                (names.collect(), None)
            }
            Answer::Refuse(refusal) => (Vec::new(), Some(refusal.reason.code().to_owned())),
        };
        Episode {
            id,
            at,
            source: EpisodeSource::Serving,
            round: self.round,
            modality: self.modality.clone(),
            body_part: self.body_part.clone(),
            exposures: self.offered.exposures.clone(),
            withhold_rate: rate,
            named: self.named(rationale).cloned(),
            targets,
            refusal,
            reward: None,
        }
    }
}

/// Appends an order to the evidence log. An order is worth more than its evidence: a bank that
/// cannot be written is logged, and the order goes on.
pub(super) fn remember(
    policy: &SkillPolicy,
    skills: &OrderSkills,
    (order_id, at): (Uuid, OffsetDateTime),
    walked: &Walked,
) {
    let episode = skills.episode(policy.withhold_rate, order_id, at, walked);
    // Here and not at the retrieval, which other wordings of the order have too.
    for exposure in &episode.exposures {
        metrics::skill_retrieved(exposure.tag.as_str(), exposure.withheld);
    }
    if let Some(named) = &episode.named
        && let Some(exposure) = episode.exposure(named)
    {
        metrics::skill_named(exposure.tag.as_str());
    }
    if let Err(error) = policy.bank.record_evidence(vec![Evidence::Episode(episode)], "orders") {
        warn!(error = &error as &dyn std::error::Error, "Cannot keep the order as an episode");
    }
}

/// Body Part Examined (0018,0015) of the series.
fn body_part(series: &Series) -> Option<String> {
    let tag = dicom_dictionary_std::tags::BODY_PART_EXAMINED;
    let text = series.instances.first()?.string_opt(tag)?;
    // A code string; what else some devices write there stays out.
    let plain = |c: char| c.is_ascii_uppercase() || c == ' ' || c == '_';
    (!text.is_empty() && text.chars().all(plain)).then_some(text)
}

/// What the views show, in words: their planes.
fn cues(engine: &Engine) -> Vec<String> {
    let planes = engine.view_plan().planes.iter();
    planes.map(|run| format!("{:?}", run.plane).to_lowercase()).collect()
}

/// The number in `Skill 2: …` or `[2]`.
fn rank_in(rationale: &str) -> Option<u32> {
    let after_word = rationale.to_lowercase().find("skill ").and_then(|at| {
        let digits: String =
            rationale[at + "skill ".len()..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let in_brackets = || {
        let (_, rest) = rationale.split_once('[')?;
        rest.split_once(']')?.0.parse().ok()
    };
    after_word.or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::{NewSkill, Offer, RetrievalSettings, Skill, offers_in, tag};

    fn offers() -> Vec<Offer> {
        let skill = |trigger: &str, tag: &str, target: &str| {
            Skill::new(NewSkill {
                tag: tag.into(),
                trigger: trigger.into(),
                target: target.into(),
                ..NewSkill::default()
            })
            .expect("a skill")
        };
        let skills = [
            skill("wee bag", tag::ABBR_DISAMBIGUATE, "urinary bladder"),
            skill("wee sack", tag::PROMPT_NORMALIZE, "bladder"),
        ];
        let query = RetrievalQuery {
            text: "outline the wee bag and wee sack".into(),
            ..Default::default()
        };
        offers_in(&skills, &query, &RetrievalSettings::default())
    }

    #[test]
    fn the_rationale_names_a_skill_in_any_of_its_ways() {
        let offered = withhold(&offers(), 0.0, 0, Uuid::nil());
        let skills = OrderSkills { round: 4, offered, ..OrderSkills::default() };
        let second = skills.offered.exposures[1].skill.clone();
        let by_id = format!("as {second} says");
        for rationale in ["Skill 2: the order means", "skill 2 fits", "per [2], bladder", &by_id] {
            assert_eq!(skills.named(rationale), Some(&second), "{rationale}");
        }
        let tag = skills.offered.exposures[1].tag.to_string();
        assert_eq!(skills.named(&format!("{tag} applies")), Some(&second));
        for rationale in ["Skill 3: the order", "the order means the liver", "skill", ""] {
            assert_eq!(skills.named(rationale), None, "{rationale}");
        }
        let record = skills.record(Some("Skill 2: so"));
        assert_eq!(record.iter().map(|r| r.named).collect::<Vec<_>>(), [false, true]);
        assert!(record.iter().all(|r| r.round == 4 && r.content.is_some()));
    }

    #[test]
    fn withheld_skills_are_recorded_and_not_shown() {
        let offered = withhold(&offers(), 1.0, 0, Uuid::nil());
        let skills = OrderSkills { round: 1, offered, ..OrderSkills::default() };
        assert!(skills.shown().is_empty());
        let record = skills.record(Some("Skill 1: so"));
        assert_eq!(record.len(), 2);
        assert!(record.iter().all(|r| r.withheld && !r.named && r.content.is_none()));
    }
}
