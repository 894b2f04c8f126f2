//! What reviewers say of results.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::create::store;
use crate::bank::RejectReason;
use crate::dicom::SopInstanceUid;
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Problem, ReadProblems, UploadProblems};
use crate::http::extract::{OrderPath, header_text, read_json};
use crate::http::media::MediaType;
use crate::http::upload::Upload;
use crate::orders::{Feedback, FeedbackEntry, Verdict, VerdictWord};
use crate::threads::run_blocking;

/// Feedback to an order.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedbackRequest {
    /// What is said of the result.
    #[schema(example = "reject")]
    verdict: VerdictWord,
    /// Why it is rejected; needed for `reject`.
    #[serde(default)]
    #[schema(example = "wrong_side")]
    reason: Option<RejectReason>,
    /// In words; kept with the order, never in the bank.
    #[serde(default)]
    comment: Option<String>,
    /// SOP Instance UID of a stored segmentation; needed for `corrected`.
    #[serde(default)]
    sop_instance_uid: Option<String>,
}

/// Feedback that brings the corrected segmentation along, as form fields.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents form fields that are read one by one")]
struct FeedbackUpload {
    /// `corrected`, also when absent.
    verdict: Option<VerdictWord>,
    /// In words.
    comment: Option<String>,
    /// The corrected DICOM SEG, stored as by STOW-RS.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// All feedback to an order.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct FeedbackList {
    /// Oldest first; the last one counts.
    feedback: Vec<FeedbackEntry>,
}

/// Takes feedback to a completed or refused order: accepted, rejected with a reason, or corrected.
///
/// A corrected segmentation is compared with ours segment by segment; the mean Dice is the reward.
/// For an order that was refused it says what should have come: the reward is 0.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/feedback",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    request_body(content(
        (FeedbackRequest = "application/json"),
        (FeedbackUpload = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "It is kept", body = FeedbackEntry),
        (status = 404, description = "There is no such order or segmentation", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "The order has no result to judge", content_type = "application/problem+json", body = Problem),
        UploadProblems,
    )
)]
pub(super) async fn give(
    State(server): State<Server>,
    caller: Caller,
    OrderPath(id): OrderPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FeedbackEntry>, ApiError> {
    let content_type = header_text(&headers, header::CONTENT_TYPE);
    let essence = MediaType::parse(content_type).map(|media| media.essence).unwrap_or_default();
    let request = match essence.as_str() {
        "application/json" => {
            read_json(&headers, body, server.settings().json_size_bytes_max).await?
        }
        "multipart/form-data" => read_form(&server, id, &headers, body).await?,
        _ => {
            let wanted = "application/json or multipart/form-data";
            return Err(ApiError::unsupported_media_type(content_type, wanted));
        }
    };
    let feedback = request.into_feedback(caller)?;
    let orders = server.app.orders.clone();
    Ok(Json(run_blocking(move || orders.give_feedback(id, feedback)).await??))
}

/// Lists the feedback to an order, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/feedback",
    tag = "orders",
    params(("id" = uuid::Uuid, Path, description = "The order")),
    responses((status = 200, description = "The feedback", body = FeedbackList), ReadProblems)
)]
pub(super) async fn list(
    State(server): State<Server>,
    OrderPath(id): OrderPath,
) -> Result<Json<FeedbackList>, ApiError> {
    let orders = server.app.orders.clone();
    let feedback = run_blocking(move || orders.feedback(id)).await??;
    Ok(Json(FeedbackList { feedback }))
}

impl FeedbackRequest {
    fn into_feedback(self, caller: Caller) -> Result<Feedback, ApiError> {
        let verdict = match (self.verdict, self.reason, self.sop_instance_uid) {
            (VerdictWord::Accept, None, None) => Verdict::Accept,
            (VerdictWord::Reject, Some(reason), None) => Verdict::Reject(reason),
            (VerdictWord::Corrected, None, Some(uid)) => {
                Verdict::Corrected(SopInstanceUid::parse(&uid)?)
            }
            (VerdictWord::Accept, ..) => {
                return Err(ApiError::invalid("accept takes neither reason nor segmentation"));
            }
            (VerdictWord::Reject, ..) => {
                return Err(ApiError::invalid("reject takes a reason and no segmentation"));
            }
            (VerdictWord::Corrected, ..) => {
                return Err(ApiError::invalid("corrected takes a segmentation and no reason"));
            }
        };
        Ok(Feedback { verdict, comment: self.comment, actor: caller.name })
    }
}

/// Reads a form: the file is stored at once, within the order's study alone.
async fn read_form(
    server: &Server,
    id: uuid::Uuid,
    headers: &HeaderMap,
    body: Body,
) -> Result<FeedbackRequest, ApiError> {
    let orders = server.app.orders.clone();
    let study = run_blocking(move || orders.get(id)).await??.new.study_uid;
    let mut upload = Upload::start(server, headers, body)?;
    let mut request = FeedbackRequest {
        verdict: VerdictWord::Corrected,
        reason: None,
        comment: None,
        sop_instance_uid: None,
    };
    while let Some(field) = upload.next().await? {
        match field.name().unwrap_or_default() {
            "verdict" => {
                let word = serde_json::Value::String(upload.text(field).await?);
                request.verdict = serde_json::from_value(word).map_err(|_| {
                    ApiError::invalid("verdict is none of accept, reject, corrected")
                })?;
            }
            "comment" => request.comment = Some(upload.text(field).await?),
            "file" => {
                let received = upload.spool(server, field).await?;
                let identity = store(server, received, Some(study.clone())).await?;
                request.sop_instance_uid = Some(identity.sop_instance.to_string());
            }
            name => {
                let length = name.chars().count();
                let detail =
                    format!("form field of {length} characters is none of verdict, comment, file");
                return Err(ApiError::new(ErrorKind::Invalid, detail));
            }
        }
    }
    Ok(request)
}
