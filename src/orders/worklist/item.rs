//! A work item and its attributes.

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Attributes;
use crate::dicom::SopInstanceUid;

/// SOP Class UID of every work item: Unified Procedure Step - Push (PS3.4 §CC.3.1.1).
pub(super) const UPS_PUSH: &str = "1.2.840.10008.5.1.4.34.6.1";

// Attributes by their DICOM JSON keys.
pub(super) const SOP_CLASS_UID: &str = "00080016";
pub(super) const SOP_INSTANCE_UID: &str = "00080018";
pub(super) const TRANSACTION_UID: &str = "00081195";
pub(super) const PROCEDURE_STEP_STATE: &str = "00741000";
pub(super) const PROGRESS_INFORMATION: &str = "00741002";
pub(super) const PROGRESS: &str = "00741004";
pub(super) const PRIORITY: &str = "00741200";
pub(super) const WORKLIST_LABEL: &str = "00741202";
pub(super) const STEP_LABEL: &str = "00741204";
pub(super) const PROCESSING_PARAMETERS: &str = "00741210";
pub(super) const PERFORMED_PROCEDURE: &str = "00741216";
pub(super) const REASON_FOR_CANCELLATION: &str = "00741238";
pub(super) const DISCONTINUATION_REASON: &str = "0074100E";
pub(super) const COMMENTS: &str = "00400400";
pub(super) const START: &str = "00404005";
pub(super) const MODIFICATION: &str = "00404010";
pub(super) const SCHEDULED_WORKITEM_CODE: &str = "00404018";
pub(super) const PERFORMED_WORKITEM_CODE: &str = "00404019";
pub(super) const INPUT_INFORMATION: &str = "00404021";
pub(super) const SCHEDULED_STATION_NAME: &str = "00404025";
pub(super) const SCHEDULED_STATION_CLASS: &str = "00404026";
pub(super) const SCHEDULED_STATION_LOCATION: &str = "00404027";
pub(super) const PERFORMED_STATION_NAME: &str = "00404028";
pub(super) const OUTPUT_INFORMATION: &str = "00404033";
pub(super) const READINESS: &str = "00404041";
pub(super) const PERFORMED_START: &str = "00404050";
pub(super) const PERFORMED_END: &str = "00404051";
pub(super) const CANCELLATION_TIME: &str = "00404052";

/// Procedure Step State (0074,1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody performs it yet.
    Scheduled,
    /// Its performer has claimed it.
    InProgress,
    /// Done.
    Completed,
    /// Given up.
    Canceled,
}

impl State {
    /// The state as DICOM writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::InProgress => "IN PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
        }
    }

    /// Reads what DICOM writes.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Scheduled, Self::InProgress, Self::Completed, Self::Canceled];
        all.into_iter().find(|state| state.word() == word.trim())
    }

    /// Whether the work item will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled)
    }
}

/// A work item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Workitem {
    pub(super) uid: SopInstanceUid,
    pub(super) state: State,
    /// As it came and was changed; state included, Transaction UID not.
    pub(super) attributes: Attributes,
    /// Known to its performer only.
    pub(super) transaction_uid: Option<String>,
    /// We perform it.
    pub(super) is_ours: bool,
    /// The order it became.
    pub(super) order_id: Option<Uuid>,
    /// Somebody asked us to cancel it.
    pub(super) cancel_requested: bool,
}

impl Workitem {
    /// Puts it into another state, with the attributes that say so.
    pub(super) fn enter(
        &mut self,
        state: State,
        transaction_uid: Option<&str>,
        now: OffsetDateTime,
    ) {
        self.state = state;
        if let Some(uid) = transaction_uid {
            self.transaction_uid = Some(uid.to_owned());
        }
        set(&mut self.attributes, PROCEDURE_STEP_STATE, "CS", [state.word().into()]);
        if state == State::Canceled {
            let progress = first_item_mut(&mut self.attributes, PROGRESS_INFORMATION);
            progress
                .entry(CANCELLATION_TIME)
                .or_insert_with(|| json!({ "vr": "DT", "Value": [date_time(now)] }));
        }
        touch(&mut self.attributes, now);
    }

