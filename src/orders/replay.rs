//! Runs an order again from its reasoning record and says whether the same comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{ReasoningRecord, RecordModels, RecordSegment};
use super::walk::{Asked, Report, WalkError, Walked, walk_asked};
use super::{Engine, OrderSkills};
use crate::reason::DecodingOverrides;
use crate::threads::Cancel;
use crate::volume::Volume;

/// What came out when an order was run again from its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replay {
    /// The order of the record; absent for `seer segment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<Uuid>,
    /// The answer and every mask are the same.
    pub matches: bool,
    /// The views have the same pixels.
    pub views_match: bool,
    /// The reasoner wrote the same, letter by letter.
    pub trace_matches: bool,
    /// The answers side by side.
    pub answer: ReplayedAnswer,
    /// The masks side by side, in segment order; empty when both refused.
    pub segments: Vec<ReplayedSegment>,
    /// What is not as it was: models, provider, server. The reason to look at when the rest differs.
    pub differences: Vec<String>,
    /// Seconds by step of the second run.
    pub seconds: BTreeMap<String, f64>,
}

/// An answer then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayedAnswer {
    /// As the record has it; absent when the trace had none.
    pub recorded: Option<String>,
    /// As the reasoner wrote it now.
    pub replayed: Option<String>,
    /// Targets or refusal are understood the same.
    pub matches: bool,
}

/// A mask then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayedSegment {
    /// Segment Number, counts from 1.
    pub number: u16,
    /// Segment Label.
    pub label: String,
    /// SHA-256 of the mask in the record; absent when the record has fewer segments.
    pub recorded_sha256: Option<String>,
    /// SHA-256 of the mask now; absent when there are fewer segments now.
    pub replayed_sha256: Option<String>,
    /// Both are there and equal.
    pub matches: bool,
}

/// Walks the order of `record` again over its volume: the same text, the skills that were shown,
/// the same seed and temperature. Nothing is stored.
///
/// # Errors
/// [`WalkError`] of the room that could not do its part, or when `cancel` says stop. A different
/// outcome is no error: [`Replay::matches`] says so.
pub fn replay(
    engine: &Engine,
    record: &ReasoningRecord,
    volume: &Volume,
    cancel: &Cancel,
    report: &Report,
) -> Result<Replay, WalkError> {
    let skills = OrderSkills::of_record(&record.skills);
    let decoding = DecodingOverrides {
        constrained: Some(record.decoding.constrained),
        temperature: Some(record.decoding.temperature),
        seed: Some(record.decoding.seed),
        ..DecodingOverrides::default()
    };
    let asked = Asked { text: &record.text, skills: &skills, decoding, rephrasings: &[] };
    let walked = walk_asked(engine, volume, asked, cancel, report)?;
    Ok(compare(engine, record, volume, &walked))
}

fn compare(engine: &Engine, record: &ReasoningRecord, volume: &Volume, walked: &Walked) -> Replay {
    let source = super::source_of(volume);
    let now = walked.record(engine, &record.text, source.clone(), |_| None);
    let answer = ReplayedAnswer {
        recorded: record.trace.answer.clone(),
        replayed: now.trace.answer.clone(),
        matches: record.answer == now.answer,
    };
    let segments_of = |record: &ReasoningRecord| -> Vec<RecordSegment> {
        record.result.as_ref().map(|result| result.segments.clone()).unwrap_or_default()
    };
    let segments = pairs(&segments_of(record), &segments_of(&now));
    let mut differences = differences(&record.models, &now.models);
    if record.source.shape != source.shape {
        let [was, is] = [record.source.shape, source.shape];
        differences.push(format!("the volume had the shape {was:?} and has {is:?}"));
    }
    if record.server_version != now.server_version {
        let [was, is] = [&record.server_version, &now.server_version];
        differences.push(format!("the server was {was} and is {is}"));
    }
    let pictures = |record: &ReasoningRecord| {
        record.views.iter().map(|v| v.sha256.clone()).collect::<Vec<_>>()
    };
    Replay {
        order_id: record.order.as_ref().map(|order| order.id),
        matches: answer.matches && segments.iter().all(|segment| segment.matches),
        views_match: pictures(record) == pictures(&now),
        trace_matches: record.trace.raw == now.trace.raw,
        answer,
        segments,
        differences,
        seconds: walked.seconds.clone(),
    }
}

