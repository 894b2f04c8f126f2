//! Answering queries (C-FIND provider, PS3.4 §C.4.1), from the index that QIDO-RS searches.

use std::collections::BTreeSet;
use std::sync::Arc;

use dicom_dictionary_std::tags;
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::answer;
use super::association::Association;
use super::command::Command;
use super::identifier::{Identifier, QueryLevel, Question, Refusal};
use super::negotiation::Context;
use super::sop_classes::Service;
use super::status;
use crate::archive::{Query, json_key};
use crate::pacs::{PacsError, Shared};
use crate::telemetry::error_chain;
use crate::threads::run_blocking;

/// Results in memory at the same time.
const PAGE_LENGTH: usize = 250;
/// A query with more matches is broken off; the requestor is to ask more narrowly.
const MATCH_COUNT_MAX: usize = 100_000;

/// Answers one query; its identifier follows the command.
///
/// # Errors
/// When the association breaks.
pub(super) async fn find(
    shared: &Arc<Shared>,
    association: &mut Association,
    context: &Context,
    command: &Command,
    service: Service,
) -> Result<(), PacsError> {
    let identifier = Identifier::take(association, context, command, service).await?;
    let question = match identifier.and_then(Identifier::question) {
        Ok(question) => question,
        Err(refusal) => {
            return association.send_command(context.id, &refusal.response(command)).await;
        }
    };
    let mut search = Search { shared, association, context, command, question, match_count: 0 };
    let last = search.answer().await?;
    info!(
        node = search.association.node(),
        audit.event = "110112",
        audit.action = "E",
        level = search.question.level.word(),
        match_count = search.match_count,
        status = format!("{:04X}", last.status()),
        "Query: {} matches",
        search.match_count
    );
    search.association.send_command(context.id, &last).await
}

/// A query that is being answered.
struct Search<'a> {
    shared: &'a Arc<Shared>,
    association: &'a mut Association,
    context: &'a Context,
    command: &'a Command,
    question: Question,
    match_count: usize,
}

impl Search<'_> {
    /// Sends the matches, and gives the last response.
    async fn answer(&mut self) -> Result<Command, PacsError> {
        // A study that comes in meanwhile shifts the pages, so that a result may come again.
        let mut last_page = BTreeSet::new();
        for offset in (0..MATCH_COUNT_MAX).step_by(PAGE_LENGTH) {
            let page = match self.page(offset).await {
                Ok(page) => page,
                Err(refusal) => return Ok(refusal.response(self.command)),
            };
            let is_last = page.len() < PAGE_LENGTH;
            let mut this_page = BTreeSet::new();
            for result in page {
                if self.association.is_cancelled(self.command.message_id())? {
                    return Ok(Command::response_to(self.command, status::CANCELLED));
                }
                let name = self.name_of(&result);
                if !last_page.contains(&name) && !self.tell(&result).await? {
                    return Ok(Refusal {
                        status: status::UNABLE_TO_PROCESS,
                        comment: "a match cannot be written as a data set",
                    }
                    .response(self.command));
                }
                this_page.insert(name);
            }
            last_page = this_page;
            if is_last {
                return Ok(Command::response_to(self.command, status::SUCCESS));
            }
        }
        Ok(Refusal {
            status: status::OUT_OF_RESOURCES,
            comment: "more than 100000 matches, ask more narrowly",
        }
        .response(self.command))
    }

    async fn page(&self, offset: usize) -> Result<Vec<Map<String, Value>>, Refusal> {
        let archive = self.shared.archive.clone();
        let query = Query { limit: PAGE_LENGTH, offset, ..self.question.query.clone() };
        let of_patients = self.question.level == QueryLevel::Patient;
        let found = run_blocking(move || match of_patients {
            true => archive.patients(&query),
            false => archive.search(&query),
        });
        match found.await {
            Ok(Ok(page)) => return Ok(page),
            Ok(Err(error)) => warn!("Cannot answer a query: {}", error_chain(&error)),
            Err(error) => warn!("Cannot answer a query: {}", error_chain(&error)),
        }
        let comment = "the index cannot be searched";
        Err(Refusal { status: status::UNABLE_TO_PROCESS, comment })
    }

    /// Sends one match; says whether it could be written.
    async fn tell(&mut self, result: &Map<String, Value>) -> Result<bool, PacsError> {
        let (title, syntax) = (&self.shared.settings.ae_title, &self.context.transfer_syntax);
        let Some(bytes) = answer::encoded(&self.question, result, title, syntax) else {
            return Ok(false);
        };
        let status = match self.question.matches_all_keys {
            true => status::PENDING,
            false => status::PENDING_WITHOUT_SOME_KEYS,
        };
        let response = Command::response_to(self.command, status).with_data_set();
        self.association.send_command(self.context.id, &response).await?;
        self.association.send_data(self.context.id, &bytes).await?;
        self.match_count += 1;
        Ok(true)
    }

    /// What tells a result from the others of its level.
    fn name_of(&self, result: &Map<String, Value>) -> String {
        let keys = match self.question.level {
            QueryLevel::Patient => [tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID],
            QueryLevel::Study => [tags::STUDY_INSTANCE_UID; 2],
            QueryLevel::Series => [tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID],
            QueryLevel::Image => [tags::SOP_INSTANCE_UID; 2],
        };
        keys.map(|key| result.get(&json_key(key)).map(Value::to_string).unwrap_or_default())
            .join("\n")
    }
}
