//! One association (PS3.8): PDUs and PDVs over a connection, for both roles.
//!
//! `dicom-ul` reads and writes the PDUs; what may be in memory and how long a peer may take is
//! decided here. A peer holds at most one PDU of ours in memory, and has the idle timeout to
//! complete each.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJ, AssociationRQ,
    PDataValue, PDataValueType, Pdu, PresentationContextProposed, UserVariableItem, read_pdu,
    write_pdu,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::command::{COMMAND_SIZE_BYTES_MAX, Command, element, field};
use super::negotiation::{Context, Request, Verdict, accepted_by_peer};
use crate::pacs::PacsError;

/// An association request with 128 contexts of 20 transfer syntaxes each takes less.
const NEGOTIATION_PDU_BYTES_MAX: u32 = 256 << 10;
/// A PDU's type, a reserved byte and its length.
const PDU_HEADER_BYTES: usize = 6;
/// A PDV's length, context and flags.
const PDV_HEADER_BYTES: usize = 6;
/// Peers may take PDUs of any size; larger ones than this bring nothing.
const SENT_PDU_BYTES_MAX: usize = 128 << 10;
/// The least that every implementation takes in practice; smaller announcements are read as this.
const SENT_PDU_BYTES_MIN: usize = 1 << 10;
const READ_CHUNK_BYTES: usize = 32 << 10;
/// More fragments than any honest peer sends while it waits for us.
const CANCELS_AT_ONCE_MAX: usize = 64;

/// What we allow a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Largest P-DATA PDU we take.
    pub(super) pdu_bytes_max: u32,
    /// Longest time for the peer to complete a PDU or to take one.
    pub(super) idle: Duration,
}

/// An established association.
pub(super) struct Association {
    stream: TcpStream,
    buffer: BytesMut,
    pending: VecDeque<PDataValue>,
    contexts: Vec<Context>,
    node: String,
    /// Title of the peer.
    ae_title: String,
    sent_pdu_bytes_max: usize,
    limits: Limits,
    extensions: Vec<(String, Vec<u8>)>,
    /// Message id of the operation that the peer cancelled last.
    cancelled: Option<u16>,
}

impl Association {
    /// Requests an association over a connection; `scp_roles` are the SOP classes for which the
    /// peer shall send to us (PS3.7 §D.3.3.4).
    pub(super) async fn request(
        stream: TcpStream,
        node: &str,
        request: Request<'_>,
        limits: Limits,
    ) -> Result<Self, PacsError> {
        let mut association = Self::over(stream, node, limits);
        let proposed = request.contexts.clone();
        association.write(&request.into_pdu(limits.pdu_bytes_max)).await?;
        match association.read(NEGOTIATION_PDU_BYTES_MAX, "answering a request").await? {
            Pdu::AssociationAC(accepted) => association.take_answer(&proposed, accepted),
            Pdu::AssociationRJ(AssociationRJ { source, .. }) => {
                Err(PacsError::Rejected { node: node.to_owned(), reason: source.to_string() })
            }
            Pdu::AbortRQ { .. } => Err(association.aborted("answering a request")),
            other => Err(association.unexpected(&other)),
        }
    }

    fn take_answer(
        mut self,
        proposed: &[PresentationContextProposed],
        accepted: AssociationAC,
    ) -> Result<Self, PacsError> {
        self.note_peer(&accepted.user_variables);
        self.contexts = accepted_by_peer(proposed, &accepted);
        Ok(self)
    }

    /// Answers the request that a peer opens its connection with, as `decide` says.
    pub(super) async fn accept(
        stream: TcpStream,
        limits: Limits,
        decide: impl AsyncFnOnce(&AssociationRQ) -> Result<Verdict, AssociationRJ>,
    ) -> Result<Self, PacsError> {
        let mut association = Self::over(stream, "that calls", limits);
        let request = match association.read(NEGOTIATION_PDU_BYTES_MAX, "requesting").await? {
            Pdu::AssociationRQ(request) => request,
            Pdu::AbortRQ { .. } => return Err(association.aborted("requesting")),
            other => {
                association.abort().await;
                return Err(association.unexpected(&other));
            }
        };
        match decide(&request).await {
            Err(rejection) => {
                let reason = rejection.source.to_string();
                association.write(&rejection.into()).await?;
                Err(PacsError::Rejected { node: association.node, reason })
            }
            Ok(verdict) => association.confirm(request, verdict).await,
        }
    }

