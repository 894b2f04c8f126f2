//! Retrieving a series: C-MOVE to our own port, or C-GET on one association (PS3.4 §C.4.2, §C.4.3).

use std::sync::Arc;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::association::Association;
use super::command::{Command, element, field};
use super::receive::receive;
use super::requestor::{context, encode, open, plain_context};
use super::sop_classes::retrieved;
use super::{TRANSFER_SYNTAXES, status};
use crate::config::{DimseNode, Retrieve};
use crate::dicom::{SeriesUid, StudyUid};
use crate::pacs::{PacsError, SLOW_STORAGE, Shared, stopped};
use crate::threads::{Cancel, Progress};

const MOVE: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
const GET: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;

/// Retrieves one series into the archive; every instance that came is durable.
///
/// # Errors
/// [`PacsError`] that says what did not answer, or that some instances failed.
pub(in crate::pacs) async fn retrieve(
    shared: &Arc<Shared>,
    node: &DimseNode,
    study: &StudyUid,
    series: &SeriesUid,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(), PacsError> {
    let mut identifier = InMemDicomObject::new_empty();
    let mut put = |tag, vr, value: &str| {
        identifier.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    };
    put(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "SERIES");
    put(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    put(tags::SERIES_INSTANCE_UID, VR::UI, series.as_str());
    let (sop_class, request, mut association) = match node.retrieve {
        Retrieve::Move => {
            if shared.settings.bind.is_none() {
                return Err(PacsError::NotListening { node: node.name.clone() });
            }
            let contexts = vec![plain_context(0, MOVE)];
            let association = open(shared, node, contexts, Vec::new()).await?;
            let request = Command::request(field::C_MOVE_RQ, 1)
                .text(element::MOVE_DESTINATION, &shared.settings.ae_title);
            (MOVE, request, association)
        }
        Retrieve::Get => {
            let mut contexts = vec![plain_context(0, GET)];
            let stored = (1..).zip(retrieved());
            contexts.extend(stored.map(|(index, uid)| context(index, uid, TRANSFER_SYNTAXES)));
            let association = open(shared, node, contexts, retrieved().collect()).await?;
            (GET, Command::request(field::C_GET_RQ, 1), association)
        }
    };
    // A C-MOVE's progress is told only when an instance is done.
    association.allow_silence(SLOW_STORAGE);
    let _awaited = shared.await_from(&node.name);
    let context = association.context_for(sop_class)?;
    let request = request
        .uid(element::AFFECTED_SOP_CLASS_UID, sop_class)
        .number(element::PRIORITY, 0)
        .with_data_set();
    association.send_command(context.id, &request).await?;
    let identifier = encode(&identifier, &context.transfer_syntax)
        .ok_or_else(|| association.protocol("a transfer syntax we did not propose"))?;
    association.send_data(context.id, &identifier).await?;
    let ended = follow(shared, &mut association, cancel, progress).await;
    match &ended {
        Ok(()) => association.release().await,
        Err(_) => association.abort().await,
    }
    ended
}

/// Takes instances and responses until the last response.
async fn follow(
    shared: &Arc<Shared>,
    association: &mut Association,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(), PacsError> {
    loop {
        cancel.check()?;
        let next = tokio::select! {
            next = association.next_command() => next?,
            stopped = stopped(cancel) => return Err(stopped),
        };
        let Some((context, command)) = next else {
            return Err(association.protocol("a release where a response belongs"));
        };
        match command.field() {
            field::C_STORE_RQ if command.has_data_set() => {
                let received = receive(shared, association, context, &command).await?;
                let status = match received.status {
                    // We have that SOP instance already; the node need not know that it differs.
                    status::DUPLICATE_SOP_INSTANCE => status::SUCCESS,
                    status => status,
                };
                association.send_command(context, &Command::response_to(&command, status)).await?;
            }
            field::C_MOVE_RSP | field::C_GET_RSP => {
                if conclude(association, context, &command, progress).await? {
                    return Ok(());
                }
            }
            other => {
                let what = format!("command {other:04X}H during a retrieval");
                return Err(association.protocol(&what));
            }
        }
    }
}

/// Reads a response; says whether it was the last.
async fn conclude(
    association: &mut Association,
    context: u8,
    response: &Command,
    progress: &Progress,
) -> Result<bool, PacsError> {
    if response.has_data_set() {
        // The list of failed UIDs; the count says enough.
        association.small_data_set(context, 4 << 20).await?;
    }
    let count = |number| u64::from(response.get_number(number).unwrap_or(0));
    let done = count(element::COMPLETED_COUNT) + count(element::WARNING_COUNT);
    let failed = count(element::FAILED_COUNT);
    progress.report(done, done + failed + count(element::REMAINING_COUNT));
    let status = response.status();
    if status::is_pending(status) {
        return Ok(false);
    }
    let operation = match response.field() {
        field::C_MOVE_RSP => "C-MOVE",
        _ => "C-GET",
    };
    match status {
        // B000: some sub-operations failed. What is missing is noticed, and asked for again.
        status if status::is_done(status) => Ok(true),
        status => Err(PacsError::Status { node: association.node().to_owned(), operation, status }),
    }
}
