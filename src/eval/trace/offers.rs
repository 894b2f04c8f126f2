//! Skills in training prompts: useful, useless, or none, so that a reasoner learns to use what the
//! bank offers and to leave what does not fit.

use sha2::{Digest, Sha256};

use crate::eval::random::Random;
use crate::eval::words::Synthesizer;
use crate::reason::OfferedSkill;

/// Share of prompts without skills.
const WITHOUT: f64 = 0.5;
/// Share of prompts with skills of which one fits.
const FITTING: f64 = 0.3;
/// Most skills in a prompt.
const COUNT_MAX: usize = 3;

/// What a prompt shows.
pub(super) struct Offers {
    /// The skills, best first.
    pub skills: Vec<OfferedSkill>,
    /// Place of the one that fits, from 1.
    pub fitting: Option<usize>,
}

/// What the skill that fits would say.
pub(super) struct Lesson<'a> {
    pub tag: &'a str,
    /// The words that call for it: the target as it stands in the request.
    pub trigger: &'a str,
    pub target: &'a str,
}

/// Draws skills for one prompt.
pub(super) fn draw(
    lesson: Option<&Lesson<'_>>,
    words: &Synthesizer<'_>,
    others: &[String],
    random: &mut Random,
) -> Offers {
    let dice = random.unit();
    if dice < WITHOUT {
        return Offers { skills: Vec::new(), fitting: None };
    }
    let own = lesson.filter(|_| dice < WITHOUT + FITTING).and_then(offered);
    let target = lesson.map(|lesson| lesson.target);
    let mut skills = Vec::new();
    for _ in 0..1 + random.below(COUNT_MAX) {
        let skill = foreign(words, others, target, random);
        skills.extend(skill.filter(|new| skills.iter().all(|old: &OfferedSkill| old.id != new.id)));
    }
    skills.truncate(COUNT_MAX - usize::from(own.is_some()));
    let fitting = own.map(|own| {
        let place = random.below(skills.len() + 1);
        skills.insert(place, own);
        place + 1
    });
    Offers { skills, fitting }
}

/// The skill as the bank would show it; a trigger with digits, which the bank may refuse, is none.
fn offered(lesson: &Lesson<'_>) -> Option<OfferedSkill> {
    if lesson.trigger.chars().any(|letter| letter.is_ascii_digit()) {
        return None;
    }
    let Lesson { tag, trigger, target } = lesson;
    let content = match *tag {
        "ABBR_DISAMBIGUATE" => format!(
            "{trigger}->{target}; trig={{RAW:ABBR({trigger})}}; act={{EXPAND_TO_CANONICAL, KEEP_MINIMAL}}"
        ),
        _ => format!("\"{trigger}\" means {target}."),
    };
    let hash = hex::encode(&Sha256::digest(format!("{tag}\n{content}"))[..6]);
    let (id, tag, audit) = (format!("seer:{hash}"), (*tag).to_owned(), "round 1".to_owned());
    Some(OfferedSkill { id, tag, content, audit })
}

/// A skill about another structure.
fn foreign(
    words: &Synthesizer<'_>,
    others: &[String],
    target: Option<&str>,
    random: &mut Random,
) -> Option<OfferedSkill> {
    let others: Vec<&String> =
        others.iter().filter(|other| Some(other.as_str()) != target).collect();
    if others.is_empty() {
        return None;
    }
    let other = *random.pick(&others);
    let concept = words.concept(other)?;
    let trigger = match concept.synonyms.is_empty() {
        true => concept.name.clone(),
        false => random.pick(&concept.synonyms).clone(),
    };
    const TAGS: [&str; 3] = ["ABBR_DISAMBIGUATE", "MESSY_INPUT_REPAIR", "PROMPT_NORMALIZE"];
    let tag: &str = TAGS[random.below(TAGS.len())];
    offered(&Lesson { tag, trigger: &trigger, target: &concept.name })
}
