//! JSON Lines: our own skills, and those of the published SEER skill files.

use std::io::{BufRead, Write};

use serde::Deserialize;

use super::{NewSkill, Skill, SkillAudit};
use crate::error::Kind;
use crate::telemetry::error_chain;

/// What an import gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// The skills, in the order of their lines; the same id once.
    pub skills: Vec<Skill>,
    /// Lines that were refused, with why; the text is not quoted.
    pub refused: Vec<(usize, String)>,
}

/// One line of a published SEER skill file. Fields that name patients' cases (`source_key`,
/// `audit`) are not even read; `dataset`, `style_bucket`, `vis_cue` and `score_hint` are labels
/// that a live order does not have.
#[derive(Debug, Deserialize)]
struct PublishedLine {
    tag: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    canonical: String,
    #[serde(default)]
    aliases: Vec<String>,
    dice_gain: Option<f64>,
}

/// One line of ours, or a published one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Ours(Box<OurLine>),
    Published(PublishedLine),
}

#[derive(Debug, Deserialize)]
struct OurLine {
    tag: String,
    trigger: String,
    target: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    cues: super::Cues,
    #[serde(default)]
    audit: SkillAudit,
}

/// Writes skills as JSON Lines, one a line.
///
/// # Errors
/// When the writer fails.
pub fn export_jsonl<'a>(
    skills: impl IntoIterator<Item = &'a Skill>,
    mut out: impl Write,
) -> std::io::Result<()> {
    for skill in skills {
        serde_json::to_writer(&mut out, skill)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads skills from JSON Lines, ours or the published SEER's. Ids are computed anew; a line that
/// is not a skill, or may hold patient text, is refused and the others are read.
///
/// # Errors
/// When the reader fails.
pub fn import_jsonl(input: impl BufRead) -> std::io::Result<Imported> {
    let mut imported = Imported::default();
    let mut seen = std::collections::HashSet::new();
    for (number, line) in (1..).zip(input.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        match read(&line) {
            Ok(skill) => {
                if seen.insert(skill.id.clone()) {
                    imported.skills.push(skill);
                }
            }
            Err(reason) => imported.refused.push((number, reason)),
        }
    }
    Ok(imported)
}

fn read(line: &str) -> Result<Skill, String> {
    let parsed: Line = serde_json::from_str(line)
        .map_err(|_| "it is neither a skill of ours nor of the published files".to_owned())?;
    let new = match parsed {
        Line::Ours(line) => NewSkill {
            tag: line.tag,
            trigger: line.trigger,
            action: line.action,
            target: line.target,
            aliases: line.aliases,
            cues: line.cues,
            audit: line.audit,
        },
        Line::Published(line) => published(line).ok_or("it says no trigger or no target")?,
    };
    Skill::new(new).map_err(|error| {
        debug_assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
        error_chain(&error)
    })
}

/// `alias->target; trig={…}; act={…}` or `target=…; trig={…}; act={…}`.
fn published(line: PublishedLine) -> Option<NewSkill> {
    let head = line.content.split("; trig=").next().unwrap_or_default();
    let (alias, target) = match head.split_once("->") {
        Some((alias, target)) => (Some(alias), target),
        None => (None, head.strip_prefix("target=").unwrap_or_default()),
    };
    let action = line
        .content
        .split_once("act={")
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(action, _)| action.to_owned())
        .unwrap_or_default();
    let target = match bare(target) {
        "" => bare(&line.canonical),
        target => target,
    };
    let mut phrases: Vec<String> = alias.map(spaced).into_iter().collect();
    phrases.extend(line.aliases.iter().map(|alias| spaced(alias)));
    phrases.retain(|phrase| !phrase.is_empty());
    let trigger = phrases.first()?.clone();
    (!target.is_empty()).then(|| NewSkill {
        tag: line.tag,
        trigger,
        action,
        target: target.to_owned(),
        aliases: phrases.split_off(1),
        cues: super::Cues::default(),
        audit: SkillAudit {
            origin: "imported".into(),
            gain_at_birth: line.dice_gain,
            ..SkillAudit::default()
        },
    })
}

/// A published target is an answer; the skill holds the structure alone.
fn bare(answer: &str) -> &str {
    let answer = answer.trim().trim_end_matches('.');
    let start = answer.get(..8).filter(|start| start.eq_ignore_ascii_case("segment "));
    let rest = if start.is_some() { &answer[8..] } else { answer };
    rest.strip_prefix("the ").unwrap_or(rest).trim()
}

/// Labels are written with underscores.
fn spaced(label: &str) -> String {
    label.replace('_', " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = concat!(
        r#"{"skill_id": "seer:0a1b2c3d4e5f", "source_key": "FLARE|case 0042|1|liver of JANE DOE", "#,
        r#""tag": "ABBR_DISAMBIGUATE", "content": "LIV->Segment the liver.; trig={RAW:ABBR(LIV), "#,
        r#"VIS:ABDOMINAL_ORGANS, DS:FLARE}; act={EXPAND_TO_CANONICAL, KEEP_MINIMAL}", "#,
        r#""audit": "id=seer:0a1b2c3d4e5f; src=FLARE/0042/L1", "dataset": "FLARE", "#,
        r#""style_bucket": "ambiguous_abbreviation", "canonical": "liver", "#,
        r#""aliases": ["liver_organ"], "vis_cue": "ABDOMINAL_ORGANS", "score_hint": 0.9, "#,
        r#""dice_gain": 0.41}"#,
    );

    #[test]
    fn published_skills_come_in_without_cases_and_labels() {
        let imported = import_jsonl(PUBLISHED.as_bytes()).expect("readable");
        let [skill] = &imported.skills[..] else { panic!("{imported:?}") };
        assert_eq!((skill.trigger.as_str(), skill.target.as_str()), ("LIV", "liver"));
        assert_eq!(skill.aliases, ["liver organ"]);
        assert_eq!(skill.action, "EXPAND_TO_CANONICAL, KEEP_MINIMAL");
        let text = serde_json::to_string(skill).expect("JSON");
        for word in ["FLARE", "0042", "JANE", "ambiguous", "ABDOMINAL"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn what_was_exported_imports_the_same() {
        let imported = import_jsonl(PUBLISHED.as_bytes()).expect("readable");
        let mut bytes = Vec::new();
        export_jsonl(&imported.skills, &mut bytes).expect("written");
        assert_eq!(import_jsonl(&bytes[..]).expect("readable").skills, imported.skills);
    }

    #[test]
    fn bad_lines_are_refused_by_number_and_the_others_are_read() {
        let text = format!(
            "{PUBLISHED}\nnot json\n\n{}\n",
            r#"{"tag": "ABBR_DISAMBIGUATE", "trigger": "hip of John Smith", "target": "hip"}"#
        );
        let imported = import_jsonl(text.as_bytes()).expect("readable");
        assert_eq!(imported.skills.len(), 1);
        let lines: Vec<usize> = imported.refused.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4]);
        assert!(imported.refused.iter().all(|(_, reason)| !reason.contains("Smith")));
    }
}
