//! Sending instances to a node (C-STORE, PS3.4 Annex B): results to whoever is to have them, and
//! what a node retrieves from us.

use std::collections::BTreeSet;
use std::io::{BufWriter, Read, Seek, SeekFrom};

use dicom_dictionary_std::uids;
use tokio::io::AsyncSeekExt;

use super::association::Association;
use super::command::{Command, element, field};
use super::negotiation::Context;
use super::requestor::{context, encode, open};
use super::{UNCOMPRESSED, status};
use crate::archive::{Archive, ArchiveError};
use crate::config::DimseNode;
use crate::dicom::{DicomLimits, Instance, TranscodeError, is_decodable};
use crate::pacs::{Outgoing, PacsError, Shared};
use crate::threads::run_blocking;

/// PS3.8 §9.3.2.2: ids are odd numbers of one byte.
const CONTEXT_COUNT_MAX: usize = 128;

/// Sends instances on one association, each as it is stored, or uncompressed where the node takes
/// no other. Sending one again does no harm.
///
/// # Errors
/// The first instance that was not taken, or what did not answer.
pub(in crate::pacs) async fn send(
    shared: &Shared,
    node: &DimseNode,
    instances: &[Outgoing],
) -> Result<(), PacsError> {
    let mut association = open_for(shared, node, instances).await?;
    for (instance, message_id) in instances.iter().zip((1..=u16::MAX).cycle()) {
        let delivery = Delivery { instance, message_id, originator: None };
        let failure = match deliver(shared, &mut association, delivery).await {
            Ok(Sent::Answered(status)) if is_kept(status) => continue,
            Ok(Sent::Answered(status)) => {
                PacsError::Status { node: node.name.clone(), operation: "C-STORE", status }
            }
            Ok(Sent::Unsendable(error)) | Err(error) => error,
        };
        association.abort().await;
        return Err(failure);
    }
    association.release().await;
    Ok(())
}

/// Whether the receiver has the instance now.
pub(super) fn is_kept(status: u16) -> bool {
    // It has this very instance: that is what was wanted.
    status::is_done(status) || status == status::DUPLICATE_SOP_INSTANCE
}

/// Opens an association on which instances can be sent: for each SOP class the transfer syntaxes
/// they are stored in, and the uncompressed ones where the pixels can be decoded.
pub(super) async fn open_for(
    shared: &Shared,
    node: &DimseNode,
    instances: &[Outgoing],
) -> Result<Association, PacsError> {
    let as_stored = |instance: &Outgoing| {
        (instance.sop_class_uid.clone(), instance.transfer_syntax_uid.clone())
    };
    let mut wanted: BTreeSet<(String, String)> = instances.iter().map(as_stored).collect();
    let plain: Vec<(String, String)> = wanted
        .iter()
        .filter(|(_, syntax)| is_decodable(syntax))
        .flat_map(|(class, _)| UNCOMPRESSED.map(|syntax| (class.clone(), syntax.to_owned())))
        .collect();
    wanted.extend(plain);
    let contexts = wanted.iter().take(CONTEXT_COUNT_MAX).enumerate();
    let contexts = contexts.map(|(index, (class, syntax))| context(index, class, &[syntax]));
    open(shared, node, contexts.collect(), Vec::new()).await
}

/// One instance on its way.
pub(super) struct Delivery<'a> {
    pub(super) instance: &'a Outgoing,
    pub(super) message_id: u16,
    /// Title and message id of the C-MOVE that asked for it.
    pub(super) originator: Option<(&'a str, u16)>,
}

/// What became of an instance; the association is in order either way.
pub(super) enum Sent {
    /// The receiver answered with this status.
    Answered(u16),
    /// It cannot be read, or not be written in a transfer syntax that the receiver takes.
    Unsendable(PacsError),
}

/// Sends one instance and waits for the answer.
///
/// # Errors
/// When the association broke.
pub(super) async fn deliver(
    shared: &Shared,
    association: &mut Association,
    delivery: Delivery<'_>,
) -> Result<Sent, PacsError> {
    let instance = delivery.instance;
    let context = match choose(association, instance) {
        Ok(context) => context,
        Err(error) => return Ok(Sent::Unsendable(error)),
    };
    // Only what can be read is announced: after the command a data set must follow.
    let body = match prepare(shared, association.node(), instance, &context).await {
        Ok(body) => body,
        Err(error) => return Ok(Sent::Unsendable(error)),
    };
    let mut request = Command::request(field::C_STORE_RQ, delivery.message_id)
        .uid(element::AFFECTED_SOP_CLASS_UID, &instance.sop_class_uid)
        .uid(element::AFFECTED_SOP_INSTANCE_UID, instance.sop_instance.as_str())
        .number(element::PRIORITY, 0);
    if let Some((ae_title, message_id)) = delivery.originator {
        request = request
            .text(element::MOVE_ORIGINATOR, ae_title)
            .number(element::MOVE_ORIGINATOR_MESSAGE_ID, message_id);
    }
    association.send_command(context.id, &request.with_data_set()).await?;
    match body {
        Body::File(file) => association.send_data_from(context.id, file).await?,
        Body::Bytes(bytes) => association.send_data(context.id, &bytes).await?,
    }
    stored(association).await.map(Sent::Answered)
}

