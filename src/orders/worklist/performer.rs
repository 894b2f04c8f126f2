//! Performing work items that are addressed to us, as an IHE AI Workflow (AIW-I) task performer.
//!
//! - **Which**: SCHEDULED, addressed to us, Input Readiness State READY, start time not ahead.
//! - **The order's text**, the first of these that is there: a TEXT content item of Scheduled
//!   Processing Parameters Sequence (0074,1210), preferably one whose concept is
//!   (ORDER_TEXT, 99SEER); Comments on the Scheduled Procedure Step (0040,0400); Procedure Step
//!   Label (0074,1204). Neither DICOM nor IHE says where free text belongs: PS3.3 §C.30.2 gives the
//!   first as "processing parameters to be used by the performing system", and the label names the
//!   task in any case. Scheduled Workitem Code (0040,4018) is carried over to the performed one.
//! - **The images**: Input Information Sequence (0040,4021); its study, and its series when it is
//!   one. A Retrieve AE Title (0008,0054) or Retrieve URL (0008,1190) in it names the node to
//!   fetch from, when that is configured.
//! - **The result**: a Destination AE (2100,0140) in Output Destination Sequence (0040,4070) names
//!   a node that gets it, when that is configured.
//! - **The end**: COMPLETED with Output Information Sequence (0040,4033); or CANCELED with Reason
//!   For Cancellation (0074,1238), also when the reasoner refuses, because nothing was performed.
//!
//! A claim is durable before the order is given, and the order's idempotency key is the work
//! item's UID, so that a stop in between neither loses nor repeats it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{info, info_span, warn};
use uuid::Uuid;

use super::events::{set_progress, state_report};
use super::item::{self, State, Workitem};
use super::{Attributes, Worklist, WorklistError, store};
use crate::archive::{Archive, Scope};
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::error::{ErrorKind, Kind};
use crate::orders::delivery::objects_of;
use crate::orders::{Created, NewOrder, Order, OrderError, OrderState, Orders, Outputs, Routing};
use crate::pacs::Pacs;

const TICK: Duration = Duration::from_millis(250);
/// How often progress is told; a change of state is told at once.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Claims work items, gives orders for them and reports back.
#[derive(Clone)]
pub struct Performer {
    /// The worklist.
    pub worklist: Worklist,
    /// The order queue.
    pub orders: Orders,
    /// Where results are.
    pub archive: Archive,
    /// Which nodes the work items may name.
    pub pacs: Pacs,
    /// What stands before `/dicom-web` in the URLs of results, when clients can reach us.
    pub base_url: Option<String>,
}

/// Stops a [`Performer`] when dropped.
pub struct StopPerformer(Arc<AtomicBool>);

impl Drop for StopPerformer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Performer {
    /// Starts the performer's thread, which goes on until the guard is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self) -> std::io::Result<Arc<StopPerformer>> {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(StopPerformer(Arc::clone(&stopped)));
        let perform = move || {
            let mut told = HashMap::new();
            let mut purged = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = self.look(&mut told) {
                    warn!(error = &error as &dyn std::error::Error, "Cannot work on the worklist");
                    std::thread::sleep(Duration::from_secs(1));
                }
                if purged.elapsed() >= PURGE_EVERY {
                    purged = Instant::now();
                    self.purge();
                }
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new().name("worklist".into()).spawn(perform)?;
        Ok(stop)
    }

