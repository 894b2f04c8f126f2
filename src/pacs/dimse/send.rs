//! Sending instances to a node (C-STORE, PS3.4 Annex B).

use std::collections::BTreeSet;

use dicom_dictionary_std::uids;
use tokio::io::AsyncSeekExt;

use super::association::{Association, Context};
use super::command::{Command, element, field};
use super::requestor::{context, encode, expect, open};
use super::status;
use crate::config::DimseNode;
use crate::dicom::{DicomLimits, Instance};
use crate::pacs::{Outgoing, PacsError, Shared};
use crate::threads::run_blocking;

/// Sends instances on one association, each as it is stored, or as Implicit VR Little Endian
/// where the node takes no other. Sending one again does no harm.
///
/// # Errors
/// The first instance that was not taken, or what did not answer.
pub(in crate::pacs) async fn send(
    shared: &Shared,
    node: &DimseNode,
    instances: &[Outgoing],
) -> Result<(), PacsError> {
    let wanted: BTreeSet<(&str, &str)> = instances
        .iter()
        .flat_map(|instance| {
            let class = instance.sop_class_uid.as_str();
            let plain = is_plain(&instance.transfer_syntax_uid);
            let fallback = plain.then_some((class, uids::IMPLICIT_VR_LITTLE_ENDIAN));
            [(class, instance.transfer_syntax_uid.as_str())].into_iter().chain(fallback)
        })
        .collect();
    let contexts = wanted.iter().take(128).enumerate();
    let contexts = contexts.map(|(index, (class, syntax))| context(index, class, &[syntax]));
    let mut association = open(shared, node, contexts.collect(), Vec::new()).await?;
    for (instance, message_id) in instances.iter().zip((1..=u16::MAX).cycle()) {
        if let Err(error) = send_one(&mut association, instance, message_id).await {
            association.abort().await;
            return Err(error);
        }
    }
    association.release().await;
    Ok(())
}

fn is_plain(transfer_syntax: &str) -> bool {
    matches!(transfer_syntax, uids::EXPLICIT_VR_LITTLE_ENDIAN | uids::IMPLICIT_VR_LITTLE_ENDIAN)
}

async fn send_one(
    association: &mut Association,
    instance: &Outgoing,
    message_id: u16,
) -> Result<(), PacsError> {
    let context = choose(association, instance)?;
    let request = Command::request(field::C_STORE_RQ, message_id)
        .uid(element::AFFECTED_SOP_CLASS_UID, &instance.sop_class_uid)
        .uid(element::AFFECTED_SOP_INSTANCE_UID, instance.sop_instance.as_str())
        .number(element::PRIORITY, 0)
        .with_data_set();
    association.send_command(context.id, &request).await?;
    if context.transfer_syntax == instance.transfer_syntax_uid {
        let mut file = open_file(instance).await?;
        let start = data_set_start(&mut file).await?;
        file.seek(std::io::SeekFrom::Start(start)).await.map_err(unreadable)?;
        association.send_data_from(context.id, file).await?;
    } else {
        let bytes = rewritten(instance, &context).await?;
        association.send_data(context.id, &bytes).await?;
    }
    let (_, response) = expect(association, field::C_STORE_RSP).await?;
    match response.status() {
        status if status::is_done(status) => Ok(()),
        // It has this very instance: that is what was wanted.
        status::DUPLICATE_SOP_INSTANCE => Ok(()),
        status => Err(PacsError::Status {
            node: association.node().to_owned(),
            operation: "C-STORE",
            status,
        }),
    }
}

fn choose(association: &Association, instance: &Outgoing) -> Result<Context, PacsError> {
    let of_class = association
        .contexts()
        .iter()
        .filter(|context| context.abstract_syntax == instance.sop_class_uid);
    let as_stored = |context: &&Context| context.transfer_syntax == instance.transfer_syntax_uid;
    let found = of_class.clone().find(as_stored).or_else(|| {
        let plain = is_plain(&instance.transfer_syntax_uid);
        of_class.clone().find(|context| plain && is_plain(&context.transfer_syntax))
    });
    found.cloned().ok_or_else(|| PacsError::NoContext {
        node: association.node().to_owned(),
        what: format!(
            "SOP class {} in transfer syntax {}",
            instance.sop_class_uid, instance.transfer_syntax_uid
        ),
    })
}

async fn open_file(instance: &Outgoing) -> Result<tokio::fs::File, PacsError> {
    tokio::fs::File::open(&instance.path).await.map_err(unreadable)
}

/// Where the data set starts in a file of the archive: after the meta information, whose length
/// its first element says (PS3.10 Table 7.1-1).
async fn data_set_start(file: &mut tokio::fs::File) -> Result<u64, PacsError> {
    use tokio::io::AsyncReadExt;
    let mut head = [0_u8; 144];
    file.read_exact(&mut head).await.map_err(unreadable)?;
    let start = crate::pacs::data_set_start(&head);
    start.ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))
}

fn unreadable(source: std::io::Error) -> PacsError {
    PacsError::Io { doing: "read an instance to send", source }
}

/// The data set in the transfer syntax of a context.
async fn rewritten(instance: &Outgoing, context: &Context) -> Result<Vec<u8>, PacsError> {
    let path = instance.path.clone();
    let syntax = context.transfer_syntax.clone();
    let written = run_blocking(move || {
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let read = Instance::parse(&bytes, &DicomLimits::default());
        let (instance, _) = read.map_err(crate::archive::ArchiveError::from)?;
        let encoded = encode(instance.object(), &syntax);
        encoded.ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))
    });
    written.await?
}
