//! Associations that we open: verification and queries.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::{
    EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN,
};
use dicom_ul::pdu::PresentationContextProposed;
use tokio::net::TcpStream;

use super::association::{Association, Limits};
use super::command::{Command, element, field};
use super::negotiation::Request;
use super::status;
use crate::config::DimseNode;
use crate::dicom::{DicomLimits, SeriesUid, StudyUid, read_identifier};
use crate::pacs::{PacsError, RemoteSeries, Shared};

/// Identifiers in query responses hold some keys; larger ones are refused.
const IDENTIFIER_BYTES_MAX: usize = 1 << 20;
/// More series than any study has; a peer that sends more is broken.
const RESPONSE_COUNT_MAX: usize = 10_000;

const FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;

/// Opens an association for some abstract syntaxes, each in its own context.
pub(super) async fn open(
    shared: &Shared,
    node: &DimseNode,
    contexts: Vec<PresentationContextProposed>,
    scp_roles: Vec<&str>,
) -> Result<Association, PacsError> {
    let connecting = TcpStream::connect((node.host.as_str(), node.port));
    let limit = shared.settings.connect_timeout();
    let failed = |source| PacsError::Connect { node: node.name.clone(), source };
    let stream = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let request = Request {
        calling_ae_title: &shared.settings.ae_title,
        called_ae_title: &node.ae_title,
        contexts,
        scp_roles,
    };
    let limits = Limits {
        pdu_bytes_max: shared.settings.pdu_size_bytes_max,
        idle: shared.settings.idle_timeout(),
    };
    Association::request(stream, &node.name, request, limits).await
}

/// The context number `index` (from 0) of a request, with the uncompressed transfer syntaxes.
pub(super) fn plain_context(index: usize, abstract_syntax: &str) -> PresentationContextProposed {
    context(
        index,
        abstract_syntax,
        &[uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN],
    )
}

/// The context number `index` (from 0, 127 at most) of a request; ids are odd (PS3.8 §9.3.2.2).
pub(super) fn context(
    index: usize,
    abstract_syntax: &str,
    transfer_syntaxes: &[&str],
) -> PresentationContextProposed {
    PresentationContextProposed {
        id: (index * 2 + 1) as u8,
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntaxes: transfer_syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
    }
}

/// Asks a node whether it is there (C-ECHO).
///
/// # Errors
/// [`PacsError`] that says what did not answer.
pub(in crate::pacs) async fn echo(shared: &Shared, node: &DimseNode) -> Result<(), PacsError> {
    let contexts = vec![plain_context(0, uids::VERIFICATION)];
    let mut association = open(shared, node, contexts, Vec::new()).await?;
    let context = association.context_for(uids::VERIFICATION)?.id;
    let request = Command::request(field::C_ECHO_RQ, 1)
        .uid(element::AFFECTED_SOP_CLASS_UID, uids::VERIFICATION);
    association.send_command(context, &request).await?;
    let (_, response) = expect(&mut association, field::C_ECHO_RSP).await?;
    association.release().await;
    match response.status() {
        status::SUCCESS => Ok(()),
        status => Err(PacsError::Status { node: node.name.clone(), operation: "C-ECHO", status }),
    }
}

/// The next response, which must be of the expected kind.
pub(super) async fn expect(
    association: &mut Association,
    command_field: u16,
) -> Result<(u8, Command), PacsError> {
    match association.next_command().await? {
        Some((context, command)) if command.field() == command_field => Ok((context, command)),
        Some((_, command)) => {
            let what = format!("command {:04X}H where a response belongs", command.field());
            Err(association.protocol(&what))
        }
        None => Err(association.protocol("a release where a response belongs")),
    }
}

