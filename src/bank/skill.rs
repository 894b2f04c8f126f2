//! Skills: what was learnt about one way of asking.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::words::normalised;
use super::{BankError, privacy};
use crate::reason::OfferedSkill;

/// Longest trigger, alias, action, target or cue, in characters.
const TEXT_LENGTH_MAX: usize = 200;
/// Most aliases or cues of one kind.
const LIST_LENGTH_MAX: usize = 64;

/// `seer:` and twelve hexadecimal digits of a hash of tag, trigger, action and target.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, example = "seer:4f0c9a1be27d")]
pub struct SkillId(String);

impl SkillId {
    /// Reads an id.
    ///
    /// # Errors
    /// When it is not `seer:` and 4 to 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, BankError> {
        let digits = text.strip_prefix("seer:").unwrap_or_default();
        let fits = (4..=64).contains(&digits.len())
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(BankError::SkillId { length: text.chars().count() })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SkillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of help a skill is, for example `ABBR_DISAMBIGUATE`.
///
/// The published tags are constants in [`tag`]; a bundle may add others of the same form.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, example = "ABBR_DISAMBIGUATE")]
pub struct Tag(String);

impl Tag {
    /// Reads a tag: 2 to 48 of `A-Z`, `0-9` and `_`, a letter first.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, BankError> {
        let plain = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
        let starts = text.starts_with(|letter: char| letter.is_ascii_uppercase());
        if starts && (2..=48).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BankError::Tag { length: text.chars().count() })
        }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tags that every bundle knows.
pub mod tag {
    /// An abbreviation stands for a structure.
    pub const ABBR_DISAMBIGUATE: &str = "ABBR_DISAMBIGUATE";
    /// A misspelled or broken request.
    pub const MESSY_INPUT_REPAIR: &str = "MESSY_INPUT_REPAIR";
    /// A structure that lies outside the scan.
    pub const OUT_OF_REGION_REJECT: &str = "OUT_OF_REGION_REJECT";
    /// A clinical question that means a structure.
    pub const CLINICAL_REQUEST_NORMALIZE: &str = "CLINICAL_REQUEST_NORMALIZE";
    /// A report's way of speaking.
    pub const REPORT_STYLE_PARSE: &str = "REPORT_STYLE_PARSE";
    /// A long request with one target.
    pub const VERBOSE_PRUNE: &str = "VERBOSE_PRUNE";
    /// A plain request in other words.
    pub const PROMPT_NORMALIZE: &str = "PROMPT_NORMALIZE";
    /// Where a structure lies.
    pub const ANATOMICAL_LOCALIZATION: &str = "ANATOMICAL_LOCALIZATION";
    /// A structure named by its neighbours.
    pub const SPATIAL_RELATION: &str = "SPATIAL_RELATION";

    /// All of them.
    pub const ALL: [&str; 9] = [
        ABBR_DISAMBIGUATE,
        MESSY_INPUT_REPAIR,
        OUT_OF_REGION_REJECT,
        CLINICAL_REQUEST_NORMALIZE,
        REPORT_STYLE_PARSE,
        VERBOSE_PRUNE,
        PROMPT_NORMALIZE,
        ANATOMICAL_LOCALIZATION,
        SPATIAL_RELATION,
    ];

    /// What a skill of this tag does when nothing more is said of it.
    pub(in crate::bank) fn usual_action(tag: &str) -> &'static str {
        match tag {
            ABBR_DISAMBIGUATE => "EXPAND_TO_CANONICAL, KEEP_MINIMAL",
            MESSY_INPUT_REPAIR => "REPAIR_SURFACE_FORM, PRESERVE_TARGET, KEEP_MINIMAL",
            OUT_OF_REGION_REJECT => "DROP_OUT_OF_REGION_DETAIL, PRESERVE_IN_REGION_TARGET",
            CLINICAL_REQUEST_NORMALIZE => "NORMALIZE_TO_SEGMENT_COMMAND, KEEP_MINIMAL",
            REPORT_STYLE_PARSE => "PARSE_REPORT_LANGUAGE, CONVERT_TO_SEGMENT_COMMAND",
            VERBOSE_PRUNE => "REMOVE_UNSUPPORTED_CONTEXT, KEEP_EFFECTIVE_CONSTRAINTS, KEEP_MINIMAL",
            _ => "NORMALIZE_PROMPT",
        }
    }
}

