//! `seer serve`.

use anyhow::Context;

use super::Ended;
use crate::app::App;
use crate::config::Config;
use crate::{http, telemetry};

/// Serves until SIGINT or SIGTERM.
pub(super) fn run(config: Config) -> anyhow::Result<Ended> {
    telemetry::init(&config.telemetry)?;
    let bind = config.http.bind;
    let app = App::build(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(bind)
            .await
            .with_context(|| format!("cannot listen on {bind}"))?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "Serving on http://{address}");
        eprintln!("SEER serves on http://{address}  (API page: http://{address}/api)");
        if let Some(address) = app.pacs.address() {
            let title = &app.config.pacs.ae_title;
            eprintln!("DICOM associations: {title} on {address}");
        }
        let (orders, evolution) = (app.orders.clone(), app.evolution.clone());
        let retention = tokio::spawn(http::keep_retention(app.clone()));
        let served = http::serve(app, listener, stop_signal()).await;
        retention.abort();
        orders.stop();
        evolution.stop();
        served?;
        anyhow::Ok(())
    })?;
    Ok(Ended::Done)
}

/// Resolves when the process is asked to stop.
pub(super) async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "Cannot listen for SIGTERM");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        _ = interrupt => {}
        () = terminate => {}
    }
}
