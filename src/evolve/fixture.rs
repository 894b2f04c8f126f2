//! Small values for the tests of this room.

use std::collections::BTreeMap;

use super::executor::Rollout;
use super::material::Material;
use crate::eval::{Expect, Mode, Request};
use crate::runtime::vocabulary::Vocabulary;

pub(super) fn request(case: &str, target: &str, text: &str) -> Request {
    Request {
        case: case.to_owned(),
        group: format!("{case}/{target}"),
        mode: Mode::Free,
        style: "clinical_request".to_owned(),
        text: text.to_owned(),
        target: target.to_owned(),
        labels: vec![1],
        split: None,
        expect: Expect::Segment,
        reason: None,
    }
}

pub(super) fn material(requests: Vec<Request>) -> Material {
    Material { name: "fixture".to_owned(), requests, patients: BTreeMap::new() }
}

pub(super) fn rollout(answer: &str, dice: f64) -> Rollout {
    let targets = answer
        .strip_prefix("Segment ")
        .and_then(|rest| rest.strip_suffix('.'))
        .map(|rest| rest.split("; ").map(|t| t.trim_start_matches("the ").to_owned()).collect())
        .unwrap_or_default();
    Rollout {
        answer: answer.to_owned(),
        targets,
        refusal: answer.strip_prefix("Reject: ").map(|rest| rest.trim_end_matches('.').to_owned()),
        dice,
        format_ok: true,
        named: None,
    }
}

/// Kidneys with sides, a liver and a brain without.
pub(super) fn vocabulary() -> Vocabulary {
    let rows = [
        ("left kidney", "l kidney", "left"),
        ("right kidney", "r kidney", "right"),
        ("both kidneys", "kidneys", "both"),
        ("liver", "hepar", "none"),
        ("spleen", "lien", "none"),
        ("left hippocampus", "left ammon horn", "left"),
        ("right hippocampus", "right ammon horn", "right"),
    ];
    let text: String = rows
        .iter()
        .map(|(name, synonym, side)| {
            format!(
                "[[concept]]\nname = \"{name}\"\nsynonyms = [\"{synonym}\"]\nlaterality = \"{side}\"\n\
                 prompt = \"{name}\"\n\
                 category = {{ value = \"1\", scheme = \"SCT\", meaning = \"structure\" }}\n\
                 type = {{ value = \"2\", scheme = \"SCT\", meaning = \"{name}\" }}\n\
                 cielab = [1, 2, 3]\nbody_regions = []\nmodalities = []\n"
            )
        })
        .collect();
    toml::from_str(&text).expect("a vocabulary")
}
