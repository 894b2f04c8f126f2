//! Deleting studies, series and instances. DICOMweb has no such transaction; dicomweb-client and
//! other archives use DELETE on what WADO-RS retrieves.

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodRouter, delete};

use super::resource::{ROOT, Resource};
use super::wado;
use crate::archive::Deleted;
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::ScopePath;
use crate::telemetry::uid_hash;
use crate::threads::run_blocking;

const STATUSES: &[(u16, &str)] = &[
    (204, "It is gone, durably"),
    (400, "A UID is malformed"),
    (401, "The API key is missing or unknown"),
    (403, "The API key is not an administrator's"),
    (404, "It does not exist here"),
    (503, "The server cannot delete now"),
];

/// What administrators may delete.
pub(super) fn resources() -> Vec<(Resource, MethodRouter<Server>)> {
    let resource = |(name, path): (&str, &str)| {
        let path = format!("{ROOT}{path}");
        let summary = format!("Deletes {}.", wado::article(name));
        let resource = Resource {
            method: Method::DELETE,
            transaction: "Delete",
            description: "For administrators. Everything below it goes in one step.",
            statuses: STATUSES,
            ..Resource::get(path, format!("delete_{name}"), summary)
        };
        (resource, delete(answer))
    };
    wado::LEVELS.map(resource).into()
}

async fn answer(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
) -> Result<StatusCode, ApiError> {
    let archive = server.app.archive.clone();
    let deleted = run_blocking(move || archive.delete(&scope)).await??;
    log_deleted(&deleted, "request");
    Ok(StatusCode::NO_CONTENT)
}

/// Leaves a trace in the log, in the words of PS3.15 §A.5.3.9 (DICOM Study Deleted).
pub(in crate::http) fn log_deleted(deleted: &Deleted, cause: &'static str) {
    tracing::info!(
        audit.event = "110105",
        audit.action = "D",
        audit.cause = cause,
        study = uid_hash(&deleted.study),
        instance.count = deleted.instance_count,
        size_bytes = deleted.size_bytes,
        "DICOM Study Deleted: {} instances",
        deleted.instance_count
    );
}
