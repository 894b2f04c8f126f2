//! Old studies go, where the configuration says after how many days.

use std::time::Duration;

use crate::app::App;
use crate::telemetry::error_chain;
use crate::threads::run_blocking;

/// How often old studies are looked for.
const PERIOD: Duration = Duration::from_secs(3600);

/// Deletes studies past their age, now and every hour, until it is aborted. Returns at once where
/// none is set.
pub async fn keep_retention(app: App) {
    let Some(days) = app.config.storage.retention_days else { return };
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let archive = app.archive.clone();
        let before = app.clock.now() - time::Duration::days(i64::from(days));
        match run_blocking(move || archive.delete_received_before(before)).await {
            Ok(Ok(deleted)) => {
                deleted.iter().for_each(|study| super::dicomweb::log_deleted(study, "retention"));
            }
            Ok(Err(error)) => {
                tracing::error!("Cannot delete old studies: {}", error_chain(&error));
            }
            Err(error) => tracing::error!(%error, "Cannot delete old studies"),
        }
    }
}
