//! What C-MOVE and C-GET have in common: which instances are wanted, and what became of each
//! (PS3.4 §C.4.2, §C.4.3).

use std::sync::Arc;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use serde_json::{Map, Value};
use tracing::warn;

use super::association::Association;
use super::command::{Command, element};
use super::identifier::Refusal;
use super::negotiation::Context;
use super::requestor::encode;
use super::send::{Sent, is_kept};
use super::status;
use crate::archive::{ArchiveError, Query, Scope, json_key};
use crate::dicom::{SeriesUid, SopInstanceUid, StudyUid};
use crate::pacs::{Outgoing, PacsError, Shared};
use crate::telemetry::error_chain;
use crate::threads::run_blocking;

/// Results of the search in memory at the same time.
const PAGE_LENGTH: usize = 250;
/// More instances than this are not retrieved at once: each is known in memory.
const INSTANCE_COUNT_MAX: usize = 200_000;
/// As many UIDs as fit in one value of the Explicit VR transfer syntaxes.
const FAILED_UID_COUNT_MAX: usize = 1000;

/// The instances of every result of a search, in the order of the archive.
///
/// # Errors
/// A refusal when there are too many, or the index fails.
pub(super) async fn instances_of(
    shared: &Arc<Shared>,
    query: Query,
) -> Result<Vec<Outgoing>, Refusal> {
    let shared = Arc::clone(shared);
    let found = run_blocking(move || list(&shared, query)).await;
    let refusal = |comment| Refusal { status: status::CANNOT_COUNT_MATCHES, comment };
    match found {
        Ok(Ok(Some(instances))) => return Ok(instances),
        Ok(Ok(None)) => {
            return Err(refusal("more than 200000 instances, ask for less at once"));
        }
        Ok(Err(error)) => warn!("Cannot answer a retrieval: {}", error_chain(&error)),
        Err(error) => warn!("Cannot answer a retrieval: {}", error_chain(&error)),
    }
    Err(refusal("the instances cannot be listed"))
}

/// None when there are too many.
fn list(shared: &Shared, query: Query) -> Result<Option<Vec<Outgoing>>, PacsError> {
    let mut instances = Vec::new();
    for offset in (0..).step_by(PAGE_LENGTH) {
        let query = Query { limit: PAGE_LENGTH, offset, ..query.clone() };
        let page = shared.archive.search(&query)?;
        let is_last = page.len() < PAGE_LENGTH;
        for scope in page.iter().filter_map(|result| scope_of(result, query.level)) {
            let records = match shared.archive.instances(&scope) {
                Err(ArchiveError::Unknown { .. }) => continue,
                records => records?,
            };
            if instances.len() + records.len() > INSTANCE_COUNT_MAX {
                return Ok(None);
            }
            instances.extend(records.into_iter().map(Outgoing::from));
        }
        if is_last {
            break;
        }
    }
    Ok(Some(instances))
}

fn scope_of(result: &Map<String, Value>, level: crate::archive::Level) -> Option<Scope> {
    use crate::archive::Level;
    let uid = |tag| result.get(&json_key(tag))?["Value"][0].as_str();
    let study = StudyUid::parse(uid(tags::STUDY_INSTANCE_UID)?).ok()?;
    if level == Level::Study {
        return Some(Scope::study(study));
    }
    let series = SeriesUid::parse(uid(tags::SERIES_INSTANCE_UID)?).ok()?;
    Some(match level {
        Level::Study | Level::Series => Scope::series(study, series),
        Level::Instance => {
            let instance = SopInstanceUid::parse(uid(tags::SOP_INSTANCE_UID)?).ok()?;
            Scope::instance(study, series, instance)
        }
    })
}

/// How far a retrieval is.
pub(super) struct Tally {
    remaining: usize,
    completed: usize,
    warned: usize,
    failed: usize,
    failed_uids: Vec<String>,
}

impl Tally {
    pub(super) fn new(total: usize) -> Self {
        Self { remaining: total, completed: 0, warned: 0, failed: 0, failed_uids: Vec::new() }
    }

    /// How many instances the receiver has now.
    pub(super) fn kept_count(&self) -> usize {
        self.completed + self.warned
    }

    /// How many it does not have.
    pub(super) fn failed_count(&self) -> usize {
        self.failed
    }

    pub(super) fn is_over(&self) -> bool {
        self.remaining == 0
    }

