//! Skills: what they say, what they are worth, how they stand.

use axum::Json;
use axum::extract::{Path, State};

use super::wire::{SkillDetail, SkillList, SkillView, StandingView};
use super::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::bank::{SkillId, StandingAction};
use crate::http::Server;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Problem, ReadProblems, SearchProblems};
use crate::http::extract::Parameters;
use crate::threads::run_blocking;

/// Episodes shown with a skill.
const EVIDENCE_COUNT: usize = 20;

/// Lists the skills of a round with their gain.
#[utoipa::path(
    get,
    path = "/api/v1/bank/skills",
    tag = "bank",
    params(
        ("round" = Option<u64>, Query, description = "Of this round; the active one when absent"),
        ("tag" = Option<String>, Query, description = "Only with this tag", example = "ABBR_DISAMBIGUATE"),
        ("contains" = Option<String>, Query, description = "Only whose trigger, aliases or target contain this"),
        ("limit" = Option<usize>, Query, description = "Most skills, 1000 at most"),
        ("offset" = Option<usize>, Query, description = "Skills to skip"),
    ),
    responses(
        (status = 200, description = "The skills", body = SkillList),
        (status = 404, description = "There is no such round", content_type = "application/problem+json", body = Problem),
        SearchProblems,
    )
)]
pub(in crate::http) async fn list(
    State(server): State<Server>,
    parameters: Parameters,
) -> Result<Json<SkillList>, ApiError> {
    let limit = parameters.number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX);
    let offset = parameters.number("offset", 0)?;
    let bank = server.app.bank.clone();
    let list = run_blocking(move || {
        let word = |name: &str| {
            parameters.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_lowercase())
        };
        let (tag, contains) = (word("tag"), word("contains"));
        let round = match parameters.0.iter().any(|(key, _)| key == "round") {
            true => bank.round(parameters.number("round", 0)? as u64)?,
            false => bank.active(),
        };
        let matching: Vec<_> = round
            .skills
            .iter()
            .filter(|skill| tag.as_ref().is_none_or(|t| skill.tag.as_str().to_lowercase() == *t))
            .filter(|skill| {
                let has = |text: &str, word: &String| text.to_lowercase().contains(word);
                contains.as_ref().is_none_or(|word| {
                    has(&skill.target, word) || skill.phrases().any(|phrase| has(phrase, word))
                })
            })
            .collect();
        let page = matching.iter().skip(offset).take(limit);
        let skills = page.map(|skill| SkillView::of(&bank, skill)).collect();
        Ok::<_, ApiError>(SkillList { round: round.number(), skills, total: matching.len() as u64 })
    })
    .await??;
    Ok(Json(list))
}

/// Tells about one skill with its last episodes.
#[utoipa::path(
    get,
    path = "/api/v1/bank/skills/{id}",
    tag = "bank",
    params(("id" = String, Path, description = "The skill", example = "seer:4f0c9a1be27d")),
    responses((status = 200, description = "The skill", body = SkillDetail), ReadProblems)
)]
pub(in crate::http) async fn read(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<SkillDetail>, ApiError> {
    let id = SkillId::parse(&id)?;
    let bank = server.app.bank.clone();
    let detail = run_blocking(move || {
        let skill = bank.skill(&id)?;
        Ok::<_, ApiError>(SkillDetail {
            content: skill.content_for(&skill.trigger),
            evidence: bank.evidence_of(&id, EVIDENCE_COUNT)?,
            view: SkillView::of(&bank, &skill),
        })
    })
    .await??;
    Ok(Json(detail))
}

/// Takes a skill out of all offers, whichever round is active.
#[utoipa::path(
    post,
    path = "/api/v1/bank/skills/{id}/retire",
    tag = "bank",
    params(("id" = String, Path, description = "The skill", example = "seer:4f0c9a1be27d")),
    responses(
        (status = 200, description = "How it stands", body = StandingView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is pinned", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(in crate::http) async fn retire(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<StandingView>, ApiError> {
    stand(server, caller, id, StandingAction::Retire).await
}

/// Takes the retirement of a skill back.
#[utoipa::path(
    post,
    path = "/api/v1/bank/skills/{id}/restore",
    tag = "bank",
    params(("id" = String, Path, description = "The skill", example = "seer:4f0c9a1be27d")),
    responses(
        (status = 200, description = "How it stands", body = StandingView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(in crate::http) async fn restore(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<StandingView>, ApiError> {
    stand(server, caller, id, StandingAction::Restore).await
}

/// Pins a skill: no round may leave it out.
#[utoipa::path(
    post,
    path = "/api/v1/bank/skills/{id}/pin",
    tag = "bank",
    params(("id" = String, Path, description = "The skill", example = "seer:4f0c9a1be27d")),
    responses(
        (status = 200, description = "How it stands", body = StandingView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(in crate::http) async fn pin(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<StandingView>, ApiError> {
    stand(server, caller, id, StandingAction::Pin).await
}

/// Takes the pin of a skill away.
#[utoipa::path(
    post,
    path = "/api/v1/bank/skills/{id}/unpin",
    tag = "bank",
    params(("id" = String, Path, description = "The skill", example = "seer:4f0c9a1be27d")),
    responses(
        (status = 200, description = "How it stands", body = StandingView),
        (status = 403, description = "The API key is no administrator's", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(in crate::http) async fn unpin(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<StandingView>, ApiError> {
    stand(server, caller, id, StandingAction::Unpin).await
}

async fn stand(
    server: Server,
    caller: Caller,
    id: String,
    action: StandingAction,
) -> Result<Json<StandingView>, ApiError> {
    let caller = caller.admin()?;
    let id = SkillId::parse(&id)?;
    let bank = server.app.bank.clone();
    let (id, standing) = run_blocking(move || {
        let standing = bank.stand(&id, action, &caller.name)?;
        Ok::<_, ApiError>((id.to_string(), standing))
    })
    .await??;
    Ok(Json(StandingView { id, standing }))
}
