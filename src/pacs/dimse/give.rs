//! Giving what is stored here to nodes that retrieve it: C-MOVE provider (PS3.4 §C.4.2) and C-GET
//! provider (PS3.4 §C.4.3).

use std::sync::Arc;

use tracing::{debug, info};

use super::association::Association;
use super::command::{Command, element};
use super::identifier::{Identifier, Refusal};
use super::negotiation::Context;
use super::send::{Delivery, Sent, deliver, open_for};
use super::sop_classes::Service;
use super::status;
use super::suboperations::{Tally, instances_of};
use crate::config::DimseNode;
use crate::pacs::{Outgoing, PacsError, Shared};

/// A retrieval as its requestor asked for it.
pub(super) struct Retrieval<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) association: &'a mut Association,
    pub(super) context: &'a Context,
    pub(super) command: &'a Command,
    pub(super) service: Service,
}

impl Retrieval<'_> {
    /// Answers a C-MOVE: what is wanted goes to a configured node, on an association of its own.
    ///
    /// # Errors
    /// When the requestor's association breaks.
    pub(super) async fn answer_move(mut self) -> Result<(), PacsError> {
        let instances = match self.instances().await? {
            Ok(instances) => instances,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let Some(node) = self.destination().cloned() else {
            let comment = "the move destination is not configured";
            let status = status::MOVE_DESTINATION_UNKNOWN;
            return self.refuse(Refusal { status, comment }).await;
        };
        let mut tally = Tally::new(instances.len());
        if !instances.is_empty() {
            self.send_to(&node, &instances, &mut tally).await?;
        }
        self.conclude(&tally, &node.name).await
    }

    /// Answers a C-GET: what is wanted comes back on the same association.
    ///
    /// # Errors
    /// When the association breaks.
    pub(super) async fn answer_get(mut self) -> Result<(), PacsError> {
        let instances = match self.instances().await? {
            Ok(instances) => instances,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let mut tally = Tally::new(instances.len());
        for (instance, message_id) in instances.iter().zip((1..=u16::MAX).cycle()) {
            if self.is_cancelled()? {
                break;
            }
            let delivery = Delivery { instance, message_id, originator: None };
            let sent = deliver(self.shared, self.association, delivery).await?;
            self.note(&mut tally, instance, &sent).await?;
        }
        let receiver = self.association.node().to_owned();
        self.conclude(&tally, &receiver).await
    }

    /// The instances wanted; the identifier follows the command.
    async fn instances(&mut self) -> Result<Result<Vec<Outgoing>, Refusal>, PacsError> {
        let (context, command) = (self.context, self.command);
        let taken = Identifier::take(self.association, context, command, self.service).await?;
        match taken.and_then(|identifier| identifier.wanted()) {
            Ok(query) => Ok(instances_of(self.shared, query).await),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn destination(&self) -> Option<&DimseNode> {
        let title = self.command.get_text(element::MOVE_DESTINATION)?;
        self.shared.settings.dimse.iter().find(|node| node.ae_title.trim() == title)
    }

    async fn send_to(
        &mut self,
        node: &DimseNode,
        instances: &[Outgoing],
        tally: &mut Tally,
    ) -> Result<(), PacsError> {
        let mut receiver = match open_for(self.shared, node, instances).await {
            Ok(receiver) => receiver,
            Err(error) => {
                info!("Cannot move instances: {error}");
                tally.fail_all(instances);
                return Ok(());
            }
        };
        match self.send_on(&mut receiver, instances, tally).await {
            Ok(()) => receiver.release().await,
            Err(error) => {
                receiver.abort().await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends over an association to the destination; when that breaks, the rest has failed.
    async fn send_on(
        &mut self,
        receiver: &mut Association,
        instances: &[Outgoing],
        tally: &mut Tally,
    ) -> Result<(), PacsError> {
        let title = self.association.ae_title().to_owned();
        let originator = Some((title.as_str(), self.command.message_id()));
        let message_ids = (1..=u16::MAX).cycle();
        for ((index, instance), message_id) in instances.iter().enumerate().zip(message_ids) {
            if self.is_cancelled()? {
                return Ok(());
            }
            let delivery = Delivery { instance, message_id, originator };
            match deliver(self.shared, receiver, delivery).await {
                Ok(sent) => self.note(tally, instance, &sent).await?,
                Err(error) => {
                    info!("Cannot move the rest of the instances: {error}");
                    tally.fail_all(&instances[index..]);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn is_cancelled(&mut self) -> Result<bool, PacsError> {
        self.association.is_cancelled(self.command.message_id())
    }

    /// Counts an instance and tells the requestor, unless the last response says it.
    async fn note(
        &mut self,
        tally: &mut Tally,
        instance: &Outgoing,
        sent: &Sent,
    ) -> Result<(), PacsError> {
        tally.count(instance, sent);
        match sent {
            Sent::Unsendable(error) => debug!("An instance is not sent: {error}"),
            Sent::Answered(_) => {}
        }
        match tally.is_over() {
            true => Ok(()),
            false => tally.tell_pending(self.association, self.context, self.command).await,
        }
    }

    async fn refuse(self, refusal: Refusal) -> Result<(), PacsError> {
        self.association.send_command(self.context.id, &refusal.response(self.command)).await
    }

    async fn conclude(self, tally: &Tally, receiver: &str) -> Result<(), PacsError> {
        info!(
            node = self.association.node(),
            receiver,
            audit.event = "110104",
            audit.action = "R",
            instance.count = tally.kept_count(),
            instance.failed_count = tally.failed_count(),
            status = format!("{:04X}", tally.status()),
            "DICOM Instances Transferred: {} instances",
            tally.kept_count()
        );
        tally.conclude(self.association, self.context, self.command).await
    }
}
