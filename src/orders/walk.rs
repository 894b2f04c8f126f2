//! The walk itself: volume and text become masks and a record.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, info_span};

use super::queue::Shared;
use super::record::{
    ReasoningRecord, RecordAnswer, RecordBackbone, RecordOrder, RecordResult, RecordSegment,
    RecordSource, RecordView, SCHEMA_VERSION, note_seconds,
};
use super::seg::{SegIdentity, write_seg};
use super::{Engine, Order, OrderError, OrderResult, Step};
use crate::answer::{Answer, AnswerError, Refusal};
use crate::archive::{Archive, ArchiveError, Scope};
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::dicom_seg::{SegError, SegmentCoding};
use crate::error::{ErrorKind, Finding, Kind};
use crate::reason::{ReasonError, ReasonRequest, Trace};
use crate::segment::SegmentError;
use crate::series::{self, Series, SeriesCandidate, SeriesError};
use crate::telemetry::{error_chain, metrics};
use crate::threads::{Cancel, Progress, Stopped};
use crate::view::{self, View, ViewError};
use crate::volume::{self, Mask, Volume, VolumeError};

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
    /// What a reader of the result should know.
    pub findings: Vec<Finding>,
    /// Seconds by step.
    pub seconds: BTreeMap<String, f64>,
}

/// How an order ended, when it did not fail.
pub(super) enum Concluded {
    Completed { result: OrderResult, findings: Vec<Finding> },
    Refused { refusal: Refusal, findings: Vec<Finding> },
}

/// Where each step begins and ends on the way from 0 to 1; measured on the sample study.
fn span_of(step: Step) -> (f32, f32) {
    match step {
        Step::Series => (0.0, 0.05),
        Step::Volume => (0.05, 0.15),
        Step::Views => (0.15, 0.2),
        Step::Reason => (0.2, 0.5),
        Step::Segment => (0.5, 0.95),
        Step::Store => (0.95, 1.0),
    }
}

fn begin(report: &Report, step: Step) -> Instant {
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
    let mut seconds = BTreeMap::new();

    cancel.check()?;
    let start = begin(report, Step::Views);
    let views = info_span!("view").in_scope(|| view::render(volume, engine.view_plan()))?;
    note_seconds(&mut seconds, Step::Views, start.elapsed().as_secs_f64());

    let start = begin(report, Step::Reason);
    let request = ReasonRequest::new(&views, text);
    let trace =
        engine.reasoner().reason(request, cancel, &progress_within(report, Step::Reason))?;
    note_seconds(&mut seconds, Step::Reason, start.elapsed().as_secs_f64());

    metrics::trace_written(trace.decoding.prompt_token_count, trace.decoding.token_count);
    let (answer, mut findings) =
        info_span!("answer").in_scope(|| engine.understand(&trace, text))?;
    findings.extend(doubts(&trace, &answer, volume));
    let mut walked =
        Walked { views, trace, answer, masks: Vec::new(), backbone: None, findings, seconds };
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
        walked.findings.extend(empty_masks(&segmentation.masks, &prompts));
        walked.backbone = Some(RecordBackbone {
            prompts,
            patch_count: segmentation.patch_count,
            threshold_logit: engine.backbone().threshold_logit(),
        });
        walked.masks = segmentation.masks;
    }
    Ok(walked)
}

/// What a reader should doubt about an answer that is well-formed.
fn doubts(trace: &Trace, answer: &Answer, volume: &Volume) -> Vec<Finding> {
    let mut findings = Vec::new();
    if trace.decoding.finish_reason == "length" {
        let count = trace.decoding.token_count;
        let message = format!("the trace was cut at {count} tokens and its ending was forced");
        findings.push(Finding::new("trace_cut", message));
    }
    let Answer::Segment(targets) = answer else { return findings };
    let modality = volume.modality.code();
    for concept in targets.iter().filter_map(|target| target.concept.as_ref()) {
        if !concept.modalities.is_empty() && !concept.modalities.iter().any(|m| m == modality) {
            let known = concept.modalities.join(" and ");
            let message = format!("{} is known on {known}, the series is {modality}", concept.name);
            findings.push(Finding::new("modality_unusual", message));
        }
    }
    findings
}

