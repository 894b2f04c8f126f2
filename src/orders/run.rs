//! One order, from the archive through the walk and back into the archive.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, info_span};

use super::outputs::{Results, Wanted, write_results};
use super::pictures::keep_pictures;
use super::queue::Shared;
use super::record::{ReasoningRecord, RecordOrder, note_seconds};
use super::skills::{self, OrderSkills};
use super::walk::{Asked, Report, WalkError, Walked, begin, source_of_series, walk_asked};
use super::{Engine, Order, OrderError, OrderResult, Rephrasing, ResultDocument, Step};
use crate::answer::{Answer, Refusal};
use crate::archive::{Archive, ArchiveError, Scope};
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::error::{ErrorKind, Finding, Kind};
use crate::reason::DecodingOverrides;
use crate::series::{self, Series, SeriesCandidate};
use crate::threads::Cancel;
use crate::volume::{self, Volume};

/// How an order ended, when it did not fail.
pub(super) enum Concluded {
    Completed { result: OrderResult, findings: Vec<Finding> },
    Refused { refusal: Refusal, findings: Vec<Finding> },
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

    let text = &order.new.text;
    let policy = shared.settings.skills.as_ref();
    let choose = |text: &str| {
        let chosen = policy.map(|p| OrderSkills::choose(p, id, text, (engine, &series, &volume)));
        chosen.unwrap_or_default()
    };
    let skills = choose(text);
    let rephrase = |text: &String| Rephrasing { text: text.clone(), skills: choose(text) };
    let rephrasings: Vec<_> = order.new.rephrasings.iter().map(rephrase).collect();
    let decoding = DecodingOverrides::default();
    let asked = Asked { text, skills: &skills, decoding, rephrasings: &rephrasings };
    let mut walked = walk_asked(engine, &volume, asked, cancel, &report)?;
    findings.append(&mut walked.findings);
    walked.findings = findings;
    walked.seconds.append(&mut seconds);

    cancel.check()?;
    begin(&report, Step::Store);
    if let Some(policy) = policy {
        skills::remember(policy, &skills, (id, shared.clock.now()), &walked);
    }
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
        documents: result.documents,
    };
    let scope = Scope::instance(
        order.new.study_uid.clone(),
        result.seg_series_uid.clone(),
        result.seg_sop_instance_uid.clone(),
    );
    if !is_stored(&shared.archive, &scope)? {
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

/// Loads the images of a record: the instances that it names, whatever came to the series since.
///
/// # Errors
/// When the record names no stored series, or an instance of it is gone.
pub fn volume_of_record(archive: &Archive, record: &ReasoningRecord) -> Result<Volume, WalkError> {
    let source = &record.source;
    let (Some(study), Some(series)) = (&source.study_instance_uid, &source.series_instance_uid)
    else {
        return Err(OrderError::NoSource.into());
    };
    let mut instances =
        archive.load_series(&StudyUid::parse(study)?, &SeriesUid::parse(series)?)?;
    let wanted: HashSet<&str> = source.sop_instance_uids.iter().map(String::as_str).collect();
    if !wanted.is_empty() {
        instances.retain(|instance| wanted.contains(instance.identity().sop_instance.as_str()));
        let missing = wanted.len().saturating_sub(instances.len());
        if missing > 0 {
            return Err(OrderError::ImagesGone { missing, wanted: wanted.len() }.into());
        }
    }
    let (series, _) = series::assemble(instances)?;
    Ok(volume::assemble(&series)?.0)
}

/// Describes every series of a study by the header of one instance.
pub(super) fn candidates(
    archive: &Archive,
    study: &StudyUid,
) -> Result<Vec<SeriesCandidate>, ArchiveError> {
    let mut candidates = Vec::new();
    for candidate in archive.series_of(study)? {
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
    let results = match &walked.answer {
        Answer::Segment(targets) => {
            let wanted = Wanted {
                order_id: id,
                drop_empty_frames: order.new.drop_empty_frames,
                outputs: order.new.outputs,
                at: shared.clock.now(),
            };
            Some(write_results(engine, &wanted, (series, volume), targets, &walked)?)
        }
        Answer::Refuse(_) => None,
    };
    if let Some(results) = &results {
        walked.findings.extend(results.findings.iter().cloned());
    }
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
    if let (Some(result), Some(results)) = (&mut record.result, &results) {
        result.seg_series_instance_uid = Some(results.seg.series_uid.to_string());
        result.seg_sop_instance_uid = Some(results.seg.sop_instance_uid.to_string());
        result.documents = results.documents.iter().map(|(document, _)| document.clone()).collect();
    }
    // The record is durable before the SEG appears, so that no SEG is ever without one.
    shared.store.append_record(id, &mut record)?;
    let findings = walked.findings;
    match (walked.answer, results) {
        (Answer::Segment(_), Some(results)) => {
            let documents = store_results(&shared.archive, order, &results)?;
            let result = OrderResult {
                source_series_uid: series.series_uid.clone(),
                seg_series_uid: results.seg.series_uid,
                seg_sop_instance_uid: results.seg.sop_instance_uid,
                documents,
            };
            Ok(Concluded::Completed { result, findings })
        }
        (Answer::Refuse(refusal), _) => Ok(Concluded::Refused { refusal, findings }),
        (Answer::Segment(_), None) => unreachable!("a segmented answer has a SEG"),
    }
}

fn is_stored(archive: &Archive, scope: &Scope) -> Result<bool, ArchiveError> {
    match archive.instances(scope) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stores the documents, then the SEG: a stored SEG means that everything is there. What an
/// earlier run has stored already stays as it is.
fn store_results(
    archive: &Archive,
    order: &Order,
    results: &Results,
) -> Result<Vec<ResultDocument>, WalkError> {
    let mut documents = Vec::new();
    for (document, object) in &results.documents {
        let scope = Scope::instance(
            order.new.study_uid.clone(),
            object.series_uid.clone(),
            object.sop_instance_uid.clone(),
        );
        if !is_stored(archive, &scope)? {
            archive.store(&object.bytes)?;
        }
        documents.push(document.clone());
    }
    archive.store(&results.seg.bytes)?;
    Ok(documents)
}