    fn purge(&self) {
        match self.worklist.purge(self.worklist.0.clock.now()) {
            Ok(0) => {}
            Ok(count) => info!(count, "Forgot {count} old work items"),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Cannot forget old work items");
            }
        }
    }

    /// Looks at every work item that is ours to do.
    fn look(&self, told: &mut HashMap<SopInstanceUid, Instant>) -> Result<(), WorklistError> {
        let items = self.worklist.read(store::to_do)?;
        told.retain(|uid, _| items.iter().any(|item| item.uid == *uid));
        for item in items {
            let _span = info_span!("workitem", order.id = ?item.order_id).entered();
            match (item.state, item.order_id) {
                (State::Scheduled, _) => self.claim(&item)?,
                (_, None) => self.give_order(&item)?,
                (_, Some(id)) => self.follow(&item, id, told)?,
            }
        }
        Ok(())
    }

    /// Claims a work item that is ready (PS3.4 §CC.2.1: IN PROGRESS with a Transaction UID of our
    /// own), unless the queue is full, so that another performer may take it.
    fn claim(&self, item: &Workitem) -> Result<(), WorklistError> {
        let now = self.worklist.0.clock.now();
        let is_ready = item::text(&item.attributes, item::READINESS) == Some("READY");
        let is_due =
            item::text(&item.attributes, item::START).is_none_or(|start| item::is_past(start, now));
        if !is_ready || !is_due || self.orders.is_full() {
            return Ok(());
        }
        let transaction_uid = format!("2.25.{}", Uuid::new_v4().as_u128());
        self.worklist.change(|transaction, events| {
            let mut item = store::get(transaction, &item.uid)?;
            if item.state != State::Scheduled {
                return Ok(());
            }
            item.is_ours = true;
            item.enter(State::InProgress, Some(&transaction_uid), now);
            set_progress(&mut item, 0, "claimed");
            let performed = item::first_item_mut(&mut item.attributes, item::PERFORMED_PROCEDURE);
            item::set(performed, item::PERFORMED_START, "DT", [item::date_time(now).into()]);
            store::update(transaction, &item, false, now)?;
            events.push(state_report(&item));
            Ok(())
        })
    }

    fn give_order(&self, item: &Workitem) -> Result<(), WorklistError> {
        let given = match self.read_order(item) {
            Ok(new) => self.orders.create(new),
            Err(why) => return self.give_up(item, &why, Discontinued::WrongOrder),
        };
        match given {
            Ok(Created::New(order) | Created::Existing(order)) => {
                info!(order.id = %order.id, "Gave an order for a work item");
                self.change_ours(item, |item| item.order_id = Some(order.id))
            }
            // It is tried again at the next look.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => {
                let why = crate::telemetry::error_chain(&error);
                self.give_up(item, &why, Discontinued::WrongOrder)
            }
        }
    }

    /// What a work item asks for, or what it lacks.
    fn read_order(&self, item: &Workitem) -> Result<NewOrder, String> {
        let attributes = &item.attributes;
        let inputs: Vec<&Attributes> = item::items(attributes, item::INPUT_INFORMATION).collect();
        let uids = |key: &str| -> Vec<&str> {
            let mut uids: Vec<&str> =
                inputs.iter().filter_map(|input| item::text(input, key)).collect();
            uids.sort_unstable();
            uids.dedup();
            uids
        };
        let study = match uids("0020000D")[..] {
            [study] => study,
            ref studies => {
                let count = studies.len();
                return Err(format!("input information names {count} studies, not 1"));
            }
        };
        let series = match uids("0020000E")[..] {
            [series] => Some(SeriesUid::parse(series).map_err(|error| error.to_string())?),
            _ => None,
        };
        let text = order_text(attributes).ok_or("work item has no text that says what to do")?;
        Ok(NewOrder {
            study_uid: StudyUid::parse(study).map_err(|error| error.to_string())?,
            series_uid: series,
            text: text.to_owned(),
            priority: match item::text(attributes, item::PRIORITY) {
                Some("HIGH") => 10,
                Some("LOW") => -10,
                _ => 0,
            },
            // No header can hold this separator, so no client's key is the same.
            idempotency_key: Some(format!("workitem\u{1f}{}", item.uid)),
            rephrasings: Vec::new(),
            drop_empty_frames: false,
            // IHE AI Results (AIR) has its measurements in a report, which refers to the SEG.
            outputs: Outputs { structured_report: true, ..Outputs::default() },
            routing: self.read_routing(attributes, &inputs),
        })
    }

    /// The configured nodes that a work item names.
    fn read_routing(&self, attributes: &Attributes, inputs: &[&Attributes]) -> Routing {
        let settings = self.pacs.settings();
        let by_title = |title: &str| {
            let node = settings.dimse.iter().find(|node| node.ae_title.trim() == title)?;
            Some(node.name.clone())
        };
        let by_url = |url: &str| {
            let node = settings.dicomweb.iter().find(|node| url.starts_with(&node.url))?;
            Some(node.name.clone())
        };
        // DICOM Retrieval Sequence and WADO-RS Retrieval Sequence.
        let source = inputs.iter().find_map(|input| {
            let title = item::items(input, "0040E021").find_map(|way| item::text(way, "00080054"));
            let url = item::items(input, "0040E025").find_map(|way| item::text(way, "00081190"));
            title.and_then(by_title).or_else(|| url.and_then(by_url))
        });
        // DICOM Storage Sequence and STOW-RS Storage Sequence of each output destination.
        let mut deliver_to: Vec<String> = item::items(attributes, "00404070")
            .flat_map(|destination| {
                let titles = item::items(destination, "00404071")
                    .filter_map(|storage| item::text(storage, "21000140").and_then(by_title));
                let urls = item::items(destination, "00404072")
                    .filter_map(|storage| item::text(storage, "00404073").and_then(by_url));
                titles.chain(urls).collect::<Vec<_>>()
            })
            .collect();
        deliver_to.dedup();
        Routing { source, deliver_to }
    }

    /// Brings a work item up to where its order is.
    fn follow(
        &self,
        item: &Workitem,
        id: Uuid,
        told: &mut HashMap<SopInstanceUid, Instant>,
    ) -> Result<(), WorklistError> {
        let order = match self.orders.get(id) {
            Ok(order) => order,
            Err(OrderError::Unknown(_)) => {
                let why = "the order of this work item is gone";
                return self.give_up(item, why, Discontinued::Failed);
            }
            // The database failed; it is asked again at the next look.
            Err(_) => return Ok(()),
        };
        if item.cancel_requested && !order.state.is_final() {
            // One that ends at this very moment is no fault.
            let _ = self.orders.cancel(id);
        }
        match order.state {
            OrderState::Queued | OrderState::Running => {
                let is_new = told.get(&item.uid).is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
                if is_new {
                    told.insert(item.uid.clone(), Instant::now());
                    self.tell_progress(item, &order)?;
                }
                Ok(())
            }
            OrderState::Completed => self.complete(item, &order),
            OrderState::Refused => {
                let refusal = order.refusal.as_ref();
                let why = refusal.map_or("refused", |refusal| refusal.text.as_str());
                self.give_up(item, why, Discontinued::WrongOrder)
            }
            OrderState::Failed => {
                let error = order.error.as_ref();
                let why = error.map_or("failed", |error| error.message.as_str());
                self.give_up(item, why, Discontinued::Failed)
            }
            OrderState::Cancelled => self.give_up(item, "cancelled", Discontinued::Unspecified),
        }
    }

    fn tell_progress(&self, item: &Workitem, order: &Order) -> Result<(), WorklistError> {
        let fetching = order.step == Some(crate::orders::Step::Fetch);
        let percent = if fetching { 0 } else { (order.progress * 100.0).round() as u32 };
        let doing = order.step.map_or("waiting", crate::orders::Step::word);
        let mut changed = item.clone();
        set_progress(&mut changed, percent, doing);
        if changed.attributes == item.attributes {
            return Ok(());
        }
        self.worklist.update(
            &item.uid,
            item.transaction_uid.as_deref(),
            Attributes::from_iter([(
                item::PROGRESS_INFORMATION.to_owned(),
                changed.attributes[item::PROGRESS_INFORMATION].clone(),
            )]),
        )
    }

    /// Changes a work item of ours without telling anybody.
    fn change_ours(
        &self,
        item: &Workitem,
        change: impl FnOnce(&mut Workitem),
    ) -> Result<(), WorklistError> {
        self.worklist.change(|transaction, _| {
            let mut item = store::get(transaction, &item.uid)?;
            change(&mut item);
            store::update(transaction, &item, false, self.worklist.0.clock.now())
        })
    }

    fn complete(&self, item: &Workitem, order: &Order) -> Result<(), WorklistError> {
        let output = self.output(order);
        self.end(item, State::Completed, |item| {
            set_progress(item, 100, "done");
            let performed = item::first_item_mut(&mut item.attributes, item::PERFORMED_PROCEDURE);
            performed.insert(
                item::OUTPUT_INFORMATION.to_owned(),
                json!({ "vr": "SQ", "Value": output }),
            );
        })
    }

    /// The result as Output Information Sequence: an item per series.
    fn output(&self, order: &Order) -> Vec<Value> {
        let mut by_series: Vec<(Scope, Vec<Value>)> = Vec::new();
        for scope in objects_of(order) {
            // What was deleted meanwhile cannot be referenced.
            let Ok(instance) = self.archive.load_instance(&scope) else { continue };
            let identity = instance.identity();
            let reference = json!({
                "00081150": { "vr": "UI", "Value": [identity.sop_class_uid] },
                "00081155": { "vr": "UI", "Value": [identity.sop_instance.as_str()] },
            });
            match by_series.iter_mut().find(|(known, _)| known.series == scope.series) {
                Some((_, references)) => references.push(reference),
                None => by_series.push((scope, vec![reference])),
            }
        }
        by_series
            .into_iter()
            .map(|(scope, references)| self.output_item(&scope, &references))
            .collect()
    }

    fn output_item(&self, scope: &Scope, references: &[Value]) -> Value {
        let (study, series) = (scope.study.as_str(), scope.series.as_ref());
        let series = series.map(SeriesUid::as_str).unwrap_or_default();
        let title = self.pacs.settings().ae_title.as_str();
        let mut output = json!({
            "0020000D": { "vr": "UI", "Value": [study] },
            "0020000E": { "vr": "UI", "Value": [series] },
            "0040E020": { "vr": "CS", "Value": ["DICOM"] },
            "00081199": { "vr": "SQ", "Value": references },
            "0040E021": { "vr": "SQ", "Value": [{ "00080054": { "vr": "AE", "Value": [title] } }] },
        });
        if let Some(base) = &self.base_url {
            let url =
                format!("{}/dicom-web/studies/{study}/series/{series}", base.trim_end_matches('/'));
            output["0040E025"] =
                json!({ "vr": "SQ", "Value": [{ "00081190": { "vr": "UR", "Value": [url] } }] });
        }
        output
    }

    fn give_up(
        &self,
        item: &Workitem,
        why: &str,
        reason: Discontinued,
    ) -> Result<(), WorklistError> {
        // Reason For Cancellation is an LT, which holds 10240 characters.
        let why: String = why.chars().take(1024).collect();
        self.end(item, State::Canceled, |item| {
            let progress = item::first_item_mut(&mut item.attributes, item::PROGRESS_INFORMATION);
            item::set(progress, item::REASON_FOR_CANCELLATION, "LT", [why.into()]);
            item::set(progress, item::DISCONTINUATION_REASON, "SQ", [reason.code()]);
        })
    }

    /// Brings a work item of ours to a final state and tells its subscribers.
    fn end(
        &self,
        item: &Workitem,
        state: State,
        describe: impl FnOnce(&mut Workitem),
    ) -> Result<(), WorklistError> {
        let now = self.worklist.0.clock.now();
        let station = item::code(&self.worklist.settings().station_name, "99SEER", "SEER");
        self.worklist.change(|transaction, events| {
            let mut item = store::get(transaction, &item.uid)?;
            if item.state != State::InProgress {
                return Ok(());
            }
            describe(&mut item);
            let scheduled = item::values(&item.attributes, item::SCHEDULED_WORKITEM_CODE).first();
            let workitem_code = scheduled.cloned().unwrap_or_else(|| {
                // CID 9231.
                item::code("110005", "DCM", "Interpretation")
            });
            let performed = item::first_item_mut(&mut item.attributes, item::PERFORMED_PROCEDURE);
            item::set(performed, item::PERFORMED_STATION_NAME, "SQ", [station]);
            item::set(performed, item::PERFORMED_WORKITEM_CODE, "SQ", [workitem_code]);
            item::set(performed, item::PERFORMED_END, "DT", [item::date_time(now).into()]);
            performed
                .entry(item::OUTPUT_INFORMATION)
                .or_insert_with(|| json!({ "vr": "SQ", "Value": [] }));
            item.enter(state, None, now);
            store::update(transaction, &item, false, now)?;
            events.push(state_report(&item));
            Ok(())
        })
    }
}

