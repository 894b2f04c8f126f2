//! An instance that a peer sends (C-STORE, PS3.4 Annex B), onto the archive's disk.

use std::sync::Arc;

use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;
use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::association::Association;
use super::command::{Command, element};
use super::negotiation::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use super::status;
use crate::archive::{ArchiveError, Stored};
use crate::dicom::SopInstanceUid;
use crate::error::{ErrorKind, Kind};
use crate::pacs::{PacsError, Shared, same_data_set};
use crate::telemetry::metrics;
use crate::threads::run_blocking;

const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// SOP Class and Instance UID stand within the first bytes of a data set.
const HEAD_BYTES: usize = 4096;

/// What became of an instance that was sent.
pub(super) struct Received {
    /// What the sender is told.
    pub(super) status: u16,
    /// What was stored, when it was.
    pub(super) stored: Option<Stored>,
}

impl Received {
    fn refused(status: u16) -> Self {
        metrics::instance_received("refused");
        Self { status, stored: None }
    }
}

/// Takes the data set of a C-STORE request and stores it; the response is the caller's. It is
/// durable when this returns success.
///
/// # Errors
/// When the association breaks; what is wrong with the instance is a status instead.
pub(super) async fn receive(
    shared: &Arc<Shared>,
    association: &mut Association,
    context: u8,
    command: &Command,
) -> Result<Received, PacsError> {
    let Some(incoming) = Incoming::of(association, context, command) else {
        drain(association, context, command).await?;
        return Ok(Received::refused(status::MISSING_ATTRIBUTE));
    };
    let spooled = match spool(shared, association, context, &incoming).await? {
        Ok(spooled) => spooled,
        Err(status) => return Ok(Received::refused(status)),
    };
    Ok(store(shared, spooled, incoming).await)
}

/// Passes over the data set of a request that is refused.
pub(super) async fn drain(
    association: &mut Association,
    context: u8,
    command: &Command,
) -> Result<(), PacsError> {
    while command.has_data_set() && !association.next_data(context).await?.1 {}
    Ok(())
}

/// What the request says of its instance.
struct Incoming {
    sop_class_uid: String,
    sop_instance_uid: String,
    transfer_syntax_uid: String,
    from: String,
}

impl Incoming {
    fn of(association: &Association, context: u8, command: &Command) -> Option<Self> {
        let sop_instance = command.get_text(element::AFFECTED_SOP_INSTANCE_UID)?;
        SopInstanceUid::parse(sop_instance).ok()?;
        Some(Self {
            sop_class_uid: command.get_text(element::AFFECTED_SOP_CLASS_UID)?.to_owned(),
            sop_instance_uid: sop_instance.to_owned(),
            transfer_syntax_uid: association.context(context)?.transfer_syntax.clone(),
            from: association.node().to_owned(),
        })
    }

    /// Preamble and file meta information (PS3.10 §7.1).
    fn head(&self) -> Option<Vec<u8>> {
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(&self.sop_class_uid)
            .media_storage_sop_instance_uid(&self.sop_instance_uid)
            .transfer_syntax(&self.transfer_syntax_uid)
            .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
            .implementation_version_name(IMPLEMENTATION_VERSION_NAME)
            .build()
            .ok()?;
        let mut head = vec![0; 128];
        head.extend_from_slice(b"DICM");
        meta.write(&mut head).ok()?;
        Some(head)
    }
}

/// Writes the data set behind its meta information; a status when it cannot be kept. The data set
/// is read to its end either way, so that the association goes on.
async fn spool(
    shared: &Arc<Shared>,
    association: &mut Association,
    context: u8,
    incoming: &Incoming,
) -> Result<Result<NamedTempFile, u16>, PacsError> {
    let mut sink = Sink::open(shared, incoming).await;
    let mut head = Vec::new();
    loop {
        let (data, is_last) = association.next_data(context).await?;
        if head.len() < HEAD_BYTES {
            head.extend_from_slice(&data[..data.len().min(HEAD_BYTES - head.len())]);
        }
        sink.write(&data).await;
        if is_last {
            break;
        }
    }
    if disagrees(incoming, &head) {
        return Ok(Err(status::DOES_NOT_MATCH_SOP_CLASS));
    }
    Ok(sink.finish().await)
}

/// A file being written, or the status that says why not.
struct Sink {
    state: Result<(NamedTempFile, BufWriter<tokio::fs::File>), u16>,
    left_bytes: u64,
}

impl Sink {
    async fn open(shared: &Arc<Shared>, incoming: &Incoming) -> Self {
        let left_bytes = shared.instance_size_bytes_max;
        let Some(head) = incoming.head() else {
            return Self { state: Err(status::CANNOT_UNDERSTAND), left_bytes };
        };
        let archive = shared.archive.clone();
        let state = match run_blocking(move || archive.spool()).await {
            Ok(Ok(spooled)) => spooled.reopen().map(|file| {
                let file = tokio::fs::File::from_std(file);
                (spooled, BufWriter::with_capacity(WRITE_BUFFER_BYTES, file))
            }),
            _ => Err(std::io::ErrorKind::Other.into()),
        };
        let state = state.map_err(|_| status::OUT_OF_RESOURCES);
        let mut sink = Self { state, left_bytes };
        sink.write(&head).await;
        sink
    }

