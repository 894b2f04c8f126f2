//! The walk itself: a volume and a text become masks and what a record says of them.

mod doubts;
mod error;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::info_span;

use super::record::{
    ReasoningRecord, RecordAnswer, RecordBackbone, RecordResult, RecordSegment, RecordSource,
    RecordView, SCHEMA_VERSION, note_seconds,
};
use super::{Engine, OrderSkills, RecordSkill, Step};
use crate::answer::{Answer, coverage};
use crate::error::Finding;
use crate::reason::{DecodingOverrides, ReasonRequest, Trace};
use crate::series::Series;
use crate::telemetry::metrics;
use crate::threads::{Cancel, Progress};
use crate::view::{self, View};
use crate::volume::{Mask, Volume};

pub use error::WalkError;

/// Tells the step at hand and the done part of the whole walk, 0 to 1.
pub type Report = Arc<dyn Fn(Step, f32) + Send + Sync>;

/// What a walk over a volume found.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// What the reasoner was shown.
    pub views: Vec<View>,
    /// What it wrote.
    pub trace: Trace,
    /// How that was understood.
    pub answer: Answer,
    /// One mask per target, on the volume's grid; empty when refused.
    pub masks: Vec<Mask>,
    /// What the backbone was asked; absent when refused.
    pub backbone: Option<RecordBackbone>,
    /// The skills that the bank brought, and the one that the rationale names.
    pub skills: Vec<RecordSkill>,
    /// What a reader of the result should know.
    pub findings: Vec<Finding>,
    /// Seconds by step.
    pub seconds: BTreeMap<String, f64>,
}

/// What a walk is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The order's free text.
    pub text: &'a str,
    /// What the bank offers for it.
    pub skills: &'a OrderSkills,
    /// What is decoded differently from what is configured.
    pub decoding: DecodingOverrides,
}

/// Where each step begins and ends on the way from 0 to 1; measured on the sample study.
fn span_of(step: Step) -> (f32, f32) {
    match step {
        // The walk itself begins when the images are here.
        Step::Fetch => (0.0, 0.0),
        Step::Series => (0.0, 0.05),
        Step::Volume => (0.05, 0.15),
        Step::Views => (0.15, 0.2),
        Step::Reason => (0.2, 0.5),
        Step::Segment => (0.5, 0.95),
        Step::Store => (0.95, 1.0),
    }
}

pub(super) fn begin(report: &Report, step: Step) -> Instant {
    report(step, span_of(step).0);
    Instant::now()
}

fn progress_within(report: &Report, step: Step) -> Progress {
    let (report, (from, to)) = (Arc::clone(report), span_of(step));
    Progress::new(move |done, total| {
        let part = if total == 0 { 0.0 } else { done as f32 / total as f32 };
        report(step, from + (to - from) * part.min(1.0));
    })
}

/// Walks from a volume and a text to masks: views, trace, answer, segmentation.
///
/// # Errors
/// [`WalkError`] of the room that could not do its part, or when `cancel` says stop. A refusal is
/// not an error: [`Walked::answer`] says so.
pub fn walk(
    engine: &Engine,
    volume: &Volume,
    text: &str,
    cancel: &Cancel,
    report: &Report,
) -> Result<Walked, WalkError> {
    let skills = OrderSkills::default();
    let asked = Asked { text, skills: &skills, decoding: DecodingOverrides::default() };
    walk_asked(engine, volume, asked, cancel, report)
}