fn pairs(then: &[RecordSegment], now: &[RecordSegment]) -> Vec<ReplayedSegment> {
    let hash = |segments: &[RecordSegment], at: usize| {
        segments.get(at).map(|segment| segment.mask_sha256.clone())
    };
    let pair = |at: usize| {
        let label = then.get(at).or(now.get(at)).map(|segment| segment.label.clone());
        let (recorded_sha256, replayed_sha256) = (hash(then, at), hash(now, at));
        ReplayedSegment {
            number: u16::try_from(at + 1).unwrap_or(u16::MAX),
            label: label.unwrap_or_default(),
            matches: recorded_sha256.is_some() && recorded_sha256 == replayed_sha256,
            recorded_sha256,
            replayed_sha256,
        }
    };
    (0..then.len().max(now.len())).map(pair).collect()
}

/// One sentence for each thing that ran then and is another now.
fn differences(then: &RecordModels, now: &RecordModels) -> Vec<String> {
    let mut found = Vec::new();
    let roles =
        [("reasoner", &then.reasoner, &now.reasoner), ("backbone", &then.backbone, &now.backbone)];
    for (role, then, now) in roles {
        if (&then.name, &then.version) != (&now.name, &now.version) {
            let (was, is) = ((&then.name, &then.version), (&now.name, &now.version));
            found.push(format!("the {role} was {} {} and is {} {}", was.0, was.1, is.0, is.1));
        }
        for (file, hash) in &then.files {
            if now.files.get(file).is_some_and(|other| other != hash) {
                found.push(format!("{file} of the {role} has another SHA-256"));
            }
        }
    }
    if then.onnx_runtime != now.onnx_runtime {
        let (was, is) = (&then.onnx_runtime, &now.onnx_runtime);
        found.push(format!("ONNX Runtime was {was} and is {is}"));
    }
    if then.provider != now.provider {
        found.push(format!("the provider was {} and is {}", then.provider, now.provider));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::RecordBundle;

    fn segment(number: u16, hash: &str) -> RecordSegment {
        RecordSegment {
            number,
            label: format!("structure {number}"),
            voxel_count: 1,
            volume_ml: 0.001,
            mask_sha256: hash.to_owned(),
        }
    }

    #[test]
    fn masks_are_paired_by_number_and_a_missing_one_is_a_mismatch() {
        let then = [segment(1, "aa"), segment(2, "bb")];
        let matches = |now: &[RecordSegment]| -> Vec<bool> {
            pairs(&then, now).iter().map(|pair| pair.matches).collect()
        };
        assert_eq!(matches(&then), [true, true]);
        assert_eq!(matches(&[segment(1, "aa"), segment(2, "cc")]), [true, false]);
        assert_eq!(matches(&[segment(1, "aa")]), [true, false]);
        assert_eq!(
            matches(&[segment(1, "aa"), segment(2, "bb"), segment(3, "cc")]),
            [true, true, false]
        );
        assert!(pairs(&[], &[]).is_empty());
    }

    #[test]
    fn what_ran_then_and_is_another_now_is_named() {
        let bundle = |version: &str, hash: &str| RecordBundle {
            name: "mini".into(),
            version: version.into(),
            files: [("decoder.onnx".to_owned(), hash.to_owned())].into(),
        };
        let models = |version: &str, hash: &str, provider: &str| RecordModels {
            reasoner: bundle(version, hash),
            backbone: bundle("1", "00"),
            onnx_runtime: "1.24".into(),
            provider: provider.into(),
        };
        assert!(differences(&models("1", "aa", "cpu"), &models("1", "aa", "cpu")).is_empty());
        assert_eq!(
            differences(&models("1", "aa", "cuda"), &models("2", "bb", "cpu")),
            [
                "the reasoner was mini 1 and is mini 2",
                "decoder.onnx of the reasoner has another SHA-256",
                "the provider was cuda and is cpu",
            ]
        );
    }
}
