//! Pictures of the best, the median and the worst results.

use std::path::Path;

use super::{Configuration, EvalError, Execution, Expect, Mode, Request, Runner, Scored, Suite};
use crate::runtime::vocabulary::{Meaning, Vocabulary};
use crate::view::{Overlay, overlay, png};

/// Colour of the mask, 8-bit sRGB.
const MASK_RGB: [u8; 3] = [255, 170, 40];
/// Colour of the reference.
const REFERENCE_RGB: [u8; 3] = [60, 200, 255];

/// A picture that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Its file's name in the folder.
    pub file: String,
    /// What it shows: rank, case, target, Dice.
    pub caption: String,
}

/// Draws the best, the median and the worst free-text results of a configuration, `each` of each,
/// no two of one group: mask and reference over an axial, a coronal and a sagittal slice.
///
/// Masks are made again from the answers, as rows do not keep them.
///
/// # Errors
/// When a case cannot be read, the backbone fails, or the folder cannot be written.
pub fn draw(
    folder: &Path,
    suite: &Suite,
    runner: &Runner<'_>,
    rows: &[Scored],
    configuration: Configuration,
    each: usize,
) -> Result<Vec<Drawn>, EvalError> {
    std::fs::create_dir_all(folder).map_err(EvalError::io(folder))?;
    let mut drawn = Vec::new();
    for (rank, row) in chosen(rows, configuration, each) {
        let Some(request) = request_of(suite, row) else { continue };
        let file = format!("{rank}.png");
        let png = picture(suite, runner, row, request)?;
        let path = folder.join(&file);
        std::fs::write(&path, png).map_err(EvalError::io(&path))?;
        let row = &row.row;
        let dice = row.dice.unwrap_or_default();
        let caption = format!("{rank}: {} in {}, Dice {dice:.3}", row.target, row.case);
        drawn.push(Drawn { file, caption });
    }
    Ok(drawn)
}

/// Rows by rank, `best-1`, `median-1`, `worst-1` and so on.
fn chosen(rows: &[Scored], configuration: Configuration, each: usize) -> Vec<(String, &Scored)> {
    let of = |mode: Option<Mode>| -> Vec<&Scored> {
        let scored = rows.iter().filter(|row| {
            let row = &row.row;
            row.configuration == configuration
                && row.expect == Expect::Segment
                && row.dice.is_some()
                && mode.is_none_or(|mode| row.mode == mode)
        });
        scored.collect()
    };
    let mut sorted = of(Some(Mode::Free));
    if sorted.is_empty() {
        sorted = of(None);
    }
    sorted.sort_by(|a, b| a.row.dice.unwrap_or(0.0).total_cmp(&b.row.dice.unwrap_or(0.0)));
    let mut taken: Vec<(&str, &str)> = Vec::new();
    let mut out = Vec::new();
    let middle = sorted.len() / 2;
    let from_middle = (middle..sorted.len()).chain((0..middle).rev());
    let ranks: [(&str, Vec<usize>); 3] = [
        ("best", (0..sorted.len()).rev().collect()),
        ("worst", (0..sorted.len()).collect()),
        ("median", from_middle.collect()),
    ];
    for (name, places) in ranks {
        let mut count = 0;
        for row in places.into_iter().map(|place| sorted[place]) {
            let key = (row.row.case.as_str(), row.row.group.as_str());
            if count < each && !taken.contains(&key) {
                taken.push(key);
                count += 1;
                out.push((format!("{name}-{count}"), row));
            }
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

fn request_of<'s>(suite: &'s Suite, row: &Scored) -> Option<&'s Request> {
    let row = &row.row;
    suite.requests().iter().find(|request| {
        request.case == row.case && request.group == row.group && request.text == row.text
    })
}

fn picture(
    suite: &Suite,
    runner: &Runner<'_>,
    row: &Scored,
    request: &Request,
) -> Result<Vec<u8>, EvalError> {
    let case = suite.case(&row.row.case)?;
    let mut run = runner.open(&case)?;
    let execution = again(row, runner.models().vocabulary);
    let mask = run.mask(&execution)?.unpack(&case.volume.geometry)?;
    let reference = case.reference(&request.labels)?;
    let dice = row.row.dice.unwrap_or_default();
    let found = match execution.prompts.is_empty() {
        true => "nothing (refused)".to_owned(),
        false => execution.prompts.join(", "),
    };
    let overlays = [
        Overlay {
            mask: &reference,
            label: format!("reference: {}", row.row.target),
            rgb: REFERENCE_RGB,
        },
        Overlay { mask: &mask, label: format!("found: {found}, Dice {dice:.3}"), rgb: MASK_RGB },
    ];
    Ok(png(&overlay(&case.volume, &overlays)))
}

/// What the backbone was asked in a row.
fn again(row: &Scored, vocabulary: &Vocabulary) -> Execution {
    let row = &row.row;
    let prompt = |name: &String| match vocabulary.find(name) {
        Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => concept.prompt.clone(),
        Some(Meaning::Absent(_)) | None => name.clone(),
    };
    let prompts = match row.configuration {
        Configuration::Backbone => vec![row.text.clone()],
        Configuration::ReasonerTextOnly | Configuration::SeerGrounded | Configuration::Seer => {
            row.resolved.iter().map(prompt).collect()
        }
    };
    Execution {
        configuration: row.configuration,
        trace: None,
        skills: Vec::new(),
        answer: row.answer.clone(),
        resolved: row.resolved.clone(),
        prompts,
        refusal: None,
        findings: Vec::new(),
        seconds: 0.0,
    }
}
