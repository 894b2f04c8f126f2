//! What is loaded.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Server;
use super::error::{ApiError, ReadProblems, SearchProblems};
use crate::app::LoadedBundle;
use crate::error::ErrorKind;

pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(detail)).routes(routes!(metadata))
}

/// Every loaded bundle.
#[derive(Serialize, ToSchema)]
struct ModelList {
    /// In the order they were loaded.
    models: Vec<LoadedBundle>,
}

/// Model metadata of the Open Inference Protocol (KServe v2).
#[derive(Serialize, ToSchema)]
struct ModelMetadata {
    /// The bundle's name.
    name: String,
    /// The one version that is loaded.
    versions: Vec<String>,
    /// Always `onnxruntime_onnx`.
    platform: &'static str,
}

/// Lists the loaded bundles.
#[utoipa::path(
    get,
    path = "/api/v1/models",
    tag = "models",
    responses((status = 200, description = "The bundles", body = ModelList), SearchProblems)
)]
async fn list(State(server): State<Server>) -> Json<ModelList> {
    Json(ModelList { models: server.app.models.bundles.clone() })
}

/// Tells about one loaded bundle.
#[utoipa::path(
    get,
    path = "/api/v1/models/{name}",
    tag = "models",
    params(("name" = String, Path, description = "The bundle's name")),
    responses((status = 200, description = "The bundle", body = LoadedBundle), ReadProblems)
)]
async fn detail(
    State(server): State<Server>,
    Path(name): Path<String>,
) -> Result<Json<LoadedBundle>, ApiError> {
    find(&server, &name).map(|bundle| Json(bundle.clone()))
}

/// Tells about one loaded bundle as inference servers do; 200 also means that it is ready.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    tag = "models",
    params(("name" = String, Path, description = "The bundle's name")),
    responses((status = 200, description = "Its metadata", body = ModelMetadata), ReadProblems)
)]
async fn metadata(
    State(server): State<Server>,
    Path(name): Path<String>,
) -> Result<Json<ModelMetadata>, ApiError> {
    let bundle = find(&server, &name)?;
    Ok(Json(ModelMetadata {
        name: bundle.name.clone(),
        versions: vec![bundle.version.clone()],
        platform: "onnxruntime_onnx",
    }))
}

fn find<'a>(server: &'a Server, name: &str) -> Result<&'a LoadedBundle, ApiError> {
    let found = server.app.models.bundles.iter().find(|bundle| bundle.name == name);
    found.ok_or_else(|| {
        let loaded: Vec<_> = server.app.models.bundles.iter().map(|b| b.name.as_str()).collect();
        let detail = format!("model is not loaded; loaded are [{}]", loaded.join(", "));
        ApiError::new(ErrorKind::NotFound, detail)
    })
}
