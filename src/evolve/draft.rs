//! A skill in the reasoner's own words, held to what practice showed.

use super::distil::Draft;
use crate::bank::{NewSkill, Skill, tag};
use crate::runtime::vocabulary::{Meaning, Vocabulary, normalise};

/// What the reasoner is asked. It sees the term and the target, never the order of a patient.
pub fn instruction(draft: &Draft) -> String {
    format!(
        "Orders that say \"{}\" were understood only after they were worded as \"{}\". \
         Write this as a skill in four lines, nothing else:\nTag: one of {}\nTrigger: the words \
         of the order\nAction: what to do, in capitals\nTarget: the canonical name",
        draft.skill.trigger,
        draft.skill.target,
        tag::ALL.join(", "),
    )
}

/// Reads what the reasoner wrote; none when it is not a skill, says something else than practice
/// showed, or holds what a skill must not.
///
/// The trigger must be the draft's words, in any order and spelling of case; the target must be the
/// draft's target by the vocabulary.
pub fn read(written: &str, draft: &Draft, vocabulary: &Vocabulary) -> Option<NewSkill> {
    let line = |name: &str| {
        written.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    };
    let (tag, trigger, target) = (line("tag")?, line("trigger")?, line("target")?);
    let sorted = |text: &str| {
        let spoken = normalise(text);
        let mut words: Vec<String> = spoken.split(' ').map(str::to_owned).collect();
        words.sort();
        words
    };
    let same_target = match vocabulary.find(target) {
        Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => {
            concept.name == draft.skill.target
        }
        Some(Meaning::Absent(_)) | None => false,
    };
    if !tag::ALL.contains(&tag) || !same_target || sorted(trigger) != sorted(&draft.skill.trigger) {
        return None;
    }
    let skill = NewSkill {
        tag: tag.to_owned(),
        trigger: trigger.to_owned(),
        action: line("action").unwrap_or_default().to_owned(),
        ..draft.skill.clone()
    };
    Skill::new(skill.clone()).is_ok().then_some(skill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::vocabulary;

    #[test]
    fn only_what_practice_showed_is_taken_from_the_reasoner() {
        let draft = Draft {
            skill: NewSkill {
                tag: tag::PROMPT_NORMALIZE.into(),
                trigger: "left bean".into(),
                target: "left kidney".into(),
                ..NewSkill::default()
            },
            term: "bean".into(),
            requests: vec![0],
            patients: 2,
            gain: 0.4,
            reward: 0.9,
        };
        let check = |written: &str, expected: Option<(&str, &str)>| {
            let found = read(written, &draft, &vocabulary());
            let found = found.as_ref().map(|skill| (&skill.tag[..], &skill.action[..]));
            assert_eq!(found, expected, "{written}");
        };
        let good =
            "Tag: ABBR_DISAMBIGUATE\nTrigger: \"bean left\"\nAction: EXPAND\nTarget: l kidney";
        check(good, Some(("ABBR_DISAMBIGUATE", "EXPAND")));
        check(&good.replace("l kidney", "right kidney"), None);
        check(&good.replace("bean left", "bean"), None);
        check(&good.replace("ABBR_DISAMBIGUATE", "ANYTHING"), None);
        check(&good.replace("EXPAND", "ask John Smith"), None);
        check("<evidence>MR of the head.</evidence>", None);
        assert!(instruction(&draft).contains("\"left bean\""));
    }
}
