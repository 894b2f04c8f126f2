//! Associations that other nodes open: who is let in, and to what. C-ECHO and C-STORE provider;
//! queries and retrievals are passed on.
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
    RequestorRoles, UserVariableItem,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{Instrument, info, info_span, warn};

use super::association::{Association, Limits};
use super::command::{Command, element, field};
use super::find::find;
use super::give::Retrieval;
use super::identifier::granted_extension;
use super::negotiation::{Context, Verdict, plain_uid};
use super::receive::{drain, receive};
use super::sop_classes::{Operation, Service, is_storage, service};
use super::{TRANSFER_SYNTAXES, UNCOMPRESSED, status};
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
            let rights = Rights { may_store, may_query: node.may_query };
            return Ok(rights.answer(&node.name, request));
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

/// What a node may do.
#[derive(Clone, Copy)]
struct Rights {
    may_store: bool,
    may_query: bool,
}

impl Rights {
    fn answer(self, node: &str, request: &AssociationRQ) -> Verdict {
        let roles: Vec<(String, RequestorRoles)> =
            request.user_variables.iter().filter_map(|item| self.granted_roles(item)).collect();
        let contexts = request.presentation_contexts.iter();
        let contexts = contexts.map(|context| self.answer_context(context, &roles)).collect();
        let extensions = request.user_variables.iter().filter_map(|item| match item {
            UserVariableItem::SopClassExtendedNegotiationSubItem(uid, asked) => {
                let uid = plain_uid(uid);
                let service = service(&uid).filter(|_| self.may_query)?;
                Some((uid, granted_extension(service, asked)))
            }
            _ => None,
        });
        let extensions = extensions.collect();
        Verdict { node: node.to_owned(), contexts, roles, extensions }
    }

    /// Who retrieves takes instances on its own association (PS3.4 §C.5.3).
    fn granted_roles(self, item: &UserVariableItem) -> Option<(String, RequestorRoles)> {
        let UserVariableItem::ScuScpRoleSelectionSubItem(uid, asked) = item else { return None };
        let uid = plain_uid(uid);
        let granted =
            RequestorRoles { scu: asked.scu && self.may_store, scp: asked.scp && self.may_query };
        is_storage(&uid).then_some((uid, granted))
    }

    fn answer_context(
        self,
        proposed: &PresentationContextProposed,
        roles: &[(String, RequestorRoles)],
    ) -> PresentationContextResult {
        use PresentationContextResultReason as Reason;
        let result = |reason, transfer_syntax: &str| PresentationContextResult {
            id: proposed.id,
            reason,
            transfer_syntax: transfer_syntax.to_owned(),
        };
        let refused = |reason| result(reason, uids::IMPLICIT_VR_LITTLE_ENDIAN);
        let uid = plain_uid(&proposed.abstract_syntax);
        let granted = roles.iter().find(|(class, _)| *class == uid).map(|(_, roles)| roles);
        let (is_allowed, takes_instances) = match (&*uid, granted) {
            (uids::VERIFICATION, _) => (true, false),
            (uid, _) if service(uid).is_some() => (self.may_query, true),
            (uid, _) if !is_storage(uid) => return refused(Reason::AbstractSyntaxNotSupported),
            (_, Some(roles)) => (roles.scu || roles.scp, roles.scp),
            (_, None) => (self.may_store, false),
        };
        if !is_allowed {
            return refused(Reason::UserRejection);
        }
        // The sender's order is its preference: what it names first, it need not convert. What we
        // send may be stored in any transfer syntax, and can be had uncompressed.
        let mut known = proposed.transfer_syntaxes.iter().map(|uid| plain_uid(uid));
        let plain = takes_instances
            .then(|| known.clone().find(|uid| UNCOMPRESSED.contains(&uid.as_str())))
            .flatten();
        let is_identifier = service(&uid).is_some();
        let chosen = plain.or_else(|| {
            known.find(|uid| !is_identifier && TRANSFER_SYNTAXES.contains(&uid.as_str()))
        });
        match chosen {
            Some(uid) => result(Reason::Acceptance, &uid),
            None => refused(Reason::TransferSyntaxesNotSupported),
        }
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
        let is_storage = accepted.is_for_receiving && is_storage(&accepted.abstract_syntax);
        if let Some(service) = service(&accepted.abstract_syntax) {
            let context = accepted.clone();
            if provide(shared, association, &context, &command, service).await? {
                continue;
            }
        }
        let response = match command.field() {
            field::C_ECHO_RQ => Command::response_to(&command, status::SUCCESS),
            field::C_STORE_RQ if is_storage && command.has_data_set() => {
                let status = take_instance(shared, association, context, &command).await?;
                stored_count += u64::from(status == status::SUCCESS);
                Command::response_to(&command, status)
            }
            // What it would cancel is over already, and a cancel has no response.
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

/// Answers a query or retrieval; says whether the command was one that belongs to the service.
async fn provide(
    shared: &Arc<Shared>,
    association: &mut Association,
    context: &Context,
    command: &Command,
    service: Service,
) -> Result<bool, PacsError> {
    association.forget_cancels();
    let retrieval = |association| Retrieval { shared, association, context, command, service };
    match (service.operation, command.field()) {
        (Operation::Find, field::C_FIND_RQ) => {
            find(shared, association, context, command, service).await?;
        }
        (Operation::Move, field::C_MOVE_RQ) => retrieval(association).answer_move().await?,
        (Operation::Get, field::C_GET_RQ) => retrieval(association).answer_get().await?,
        (Operation::Find | Operation::Move | Operation::Get, _) => return Ok(false),
    }
    Ok(true)
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
