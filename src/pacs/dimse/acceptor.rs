//! Associations that other nodes open: C-ECHO and C-STORE provider.
//!
//! DIMSE has neither keys nor encryption. Only configured nodes are let in, told by their title
//! and the address they come from.

use std::net::SocketAddr;
use std::sync::Arc;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ,
    PresentationContextProposed, PresentationContextResult, PresentationContextResultReason,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{Instrument, info, info_span, warn};

use super::association::{Association, Limits, Verdict, plain_uid};
use super::command::{Command, element, field};
use super::receive::{drain, receive};
use super::sop_classes::is_storage;
use super::{TRANSFER_SYNTAXES, status};
use crate::config::DimseNode;
use crate::pacs::{Arrival, PacsError, Shared};
use crate::threads::run_blocking;

/// Takes associations until the listener fails or the task is dropped. A panic costs one.
pub(in crate::pacs) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(shared.settings.association_count_max));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        let permit = Arc::clone(&free).try_acquire_owned().ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(
            async move {
                let is_full = permit.is_none();
                if let Err(error) = serve(&shared, stream, peer, is_full).await {
                    info!("Association ended: {error}");
                }
                drop(permit);
            }
            .instrument(info_span!("association")),
        );
    }
}

/// One association from its request to its end.
async fn serve(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    is_full: bool,
) -> Result<(), PacsError> {
    let limits = Limits {
        pdu_bytes_max: shared.settings.pdu_size_bytes_max,
        idle: shared.settings.idle_timeout(),
    };
    let decide = async |request: &AssociationRQ| match is_full {
        true => Err(congested()),
        false => decide(shared, request, peer).await,
    };
    let mut association = Association::accept(stream, limits, decide).await?;
    let served = answer(shared, &mut association).await;
    if served.is_err() {
        association.abort().await;
    }
    served
}

/// Lets a configured node in, and says which of its contexts we take.
async fn decide(
    shared: &Shared,
    request: &AssociationRQ,
    peer: SocketAddr,
) -> Result<Verdict, AssociationRJ> {
    use AssociationRJServiceUserReason as Reason;
    if request.called_ae_title.trim() != shared.settings.ae_title.trim() {
        return Err(refusal(Reason::CalledAETitleNotRecognized));
    }
    let calling = request.calling_ae_title.trim();
    let titled = shared.settings.dimse.iter().filter(|node| node.ae_title.trim() == calling);
    for node in titled {
        if is_at(node, peer).await {
            let may_store = node.may_send || shared.awaits(&node.name);
            let contexts = request.presentation_contexts.iter();
            let contexts = contexts.map(|context| answer_context(context, may_store)).collect();
            return Ok(Verdict { node: node.name.clone(), contexts });
        }
    }
    Err(refusal(Reason::CallingAETitleNotRecognized))
}

/// Whether a connection comes from where a node is said to be.
async fn is_at(node: &DimseNode, peer: SocketAddr) -> bool {
    let addresses = tokio::net::lookup_host((node.host.as_str(), node.port)).await;
    let from = peer.ip().to_canonical();
    addresses.is_ok_and(|mut known| known.any(|address| address.ip().to_canonical() == from))
}

fn answer_context(
    proposed: &PresentationContextProposed,
    may_store: bool,
) -> PresentationContextResult {
    use PresentationContextResultReason as Reason;
    let result = |reason, transfer_syntax: &str| PresentationContextResult {
        id: proposed.id,
        reason,
        transfer_syntax: transfer_syntax.to_owned(),
    };
    let abstract_syntax = plain_uid(&proposed.abstract_syntax);
    let is_echo = abstract_syntax == uids::VERIFICATION;
    if !is_echo && !is_storage(&abstract_syntax) {
        return result(Reason::AbstractSyntaxNotSupported, uids::IMPLICIT_VR_LITTLE_ENDIAN);
    }
    if !is_echo && !may_store {
        return result(Reason::UserRejection, uids::IMPLICIT_VR_LITTLE_ENDIAN);
    }
    // The sender's order is its preference: what it names first, it need not convert.
    let mut known = proposed.transfer_syntaxes.iter().map(|uid| plain_uid(uid));
    let chosen = known.find(|uid| TRANSFER_SYNTAXES.contains(&uid.as_str()));
    match chosen {
        Some(uid) => result(Reason::Acceptance, &uid),
        None => result(Reason::TransferSyntaxesNotSupported, uids::IMPLICIT_VR_LITTLE_ENDIAN),
    }
}

fn refusal(reason: AssociationRJServiceUserReason) -> AssociationRJ {
    AssociationRJ {
        result: AssociationRJResult::Permanent,
        source: AssociationRJSource::ServiceUser(reason),
    }
}

fn congested() -> AssociationRJ {
    let reason = AssociationRJServiceProviderPresentationReason::LocalLimitExceeded;
    AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(reason),
    }
}

/// Answers commands until the peer releases the association.
async fn answer(shared: &Arc<Shared>, association: &mut Association) -> Result<(), PacsError> {
    let mut stored_count = 0_u64;
    while let Some((context, command)) = association.next_command().await? {
        let Some(accepted) = association.context(context) else {
            return Err(association.protocol("a command in a context that was not accepted"));
        };
        let is_storage = is_storage(&accepted.abstract_syntax);
        let response = match command.field() {
            field::C_ECHO_RQ => Command::response_to(&command, status::SUCCESS),
            field::C_STORE_RQ if is_storage && command.has_data_set() => {
                let status = take_instance(shared, association, context, &command).await?;
                stored_count += u64::from(status == status::SUCCESS);
                Command::response_to(&command, status)
            }
            // Nothing that we do can be cancelled, and a cancel has no response.
            field::C_CANCEL_RQ => continue,
            field::C_STORE_RQ => {
                drain(association, context, &command).await?;
                Command::response_to(&command, status::SOP_CLASS_NOT_SUPPORTED)
            }
            _ => {
                drain(association, context, &command).await?;
                Command::response_to(&command, status::UNRECOGNIZED_OPERATION)
            }
        };
        association.send_command(context, &response).await?;
    }
    if stored_count > 0 {
        info!(node = association.node(), stored_count, "Received {stored_count} instances");
    }
    Ok(())
}

/// Stores an instance and notes its arrival; both are durable before the sender is told.
async fn take_instance(
    shared: &Arc<Shared>,
    association: &mut Association,
    context: u8,
    command: &Command,
) -> Result<u16, PacsError> {
    let received = receive(shared, association, context, command).await?;
    let Some(stored) = received.stored else { return Ok(received.status) };
    // What a C-MOVE of ours brings was asked for; nothing arrived by itself.
    let originator = command.get_text(element::MOVE_ORIGINATOR);
    if originator == Some(shared.settings.ae_title.trim()) {
        return Ok(received.status);
    }
    let arrival = Arrival {
        study: stored.identity.study,
        series: stored.identity.series,
        from: association.node().to_owned(),
    };
    let noted = Arc::clone(shared);
    let noted = run_blocking(move || (noted.arrivals)(&arrival)).await;
    Ok(match noted {
        Ok(true) => received.status,
        // The sender tries again, and the arrival is noted then.
        Ok(false) | Err(_) => status::PROCESSING_FAILURE,
    })
}
