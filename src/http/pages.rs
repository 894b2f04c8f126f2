//! The workbench, the administration page, the interactive API page and the OpenAPI document; nothing comes from a CDN.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::SwaggerUi;

use super::Server;

/// Pages may run only their own scripts and speak only to this server.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; \
                      style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'";

pub(super) fn router(document: utoipa::openapi::OpenApi) -> Router<Server> {
    Router::new()
        .route("/", get(async || page("text/html", include_str!("../../static/index.html"))))
        .route(
            "/static/workbench.js",
            get(async || page("text/javascript", include_str!("../../static/workbench.js"))),
        )
        .route(
            "/static/workbench.css",
            get(async || page("text/css", include_str!("../../static/workbench.css"))),
        )
        .route(
            "/conformance",
            get(async || page("text/markdown", include_str!("../../static/conformance.md"))),
        )
        .route(
            "/evolution",
            get(async || page("text/html", include_str!("../../static/evolution.html"))),
        )
        .route(
            "/static/evolution.js",
            get(async || page("text/javascript", include_str!("../../static/evolution.js"))),
        )
        .route("/admin", get(async || page("text/html", include_str!("../../static/admin.html"))))
        .route(
            "/static/admin.js",
            get(async || page("text/javascript", include_str!("../../static/admin.js"))),
        )
        .route(
            "/static/admin.css",
            get(async || page("text/css", include_str!("../../static/admin.css"))),
        )
        .merge(SwaggerUi::new("/api").url("/openapi.json", document))
}

fn page(content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