/// The status of the C-STORE response. Where the receiver retrieves from us on the same
/// association, it may cancel that in between.
async fn stored(association: &mut Association) -> Result<u16, PacsError> {
    loop {
        match association.next_command().await? {
            Some((_, command)) if command.field() == field::C_STORE_RSP => {
                return Ok(command.status());
            }
            Some((_, command)) if command.field() == field::C_CANCEL_RQ => {
                association.note_cancel(&command);
            }
            Some((_, command)) => {
                let what = format!("command {:04X}H where a response belongs", command.field());
                return Err(association.protocol(&what));
            }
            None => return Err(association.protocol("a release where a response belongs")),
        }
    }
}

/// The context to send an instance on: in its own transfer syntax, else uncompressed.
fn choose(association: &Association, instance: &Outgoing) -> Result<Context, PacsError> {
    let stored = instance.transfer_syntax_uid.as_str();
    let plain = UNCOMPRESSED.into_iter().filter(|_| is_decodable(stored));
    let found = std::iter::once(stored).chain(plain).find_map(|syntax| {
        association.contexts().iter().find(|context| {
            context.is_for_sending
                && context.abstract_syntax == instance.sop_class_uid
                && context.transfer_syntax == syntax
        })
    });
    found.cloned().ok_or_else(|| PacsError::NoContext {
        node: association.node().to_owned(),
        what: format!(
            "SOP class {} in transfer syntax {}",
            instance.sop_class_uid, instance.transfer_syntax_uid
        ),
    })
}

/// A data set that can be sent.
enum Body {
    /// The rest of this file.
    File(tokio::fs::File),
    Bytes(Vec<u8>),
}

async fn prepare(
    shared: &Shared,
    node: &str,
    instance: &Outgoing,
    context: &Context,
) -> Result<Body, PacsError> {
    if context.transfer_syntax == instance.transfer_syntax_uid {
        let mut file = tokio::fs::File::open(&instance.path).await.map_err(unreadable)?;
        let start = data_set_start(&mut file).await?;
        file.seek(SeekFrom::Start(start)).await.map_err(unreadable)?;
        return Ok(Body::File(file));
    }
    let permit = shared.stores.acquire().await;
    let conversion = Conversion {
        node: node.to_owned(),
        archive: shared.archive.clone(),
        path: instance.path.clone(),
        is_plain: UNCOMPRESSED.contains(&instance.transfer_syntax_uid.as_str()),
        to: context.transfer_syntax.clone(),
    };
    let body = run_blocking(move || conversion.run()).await?;
    drop(permit);
    body
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

/// An instance into another, uncompressed, transfer syntax.
struct Conversion {
    node: String,
    archive: Archive,
    path: std::path::PathBuf,
    /// It is stored uncompressed.
    is_plain: bool,
    to: String,
}

impl Conversion {
    fn run(self) -> Result<Body, PacsError> {
        let stored = read_instance(&mut std::fs::File::open(&self.path).map_err(unreadable)?)?;
        if self.is_plain {
            return self.encoded(&stored);
        }
        let mut writer = BufWriter::with_capacity(256 << 10, self.archive.spool()?.into_file());
        let written = stored.write_explicit(&mut writer);
        written.map_err(|source| self.failed(source))?;
        drop(stored);
        let mut file = writer.into_inner().map_err(|error| unreadable(error.into_error()))?;
        file.rewind().map_err(unreadable)?;
        if self.to != uids::EXPLICIT_VR_LITTLE_ENDIAN {
            return self.encoded(&read_instance(&mut file)?);
        }
        let mut head = [0_u8; 144];
        file.read_exact(&mut head).map_err(unreadable)?;
        let start = crate::pacs::data_set_start(&head);
        let start = start.ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))?;
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        Ok(Body::File(tokio::fs::File::from_std(file)))
    }

    fn encoded(&self, instance: &Instance) -> Result<Body, PacsError> {
        let bytes = encode(instance.object(), &self.to);
        let invalid = || TranscodeError::Io(std::io::ErrorKind::InvalidData.into());
        bytes.map(Body::Bytes).ok_or_else(|| self.failed(invalid()))
    }

    fn failed(&self, source: TranscodeError) -> PacsError {
        PacsError::Transcode { node: self.node.clone(), source }
    }
}

fn read_instance(file: &mut std::fs::File) -> Result<Instance, PacsError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    let read = Instance::parse(&bytes, &DicomLimits::default());
    Ok(read.map_err(ArchiveError::from)?.0)
}
