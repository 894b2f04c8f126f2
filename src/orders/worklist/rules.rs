//! What a work item must have, and what its states allow (PS3.4 §CC.1.1, Table CC.2.5-3).

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::item::{self, State, Workitem};
use super::{Attributes, WorklistError};
use crate::dicom::SopInstanceUid;

/// What a warning says when the state asked for is there already (PS3.4 Table CC.2.1-3).
pub(super) const ALREADY_CANCELED: &str = "The UPS is already in the requested state of CANCELED.";
const ALREADY_COMPLETED: &str = "The UPS is already in the requested state of COMPLETED.";

/// Deepest nesting of sequences in a work item.
const DEPTH_MAX: usize = 16;

/// Attributes that say who the patient is and what the work item is; they never change.
const FIXED: [&str; 9] = [
    item::SOP_CLASS_UID,
    item::SOP_INSTANCE_UID,
    item::PROCEDURE_STEP_STATE,
    "00100010",
    "00100020",
    "00100021",
    "00100030",
    "00100040",
    "00380010",
];

/// Checks the attributes of a new work item and completes them.
pub(super) fn new_item(
    uid: Option<SopInstanceUid>,
    mut attributes: Attributes,
    now: OffsetDateTime,
) -> Result<Workitem, WorklistError> {
    check_shape(&attributes)?;
    let named = item::text(&attributes, item::SOP_INSTANCE_UID).map(SopInstanceUid::parse);
    let uid = match (uid, named.transpose()?) {
        (Some(uid), Some(named)) if uid != named => {
            return Err(bad(item::SOP_INSTANCE_UID, "differs from the one in the request"));
        }
        (Some(uid), _) | (None, Some(uid)) => uid,
        (None, None) => SopInstanceUid::parse(&format!("2.25.{}", Uuid::new_v4().as_u128()))?,
    };
    match item::text(&attributes, item::PROCEDURE_STEP_STATE) {
        Some("SCHEDULED") => {}
        Some(_) => return Err(bad(item::PROCEDURE_STEP_STATE, "is not SCHEDULED")),
        None => return Err(bad(item::PROCEDURE_STEP_STATE, "is missing")),
    }
    if item::text(&attributes, item::TRANSACTION_UID).is_some() {
        return Err(bad(item::TRANSACTION_UID, "must be empty in a new work item"));
    }
    attributes.remove(item::TRANSACTION_UID);
    check_word(&attributes, item::PRIORITY, &["HIGH", "MEDIUM", "LOW"])?;
    check_word(&attributes, item::READINESS, &["INCOMPLETE", "UNAVAILABLE", "READY"])?;
    for required in [item::STEP_LABEL, item::START] {
        if item::text(&attributes, required).is_none() {
            return Err(bad(required, "is missing"));
        }
    }
    if !item::has_values(&attributes, item::WORKLIST_LABEL) {
        // PS3.4 Table CC.2.5-3 lets the provider fill it in.
        item::set(&mut attributes, item::WORKLIST_LABEL, "LO", ["SEER".into()]);
    }
    item::set(&mut attributes, item::SOP_CLASS_UID, "UI", [item::UPS_PUSH.into()]);
    item::set(&mut attributes, item::SOP_INSTANCE_UID, "UI", [uid.as_str().into()]);
    item::touch(&mut attributes, now);
    Ok(Workitem {
        uid,
        state: State::Scheduled,
        attributes,
        transaction_uid: None,
        is_ours: false,
        order_id: None,
        cancel_requested: false,
    })
}

/// Checks that every member is a DICOM JSON element, to a bounded depth.
fn check_shape(attributes: &Attributes) -> Result<(), WorklistError> {
    let mut open: Vec<(&Attributes, usize)> = vec![(attributes, 0)];
    while let Some((attributes, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            return Err(bad("(nested)", "is nested too deeply"));
        }
        for (key, element) in attributes {
            let is_tag = key.len() == 8 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_upper = !key.bytes().any(|byte| byte.is_ascii_lowercase());
            if !is_tag || !is_upper {
                return Err(bad("name", "is not eight upper-case hexadecimal digits"));
            }
            let Some(vr) = element.get("vr").and_then(|vr| vr.as_str()) else {
                return Err(bad(key, "has no vr"));
            };
            match element.get("Value") {
                None => {}
                Some(serde_json::Value::Array(values)) if vr == "SQ" => {
                    for value in values {
                        let item = value.as_object();
                        let item = item.ok_or_else(|| bad(key, "has an item that is no object"))?;
                        open.push((item, depth + 1));
                    }
                }
                Some(serde_json::Value::Array(_)) => {}
                Some(_) => return Err(bad(key, "has a Value that is no array")),
            }
        }
    }
    Ok(())
}

fn check_word(
    attributes: &Attributes,
    key: &'static str,
    words: &[&str],
) -> Result<(), WorklistError> {
    match item::text(attributes, key) {
        None => Err(bad(key, "is missing")),
        Some(word) if words.contains(&word) => Ok(()),
        Some(_) => Err(bad(key, format!("is none of {}", words.join(", ")))),
    }
}

fn bad(attribute: &str, problem: impl Into<String>) -> WorklistError {
    WorklistError::Attribute { attribute: attribute.to_owned(), problem: problem.into() }
}