    /// Counts one instance.
    pub(super) fn count(&mut self, instance: &Outgoing, sent: &Sent) {
        self.remaining = self.remaining.saturating_sub(1);
        match sent {
            Sent::Answered(status::SUCCESS | status::DUPLICATE_SOP_INSTANCE) => self.completed += 1,
            Sent::Answered(status) if is_kept(*status) => self.warned += 1,
            Sent::Answered(_) | Sent::Unsendable(_) => {
                self.failed += 1;
                if self.failed_uids.len() < FAILED_UID_COUNT_MAX {
                    self.failed_uids.push(instance.sop_instance.to_string());
                }
            }
        }
    }

    /// Counts instances that could not even be tried.
    pub(super) fn fail_all(&mut self, instances: &[Outgoing]) {
        for instance in instances {
            self.count(instance, &Sent::Answered(status::CANNOT_PERFORM_SUBOPERATIONS));
        }
    }

    /// Tells the requestor how far it is.
    pub(super) async fn tell_pending(
        &self,
        association: &mut Association,
        context: &Context,
        request: &Command,
    ) -> Result<(), PacsError> {
        let response = self.counted(Command::response_to(request, status::PENDING));
        let response = response.number(element::REMAINING_COUNT, number(self.remaining));
        association.send_command(context.id, &response).await
    }

    /// Sends the last response, with the instances that failed.
    pub(super) async fn conclude(
        &self,
        association: &mut Association,
        context: &Context,
        request: &Command,
    ) -> Result<(), PacsError> {
        let status = self.status();
        let mut response = self.counted(Command::response_to(request, status));
        if status == status::CANCELLED {
            response = response.number(element::REMAINING_COUNT, number(self.remaining));
        }
        let failed = (!self.failed_uids.is_empty()).then(|| self.failed_list());
        let failed = failed.and_then(|list| encode(&list, &context.transfer_syntax));
        let Some(list) = failed else {
            return association.send_command(context.id, &response).await;
        };
        association.send_command(context.id, &response.with_data_set()).await?;
        association.send_data(context.id, &list).await
    }

    /// The status of the last response: a failure only when nothing came over.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self { remaining: 1.., .. } => status::CANCELLED,
            Self { failed: 0, .. } if self.warned == 0 => status::SUCCESS,
            Self { completed: 0, warned: 0, .. } => status::CANNOT_PERFORM_SUBOPERATIONS,
            _ => status::SOME_SUBOPERATIONS_FAILED,
        }
    }

    fn counted(&self, response: Command) -> Command {
        response
            .number(element::COMPLETED_COUNT, number(self.completed))
            .number(element::FAILED_COUNT, number(self.failed))
            .number(element::WARNING_COUNT, number(self.warned))
    }

    /// Failed SOP Instance UID List (0008,0058).
    fn failed_list(&self) -> InMemDicomObject {
        let uids = PrimitiveValue::Strs(self.failed_uids.iter().cloned().collect());
        let tag = tags::FAILED_SOP_INSTANCE_UID_LIST;
        InMemDicomObject::from_element_iter([DataElement::new(tag, VR::UI, uids)])
    }
}

/// Counts have two bytes (PS3.7 Table 9.1-4).
fn number(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn instance(number: u32) -> Outgoing {
        Outgoing {
            sop_class_uid: "1.2".to_owned(),
            sop_instance: SopInstanceUid::parse(&format!("1.2.{number}")).unwrap(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".to_owned(),
            path: "nowhere".into(),
            size_bytes: 0,
        }
    }

    #[test]
    fn the_last_status_says_what_came_over() {
        let check = |statuses: &[u16], total: usize, expected: u16| {
            let mut tally = Tally::new(total);
            for (number, status) in (1..).zip(statuses) {
                tally.count(&instance(number), &Sent::Answered(*status));
            }
            assert_eq!(tally.status(), expected, "{statuses:04X?} of {total}");
        };
        check(&[], 0, 0x0000);
        check(&[0, 0x0111], 2, 0x0000);
        check(&[0, 0xB007], 2, 0xB000);
        check(&[0, 0xA700], 2, 0xB000);
        check(&[0xA700, 0xC000], 2, 0xA702);
        check(&[0], 2, 0xFE00);
    }

    #[test]
    fn lists_of_failures_fit_in_one_value() {
        let instances: Vec<Outgoing> = (1..=2000).map(instance).collect();
        let mut tally = Tally::new(instances.len());
        tally.fail_all(&instances);
        assert_eq!((tally.failed_count(), tally.failed_uids.len()), (2000, FAILED_UID_COUNT_MAX));
        let longest = FAILED_UID_COUNT_MAX * 65;
        assert!(longest <= 0xFFFE, "{longest}");
    }
}
