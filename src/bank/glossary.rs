//! Skills from the vocabulary of a bundle.

use std::sync::Arc;

use super::{Bank, BankError, Cues, NewSkill, Round, RoundDraft, Skill, SkillAudit, tag};
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

/// Who begins a bank.
const SERVER: &str = "seer";

impl Bank {
    /// Gives a bank that nobody has changed yet the glossary of a bundle as its first round with
    /// skills, and makes that round the active one. `None` when a person or a round of SEER-Loop
    /// has changed the bank before, or when it has begun so already.
    ///
    /// # Errors
    /// When a name of the vocabulary makes no skill; the disk.
    pub fn begin_with_glossary(
        &self,
        vocabulary: &Vocabulary,
        bundle: &str,
    ) -> Result<Option<Arc<Round>>, BankError> {
        // A stop may have fallen between the two changes.
        let rounds = self.rounds()?;
        let untouched = self.active().number() == 0
            && rounds.len() <= 2
            && self.audit(rounds.len() + 2)?.iter().all(|line| line.actor == SERVER);
        if !untouched {
            return Ok(None);
        }
        let number = match rounds.get(1) {
            Some(header) => header.number,
            None => {
                let draft = RoundDraft {
                    author: SERVER.into(),
                    note: format!("glossary of {bundle}"),
                    skills: glossary(vocabulary)?,
                    ..RoundDraft::default()
                };
                self.publish(draft)?.number()
            }
        };
        self.activate(number, SERVER).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::glossary;
    use crate::bank::{
        Bank, BankSettings, RetrievalQuery, RetrievalSettings, RoundDraft, offers_in,
    };
    use crate::clock::Clock;
    use crate::runtime::Bundle;

    #[test]
    fn bank_begins_with_the_glossary_once_and_only_when_untouched() {
        let bundle = Bundle::open(Path::new("models/seer-mini")).expect("it is embedded");
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name: &str| {
            let settings = BankSettings::default();
            Bank::open(&folder.path().join(name), settings, Clock::system()).expect("it opens")
        };
        let begin = |bank: &Bank| {
            let begun = bank.begin_with_glossary(bundle.vocabulary(), "seer-mini");
            begun.expect("it begins").map(|round| round.number())
        };
        let fresh = open("fresh");
        assert_eq!(begin(&fresh), Some(1));
        assert!(fresh.active().skills.len() > 10);
        assert_eq!(begin(&fresh), None, "once");
        fresh.activate(0, "an administrator").expect("round 0 is there");
        assert_eq!(begin(&fresh), None, "an administrator went back");

        let stopped = open("stopped");
        let skills = glossary(bundle.vocabulary()).expect("names are skills");
        let draft = RoundDraft { author: "seer".into(), skills, ..RoundDraft::default() };
        stopped.publish(draft).expect("it is published");
        assert_eq!(begin(&stopped), Some(1), "it was stopped before it was active");
        assert_eq!(stopped.rounds().expect("they are there").len(), 2);

        let used = open("used");
        let draft = RoundDraft { author: "an administrator".into(), ..RoundDraft::default() };
        used.publish(draft).expect("it is published");
        assert_eq!(begin(&used), None, "somebody published a round");
    }

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
