//! STOW-RS: storing instances (PS3.18 §10.5).

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::DICOM;
use super::stow_response::{Failure, Outcome};
use crate::dicom::StudyUid;
use crate::http::Server;
use crate::http::error::{ApiError, UploadProblems};
use crate::http::extract::{ScopePath, base_url, header_text};
use crate::http::media::MediaType;
use crate::http::nodes;
use crate::http::upload::{self, Received, Upload};

/// Stores instances of any studies.
///
/// Takes `multipart/related; type="application/dicom"` with one Part 10 file per part, or a single
/// file as `application/dicom`. Parts that cannot be stored are named in the reply and the rest is
/// kept. The reply is a Store Instances Response (PS3.18 §10.5.3, Annex I).
#[utoipa::path(
    post,
    path = "/dicom-web/studies",
    tag = "dicomweb",
    request_body(content(
        (Vec<u8> = "multipart/related"),
        (Vec<u8> = "application/dicom"),
    )),
    responses(
        (status = 200, description = "All instances are stored durably", content_type = "application/dicom+json", body = Object),
        (status = 202, description = "Some are stored, others are named with a reason", content_type = "application/dicom+json", body = Object),
        (status = 409, description = "None is stored; each is named with a reason", content_type = "application/dicom+json", body = Object),
        UploadProblems,
    )
)]
pub(super) async fn store(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    receive(Request { server, headers, body, only_study: None }).await
}

/// Stores instances of one study; those of others are refused.
///
/// As `POST /dicom-web/studies` otherwise.
#[utoipa::path(
    post,
    path = "/dicom-web/studies/{study}",
    tag = "dicomweb",
    params(("study" = String, Path, description = "Study Instance UID")),
    request_body(content(
        (Vec<u8> = "multipart/related"),
        (Vec<u8> = "application/dicom"),
    )),
    responses(
        (status = 200, description = "All instances are stored durably", content_type = "application/dicom+json", body = Object),
        (status = 202, description = "Some are stored, others are named with a reason", content_type = "application/dicom+json", body = Object),
        (status = 409, description = "None is stored; each is named with a reason", content_type = "application/dicom+json", body = Object),
        UploadProblems,
    )
)]
pub(super) async fn store_in_study(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    receive(Request { server, headers, body, only_study: Some(scope.study) }).await
}

struct Request {
    server: Server,
    headers: HeaderMap,
    body: Body,
    only_study: Option<StudyUid>,
}

/// Receives and stores part after part, and tells what became of each.
async fn receive(request: Request) -> Result<Response, ApiError> {
    let Request { server, headers, body, only_study } = request;
    let content_type = header_text(&headers, header::CONTENT_TYPE);
    let media = MediaType::parse(content_type);
    let mut outcome = Outcome::new(base_url(&server, &headers));
    match media.as_ref().map(|media| (media.essence.as_str(), media)) {
        // Some clients leave the root's type out; then every part says for itself.
        Some(("multipart/related", media)) if media.root_covers(DICOM) => {
            let mut upload = Upload::start(&server, &headers, body)?;
            while let Some(field) = upload.next().await? {
                let part_type = field.content_type().map_or(DICOM, |mime| mime.essence_str());
                if part_type != DICOM {
                    let sentence = format!("part has content type {part_type}, not {DICOM}");
                    outcome.refuse(Failure::unreadable(sentence));
                    upload.skip(field).await?;
                    continue;
                }
                let received = upload.spool(&server, field).await?;
                store_received(&server, received, only_study.as_ref(), &mut outcome).await;
            }
        }
        Some((DICOM, _)) => {
            let received = upload::spool_body(&server, &headers, body).await?;
            store_received(&server, received, only_study.as_ref(), &mut outcome).await;
        }
        _ => {
            let wanted = "multipart/related; type=\"application/dicom\" or application/dicom";
            return Err(ApiError::unsupported_media_type(content_type, wanted));
        }
    }
    outcome.reply()
}

async fn store_received(
    server: &Server,
    received: Received,
    only_study: Option<&StudyUid>,
    outcome: &mut Outcome,
) {
    let spooled = match received {
        Received::Spooled(spooled) => spooled,
        Received::TooLarge => {
            let max = server.app.config.dicom.instance_size_bytes_max;
            return outcome.refuse(Failure::too_large(max));
        }
    };
    match upload::store(server, spooled, only_study.cloned()).await {
        Ok(Ok(stored)) => match nodes::note_arrival(server, &stored).await {
            Ok(()) => outcome.keep(stored),
            Err(error) => outcome.refuse(Failure::ours(&error)),
        },
        Ok(Err(error)) => outcome.refuse(Failure::of(error)),
        // A panic in the parser costs this instance only.
        Err(error) => outcome.refuse(Failure::ours(&error)),
    }
}
