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
use super::stability::{self, Meaning, RecordStability, Rephrasing, Worded};
use super::{Engine, OrderSkills, RecordSkill, Step};
use crate::answer::{Answer, Target};
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
    /// How the rephrasings agree; absent when there were none.
    pub stability: Option<RecordStability>,
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
    /// Other wordings, whose outcome is compared with the order's and not kept.
    pub rephrasings: &'a [Rephrasing],
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

/// Progress of the piece `index` of `count` that a step consists of.
fn progress_within(report: &Report, step: Step, (index, count): (usize, usize)) -> Progress {
    let (report, (from, to)) = (Arc::clone(report), span_of(step));
    Progress::new(move |done, total| {
        let part = if total == 0 { 0.0 } else { done as f32 / total as f32 };
        let part = (index as f32 + part.min(1.0)) / count as f32;
        report(step, from + (to - from) * part);
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
    let decoding = DecodingOverrides::default();
    let asked = Asked { text, skills: &skills, decoding, rephrasings: &[] };
    walk_asked(engine, volume, asked, cancel, report)
}

/// The same with skills that the bank offers, and with rephrasings.
///
/// # Errors
/// As [`walk`].
pub fn walk_asked(
    engine: &Engine,
    volume: &Volume,
    asked: Asked<'_>,
    cancel: &Cancel,
    report: &Report,
) -> Result<Walked, WalkError> {
    let mut seconds = BTreeMap::new();

    cancel.check()?;
    let start = begin(report, Step::Views);
    let views = info_span!("view").in_scope(|| view::render(volume, engine.view_plan()))?;
    note_seconds(&mut seconds, Step::Views, start.elapsed().as_secs_f64());

    let start = begin(report, Step::Reason);
    let thinking = Thinking { engine, views: &views, decoding: asked.decoding, cancel, report };
    let count = asked.rephrasings.len() + 1;
    let trace = thinking.reason(asked.text, asked.skills, (0, count))?;
    let (answer, mut findings) = info_span!("answer")
        .in_scope(|| engine.understand(&trace, asked.text, asked.skills.shown()))?;
    let rephrased = thinking.rephrase(asked.rephrasings)?;
    note_seconds(&mut seconds, Step::Reason, start.elapsed().as_secs_f64());

    findings.extend(doubts::of_trace(&trace));
    findings.extend(doubts::of_certainty(&trace, &answer, engine.reasoner().doubt_below()));
    findings.extend(doubts::of_answer(&answer, volume));
    let mut walked = Walked {
        skills: asked.skills.record(trace.rationale.as_deref()),
        stability: None,
        masks: Vec::new(),
        backbone: None,
        views,
        answer,
        trace,
        findings,
        seconds,
    };
    walked.segment(engine, volume, asked.text, rephrased, (cancel, report))?;
    Ok(walked)
}

/// The reasoner over the views of one walk.
struct Thinking<'a> {
    engine: &'a Engine,
    views: &'a [View],
    decoding: DecodingOverrides,
    cancel: &'a Cancel,
    report: &'a Report,
}

impl Thinking<'_> {
    /// The trace of one wording, the piece `index` of `count`.
    fn reason(
        &self,
        text: &str,
        skills: &OrderSkills,
        piece: (usize, usize),
    ) -> Result<Trace, WalkError> {
        let request = ReasonRequest::new(self.views, text)
            .with_skills(skills.shown())
            .with_decoding(self.decoding);
        let progress = progress_within(self.report, Step::Reason, piece);
        let trace = self.engine.reasoner().reason(request, self.cancel, &progress)?;
        metrics::trace_written(trace.decoding.prompt_token_count, trace.decoding.token_count);
        Ok(trace)
    }

    /// What each rephrasing comes to. One without an answer agrees with nothing.
    fn rephrase(&self, rephrasings: &[Rephrasing]) -> Result<Vec<Worded>, WalkError> {
        let count = rephrasings.len() + 1;
        let rephrase = |(index, Rephrasing { text, skills }): (usize, &Rephrasing)| {
            let trace = self.reason(text, skills, (index + 1, count))?;
            let meaning = match self.engine.understand(&trace, text, skills.shown()) {
                Ok((answer, _)) => Meaning::of(&answer),
                Err(_) => Meaning::None,
            };
            Ok(Worded { text: text.clone(), answer: trace.answer, meaning })
        };
        rephrasings.iter().enumerate().map(rephrase).collect()
    }
}

impl Walked {
    /// Computes the masks of the order, then those that only its rephrasings name: apart, so that
    /// the order's own are the same with and without rephrasings.
    fn segment(
        &mut self,
        engine: &Engine,
        volume: &Volume,
        text: &str,
        rephrased: Vec<Worded>,
        (cancel, report): (&Cancel, &Report),
    ) -> Result<(), WalkError> {
        let targets: Vec<Target> = match &self.answer {
            Answer::Segment(targets) => targets.clone(),
            Answer::Refuse(_) => Vec::new(),
        };
        let prompts: Vec<String> = targets.iter().map(|target| target.prompt.clone()).collect();
        let further = stability::further_prompts(&prompts, &rephrased);
        if prompts.is_empty() && further.is_empty() && rephrased.is_empty() {
            return Ok(());
        }
        let start = begin(report, Step::Segment);
        let count = usize::from(!prompts.is_empty()) + usize::from(!further.is_empty());
        let segment = |prompts: &[String], index: usize| {
            let progress = progress_within(report, Step::Segment, (index, count));
            let segmentation = engine.backbone().segment(volume, prompts, cancel, &progress)?;
            metrics::patches_encoded(segmentation.patch_count);
            Ok::<_, WalkError>(segmentation)
        };
        if !prompts.is_empty() {
            let segmentation = segment(&prompts, 0)?;
            self.findings.extend(doubts::of_masks(volume, &targets, &segmentation.masks));
            self.backbone = Some(RecordBackbone {
                prompts: prompts.clone(),
                patch_count: segmentation.patch_count,
                threshold_logit: engine.backbone().threshold_logit(),
            });
            self.masks = segmentation.masks;
        }
        let others =
            if further.is_empty() { Vec::new() } else { segment(&further, count - 1)?.masks };
        if !rephrased.is_empty() {
            let own = Worded {
                text: text.to_owned(),
                answer: self.trace.answer.clone(),
                meaning: Meaning::of(&self.answer),
            };
            let masks =
                prompts.iter().zip(&self.masks).chain(further.iter().zip(&others)).collect();
            let wordings = [own].into_iter().chain(rephrased).collect();
            self.stability = stability::compare(wordings, &masks, volume.geometry.shape())?;
            self.findings.extend(self.stability.as_ref().and_then(RecordStability::finding));
        }
        note_seconds(&mut self.seconds, Step::Segment, start.elapsed().as_secs_f64());
        Ok(())
    }

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
            stability: self.stability.clone(),
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