fn is_passing(error: &OrderError) -> bool {
    matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Internal)
}

/// Why nothing was performed (CID 9300).
#[derive(Debug, Clone, Copy)]
enum Discontinued {
    WrongOrder,
    Failed,
    Unspecified,
}

impl Discontinued {
    fn code(self) -> Value {
        match self {
            Self::WrongOrder => item::code("110502", "DCM", "Incorrect procedure ordered"),
            Self::Failed => item::code("110501", "DCM", "Equipment failure"),
            Self::Unspecified => item::code("110513", "DCM", "Discontinued for unspecified reason"),
        }
    }
}

/// The text of the order: see the head of this file.
fn order_text(attributes: &Attributes) -> Option<&str> {
    let parameters: Vec<(&Attributes, &str)> = item::items(attributes, item::PROCESSING_PARAMETERS)
        .filter(|parameter| item::text(parameter, "0040A040") == Some("TEXT"))
        .filter_map(|parameter| Some((parameter, item::text(parameter, "0040A160")?)))
        .collect();
    let names_text = |parameter: &Attributes| {
        item::code_values(parameter, "0040A043").any(|code| code == "ORDER_TEXT")
    };
    let named = parameters.iter().find(|(parameter, _)| names_text(parameter));
    named
        .or(parameters.first())
        .map(|(_, text)| *text)
        .or_else(|| item::text(attributes, item::COMMENTS))
        .or_else(|| item::text(attributes, item::STEP_LABEL))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_taken_from_the_most_telling_attribute() {
        let check = |attributes: Value, expected: Option<&str>| {
            let attributes = attributes.as_object().unwrap();
            assert_eq!(order_text(attributes), expected);
        };
        let parameter = |code: &str, text: &str| {
            json!({
                "0040A040": { "vr": "CS", "Value": ["TEXT"] },
                "0040A043": { "vr": "SQ", "Value": [item::code(code, "99SEER", "x")] },
                "0040A160": { "vr": "UT", "Value": [text] },
            })
        };
        let label = json!({ "vr": "LO", "Value": ["label"] });
        let comments = json!({ "vr": "LO", "Value": ["comment"] });
        let parameters = json!({ "vr": "SQ", "Value": [parameter("OTHER", "other"), parameter("ORDER_TEXT", "text")] });
        let other = json!({ "vr": "SQ", "Value": [parameter("OTHER", "other")] });
        check(
            json!({ "00741204": label, "00400400": comments, "00741210": parameters }),
            Some("text"),
        );
        check(json!({ "00741204": label, "00741210": other }), Some("other"));
        check(json!({ "00741204": label, "00400400": comments }), Some("comment"));
        check(json!({ "00741204": label }), Some("label"));
        check(json!({}), None);
    }
}