/// The series that a node has of a study (C-FIND, Study Root, level SERIES).
///
/// # Errors
/// [`PacsError`] that says what did not answer.
pub(in crate::pacs) async fn series_of(
    shared: &Shared,
    node: &DimseNode,
    study: &StudyUid,
) -> Result<Vec<RemoteSeries>, PacsError> {
    let mut keys = InMemDicomObject::new_empty();
    put(&mut keys, tags::QUERY_RETRIEVE_LEVEL, VR::CS, "SERIES");
    put(&mut keys, tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    put(&mut keys, tags::SERIES_INSTANCE_UID, VR::UI, "");
    put(&mut keys, tags::MODALITY, VR::CS, "");
    put(&mut keys, tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, "");
    let found = find(shared, node, &keys).await?;
    Ok(found.iter().filter_map(read_series).collect())
}

fn put(keys: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    let value = match value {
        "" => PrimitiveValue::Empty,
        value => PrimitiveValue::from(value),
    };
    keys.put(DataElement::new(tag, vr, value));
}

fn read_series(found: &InMemDicomObject) -> Option<RemoteSeries> {
    let text = |tag| {
        let text = found.get(tag)?.value().to_str().ok()?;
        Some(text.trim_matches(['\0', ' ']).to_owned())
    };
    Some(RemoteSeries {
        series: SeriesUid::parse(&text(tags::SERIES_INSTANCE_UID)?).ok()?,
        modality: text(tags::MODALITY).unwrap_or_default(),
        instance_count: text(tags::NUMBER_OF_SERIES_RELATED_INSTANCES)
            .and_then(|count| count.parse().ok()),
    })
}

/// Runs one query; the identifiers pass the guard.
async fn find(
    shared: &Shared,
    node: &DimseNode,
    keys: &InMemDicomObject,
) -> Result<Vec<InMemDicomObject>, PacsError> {
    let mut association = open(shared, node, vec![plain_context(0, FIND)], Vec::new()).await?;
    let context = association.context_for(FIND)?;
    let request = Command::request(field::C_FIND_RQ, 1)
        .uid(element::AFFECTED_SOP_CLASS_UID, FIND)
        .number(element::PRIORITY, 0)
        .with_data_set();
    association.send_command(context.id, &request).await?;
    let identifier = encode(keys, &context.transfer_syntax)
        .ok_or_else(|| association.protocol("a transfer syntax we did not propose"))?;
    association.send_data(context.id, &identifier).await?;
    let mut found = Vec::new();
    loop {
        let (id, response) = expect(&mut association, field::C_FIND_RSP).await?;
        let identifier = match response.has_data_set() {
            true => Some(association.small_data_set(id, IDENTIFIER_BYTES_MAX).await?),
            false => None,
        };
        let status = response.status();
        if !status::is_pending(status) {
            association.release().await;
            return match status {
                status::SUCCESS => Ok(found),
                status => {
                    let node = node.name.clone();
                    Err(PacsError::Status { node, operation: "C-FIND", status })
                }
            };
        }
        let Some(bytes) = identifier else {
            return Err(association.protocol("a match without identifier"));
        };
        if found.len() == RESPONSE_COUNT_MAX {
            return Err(association.protocol("more than 10000 matches"));
        }
        let limits =
            DicomLimits { nesting_depth_max: 8, element_count_max: 4096, ..Default::default() };
        let read = read_identifier(&bytes, &context.transfer_syntax, &limits);
        found.push(read.map_err(|source| PacsError::Dicom { node: node.name.clone(), source })?);
    }
}

/// Writes a small data set of our own.
pub(super) fn encode(object: &InMemDicomObject, transfer_syntax: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let written = match transfer_syntax {
        uids::EXPLICIT_VR_LITTLE_ENDIAN => {
            object.write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        }
        uids::IMPLICIT_VR_LITTLE_ENDIAN => {
            object.write_dataset_with_ts(&mut bytes, &IMPLICIT_VR_LITTLE_ENDIAN.erased())
        }
        _ => return None,
    };
    written.ok().map(|()| bytes)
}
