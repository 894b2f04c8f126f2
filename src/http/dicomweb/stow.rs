//! STOW-RS: storing instances (PS3.18 §10.5).

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use tokio::task::JoinSet;

use super::resource::{ROOT, Resource};
use super::stow_response::{Failure, Outcome};
use super::{DICOM, DICOM_JSON, stow_json};
use crate::archive::{self, Stored};
use crate::dicom::StudyUid;
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{ScopePath, base_url, header_text, read_body};
use crate::http::media::MediaType;
use crate::http::nodes;
use crate::http::upload::{self, Received, Upload};

/// Instances of one request that are stored at the same time, while the next is received; their
/// syncs then reach the disk together.
const STORES_AT_ONCE: usize = 8;

const STATUSES: &[(u16, &str)] = &[
    (200, "All instances are stored durably"),
    (202, "Some are stored, others are named with a reason"),
    (400, "The body or a UID is malformed, or there is nothing in the body"),
    (401, "The API key is missing or unknown"),
    (403, "The API key may only read"),
    (408, "The upload was silent for too long"),
    (409, "None is stored; each is named with a reason"),
    (413, "The body is too large"),
    (415, "The content type is not one that is taken"),
    (503, "The server cannot store now; Retry-After says when to try again"),
    (507, "None is stored, because the storage quota is used up"),
];

/// Instances of any study, and of one.
pub(super) fn resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let resource = |path: &str, id: &str, summary: &str| Resource {
        method: axum::http::Method::POST,
        transaction: "Store",
        description: "Takes multipart/related with one Part 10 file per part, or with DICOM JSON and \
                      bulk data named by Content-Location; or a single file, or DICOM JSON alone. \
                      Parts that cannot be stored are named in the reply and the rest is kept; \
                      what is acknowledged is durable. The same bytes again are acknowledged again.",
        takes: &["multipart/related", DICOM, DICOM_JSON],
        gives: &[DICOM_JSON],
        statuses: STATUSES,
        ..Resource::get(format!("{ROOT}{path}"), id.to_owned(), summary.to_owned())
    };
    vec![
        (
            resource("/studies", "store", "Stores instances of any studies."),
            post(async |State(server), headers, body: Body| {
                receive(Request { server, headers, body, only_study: None }).await
            }),
        ),
        (
            resource(
                "/studies/{study}",
                "store_in_study",
                "Stores instances of one study; those of others are refused.",
            ),
            post(async |State(server), ScopePath(scope): ScopePath, headers, body: Body| {
                receive(Request { server, headers, body, only_study: Some(scope.study) }).await
            }),
        ),
    ]
}

struct Request {
    server: Server,
    headers: HeaderMap,
    body: Body,
    only_study: Option<StudyUid>,
}

/// Receives part after part and stores them meanwhile, and tells what became of each.
async fn receive(request: Request) -> Result<Response, ApiError> {
    let Request { server, headers, body, only_study } = request;
    let content_type = header_text(&headers, header::CONTENT_TYPE);
    let media = MediaType::parse(content_type);
    let outcome = Outcome::new(base_url(&server, &headers));
    let mut storing = Storing::new(server.clone(), only_study, outcome);
    match media.as_ref().map(|media| (media.essence.as_str(), media)) {
        Some(("multipart/related", media))
            if media.parameter("type").is_some_and(stow_json::is_json) =>
        {
            let upload = Upload::start(&server, &headers, body)?;
            stow_json::receive(&server, upload, &mut storing).await?;
        }
        // Some clients leave the root's type out; then every part says for itself.
        Some(("multipart/related", media)) if media.root_covers(DICOM) => {
            let mut upload = Upload::start(&server, &headers, body)?;
            while let Some(field) = upload.next().await? {
                let part_type = field.content_type().map_or(DICOM, |mime| mime.essence_str());
                if part_type != DICOM {
                    let sentence = format!("part has content type {part_type}, not {DICOM}");
                    storing.refuse(Failure::unreadable(sentence));
                    upload.skip(field).await?;
                    continue;
                }
                let received = upload.spool(&server, field).await?;
                storing.store(received).await;
            }
        }
        Some((DICOM, _)) => {
            let received = upload::spool_body(&server, &headers, body).await?;
            storing.store(received).await;
        }
        Some((DICOM_JSON, _)) => {
            let body = read_body(body, stow_json::METADATA_BYTES_MAX as u64).await?;
            stow_json::store_body(&server, &body, &mut storing).await?;
        }
        _ => {
            let wanted = "multipart/related; type=\"application/dicom\" or \
                          type=\"application/dicom+json\", application/dicom or \
                          application/dicom+json";
            return Err(ApiError::unsupported_media_type(content_type, wanted));
        }
    }
    storing.finish().await.reply()
}

/// Instances on their way into the archive, told in the order they came.
pub(super) struct Storing {
    server: Server,
    only_study: Option<StudyUid>,
    outcome: Outcome,
    running: JoinSet<(usize, Result<Stored, Failure>)>,
    count: usize,
    ended: Vec<(usize, Result<Stored, Failure>)>,
}

impl Storing {
    pub(super) fn new(server: Server, only_study: Option<StudyUid>, outcome: Outcome) -> Self {
        let (running, ended) = (JoinSet::new(), Vec::new());
        Self { server, only_study, outcome, running, count: 0, ended }
    }

    pub(super) fn refuse(&mut self, failure: Failure) {
        self.ended.push((self.count, Err(failure)));
        self.count += 1;
    }

    /// Begins to store an instance; waits while too many are on their way.
    pub(super) async fn store(&mut self, received: Received) {
        let upload = match received {
            Received::Spooled(upload) => upload,
            Received::TooLarge => {
                let max = self.server.app.config.dicom.instance_size_bytes_max;
                return self.refuse(Failure::too_large(max));
            }
        };
        while self.running.len() >= STORES_AT_ONCE {
            self.take_one().await;
        }
        let (server, only_study, number) =
            (self.server.clone(), self.only_study.clone(), self.count);
        self.count += 1;
        self.running.spawn(async move { (number, store(&server, upload, only_study).await) });
    }

    async fn take_one(&mut self) {
        match self.running.join_next().await {
            Some(Ok(ended)) => self.ended.push(ended),
            // Nothing is lost without a word, even when a task of ours is.
            Some(Err(_)) => {
                let lost = ApiError::new(ErrorKind::Internal, "a task that stores was lost");
                self.refuse(Failure::ours(&lost));
            }
            None => {}
        }
    }

    /// Waits for all that are on their way.
    pub(super) async fn finish(mut self) -> Outcome {
        while !self.running.is_empty() {
            self.take_one().await;
        }
        self.ended.sort_by_key(|(number, _)| *number);
        for (_, ended) in self.ended {
            match ended {
                Ok(stored) => self.outcome.keep(stored),
                Err(failure) => self.outcome.refuse(failure),
            }
        }
        self.outcome
    }
}

async fn store(
    server: &Server,
    upload: archive::Upload,
    only_study: Option<StudyUid>,
) -> Result<Stored, Failure> {
    match upload::store(server, upload, only_study).await {
        Ok(Ok(stored)) => match nodes::note_arrival(server, &stored).await {
            Ok(()) => Ok(stored),
            Err(error) => Err(Failure::ours(&error)),
        },
        Ok(Err(error)) => Err(Failure::of(error)),
        // A panic in the parser costs this instance only.
        Err(error) => Err(Failure::ours(&error)),
    }
}