/// The same with skills that the bank offers.
///
/// # Errors
/// As [`walk`].
pub fn walk_asked(
    engine: &Engine,
    volume: &Volume,
    Asked { text, skills, decoding }: Asked<'_>,
    cancel: &Cancel,
    report: &Report,
) -> Result<Walked, WalkError> {
    let mut seconds = BTreeMap::new();

    cancel.check()?;
    let start = begin(report, Step::Views);
    let views = info_span!("view").in_scope(|| view::render(volume, engine.view_plan()))?;
    note_seconds(&mut seconds, Step::Views, start.elapsed().as_secs_f64());

    let start = begin(report, Step::Reason);
    let request =
        ReasonRequest::new(&views, text).with_skills(skills.shown()).with_decoding(decoding);
    let trace =
        engine.reasoner().reason(request, cancel, &progress_within(report, Step::Reason))?;
    note_seconds(&mut seconds, Step::Reason, start.elapsed().as_secs_f64());

    metrics::trace_written(trace.decoding.prompt_token_count, trace.decoding.token_count);
    let (answer, mut findings) =
        info_span!("answer").in_scope(|| engine.understand(&trace, text))?;
    findings.extend(doubts::of_trace(&trace));
    findings.extend(doubts::of_answer(&answer, volume));
    if let Answer::Segment(targets) = &answer {
        let vocabulary = engine.backbone_bundle().vocabulary();
        findings.extend(coverage::unanswered(text, targets, vocabulary));
    }
    let mut walked = Walked {
        views,
        answer,
        masks: Vec::new(),
        backbone: None,
        skills: skills.record(trace.rationale.as_deref()),
        trace,
        findings,
        seconds,
    };
    if let Answer::Segment(targets) = &walked.answer {
        let prompts: Vec<String> = targets.iter().map(|t| t.prompt.clone()).collect();
        let start = begin(report, Step::Segment);
        let segmentation = engine.backbone().segment(
            volume,
            &prompts,
            cancel,
            &progress_within(report, Step::Segment),
        )?;
        note_seconds(&mut walked.seconds, Step::Segment, start.elapsed().as_secs_f64());
        metrics::patches_encoded(segmentation.patch_count);
        walked.findings.extend(doubts::of_masks(volume, targets, &segmentation.masks));
        walked.backbone = Some(RecordBackbone {
            prompts,
            patch_count: segmentation.patch_count,
            threshold_logit: engine.backbone().threshold_logit(),
        });
        walked.masks = segmentation.masks;
    }
    Ok(walked)
}

impl Walked {
    /// The reasoning record of this walk.
    pub fn record(
        &self,
        engine: &Engine,
        text: &str,
        source: RecordSource,
        view_url: impl Fn(usize) -> Option<String>,
    ) -> ReasoningRecord {
        let views = self.views.iter().map(|v| RecordView::new(v, view_url(v.number))).collect();
        ReasoningRecord {
            schema_version: SCHEMA_VERSION,
            order: None,
            text: text.to_owned(),
            source,
            views,
            skills: self.skills.clone(),
            trace: (&self.trace).into(),
            decoding: self.trace.decoding.clone(),
            answer: RecordAnswer::from(&self.answer),
            models: engine.models(),
            backbone: self.backbone.clone(),
            result: self.result(),
            findings: self.findings.clone(),
            seconds: self.seconds.clone(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            previous_sha256: None,
        }
    }

    fn result(&self) -> Option<RecordResult> {
        let Answer::Segment(targets) = &self.answer else { return None };
        let segments = targets
            .iter()
            .zip(&self.masks)
            .enumerate()
            .map(|(index, (target, mask))| RecordSegment {
                number: index as u16 + 1,
                label: target.name().to_owned(),
                voxel_count: mask.voxel_count(),
                volume_ml: mask.volume_ml(),
                mask_sha256: mask.sha256(),
            })
            .collect();
        Some(RecordResult {
            seg_series_instance_uid: None,
            seg_sop_instance_uid: None,
            documents: Vec::new(),
            segments,
        })
    }
}

/// Describes a volume as the source of a record; the caller adds UIDs where there are any.
pub fn source_of(volume: &Volume) -> RecordSource {
    RecordSource {
        study_instance_uid: None,
        series_instance_uid: None,
        sop_instance_uids: Vec::new(),
        modality: volume.modality.code().to_owned(),
        shape: volume.geometry.shape(),
        spacing_mm: volume.geometry.spacing_mm(),
    }
}

/// Describes a series and its volume as the source of a record.
pub fn source_of_series(series: &Series, volume: &Volume) -> RecordSource {
    let mut sop_instance_uids: Vec<String> = Vec::new();
    for frame in &series.frames {
        let uid = series.instances[frame.instance_index].identity().sop_instance.as_str();
        if sop_instance_uids.last().is_none_or(|last| last != uid) {
            sop_instance_uids.push(uid.to_owned());
        }
    }
    RecordSource {
        study_instance_uid: Some(series.study_uid.to_string()),
        series_instance_uid: Some(series.series_uid.to_string()),
        sop_instance_uids,
        ..source_of(volume)
    }
}
