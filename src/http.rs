//! Requests into calls of the other rooms, and their results into replies. Computes nothing.
//!
//! Routes register together with their OpenAPI entries; `openapi/openapi.json` is generated from
//! them. `middleware` says in which order requests pass which layers, `error` how errors
//! become replies.

mod auth;
mod bank;
mod dicomweb;
mod error;
mod evolution;
mod extract;
mod health;
mod media;
mod middleware;
mod models;
mod nodes;
mod orders;
mod pages;
mod retention;
mod upload;
mod ups;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::config::HttpSettings;
use auth::{ApiKeyScheme, Keys};

pub use dicomweb::conformance_statement;
pub use error::ApiError;
pub use retention::keep_retention;
pub use upload::{Upload, UploadLimits};

/// Memory that instances on their way into the archive may take together, in units; each needs its
/// own size about twice while it is parsed.
const STORE_UNITS: u32 = 64;
const STORE_UNIT_BYTES: u64 = 16 << 20;

/// The units for an instance of a size; one larger than all of them is stored alone.
fn store_permits(size_bytes: u64) -> u32 {
    let units = (size_bytes.saturating_mul(2) / STORE_UNIT_BYTES).saturating_add(1);
    u32::try_from(units).unwrap_or(u32::MAX).min(STORE_UNITS)
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
struct Server {
    app: App,
    keys: Arc<Keys>,
    stores: Arc<Semaphore>,
    recent: Arc<dicomweb::RecentFrames>,
    /// Event channels that may still be opened.
    channels: Arc<Semaphore>,
}

impl Server {
    fn new(app: App) -> Self {
        let keys = Arc::new(Keys::new(&app.config.auth));
        let stores = Arc::new(Semaphore::new(STORE_UNITS as usize));
        let channels = Arc::new(Semaphore::new(app.config.worklist.channel_count_max));
        Self { app, keys, stores, recent: Arc::default(), channels }
    }

    fn settings(&self) -> &HttpSettings {
        &self.app.config.http
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "SEER",
        description = "DICOMweb segmentation server: free-text orders become DICOM SEG objects \
            with an auditable reasoning record. For research use."
    ),
    modifiers(&ApiKeyScheme),
    security((), ("api_key" = [])),
    tags(
        (name = "orders", description = "Free-text segmentation orders and their results"),
        (name = "dicomweb", description = "STOW-RS, QIDO-RS and WADO-RS (PS3.18)"),
        (name = "worklist", description = "UPS-RS (PS3.18 §11)"),
        (name = "nodes", description = "Other nodes, and results on their way to them"),
        (name = "models", description = "What is loaded"),
        (name = "bank", description = "Skills, their evidence and rounds of them"),
        (name = "evolution", description = "Rounds of SEER-Loop: practice, harvest, gate, adoption"),
        (name = "operations", description = "Health, metrics and this document"),
    )
)]
struct Document;

/// The whole server as a router.
pub fn router(app: App) -> Router {
    let server = Server::new(app);
    let (routes, document) = routes(&server).split_for_parts();
    let open = pages::router(document);
    middleware::wrap(routes.merge(open), &server).with_state(server)
}

/// The OpenAPI document of the routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    grouped()
        .into_iter()
        .fold(document(), |router, group| router.merge(group.routes))
        .into_openapi()
}

/// The OpenAPI document as the text that `openapi/openapi.json` holds.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn openapi_json() -> serde_json::Result<String> {
    openapi().to_pretty_json()
}

fn document() -> OpenApiRouter<Server> {
    OpenApiRouter::with_openapi(Document::openapi())
}

/// Routes that share their guards.
struct Group {
    routes: OpenApiRouter<Server>,
    guards: middleware::Guards,
}

fn grouped() -> [Group; 3] {
    use middleware::Guards;
    [
        Group { routes: health::routes(), guards: Guards::Open },
        Group {
            routes: orders::quick_routes()
                .merge(dicomweb::quick_routes())
                .merge(models::routes())
                .merge(nodes::quick_routes())
                .merge(ups::quick_routes())
                .merge(bank::routes())
                .merge(evolution::quick_routes())
                .merge(health::guarded_routes()),
            guards: Guards::KeyAndTimeout,
        },
        Group {
            routes: orders::long_routes()
                .merge(dicomweb::long_routes())
                .merge(nodes::long_routes())
                .merge(ups::long_routes())
                .merge(evolution::long_routes()),
            guards: Guards::Key,
        },
    ]
}

fn routes(server: &Server) -> OpenApiRouter<Server> {
    let groups = grouped().into_iter();
    groups.fold(document(), |router, group| {
        router.merge(middleware::guard(group.routes, group.guards, server))
    })
}

/// Answers requests until `shutdown` is ready; then open requests may end, for as long as the
/// configuration allows.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    app: App,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let grace = Duration::from_secs(app.config.http.shutdown_timeout_seconds);
    let (stopping, mut stopped) = watch::channel(false);
    let signal = async move {
        shutdown.await;
        tracing::info!("Stopping; open requests may end");
        stopping.send_replace(true);
    };
    // Without this, small events of a stream wait for the next ones.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(signal);
    let overdue = async move {
        if stopped.wait_for(|stopped| *stopped).await.is_ok() {
            tokio::time::sleep(grace).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = serving => result,
        () = overdue => Ok(()),
    }
}
