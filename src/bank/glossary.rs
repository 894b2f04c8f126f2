//! Skills from the vocabulary of a bundle.

use super::{BankError, Cues, NewSkill, Skill, SkillAudit, tag};
use crate::runtime::vocabulary::{Laterality, Vocabulary};

/// Shorter words mean too much.
const PHRASE_LETTERS_MIN: usize = 3;
/// A skill holds no more aliases.
const ALIASES_MAX: usize = 64;

/// One skill for each structure that has no side: its name and its synonyms call for it, and so
/// does what retrieval takes for a slip in one of them.
///
/// Sided structures are left out: an offer for `left kidney` resembles one for `right kidney`, and
/// a skill must never suggest a side.
///
/// # Errors
/// When a name of the vocabulary makes no skill.
pub fn glossary(vocabulary: &Vocabulary) -> Result<Vec<Skill>, BankError> {
    let plain = vocabulary.concepts.iter().filter(|c| c.laterality == Laterality::None);
    plain
        .map(|concept| {
            let synonyms = concept.synonyms.iter();
            let aliases = synonyms.filter(|s| s.chars().count() >= PHRASE_LETTERS_MIN);
            Skill::new(NewSkill {
                tag: tag::PROMPT_NORMALIZE.into(),
                trigger: concept.name.clone(),
                action: String::new(),
                target: concept.name.clone(),
                aliases: aliases.take(ALIASES_MAX).cloned().collect(),
                cues: Cues { modalities: concept.modalities.clone(), ..Cues::default() },
                audit: SkillAudit { origin: "glossary".into(), ..SkillAudit::default() },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::glossary;
    use crate::bank::{RetrievalQuery, RetrievalSettings, offers_in};
    use crate::runtime::Bundle;

    #[test]
    fn names_and_slips_call_for_structures_without_a_side() {
        let bundle = Bundle::open(Path::new("models/seer-mini")).expect("it is embedded");
        let skills = glossary(bundle.vocabulary()).expect("names are skills");
        assert!(skills.iter().all(|s| !s.target.contains("left") && !s.target.contains("right")));
        let offered = |text: &str, modality: &str| {
            let query = RetrievalQuery {
                text: text.into(),
                modality: modality.into(),
                ..RetrievalQuery::default()
            };
            let offers = offers_in(&skills, &query, &RetrievalSettings::default());
            offers.first().map(|offer| offer.skill.target.clone())
        };
        for (text, modality, target) in [
            ("larinx , isolate it", "CT", Some("larynx")),
            ("hi cintour esofagus thx", "CT", Some("oesophagus")),
            ("fever of unknown origin -> jwabone", "CT", Some("mandible")),
            (
                "could you draw the food pipe? The spinal cord was done last week",
                "CT",
                Some("oesophagus"),
            ),
            ("left kidney, not the liver", "CT", None),
            ("brain tumour", "MR", None),
            ("spleeen", "CT", Some("spleen")),
            ("liver", "MR", None),
        ] {
            assert_eq!(offered(text, modality).as_deref(), target, "{text}");
        }
    }
}
