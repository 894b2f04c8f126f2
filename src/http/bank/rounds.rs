//! Rounds: what each holds, and which one is active.

use axum::Json;
use axum::extract::{Path, State};

use super::wire::{RoundList, RoundView};
use crate::bank::RoundHeader;
use crate::http::Server;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Problem, ReadProblems, SearchProblems};
use crate::threads::run_blocking;

/// Lists all rounds, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/bank/rounds",
    tag = "bank",
    responses((status = 200, description = "The rounds", body = RoundList), SearchProblems)
)]
pub(in crate::http) async fn list(
    State(server): State<Server>,
) -> Result<Json<RoundList>, ApiError> {
    let bank = server.app.bank.clone();
    let rounds = run_blocking(move || {
        let rounds = bank.rounds()?;
        Ok::<_, ApiError>(RoundList { active: bank.active().number(), rounds })
    })
    .await??;
    Ok(Json(rounds))
}

/// Tells about one round, its skills and what it changed.
#[utoipa::path(
    get,
    path = "/api/v1/bank/rounds/{number}",
    tag = "bank",
    params(("number" = u64, Path, description = "The round", example = 1)),
    responses((status = 200, description = "The round", body = RoundView), ReadProblems)
)]
pub(in crate::http) async fn read(
    State(server): State<Server>,
    Path(number): Path<String>,
) -> Result<Json<RoundView>, ApiError> {
    let number = parse(&number)?;
    let bank = server.app.bank.clone();
    let view = run_blocking(move || {
        let round = bank.round(number)?;
        let parent = round.header.parent.map(|parent| bank.round(parent)).transpose()?;
        let ids = || round.skills.iter().map(|skill| &skill.id);
        let fresh = |id: &&crate::bank::SkillId| {
            parent.as_ref().is_none_or(|parent| parent.skill(id).is_none())
        };
        Ok::<_, ApiError>(RoundView {
            active: bank.active().number() == number,
            added: ids().filter(fresh).map(ToString::to_string).collect(),
            skills: ids().map(ToString::to_string).collect(),
            header: round.header.clone(),
        })
    })
    .await??;
    Ok(Json(view))
}

/// Makes a round the active one: a new one, or an earlier one to roll back to.
#[utoipa::path(
    post,
    path = "/api/v1/bank/rounds/{number}/activate",
    tag = "bank",
    params(("number" = u64, Path, description = "The round", example = 1)),
    responses(
        (status = 200, description = "It is active", body = RoundHeader),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(in crate::http) async fn activate(
    State(server): State<Server>,
    caller: Caller,
    Path(number): Path<String>,
) -> Result<Json<RoundHeader>, ApiError> {
    let caller = caller.admin()?;
    let number = parse(&number)?;
    let bank = server.app.bank.clone();
    let round = run_blocking(move || bank.activate(number, &caller.name)).await??;
    Ok(Json(round.header.clone()))
}

fn parse(number: &str) -> Result<u64, ApiError> {
    let bad = |_| {
        let length = number.chars().count();
        ApiError::invalid(format!("round of {length} characters is not a number"))
    };
    number.parse().map_err(bad)
}