    async fn write(&mut self, data: &[u8]) {
        let Ok((_, file)) = &mut self.state else { return };
        match self.left_bytes.checked_sub(data.len() as u64) {
            Some(left) if file.write_all(data).await.is_ok() => self.left_bytes = left,
            _ => self.state = Err(status::OUT_OF_RESOURCES),
        }
    }

    async fn finish(self) -> Result<NamedTempFile, u16> {
        let (spooled, mut file) = self.state?;
        match file.flush().await {
            Ok(()) => Ok(spooled),
            Err(_) => Err(status::OUT_OF_RESOURCES),
        }
    }
}

async fn store(shared: &Arc<Shared>, spooled: NamedTempFile, incoming: Incoming) -> Received {
    let Ok(_permit) = shared.stores.acquire().await else {
        return Received::refused(status::PROCESSING_FAILURE);
    };
    // A second handle still reads the upload after the archive refused and deleted it.
    let Ok(copy) = spooled.reopen() else { return Received::refused(status::OUT_OF_RESOURCES) };
    let archive = shared.archive.clone();
    let stored = run_blocking(move || {
        let stored = archive.store_spooled(spooled, None);
        match &stored {
            Err(ArchiveError::Conflict(identity)) if same_data_set(&archive, identity, copy) => {
                Ok(Stored {
                    identity: identity.as_ref().clone(),
                    findings: Vec::new(),
                    outcome: crate::archive::Outcome::AlreadyStored,
                })
            }
            _ => stored,
        }
    })
    .await;
    match stored {
        Ok(Ok(stored)) => {
            metrics::instance_received(match stored.outcome {
                crate::archive::Outcome::New => "new",
                crate::archive::Outcome::AlreadyStored => "already_stored",
                crate::archive::Outcome::Replaced => "replaced",
            });
            Received { status: status::SUCCESS, stored: Some(stored) }
        }
        Ok(Err(error)) => {
            let kind = error.kind();
            tracing::info!(
                node = incoming.from,
                error.kind = kind.word(),
                "Refused an instance that a node sent"
            );
            Received::refused(status_of(kind))
        }
        Err(_) => Received::refused(status::PROCESSING_FAILURE),
    }
}

/// PS3.4 Table B.2-1, and PS3.7 Annex C for duplicates.
fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::NotFound => {
            status::CANNOT_UNDERSTAND
        }
        ErrorKind::Conflict => status::DUPLICATE_SOP_INSTANCE,
        ErrorKind::TooLarge | ErrorKind::Overloaded | ErrorKind::Unavailable => {
            status::OUT_OF_RESOURCES
        }
        ErrorKind::Cancelled | ErrorKind::Internal => status::PROCESSING_FAILURE,
    }
}

/// Whether SOP Class or Instance UID of the data set are there and differ from the command's.
fn disagrees(incoming: &Incoming, head: &[u8]) -> bool {
    let explicit = incoming.transfer_syntax_uid != uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let differs = |tag, expected: &str| {
        early_text(head, tag, explicit).is_some_and(|found| found != expected)
    };
    differs([8, 0x16], &incoming.sop_class_uid) || differs([8, 0x18], &incoming.sop_instance_uid)
}

/// The text of an element among the first of a little-endian data set; absent when it is not
/// reached by plain elements.
fn early_text(head: &[u8], wanted: [u16; 2], explicit: bool) -> Option<String> {
    let word = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let mut at = 0;
    loop {
        let tag = [word(at)?, word(at + 2)?];
        let long_form = [b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"];
        let (value_at, length) = match explicit {
            true if long_form.iter().any(|vr| head.get(at + 4..at + 6) == Some(&vr[..])) => {
                (at + 12, long(at + 8)? as usize)
            }
            true => (at + 8, usize::from(word(at + 6)?)),
            false => (at + 8, long(at + 4)? as usize),
        };
        if tag == wanted {
            let text = std::str::from_utf8(head.get(value_at..value_at.checked_add(length)?)?);
            return Some(text.ok()?.trim_matches(['\0', ' ']).to_owned());
        }
        if tag > wanted {
            return None;
        }
        at = value_at.checked_add(length)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_elements_are_found_in_both_encodings() {
        let explicit = b"\x08\x00\x05\x00CS\x02\x00X \x08\x00\x16\x00UI\x04\x001.2\0";
        assert_eq!(early_text(explicit, [8, 0x16], true).as_deref(), Some("1.2"));
        assert_eq!(early_text(explicit, [8, 0x18], true), None);
        let implicit = b"\x08\x00\x16\x00\x04\x00\x00\x001.2\0\x08\x00\x18\x00\xff\xff\xff\xff";
        assert_eq!(early_text(implicit, [8, 0x16], false).as_deref(), Some("1.2"));
        assert_eq!(early_text(implicit, [8, 0x18], false), None, "a length that is not there");
    }
}