/// An empty mask is a result, but one that a reader must not take for a finding of absence.
fn empty_masks(masks: &[Mask], prompts: &[String]) -> Vec<Finding> {
    let empty = masks.iter().zip(prompts).filter(|(mask, _)| mask.voxel_count() == 0);
    empty
        .map(|(_, prompt)| {
            Finding::new("empty_mask", format!("the backbone marked no voxel for \"{prompt}\""))
        })
        .collect()
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
            trace: (&self.trace).into(),
            decoding: self.trace.decoding.clone(),
            answer: RecordAnswer::from(&self.answer),
            models: engine.models(),
            backbone: self.backbone.clone(),
            result: self.result(),
            findings: self.findings.clone(),
            seconds: self.seconds.clone(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
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
        Some(RecordResult { seg_series_instance_uid: None, seg_sop_instance_uid: None, segments })
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

/// Walks one order from the archive back into it.
pub(super) fn run_order(
    shared: &Arc<Shared>,
    engine: &Engine,
    order: &Order,
    cancel: &Cancel,
) -> Result<Concluded, WalkError> {
    if let Some(concluded) = concluded_before(shared, order)? {
        return Ok(concluded);
    }
    let (reporting, id) = (Arc::clone(shared), order.id);
    let report: Report = Arc::new(move |step, done| reporting.report(id, step, done));
    let mut seconds = BTreeMap::new();

    let start = begin(&report, Step::Series);
    let (series, mut findings) = find_series(shared, order)?;
    note_seconds(&mut seconds, Step::Series, start.elapsed().as_secs_f64());

    cancel.check()?;
    let start = begin(&report, Step::Volume);
    let (volume, found) = info_span!("volume").in_scope(|| volume::assemble(&series))?;
    findings.extend(found);
    note_seconds(&mut seconds, Step::Volume, start.elapsed().as_secs_f64());
    let [slices, rows, columns] = volume.geometry.shape();
    info!(slices, rows, columns, "Assembled a volume of {slices} slices");

    let mut walked = walk(engine, &volume, &order.new.text, cancel, &report)?;
    findings.append(&mut walked.findings);
    walked.findings = findings;
    walked.seconds.append(&mut seconds);

    cancel.check()?;
    begin(&report, Step::Store);
    info_span!("store").in_scope(|| conclude(shared, engine, order, &series, &volume, walked))
}

/// A stop between storing the SEG and closing the order leaves both the record and the SEG behind:
/// the order is closed without a second walk, so that there is never a second result.
fn concluded_before(shared: &Shared, order: &Order) -> Result<Option<Concluded>, WalkError> {
    let Some(text) = shared.store.record(order.id)? else { return Ok(None) };
    let record: ReasoningRecord = serde_json::from_str(&text).map_err(OrderError::from)?;
    let (Some(result), Some(source)) = (record.result, record.source.series_instance_uid) else {
        return Ok(None);
    };
    let (Some(series), Some(sop)) = (result.seg_series_instance_uid, result.seg_sop_instance_uid)
    else {
        return Ok(None);
    };
    let result = OrderResult {
        source_series_uid: SeriesUid::parse(&source)?,
        seg_series_uid: SeriesUid::parse(&series)?,
        seg_sop_instance_uid: SopInstanceUid::parse(&sop)?,
    };
    let scope = Scope::instance(
        order.new.study_uid.clone(),
        result.seg_series_uid.clone(),
        result.seg_sop_instance_uid.clone(),
    );
    if shared.archive.instances(&scope)?.is_empty() {
        return Ok(None);
    }
    info!("Found the result of an earlier run");
    Ok(Some(Concluded::Completed { result, findings: record.findings }))
}

fn find_series(shared: &Shared, order: &Order) -> Result<(Series, Vec<Finding>), WalkError> {
    let _span = info_span!("series").entered();
    let study = &order.new.study_uid;
    let mut findings = Vec::new();
    let series_uid = match &order.new.series_uid {
        Some(series) => series.clone(),
        None => {
            let choice = series::choose(candidates(&shared.archive, study)?)?;
            findings.push(Finding::new("series_chosen", format!("chose {}", choice.reason)));
            choice.series_uid
        }
    };
    let instances = shared.archive.load_series(study, &series_uid)?;
    let (series, found) = series::assemble(instances)?;
    findings.extend(found);
    Ok((series, findings))
}

/// Describes every series of a study by the header of one instance.
fn candidates(archive: &Archive, study: &StudyUid) -> Result<Vec<SeriesCandidate>, WalkError> {
    let mut candidates = Vec::new();
    for candidate in archive.series_candidates(study)? {
        let scope = Scope::series(study.clone(), candidate.series);
        let Some(first) = archive.instances(&scope)?.into_iter().next() else { continue };
        let scope = Scope { instance: Some(first.sop_instance), ..scope };
        let instance = archive.load_instance(&scope)?;
        candidates.push(SeriesCandidate::of(&instance, candidate.instance_count as usize));
    }
    Ok(candidates)
}

fn conclude(
    shared: &Shared,
    engine: &Engine,
    order: &Order,
    series: &Series,
    volume: &Volume,
    mut walked: Walked,
) -> Result<Concluded, WalkError> {
    let start = Instant::now();
    let id = order.id;
    let folder = shared.artefact_path(id);
    keep_pictures(&folder, volume, &walked).map_err(OrderError::from)?;
    let seg = match &walked.answer {
        Answer::Segment(targets) => {
            let identity = SegIdentity {
                order_id: id,
                drop_empty_frames: order.new.drop_empty_frames,
                at: shared.clock.now(),
            };
            let (seg, found) = write_seg(engine, &identity, series, targets, &walked.masks)?;
            walked.findings.extend(found);
            Some(seg)
        }
        Answer::Refuse(_) => None,
    };
    note_seconds(&mut walked.seconds, Step::Store, start.elapsed().as_secs_f64());
    let mut record =
        walked.record(engine, &order.new.text, source_of_series(series, volume), |n| {
            Some(format!("/api/v1/orders/{id}/artefacts/view-{n}.png"))
        });
    record.order = Some(RecordOrder {
        id,
        created_at: order
            .created_at
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default(),
        priority: order.new.priority,
    });
    if let (Some(result), Some(seg)) = (&mut record.result, &seg) {
        result.seg_series_instance_uid = Some(seg.series_uid.to_string());
        result.seg_sop_instance_uid = Some(seg.sop_instance_uid.to_string());
    }
    let text = serde_json::to_string_pretty(&record).map_err(OrderError::from)?;
    // The record is durable before the SEG appears, so that no SEG is ever without one.
    shared.store.set_record(id, &text)?;
    let findings = walked.findings;
    match (walked.answer, seg) {
        (Answer::Segment(_), Some(seg)) => {
            shared.archive.store(&seg.bytes)?;
            let result = OrderResult {
                source_series_uid: series.series_uid.clone(),
                seg_series_uid: seg.series_uid,
                seg_sop_instance_uid: seg.sop_instance_uid,
            };
            Ok(Concluded::Completed { result, findings })
        }
        (Answer::Refuse(refusal), _) => Ok(Concluded::Refused { refusal, findings }),
        (Answer::Segment(_), None) => unreachable!("a segmented answer has a SEG"),
    }
}

/// Writes the views and, when there are masks, the overlay as PNG files.
///
/// # Errors
/// When the folder cannot be written.
pub fn keep_pictures(folder: &Path, volume: &Volume, walked: &Walked) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for view in &walked.views {
        write_whole(&folder.join(format!("view-{}.png", view.number)), &view.png())?;
    }
    if let (Answer::Segment(targets), false) = (&walked.answer, walked.masks.is_empty()) {
        let overlays: Vec<view::Overlay<'_>> = targets
            .iter()
            .zip(&walked.masks)
            .map(|(target, mask)| view::Overlay {
                mask,
                label: target.name().to_owned(),
                rgb: SegmentCoding::of(target, 1).0.rgb(),
            })
            .collect();
        write_whole(&folder.join("overlay.png"), &view::overlay(volume, &overlays))?;
    }
    Ok(())
}

/// Writes beside the file and renames, so that a reader sees all of it or nothing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Whether a name is one that [`keep_pictures`] writes; anything else never reaches a path.
pub(super) fn is_artefact_name(name: &str) -> bool {
    let number = name.strip_prefix("view-").and_then(|rest| rest.strip_suffix(".png"));
    name == "overlay.png"
        || number
            .is_some_and(|n| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Why a walk ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Asked to stop, or out of time.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The archive could not give or take instances.
    #[error("archive failed")]
    Archive(#[from] ArchiveError),
    /// A UID we derived or stored is malformed.
    #[error("stored identity is malformed")]
    Dicom(#[from] crate::dicom::DicomError),
    /// No series to segment.
    #[error("no series to segment")]
    Series(#[from] SeriesError),
    /// The series is no volume.
    #[error("series is not a volume")]
    Volume(#[from] VolumeError),
    /// No views.
    #[error("views cannot be rendered")]
    View(#[from] ViewError),
    /// No trace.
    #[error("reasoner failed")]
    Reason(#[from] ReasonError),
    /// No answer in the trace.
    #[error("trace has no answer")]
    Answer(#[from] AnswerError),
    /// No masks.
    #[error("backbone failed")]
    Segment(#[from] SegmentError),
    /// No SEG.
    #[error("segmentation cannot be written")]
    Seg(#[from] SegError),
    /// The order's own bookkeeping failed; the order starts again later.
    #[error("order cannot be kept")]
    Order(#[from] OrderError),
    /// A bug of ours.
    #[error("the walk panicked")]
    Panicked,
}

impl WalkError {
    /// Whether somebody asked to stop (a passed deadline is a failure).
    pub(super) fn is_cancelled(&self) -> bool {
        self.stopped() == Some(Stopped::Cancelled)
    }

    fn stopped(&self) -> Option<Stopped> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                return Some(*stopped);
            }
            // `transparent` errors hide themselves from the chain.
            if let Some(Self::Stopped(stopped)) = error.downcast_ref::<Self>() {
                return Some(*stopped);
            }
            cause = error.source();
        }
        None
    }

    /// The whole chain as one sentence, for people.
    pub fn sentence(&self) -> String {
        error_chain(self)
    }
}

impl Kind for WalkError {
    fn kind(&self) -> ErrorKind {
        if self.stopped().is_some() {
            return ErrorKind::Cancelled;
        }
        match self {
            Self::Stopped(_) => ErrorKind::Cancelled,
            Self::Archive(error) => error.kind(),
            Self::Dicom(error) => error.kind(),
            Self::Series(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Reason(error) => error.kind(),
            Self::Answer(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::Seg(error) => error.kind(),
            Self::Order(error) => error.kind(),
            Self::Panicked => ErrorKind::Internal,
        }
    }
}