/// What has to hold of an order beside its words; empty lists hold always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cues {
    /// Modality codes; an order on another modality is never offered the skill.
    pub modalities: Vec<String>,
    /// Body parts (Body Part Examined); another one lowers the score.
    pub body_parts: Vec<String>,
    /// Cues of the views, for example `axial`; missing ones lower the score.
    pub views: Vec<String>,
}

/// Where a skill came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct SkillAudit {
    /// The round that first held it.
    pub birth_round: u64,
    /// Episodes it was distilled from.
    pub source_episodes: Vec<Uuid>,
    /// Rewards of those episodes, in the same order.
    pub source_rewards: Vec<f64>,
    /// How much better those episodes were than the direct prompt, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain_at_birth: Option<f64>,
    /// The models that ran, role to `bundle version sha256`.
    pub models: BTreeMap<String, String>,
    /// How it came about: `harvested`, `imported`, `written` or another short word.
    pub origin: String,
    /// Who adopted it.
    pub adopted_by: String,
    /// Skills that were merged into this one; their evidence counts for it.
    pub absorbed: Vec<SkillId>,
}

/// A skill before it is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSkill {
    /// What kind of help it is.
    #[schema(example = "ABBR_DISAMBIGUATE")]
    pub tag: String,
    /// Words of an order that call for it.
    #[schema(example = "lt hippo")]
    pub trigger: String,
    /// What the reasoner should do; the tag's usual action when empty.
    #[serde(default)]
    pub action: String,
    /// The structure that is meant, as the answer says it.
    #[schema(example = "left hippocampus")]
    pub target: String,
    /// Other words that call for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What else has to hold.
    #[serde(default)]
    pub cues: Cues,
    /// Where it came from.
    #[serde(default)]
    pub audit: SkillAudit,
}

/// A skill `s = (κ, z, η)`: tag, content (trigger, action, target), audit.
///
/// Built by [`Skill::new`] alone, so that no skill holds text that [`privacy::check`] refuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Skill {
    /// Its identity; the same content has the same id.
    pub id: SkillId,
    /// What kind of help it is.
    pub tag: Tag,
    /// Words of an order that call for it.
    pub trigger: String,
    /// What the reasoner should do.
    pub action: String,
    /// The structure that is meant, as the answer says it.
    pub target: String,
    /// Other words that call for it.
    pub aliases: Vec<String>,
    /// What else has to hold.
    pub cues: Cues,
    /// Where it came from.
    pub audit: SkillAudit,
}

impl Skill {
    /// Checks and normalises a skill and gives it its id. White space is collapsed; aliases that
    /// only repeat the trigger or each other go; lists are sorted.
    ///
    /// # Errors
    /// An empty or over-long part, a tag of another form, or a [`privacy::PrivacyFault`].
    pub fn new(new: NewSkill) -> Result<Self, BankError> {
        let tag = Tag::parse(&new.tag)?;
        let trigger = text("trigger", &new.trigger)?;
        let target = text("target", &new.target)?;
        let action = match new.action.trim() {
            "" => tag::usual_action(tag.as_str()).to_owned(),
            action => text("action", action)?,
        };
        let mut aliases = list("alias", new.aliases)?;
        let mut seen = vec![normalised(&trigger)];
        aliases.retain(|alias| {
            let spelling = normalised(alias);
            let fresh = !spelling.is_empty() && !seen.contains(&spelling);
            if fresh {
                seen.push(spelling);
            }
            fresh
        });
        let cues = Cues {
            modalities: list("modality", new.cues.modalities)?,
            body_parts: list("body part", new.cues.body_parts)?,
            views: list("view cue", new.cues.views)?,
        };
        let id = identity(&tag, &trigger, &action, &target);
        Ok(Self { id, tag, trigger, action, target, aliases, cues, audit: new.audit })
    }

    /// The same skill as it could be given to [`Skill::new`] again.
    pub fn to_new(&self) -> NewSkill {
        NewSkill {
            tag: self.tag.as_str().to_owned(),
            trigger: self.trigger.clone(),
            action: self.action.clone(),
            target: self.target.clone(),
            aliases: self.aliases.clone(),
            cues: self.cues.clone(),
            audit: self.audit.clone(),
        }
    }