    /// What anybody may see.
    pub(super) fn public(&self) -> Attributes {
        let mut attributes = self.attributes.clone();
        attributes.remove(TRANSACTION_UID);
        attributes.sort_keys();
        attributes
    }
}

/// Sets Scheduled Procedure Step Modification DateTime (0040,4010).
pub(super) fn touch(attributes: &mut Attributes, now: OffsetDateTime) {
    set(attributes, MODIFICATION, "DT", [date_time(now).into()]);
}

/// Sets an attribute.
pub(super) fn set<const N: usize>(
    attributes: &mut Attributes,
    key: &str,
    vr: &str,
    values: [Value; N],
) {
    attributes.insert(key.to_owned(), json!({ "vr": vr, "Value": values.to_vec() }));
}

/// The values of an attribute.
pub(super) fn values<'a>(attributes: &'a Attributes, key: &str) -> &'a [Value] {
    let values = attributes.get(key).and_then(|element| element.get("Value"));
    values.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether an attribute has values.
pub(super) fn has_values(attributes: &Attributes, key: &str) -> bool {
    !values(attributes, key).is_empty()
}

/// The first value of an attribute, as text without padding; absent when empty.
pub(super) fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    let text = values(attributes, key).first()?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}

/// The items of a sequence.
pub(super) fn items<'a>(
    attributes: &'a Attributes,
    key: &str,
) -> impl Iterator<Item = &'a Attributes> {
    values(attributes, key).iter().filter_map(Value::as_object)
}

/// The first item of a sequence, made when there is none.
pub(super) fn first_item_mut<'a>(attributes: &'a mut Attributes, key: &str) -> &'a mut Attributes {
    let has_item = items(attributes, key).next().is_some();
    if !has_item {
        set(attributes, key, "SQ", [json!({})]);
    }
    let first = attributes.get_mut(key).and_then(|element| element.pointer_mut("/Value/0"));
    first.and_then(Value::as_object_mut).expect("the first item was there or was just made")
}

/// The Code Values (0008,0100), Long or URN ones included, of a code sequence.
pub(super) fn code_values<'a>(
    attributes: &'a Attributes,
    key: &str,
) -> impl Iterator<Item = &'a str> {
    items(attributes, key).filter_map(|item| {
        ["00080100", "00080119", "00080120"].into_iter().find_map(|key| text(item, key))
    })
}

/// A code as an item of a code sequence.
pub(super) fn code(value: &str, scheme: &str, meaning: &str) -> Value {
    json!({
        "00080100": { "vr": "SH", "Value": [value] },
        "00080102": { "vr": "SH", "Value": [scheme] },
        "00080104": { "vr": "LO", "Value": [meaning] },
    })
}

/// A time as DT, in UTC.
pub(super) fn date_time(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}.{:06}+0000",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

/// Whether a DT is not after `now`. Without an offset it is in UTC; what cannot be read is past.
pub(super) fn is_past(date_time: &str, now: OffsetDateTime) -> bool {
    let (digits, offset) = match date_time.find(['+', '-']) {
        Some(at) => (&date_time[..at], parse_offset(&date_time[at..])),
        None => (date_time, time::UtcOffset::UTC),
    };
    let digits: String = digits.chars().take_while(char::is_ascii_digit).take(14).collect();
    let now: String = self::date_time(now.to_offset(offset).replace_offset(time::UtcOffset::UTC))
        .chars()
        .take(digits.len())
        .collect();
    digits <= now
}

fn parse_offset(text: &str) -> time::UtcOffset {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let part = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|digits| digits.parse::<i8>().ok()).unwrap_or(0)
    };
    let (hours, minutes) = (part(1..3), part(3..5));
    time::UtcOffset::from_hms(sign * hours, sign * minutes, 0).unwrap_or(time::UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn start_times_are_compared_in_their_own_zone() {
        let now = datetime!(2026-11-24 12:00:00 UTC);
        let check = |text: &str, expected: bool| assert_eq!(is_past(text, now), expected, "{text}");
        check("20261124120000", true);
        check("20261124120001", false);
        check("20261124", true);
        check("20261125", false);
        check("202611241330+0200", true);
        check("202611240730-0500", false);
        check("20261124110000.5", true);
        check("nonsense", true);
        assert_eq!(date_time(now), "20261124120000.000000+0000");
    }
}
