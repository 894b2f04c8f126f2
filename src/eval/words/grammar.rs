//! Sentences: templates with slots, put together by style.

use super::lexicon::{
    CLINICAL, CLOSINGS, FORMAL, INDICATIONS, MESSY, OPENINGS, PURPOSES, REMARKS, REPORT, SHORT,
    VERBOSE, VERBS,
};
use super::{Scene, typos};
use crate::eval::random::Random;

/// What fills the slots.
pub(super) struct Frame<'a> {
    /// The target, as it stands in the text.
    pub surface: &'a str,
    /// Another structure that may be remarked upon.
    pub other: Option<&'a str>,
    /// Where the request is made.
    pub scene: &'a Scene,
}

/// One sentence or letter of a style.
pub(super) fn sentence(style: &str, frame: &Frame<'_>, random: &mut Random) -> String {
    let template = match style {
        "formal_task" | "out_of_region_reference" => *random.pick(&FORMAL),
        "clinical_request" => *random.pick(&CLINICAL),
        "report_style" => *random.pick(&REPORT),
        "verbose_request" => return letter(frame, random),
        "messy_or_misspelled" => return messy(frame, random),
        "ambiguous_abbreviation" => {
            let short = random.chance(0.6);
            if short { *random.pick(&SHORT) } else { *random.pick(&CLINICAL) }
        }
        _ => *random.pick(&SHORT),
    };
    let mut text = fill(template, frame, random);
    if style == "clinical_request" {
        text += &remark(frame, 0.25, random);
    }
    text
}

fn letter(frame: &Frame<'_>, random: &mut Random) -> String {
    let opening = *random.pick(&OPENINGS);
    let middle = *random.pick::<&'static str>(&VERBOSE);
    let middle = fill(middle, frame, random);
    let remark = remark(frame, 0.35, random);
    format!("{opening} {middle}{remark} {}", random.pick(&CLOSINGS))
}

fn messy(frame: &Frame<'_>, random: &mut Random) -> String {
    let template = *random.pick::<&'static str>(&MESSY);
    let text = fill(template, frame, random);
    let text = typos::slip_sentence(&text, frame.surface, random);
    match random.below(5) {
        0 => text.to_uppercase(),
        1 | 2 => text.to_lowercase(),
        3 => format!("{text}!!"),
        _ => text,
    }
}

fn remark(frame: &Frame<'_>, chance: f64, random: &mut Random) -> String {
    match frame.other {
        Some(other) if random.chance(chance) => {
            tidy(&format!(" {}", random.pick(&REMARKS).replace("{o}", other)))
        }
        Some(_) | None => String::new(),
    }
}

/// Fills slots one by one, so that words put in are not taken for slots.
fn fill(template: &str, frame: &Frame<'_>, random: &mut Random) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out += &rest[..at];
        let (slot, after) = rest[at + 1..].split_at(1);
        let word = match slot {
            "t" => frame.surface.to_owned(),
            "v" => (*random.pick(&VERBS)).to_owned(),
            "p" => (*random.pick(&PURPOSES)).to_owned(),
            "i" => (*random.pick(&INDICATIONS)).to_owned(),
            "m" => frame.scene.modality.clone(),
            _ => frame.scene.region(),
        };
        out += &fitting(&out, &word);
        rest = &after[1..];
    }
    out += rest;
    tidy(&out)
}

/// A capital where a sentence begins with a filled slot; targets keep their own letters.
fn fitting(before: &str, word: &str) -> String {
    let starts = before.is_empty() || before.ends_with(". ") || before.ends_with("? ");
    let mut letters = word.chars();
    match letters.next() {
        Some(first) if starts && first.is_lowercase() && word.len() > 6 => {
            first.to_uppercase().chain(letters).collect()
        }
        Some(_) | None => word.to_owned(),
    }
}

/// `the both kidneys` and `a mask of the the` do not occur in English.
fn tidy(text: &str) -> String {
    text.replace("the both ", "both ")
        .replace("The both ", "Both ")
        .replace("the bilateral ", "bilateral ")
        .replace("of  ", "of ")
}