    /// Trigger and aliases: the words that call for it.
    pub fn phrases(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.trigger).chain(&self.aliases).map(String::as_str)
    }

    /// The content as the prompt shows it for the words that called for it, in the forms that the
    /// published adapters and the embedded reasoner were trained on.
    pub fn content_for(&self, phrase: &str) -> String {
        if self.tag.as_str() == tag::ABBR_DISAMBIGUATE {
            let (target, action) = (&self.target, &self.action);
            format!("{phrase}->{target}; trig={{RAW:ABBR({phrase})}}; act={{{action}}}")
        } else {
            format!("\"{phrase}\" means {}.", self.target)
        }
    }

    /// The skill as the prompt shows it, for the words that called for it.
    pub fn offered_for(&self, phrase: &str) -> OfferedSkill {
        OfferedSkill {
            id: self.id.to_string(),
            tag: self.tag.as_str().to_owned(),
            content: self.content_for(phrase),
            audit: match self.audit.gain_at_birth {
                Some(gain) if gain > 0.0 => {
                    format!("round {}, gain {gain:.2}", self.audit.birth_round)
                }
                _ => format!("round {}", self.audit.birth_round),
            },
        }
    }

    /// SHA-256 over everything the skill holds, aliases and audit included.
    pub(super) fn digest(&self) -> Result<[u8; 32], serde_json::Error> {
        Ok(Sha256::digest(serde_json::to_vec(self)?).into())
    }
}

fn identity(tag: &Tag, trigger: &str, action: &str, target: &str) -> SkillId {
    let mut hasher = Sha256::new();
    for part in [tag.as_str(), &normalised(trigger), &normalised(action), &normalised(target)] {
        hasher.update(part);
        hasher.update([0]);
    }
    SkillId(format!("seer:{}", hex::encode(&hasher.finalize()[..6])))
}

fn text(part: &'static str, text: &str) -> Result<String, BankError> {
    let tidy = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = tidy.chars().count();
    if !(1..=TEXT_LENGTH_MAX).contains(&length) {
        return Err(BankError::TextLength { part, length, max: TEXT_LENGTH_MAX });
    }
    privacy::check(&tidy).map_err(|source| BankError::Privacy { part, source })?;
    Ok(tidy)
}

fn list(part: &'static str, texts: Vec<String>) -> Result<Vec<String>, BankError> {
    if texts.len() > LIST_LENGTH_MAX {
        return Err(BankError::TextLength { part, length: texts.len(), max: LIST_LENGTH_MAX });
    }
    let mut texts: Vec<String> =
        texts.iter().map(|entry| text(part, entry)).collect::<Result<_, _>>()?;
    texts.sort();
    texts.dedup();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hippo() -> NewSkill {
        NewSkill {
            tag: tag::ABBR_DISAMBIGUATE.into(),
            trigger: "lt  hippo".into(),
            target: "left hippocampus".into(),
            aliases: vec!["LT HIPPO".into(), "l hc".into(), "L-HC".into()],
            ..NewSkill::default()
        }
    }

    #[test]
    fn the_same_content_has_the_same_id_whatever_its_spelling() {
        let skill = Skill::new(hippo()).expect("a skill");
        let other = NewSkill { trigger: "LT hippo".into(), aliases: Vec::new(), ..hippo() };
        assert_eq!(Skill::new(other).expect("a skill").id, skill.id);
        let other = NewSkill { target: "right hippocampus".into(), ..hippo() };
        assert_ne!(Skill::new(other).expect("a skill").id, skill.id);
        assert_eq!(skill.aliases, ["L-HC"]);
        assert_eq!(Skill::new(skill.to_new()).expect("again"), skill);
        assert_eq!(SkillId::parse(skill.id.as_str()).expect("an id"), skill.id);
    }

    #[test]
    fn no_skill_holds_patient_text() {
        let rows = [
            NewSkill { trigger: "liver of John Smith".into(), ..hippo() },
            NewSkill { aliases: vec!["MRN 88120".into()], ..hippo() },
            NewSkill { target: "nodule of 12.03.2024".into(), ..hippo() },
            NewSkill { trigger: " ".into(), ..hippo() },
            NewSkill { tag: "abbr".into(), ..hippo() },
        ];
        for row in rows {
            assert!(Skill::new(row.clone()).is_err(), "{row:?}");
        }
    }

    #[test]
    fn content_is_what_the_reasoner_was_trained_on() {
        let offered = Skill::new(hippo()).expect("a skill").offered_for("lt hippo");
        assert_eq!(
            offered.content,
            "lt hippo->left hippocampus; trig={RAW:ABBR(lt hippo)}; \
             act={EXPAND_TO_CANONICAL, KEEP_MINIMAL}"
        );
        assert_eq!(offered.audit, "round 0");
    }
}