/// The state does not allow what was asked.
pub(super) fn wrong_state(item: &Workitem, wanted: &'static str) -> WorklistError {
    WorklistError::WrongState { uid: item.uid.to_string(), state: item.state.word(), wanted }
}

/// Whether a work item may be changed so.
pub(super) fn check_update(
    item: &Workitem,
    transaction_uid: Option<&str>,
    changes: &Attributes,
) -> Result<(), WorklistError> {
    check_shape(changes)?;
    match item.state {
        State::Scheduled => {
            if transaction_uid.is_some() {
                return Err(WorklistError::WrongTransaction);
            }
        }
        State::InProgress => check_transaction(item, transaction_uid)?,
        State::Completed | State::Canceled => return Err(wrong_state(item, "updated")),
    }
    for key in changes.keys() {
        let same = item.attributes.get(key) == changes.get(key);
        if (FIXED.contains(&key.as_str()) && !same) || key == item::TRANSACTION_UID {
            return Err(bad(key, "cannot be changed by an update"));
        }
    }
    if changes.contains_key(item::PRIORITY) {
        check_word(changes, item::PRIORITY, &["HIGH", "MEDIUM", "LOW"])?;
    }
    if changes.contains_key(item::READINESS) {
        check_word(changes, item::READINESS, &["INCOMPLETE", "UNAVAILABLE", "READY"])?;
    }
    Ok(())
}

fn check_transaction(item: &Workitem, transaction_uid: Option<&str>) -> Result<(), WorklistError> {
    match transaction_uid {
        None => Err(WorklistError::NoTransaction),
        Some(uid) if item.transaction_uid.as_deref() == Some(uid) => Ok(()),
        Some(_) => Err(WorklistError::WrongTransaction),
    }
}

/// Whether a work item may enter a state; a warning when it is there already.
pub(super) fn check_state_change(
    item: &Workitem,
    target: State,
    transaction_uid: &str,
) -> Result<Option<&'static str>, WorklistError> {
    SopInstanceUid::parse(transaction_uid).map_err(|_| WorklistError::NoTransaction)?;
    match (item.state, target) {
        (State::Scheduled, State::InProgress) => Ok(None),
        (State::Scheduled, State::Scheduled) => Err(wrong_state(item, "scheduled again")),
        (State::Scheduled, State::Completed) => Err(wrong_state(item, "completed")),
        (State::Scheduled, State::Canceled) => Err(wrong_state(item, "cancelled by a performer")),
        (State::InProgress, State::Completed | State::Canceled) => {
            check_transaction(item, Some(transaction_uid))?;
            check_finished(item, target)?;
            Ok(None)
        }
        (State::InProgress, State::InProgress) => Err(wrong_state(item, "claimed")),
        (State::InProgress, State::Scheduled) => Err(wrong_state(item, "scheduled again")),
        (State::Completed, State::Completed) => {
            check_transaction(item, Some(transaction_uid)).map(|()| Some(ALREADY_COMPLETED))
        }
        (State::Canceled, State::Canceled) => match &item.transaction_uid {
            Some(_) => check_transaction(item, Some(transaction_uid)),
            None => Ok(()),
        }
        .map(|()| Some(ALREADY_CANCELED)),
        (State::Completed | State::Canceled, _) => Err(wrong_state(item, "changed")),
    }
}

/// Final State requirements (PS3.4 Table CC.2.5-3): who performed a completed work item, and when.
/// The cancellation time of a cancelled one is ours to fill in.
fn check_finished(item: &Workitem, target: State) -> Result<(), WorklistError> {
    if target != State::Completed {
        return Ok(());
    }
    let missing = |attribute| WorklistError::Unfinished { attribute };
    let performed = item::items(&item.attributes, item::PERFORMED_PROCEDURE).next();
    let performed = performed.ok_or_else(|| missing(item::PERFORMED_PROCEDURE))?;
    let needed = [
        item::PERFORMED_STATION_NAME,
        item::PERFORMED_WORKITEM_CODE,
        item::PERFORMED_START,
        item::PERFORMED_END,
    ];
    match needed.into_iter().find(|key| !item::has_values(performed, key)) {
        Some(attribute) => Err(missing(attribute)),
        // May be empty, but must be there.
        None if !performed.contains_key(item::OUTPUT_INFORMATION) => {
            Err(missing(item::OUTPUT_INFORMATION))
        }
        None => Ok(()),
    }
}

/// Keeps why a work item was cancelled in its Procedure Step Progress Information Sequence.
pub(super) fn note_cancel_reason(item: &mut Workitem, request: &Attributes) {
    let progress = item::first_item_mut(&mut item.attributes, item::PROGRESS_INFORMATION);
    for key in [item::REASON_FOR_CANCELLATION, item::DISCONTINUATION_REASON] {
        if let Some(value) = request.get(key).filter(|value| value.get("vr").is_some()) {
            progress.insert(key.to_owned(), value.clone());
        }
    }
    progress.entry(item::DISCONTINUATION_REASON).or_insert_with(|| {
        let unspecified = item::code("110513", "DCM", "Discontinued for unspecified reason");
        json!({ "vr": "SQ", "Value": [unspecified] })
    });
}
