//! Export and import of skills as JSON Lines.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::wire::{ImportView, RefusedLine};
use crate::bank::{self, Bank, BankError, Imported, RoundDraft};
use crate::http::Server;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Problem, SearchProblems};
use crate::http::extract::{Parameters, check_length, read_body};
use crate::threads::run_blocking;

/// Largest file of skills taken in: about 100,000 skills.
const IMPORT_BYTES_MAX: u64 = 64 << 20;

/// Exports the skills of a round as JSON Lines, one skill a line.
#[utoipa::path(
    get,
    path = "/api/v1/bank/export",
    tag = "bank",
    params(("round" = Option<u64>, Query, description = "The round; the active one when absent")),
    responses(
        (status = 200, description = "The skills", content_type = "application/jsonl", body = String),
        (status = 404, description = "There is no such round", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
pub(in crate::http) async fn export(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let bank = server.app.bank.clone();
    let bytes = run_blocking(move || {
        let active = bank.active().number() as usize;
        let round = bank.round(parameters.number("round", active)? as u64)?;
        let mut bytes = Vec::new();
        bank::export_jsonl(round.skills.iter().map(AsRef::as_ref), &mut bytes)
            .map_err(BankError::from)?;
        Ok::<_, ApiError>(bytes)
    })
    .await??;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"skills.jsonl\""),
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// Imports skills from JSON Lines, ours or the published SEER's, and publishes them with those of
/// the active round as a new round, which is not activated.
///
/// Lines that are no skill or may hold patient text are refused one by one; ids are computed anew.
#[utoipa::path(
    post,
    path = "/api/v1/bank/import",
    tag = "bank",
    params(("dry_run" = Option<bool>, Query, description = "Only say what would happen")),
    request_body(content = String, content_type = "application/jsonl", description = "One skill a line"),
    responses(
        (status = 200, description = "What it did", body = ImportView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 413, description = "The body is too large", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
pub(in crate::http) async fn import(
    State(server): State<Server>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ImportView>, ApiError> {
    let caller = caller.admin()?;
    let dry_run = parameters.0.iter().any(|(key, value)| key == "dry_run" && value != "false");
    check_length(&headers, IMPORT_BYTES_MAX)?;
    let bytes = read_body(body, IMPORT_BYTES_MAX).await?;
    let bank = server.app.bank.clone();
    let view = run_blocking(move || {
        let imported = bank::import_jsonl(&bytes[..]).map_err(BankError::from)?;
        publish(&bank, imported, &caller.name, dry_run)
    })
    .await??;
    Ok(Json(view))
}

fn publish(
    bank: &Bank,
    imported: Imported,
    author: &str,
    dry_run: bool,
) -> Result<ImportView, BankError> {
    let active = bank.active();
    let total = imported.skills.len() as u64;
    let fresh: Vec<_> =
        imported.skills.into_iter().filter(|skill| active.skill(&skill.id).is_none()).collect();
    let added = fresh.len() as u64;
    let refused = imported.refused.into_iter().map(|(line, reason)| RefusedLine { line, reason });
    let mut view =
        ImportView { round: None, added, known: total - added, refused: refused.collect() };
    if added > 0 && !dry_run {
        let known = active.skills.iter().map(|skill| skill.as_ref().clone());
        let round = bank.publish(RoundDraft {
            parent: active.number(),
            author: author.to_owned(),
            report_id: None,
            note: format!("import of {added} skills"),
            skills: known.chain(fresh).collect(),
        })?;
        view.round = Some(round.header.clone());
    }
    Ok(view)
}