    async fn confirm(
        mut self,
        request: AssociationRQ,
        verdict: Verdict,
    ) -> Result<Self, PacsError> {
        self.note_peer(&request.user_variables);
        verdict.node.clone_into(&mut self.node);
        request.calling_ae_title.trim().clone_into(&mut self.ae_title);
        self.contexts = verdict.accepted(&request);
        verdict.extensions.clone_into(&mut self.extensions);
        let answer = verdict.into_answer(request, self.limits.pdu_bytes_max);
        self.write(&answer.into()).await?;
        Ok(self)
    }

    fn over(stream: TcpStream, node: &str, limits: Limits) -> Self {
        // Without this, small responses wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: BytesMut::new(),
            pending: VecDeque::new(),
            contexts: Vec::new(),
            node: node.to_owned(),
            ae_title: String::new(),
            sent_pdu_bytes_max: 16 << 10,
            limits,
            extensions: Vec::new(),
            cancelled: None,
        }
    }

    fn note_peer(&mut self, variables: &[UserVariableItem]) {
        for variable in variables {
            if let UserVariableItem::MaxLength(length) = variable {
                // 0 is no limit (PS3.8 §D.1).
                let length = if *length == 0 { SENT_PDU_BYTES_MAX } else { *length as usize };
                self.sent_pdu_bytes_max = length.clamp(SENT_PDU_BYTES_MIN, SENT_PDU_BYTES_MAX);
            }
        }
    }

    /// Allows longer silence: a node may have to find what we asked for.
    pub(super) fn allow_silence(&mut self, idle: Duration) {
        self.limits.idle = self.limits.idle.max(idle);
    }

    /// What we call the peer.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The title under which the peer requested the association; empty where we did.
    pub(super) fn ae_title(&self) -> &str {
        &self.ae_title
    }

    /// The accepted contexts.
    pub(super) fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// An accepted context by its id.
    pub(super) fn context(&self, id: u8) -> Option<&Context> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// The accepted context of an abstract syntax.
    ///
    /// # Errors
    /// [`PacsError::NoContext`].
    pub(super) fn context_for(&self, abstract_syntax: &str) -> Result<Context, PacsError> {
        let found = self.contexts.iter().find(|context| context.abstract_syntax == abstract_syntax);
        found.cloned().ok_or_else(|| PacsError::NoContext {
            node: self.node.clone(),
            what: format!("abstract syntax {abstract_syntax}"),
        })
    }

    /// What was agreed on by extended negotiation for a SOP class; empty without.
    pub(super) fn extension(&self, sop_class: &str) -> &[u8] {
        let found = self.extensions.iter().find(|(uid, _)| uid == sop_class);
        found.map_or(&[], |(_, information)| information)
    }

    /// Whether the peer has cancelled an operation of its own, as far as that has come here: never
    /// waits.
    ///
    /// # Errors
    /// When the peer broke the association off, or sent anything but a C-CANCEL meanwhile.
    pub(super) fn is_cancelled(&mut self, message_id: u16) -> Result<bool, PacsError> {
        self.take_what_came()?;
        while let Some(end) = self.pending.iter().position(|value| value.is_last) {
            let values: Vec<PDataValue> = self.pending.drain(..=end).collect();
            if values.iter().any(|value| value.value_type != PDataValueType::Command) {
                return Err(self.protocol("a data set inside an operation"));
            }
            let bytes: Vec<u8> = values.into_iter().flat_map(|value| value.data).collect();
            let command = Command::decode(&bytes).map_err(|what| self.protocol(&what))?;
            if command.field() != field::C_CANCEL_RQ {
                let what = format!("command {:04X}H inside an operation", command.field());
                return Err(self.protocol(&what));
            }
            self.note_cancel(&command);
        }
        let waiting: usize = self.pending.iter().map(|value| value.data.len()).sum();
        match waiting > COMMAND_SIZE_BYTES_MAX {
            true => Err(self.protocol("a command set larger than 64 KiB")),
            false => Ok(self.cancelled == Some(message_id)),
        }
    }

    /// Forgets cancels of earlier operations, whose message id may come again.
    pub(super) fn forget_cancels(&mut self) {
        self.cancelled = None;
    }

    /// Notes that the peer cancels an operation.
    pub(super) fn note_cancel(&mut self, command: &Command) {
        self.cancelled = command.get_number(element::MESSAGE_ID_RESPONDED_TO);
    }

    /// Reads what lies in the socket already.
    fn take_what_came(&mut self) -> Result<(), PacsError> {
        let doing = "waiting for responses";
        loop {
            while let Some(pdu) = self.parse(self.limits.pdu_bytes_max)? {
                match pdu {
                    Pdu::PData { data } => self.pending.extend(data),
                    Pdu::AbortRQ { .. } => return Err(self.aborted(doing)),
                    other => return Err(self.unexpected(&other)),
                }
            }
            self.buffer.reserve(READ_CHUNK_BYTES);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(self.aborted(doing)),
                // One chunk each time is enough for cancels, and keeps a flood out.
                Ok(_) if self.pending.len() > CANCELS_AT_ONCE_MAX => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(self.aborted(doing)),
            }
        }
    }

    /// The next command and its context, or none when the peer released the association.
    pub(super) async fn next_command(&mut self) -> Result<Option<(u8, Command)>, PacsError> {
        let mut bytes = Vec::new();
        loop {
            let Some(value) = self.next_value("waiting for a command").await? else {
                return Ok(None);
            };
            if value.value_type != PDataValueType::Command {
                return Err(self.protocol("a data set without a command"));
            }
            if bytes.len() + value.data.len() > COMMAND_SIZE_BYTES_MAX {
                return Err(self.protocol("a command set larger than 64 KiB"));
            }
            bytes.extend_from_slice(&value.data);
            if value.is_last {
                let command = Command::decode(&bytes).map_err(|what| self.protocol(&what))?;
                return Ok(Some((value.presentation_context_id, command)));
            }
        }
    }

    /// The next fragment of a data set and whether it is the last.
    pub(super) async fn next_data(&mut self, context: u8) -> Result<(Vec<u8>, bool), PacsError> {
        match self.next_value("sending a data set").await? {
            Some(value)
                if value.value_type == PDataValueType::Data
                    && value.presentation_context_id == context =>
            {
                Ok((value.data, value.is_last))
            }
            Some(_) => Err(self.protocol("another message inside a data set")),
            None => Err(self.protocol("a release inside a data set")),
        }
    }

    /// A whole data set of at most `max` bytes.
    pub(super) async fn small_data_set(
        &mut self,
        context: u8,
        max: usize,
    ) -> Result<Vec<u8>, PacsError> {
        let mut bytes = Vec::new();
        loop {
            let (data, is_last) = self.next_data(context).await?;
            if bytes.len() + data.len() > max {
                return Err(self.protocol(&format!("an identifier larger than {max} bytes")));
            }
            bytes.extend_from_slice(&data);
            if is_last {
                return Ok(bytes);
            }
        }
    }

    async fn next_value(&mut self, doing: &'static str) -> Result<Option<PDataValue>, PacsError> {
        loop {
            if let Some(value) = self.pending.pop_front() {
                return Ok(Some(value));
            }
            match self.read(self.limits.pdu_bytes_max, doing).await? {
                Pdu::PData { data } => self.pending = data.into(),
                Pdu::ReleaseRQ => {
                    self.write(&Pdu::ReleaseRP).await?;
                    return Ok(None);
                }
                Pdu::AbortRQ { .. } => return Err(self.aborted(doing)),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Sends a command set.
    pub(super) async fn send_command(
        &mut self,
        context: u8,
        command: &Command,
    ) -> Result<(), PacsError> {
        let bytes = command.encode();
        self.send_all(context, PDataValueType::Command, &bytes).await
    }

    /// Sends a data set that is in memory.
    pub(super) async fn send_data(&mut self, context: u8, bytes: &[u8]) -> Result<(), PacsError> {
        self.send_all(context, PDataValueType::Data, bytes).await
    }

    async fn send_all(
        &mut self,
        context: u8,
        kind: PDataValueType,
        bytes: &[u8],
    ) -> Result<(), PacsError> {
        let room = self.sent_pdu_bytes_max - PDV_HEADER_BYTES;
        let mut chunks = bytes.chunks(room).peekable();
        if chunks.peek().is_none() {
            return self.send_value(context, &kind, true, &[]).await;
        }
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            self.send_value(context, &kind, is_last, chunk).await?;
        }
        Ok(())
    }

    /// Sends a data set as it is read, one PDU in memory at a time.
    pub(super) async fn send_data_from(
        &mut self,
        context: u8,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<(), PacsError> {
        let room = self.sent_pdu_bytes_max - PDV_HEADER_BYTES;
        let mut chunk = Vec::new();
        let mut next = Vec::new();
        read_full(&mut source, &mut chunk, room).await?;
        loop {
            read_full(&mut source, &mut next, room).await?;
            self.send_value(context, &PDataValueType::Data, next.is_empty(), &chunk).await?;
            if next.is_empty() {
                return Ok(());
            }
            std::mem::swap(&mut chunk, &mut next);
        }
    }

    async fn send_value(
        &mut self,
        context: u8,
        kind: &PDataValueType,
        is_last: bool,
        data: &[u8],
    ) -> Result<(), PacsError> {
        let value_length = (data.len() + 2) as u32;
        let mut bytes = Vec::with_capacity(PDU_HEADER_BYTES + PDV_HEADER_BYTES + data.len());
        bytes.extend_from_slice(&[0x04, 0]);
        bytes.extend_from_slice(&(value_length + 4).to_be_bytes());
        bytes.extend_from_slice(&value_length.to_be_bytes());
        let command = u8::from(*kind == PDataValueType::Command);
        bytes.extend_from_slice(&[context, command | u8::from(is_last) << 1]);
        bytes.extend_from_slice(data);
        self.write_bytes(&bytes).await
    }

    /// Releases the association; a peer that does not answer is left behind.
    pub(super) async fn release(mut self) {
        if self.write(&Pdu::ReleaseRQ).await.is_ok() {
            let _ = self.read(self.limits.pdu_bytes_max, "releasing").await;
        }
        let _ = self.stream.shutdown().await;
    }

    /// Tells the peer that the association is over.
    pub(super) async fn abort(&mut self) {
        let reason = AbortRQServiceProviderReason::ReasonNotSpecified;
        let abort = Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) };
        let _ = self.write(&abort).await;
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, pdu: &Pdu) -> Result<(), PacsError> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).map_err(|_| self.protocol("titles that cannot be written"))?;
        self.write_bytes(&bytes).await
    }

    async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), PacsError> {
        let doing = "taking what we send";
        match tokio::time::timeout(self.limits.idle, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.aborted(doing)),
            Err(_) => Err(self.silent(doing)),
        }
    }

    /// Reads one PDU of at most `max` bytes; the peer has the idle timeout to complete it.
    async fn read(&mut self, max: u32, doing: &'static str) -> Result<Pdu, PacsError> {
        match tokio::time::timeout(self.limits.idle, self.read_whole(max, doing)).await {
            Ok(read) => read,
            Err(_) => Err(self.silent(doing)),
        }
    }

    async fn read_whole(&mut self, max: u32, doing: &'static str) -> Result<Pdu, PacsError> {
        loop {
            if let Some(pdu) = self.parse(max)? {
                return Ok(pdu);
            }
            self.buffer.reserve(READ_CHUNK_BYTES);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(self.aborted(doing)),
                Ok(_) => {}
            }
        }
    }

    /// A PDU of at most `max` bytes, when all of it is there.
    fn parse(&mut self, max: u32) -> Result<Option<Pdu>, PacsError> {
        let mut unread = &self.buffer[..];
        let read = read_pdu(&mut unread, max, true);
        // The sentence of dicom-ul may quote what the peer sent.
        let read = read.map_err(|_| self.protocol("a malformed or too large PDU"))?;
        if read.is_some() {
            let taken = self.buffer.len() - unread.len();
            self.buffer.advance(taken);
        }
        Ok(read)
    }

    fn aborted(&self, doing: &'static str) -> PacsError {
        PacsError::Aborted { node: self.node.clone(), doing }
    }

    fn silent(&self, doing: &'static str) -> PacsError {
        PacsError::Silent { node: self.node.clone(), doing, seconds: self.limits.idle.as_secs() }
    }

    /// The peer broke the rules.
    pub(super) fn protocol(&self, what: &str) -> PacsError {
        PacsError::Protocol { node: self.node.clone(), what: what.to_owned() }
    }

    fn unexpected(&self, pdu: &Pdu) -> PacsError {
        let name = match pdu {
            Pdu::Unknown { .. } => "a PDU of unknown type",
            Pdu::AssociationRQ(_) => "an unexpected A-ASSOCIATE-RQ",
            Pdu::AssociationAC(_) => "an unexpected A-ASSOCIATE-AC",
            Pdu::AssociationRJ(_) => "an unexpected A-ASSOCIATE-RJ",
            Pdu::PData { .. } => "an unexpected P-DATA-TF",
            Pdu::ReleaseRQ => "an unexpected A-RELEASE-RQ",
            Pdu::ReleaseRP => "an unexpected A-RELEASE-RP",
            Pdu::AbortRQ { .. } => "an unexpected A-ABORT",
        };
        self.protocol(name)
    }
}

/// Fills `chunk` with up to `room` bytes; less only at the end.
async fn read_full(
    source: &mut (impl AsyncRead + Unpin),
    chunk: &mut Vec<u8>,
    room: usize,
) -> Result<(), PacsError> {
    chunk.clear();
    let mut limited = source.take(room as u64);
    let read = limited.read_to_end(chunk).await;
    read.map(|_| ()).map_err(|source| PacsError::Io { doing: "read an instance to send", source })
}
