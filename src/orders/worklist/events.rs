//! What subscribers are told (PS3.18 §11.13, PS3.4 §CC.2.4).

use std::sync::atomic::{AtomicU16, Ordering};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::item::{self, Workitem};
use super::{Attributes, WorklistError, subscriptions};
use crate::dicom::SopInstanceUid;

// Event Type ID (0000,1002), PS3.4 Table CC.2.4-1.
const STATE_REPORT: u16 = 1;
const CANCEL_REQUESTED: u16 = 2;
const PROGRESS_REPORT: u16 = 3;
const ASSIGNED: u16 = 5;

/// Numbers the messages of this process.
static MESSAGE_ID: AtomicU16 = AtomicU16::new(1);

/// One event report.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    uid: SopInstanceUid,
    /// The titles it is for; all that subscribed to the work item unless set before.
    aets: Option<Vec<String>>,
    message: Attributes,
}

impl Event {
    fn new(item: &Workitem, event_type: u16, information: Attributes) -> Self {
        let mut message = Attributes::new();
        item::set(&mut message, "00000002", "UI", [item::UPS_PUSH.into()]);
        let id = MESSAGE_ID.fetch_add(1, Ordering::Relaxed);
        item::set(&mut message, "00000110", "US", [id.into()]);
        item::set(&mut message, "00001000", "UI", [item.uid.as_str().into()]);
        item::set(&mut message, "00001002", "US", [event_type.into()]);
        message.extend(information);
        Self { uid: item.uid.clone(), aets: None, message }
    }

    /// Tells one subscriber only.
    pub(super) fn only_for(mut self, aet: &str) -> Self {
        self.aets = Some(vec![aet.to_owned()]);
        self
    }

    /// Notes who is told.
    pub(super) fn address(&mut self, connection: &Connection) -> Result<(), WorklistError> {
        if self.aets.is_none() {
            self.aets = Some(subscriptions::of_item(connection, &self.uid)?);
        }
        Ok(())
    }

    /// Whether a subscriber is told.
    pub fn is_for(&self, aet: &str) -> bool {
        self.aets.as_ref().is_some_and(|aets| aets.iter().any(|known| known == aet))
    }

    /// The report in DICOM JSON.
    pub fn message(&self) -> Value {
        Value::Object(self.message.clone())
    }
}

/// Copies what is there of some attributes.
fn copied(attributes: &Attributes, keys: &[&str]) -> Attributes {
    let present = |key: &&str| Some(((*key).to_owned(), attributes.get(*key)?.clone()));
    keys.iter().filter_map(present).collect()
}

/// The work item is in a state, and its input is ready or not.
pub(super) fn state_report(item: &Workitem) -> Event {
    let mut information = copied(&item.attributes, &[item::PROCEDURE_STEP_STATE, item::READINESS]);
    if item.state == item::State::Canceled
        && let Some(progress) = item::items(&item.attributes, item::PROGRESS_INFORMATION).next()
    {
        let keys = [item::REASON_FOR_CANCELLATION, item::DISCONTINUATION_REASON];
        information.extend(copied(progress, &keys));
    }
    Event::new(item, STATE_REPORT, information)
}

/// Somebody asks the performer to give up.
pub(super) fn cancel_requested(item: &Workitem, request: &Attributes) -> Event {
    let keys = [
        "00741236", // Requesting AE
        item::REASON_FOR_CANCELLATION,
        item::DISCONTINUATION_REASON,
        "0074100A", // Contact URI
        "0074100C", // Contact Display Name
    ];
    Event::new(item, CANCEL_REQUESTED, copied(request, &keys))
}

fn progress_report(item: &Workitem) -> Event {
    Event::new(item, PROGRESS_REPORT, copied(&item.attributes, &[item::PROGRESS_INFORMATION]))
}

/// The work item has another performer scheduled.
pub(super) fn assigned(item: &Workitem) -> Event {
    let keys = [
        item::SCHEDULED_STATION_NAME,
        item::SCHEDULED_STATION_CLASS,
        item::SCHEDULED_STATION_LOCATION,
        "00404034", // Scheduled Human Performers
    ];
    Event::new(item, ASSIGNED, copied(&item.attributes, &keys))
}

/// What subscribers know of a work item before a change.
pub(super) struct Told {
    readiness: Option<Value>,
    progress: Option<Value>,
    stations: Attributes,
}

impl Told {
    pub(super) fn of(item: &Workitem) -> Self {
        let get = |key: &str| item.attributes.get(key).cloned();
        Self {
            readiness: get(item::READINESS),
            progress: get(item::PROGRESS_INFORMATION),
            stations: Self::stations(item),
        }
    }

    fn stations(item: &Workitem) -> Attributes {
        let keys = [
            item::SCHEDULED_STATION_NAME,
            item::SCHEDULED_STATION_CLASS,
            item::SCHEDULED_STATION_LOCATION,
        ];
        copied(&item.attributes, &keys)
    }

    /// The events that tell what a change changed.
    pub(super) fn changes(self, item: &Workitem) -> Vec<Event> {
        let get = |key: &str| item.attributes.get(key).cloned();
        let mut events = Vec::new();
        if get(item::READINESS) != self.readiness {
            events.push(state_report(item));
        }
        if get(item::PROGRESS_INFORMATION) != self.progress {
            events.push(progress_report(item));
        }
        if Self::stations(item) != self.stations {
            events.push(assigned(item));
        }
        events
    }
}

/// Sets Procedure Step Progress (0074,1004), in percent, and what is being done.
pub(super) fn set_progress(item: &mut Workitem, percent: u32, doing: &str) {
    let progress = item::first_item_mut(&mut item.attributes, item::PROGRESS_INFORMATION);
    item::set(progress, item::PROGRESS, "DS", [json!(percent)]);
    // Procedure Step Progress Description.
    item::set(progress, "00741006", "ST", [doing.into()]);
}
