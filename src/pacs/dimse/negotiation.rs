//! What two sides agree on when an association begins (PS3.7 §D.3, PS3.8 §7.1).

use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};

/// DICOM Application Context Name (PS3.7 Annex A).
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Names this implementation in associations and file meta information (PS3.7 §D.3.3.2).
pub(super) const IMPLEMENTATION_CLASS_UID: &str = "2.25.217064797362660415649801726194167947893";
/// Its version, 16 characters at most.
pub(super) const IMPLEMENTATION_VERSION_NAME: &str = concat!("SEER_", env!("CARGO_PKG_VERSION"));

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) id: u8,
    pub(super) abstract_syntax: String,
    pub(super) transfer_syntax: String,
    /// Instances may be sent on it by us …
    pub(super) is_for_sending: bool,
    /// … and by the peer.
    pub(super) is_for_receiving: bool,
}

/// What we ask for.
pub(super) struct Request<'a> {
    pub(super) calling_ae_title: &'a str,
    pub(super) called_ae_title: &'a str,
    pub(super) contexts: Vec<PresentationContextProposed>,
    /// SOP classes that the peer shall send to us, as in C-GET.
    pub(super) scp_roles: Vec<&'a str>,
}

impl Request<'_> {
    pub(super) fn into_pdu(self, pdu_bytes_max: u32) -> Pdu {
        let mut user_variables = user_variables(pdu_bytes_max);
        user_variables.extend(self.scp_roles.into_iter().map(|sop_class| {
            let roles = RequestorRoles { scu: false, scp: true };
            UserVariableItem::ScuScpRoleSelectionSubItem(sop_class.to_owned(), roles)
        }));
        Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: self.calling_ae_title.to_owned(),
            called_ae_title: self.called_ae_title.to_owned(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: self.contexts,
            user_variables,
        })
    }
}

/// What an acceptor decides of a request.
pub(super) struct Verdict {
    /// What we call the peer.
    pub(super) node: String,
    /// A result for each proposed context, in order.
    pub(super) contexts: Vec<PresentationContextResult>,
    /// The roles granted, for SOP classes whose roles were asked for (PS3.7 §D.3.3.4). Without
    /// them, the peer sends.
    pub(super) roles: Vec<(String, RequestorRoles)>,
    /// The answers to what was asked for in extended negotiation (PS3.7 §D.3.3.5).
    pub(super) extensions: Vec<(String, Vec<u8>)>,
}

impl Verdict {
    /// What the peer may do with instances of a SOP class.
    fn roles_for(&self, sop_class: &str) -> RequestorRoles {
        let granted = self.roles.iter().find(|(uid, _)| uid == sop_class);
        granted.map_or(RequestorRoles { scu: true, scp: false }, |(_, roles)| *roles)
    }

    /// What the answer to the peer's request says of roles and extensions.
    fn variables(&self) -> impl Iterator<Item = UserVariableItem> {
        let roles = self.roles.iter().cloned();
        let extensions = self.extensions.iter().cloned();
        let roles =
            roles.map(|(uid, roles)| UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles));
        roles.chain(extensions.map(|(uid, information)| {
            UserVariableItem::SopClassExtendedNegotiationSubItem(uid, information)
        }))
    }

    /// The contexts accepted of a request.
    pub(super) fn accepted(&self, request: &AssociationRQ) -> Vec<Context> {
        let contexts = self.contexts.iter().filter_map(|result| {
            let mut proposed = request.presentation_contexts.iter();
            let asked = proposed.find(|asked| asked.id == result.id)?;
            let abstract_syntax = plain_uid(&asked.abstract_syntax);
            let roles = self.roles_for(&abstract_syntax);
            is_accepted(result).then(|| Context {
                id: result.id,
                abstract_syntax,
                transfer_syntax: result.transfer_syntax.clone(),
                is_for_sending: roles.scp,
                is_for_receiving: roles.scu,
            })
        });
        contexts.collect()
    }

    /// The answer to a request.
    pub(super) fn into_answer(self, request: AssociationRQ, pdu_bytes_max: u32) -> AssociationAC {
        let mut user_variables = user_variables(pdu_bytes_max);
        user_variables.extend(self.variables());
        AssociationAC {
            protocol_version: 1,
            application_context_name: APPLICATION_CONTEXT.into(),
            called_ae_title: request.called_ae_title,
            calling_ae_title: request.calling_ae_title,
            presentation_contexts: self.contexts,
            user_variables,
        }
    }
}

fn is_accepted(result: &PresentationContextResult) -> bool {
    result.reason == PresentationContextResultReason::Acceptance
}

/// The contexts that a peer accepted of those we proposed.
pub(super) fn accepted_by_peer(
    proposed: &[PresentationContextProposed],
    answer: &AssociationAC,
) -> Vec<Context> {
    let results = answer.presentation_contexts.iter().filter(|result| is_accepted(result));
    let contexts = results.filter_map(|result| {
        let asked = proposed.iter().find(|context| context.id == result.id)?;
        Some(Context {
            id: result.id,
            abstract_syntax: asked.abstract_syntax.clone(),
            transfer_syntax: plain_uid(&result.transfer_syntax),
            is_for_sending: true,
            is_for_receiving: true,
        })
    });
    contexts.collect()
}

fn user_variables(pdu_bytes_max: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(pdu_bytes_max),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.into()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.into()),
    ]
}

/// A UID without the padding that some peers send.
pub(super) fn plain_uid(uid: &str) -> String {
    uid.trim_matches(['\0', ' ']).to_owned()
}
