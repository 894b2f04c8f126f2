//! The layers that requests pass, outermost first, and why each is there.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::csrf::CsrfLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use utoipa_axum::router::OpenApiRouter;

use super::error::ApiError;
use super::{Server, auth};
use crate::error::ErrorKind;
use crate::telemetry::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Which guards a group of routes has, besides the common layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guards {
    /// None: health, which orchestrators ask without a key.
    Open,
    /// An API key where keys are configured, and a limit on the time to answer.
    KeyAndTimeout,
    /// An API key; uploads and streams take as long as they take, and watch for silence instead.
    Key,
}

/// Puts a group's guards around its routes.
pub(super) fn guard(
    routes: OpenApiRouter<Server>,
    guards: Guards,
    server: &Server,
) -> OpenApiRouter<Server> {
    let with_key = |routes: OpenApiRouter<Server>| {
        routes.route_layer(from_fn_with_state(server.clone(), auth::require_key))
    };
    match guards {
        Guards::Open => routes,
        Guards::KeyAndTimeout => {
            with_key(routes.route_layer(from_fn_with_state(server.clone(), limit_time)))
        }
        Guards::Key => with_key(routes),
    }
}

/// Puts the common layers around all routes. Read from the last `.layer` up: the last is the
/// outermost.
pub(super) fn wrap(router: Router<Server>, server: &Server) -> Router<Server> {
    let settings = server.settings();
    let json_max = usize::try_from(settings.json_size_bytes_max).unwrap_or(usize::MAX);
    let router = match csrf(&settings.cors_origins) {
        // Pages of other sites must not make a browser store studies or give orders, even with
        // forms, which need no CORS permission.
        Some(layer) => router.layer(layer),
        None => router,
    };
    router
        // Without keys only this machine may ask, and a name that a foreign site made point here
        // (DNS rebinding) is not this machine.
        .layer(from_fn_with_state(server.clone(), refuse_foreign_hosts))
        // Bodies are read with limits of their own; this catches what forgets to.
        .layer(DefaultBodyLimit::max(json_max))
        // A panic costs one request and is answered like any other fault of ours.
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(ErrorKind::Internal, "a handler panicked").into_response()
        }))
        // Errors become documents here, where the request id is known; the chain is logged once.
        .layer(from_fn(write_problems))
        // JSON shrinks tenfold; pixel data and images do not, and cost time.
        .layer(CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(1024).and(is_text)))
        // Viewers such as OHIF are pages of another origin.
        .layer(cors(&settings.cors_origins))
        // Retrieve Capabilities is an OPTIONS request too; the layer above would take it.
        .layer(from_fn(super::dicomweb::answer_capabilities))
        // Pages that isolate themselves (COOP/COEP), as older OHIF does, may use what we send
        // only with this; and nothing we send is to be interpreted as another type.
        .layer(SetResponseHeaderLayer::if_not_present(
            CORP,
            HeaderValue::from_static("cross-origin"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        // Counts and times by route, errors and refusals included.
        .layer(from_fn(count))
        // The client gets the request id to quote.
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // A span per request with method, route and id; never the path, which holds UIDs.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_request(())
                .on_response(log_response)
                .on_failure(()),
        )
        // Keys never show, whatever logs headers.
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        // Every request has an id, and it is ours: a client's own could hold a patient's.
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(axum::middleware::map_request(async |mut request: Request| {
            request.headers_mut().remove(REQUEST_ID);
            request
        }))
}

fn csrf(origins: &[String]) -> Option<CsrfLayer> {
    if origins.iter().any(|origin| origin == "*") {
        return None;
    }
    let mut layer = CsrfLayer::new();
    for origin in origins {
        // An origin that no browser can send is not worth refusing to start.
        layer = layer.clone().add_trusted_origin(origin).unwrap_or(layer);
    }
    Some(layer)
}

/// What viewers need (docs.ohif.org/deployment/cors): the headers they send, and the ones they
/// read. Keys travel in a header, so cookies stay out.
fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::RANGE,
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([
            header::CONTENT_DISPOSITION,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WARNING,
            header::ACCEPT_RANGES,
            header::CONTENT_LOCATION,
            header::CONTENT_RANGE,
            HeaderName::from_static("x-total-count"),
            REQUEST_ID,
        ])
        .max_age(Duration::from_secs(3600))
}

fn is_text(
    _: StatusCode,
    _: axum::http::Version,
    headers: &axum::http::HeaderMap,
    _: &axum::http::Extensions,
) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        let text = essence.starts_with("text/") && essence != "text/event-stream";
        text || essence.ends_with("json") || essence.ends_with("javascript")
    })
}

/// Ends a request that takes too long to be answered.
async fn limit_time(State(server): State<Server>, request: Request, next: Next) -> Response {
    let seconds = server.settings().request_timeout_seconds;
    match tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("answering took longer than {seconds} seconds");
            ApiError::new(ErrorKind::Overloaded, detail).into_response()
        }
    }
}

async fn refuse_foreign_hosts(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let known = host.is_none_or(|host| {
        let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let public = server.settings().public_base_url.as_deref().unwrap_or_default();
        loopback || name.eq_ignore_ascii_case("localhost") || authority(public) == host
    });
    if known || !server.keys.is_empty() {
        return next.run(request).await;
    }
    let detail = "host header names another machine, but without API keys this server answers \
                  only this one";
    ApiError::status(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail).into_response()
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    after_scheme.split('/').next().unwrap_or_default()
}

/// Writes the document of an error, and gives errors of the framework one too.
async fn write_problems(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let response = next.run(request).await;
    if let Some(error) = response.extensions().get::<ApiError>() {
        if let Some(chain) = error.chain() {
            tracing::error!(http.status = response.status().as_u16(), "Request failed: {chain}");
        }
        return error.document(&id);
    }
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || has_own_document(&response) {
        return response;
    }
    let mut document = of_framework(status, &method).document(&id);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        document.headers_mut().insert(header::ALLOW, allow.clone());
    }
    document
}

fn has_own_document(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/"))
}

fn of_framework(status: StatusCode, method: &Method) -> ApiError {
    let (kind, detail) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this path".to_owned()),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", format!("method {method} is not allowed at this path"))
        }
        StatusCode::FORBIDDEN => {
            ("foreign_origin", "a page of another origin may not do this".to_owned())
        }
        status => ("http", format!("request was answered {status}")),
    };
    ApiError::status(status, kind, detail)
}

fn request_id(request: &Request) -> String {
    let id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// The pattern of the route, for example `/api/v1/orders/{id}`; never the path itself.
fn route(request: &Request) -> String {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or("none", |path| path.as_str()).to_owned()
}

fn request_span<B>(request: &axum::http::Request<B>) -> Span {
    let matched = request.extensions().get::<MatchedPath>();
    let id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    tracing::info_span!(
        "request",
        request.id = id.unwrap_or_default(),
        http.method = %request.method(),
        http.route = matched.map_or("none", |path| path.as_str()),
    )
}

fn log_response<B>(response: &axum::http::Response<B>, latency: Duration, _: &Span) {
    let status = response.status().as_u16();
    let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(http.status = status, latency_ms, "Answered {status}");
}

async fn count(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, route) = (request.method().clone(), route(&request));
    let response = next.run(request).await;
    let status = response.status().as_u16();
    // Methods are the client's words; only known ones become labels.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    };
    metrics::request_answered(method, &route, status, start.elapsed());
    response
}
