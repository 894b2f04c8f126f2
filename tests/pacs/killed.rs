//! The server as a process, killed at the worst moments.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peers::{free_port, listens};
use super::*;
use crate::support::{library, sample_study};

/// A server process that is killed when dropped.
struct Killed(Child);

impl Killed {
    fn start(storage: &Path, http: u16, dicom: u16, archive: &Server) -> Self {
        let (host, port) = ("127.0.0.1", port(archive));
        let node = format!(
            "[{{ name = \"archive\", ae_title = \"ARCHIVE\", host = \"{host}\", port = {port}, may_send = true }}]"
        );
        let rule = "[{ name = \"hippocampus\", from = [\"archive\"], modality = \"MR\", \
                    text = \"left hippocampus\", quiet_seconds = 1, deliver_to = [\"archive\"] }]";
        let child = Command::new(env!("CARGO_BIN_EXE_seer"))
            .arg("serve")
            .env("SEER_RUNTIME__LIBRARY", library())
            .env("SEER_STORAGE__PATH", storage)
            .env("SEER_HTTP__BIND", format!("{host}:{http}"))
            .env("SEER_PACS__BIND", format!("{host}:{dicom}"))
            .env("SEER_PACS__DIMSE", node)
            .env("SEER_PACS__RULES", rule)
            .env("SEER_PACS__RETRY_SECONDS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order before the end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_ordered_and_delivered_once_after_it() {
    let (http, dicom) = (free_port(), free_port());
    let archive = server(|config| {
        config.pacs.ae_title = "ARCHIVE".into();
        config.pacs.dimse = vec![dimse("seer", "SEER", dicom)];
    })
    .await;
    let study = archive.stow_sample().await;
    let storage = tempfile::tempdir().unwrap();
    let running = Killed::start(storage.path(), http, dicom, &archive);
    listens(dicom).await;
    let pacs = archive.app.pacs.clone();
    let scope = seer::archive::Scope::study(seer::dicom::StudyUid::parse(&study).unwrap());
    blocking(move || pacs.send("seer", &[scope]).unwrap()).await;
    drop(running);

    // Killed again as soon as there is an order, then left alone.
    let client = reqwest::Client::new();
    let orders = format!("http://127.0.0.1:{http}/api/v1/orders");
    let ask =
        async || -> Option<Value> { client.get(&orders).send().await.ok()?.json().await.ok() };
    let until = Instant::now() + Duration::from_secs(240);
    let mut running = Some(Killed::start(storage.path(), http, dicom, &archive));
    let mut kills = 1;
    let order = loop {
        assert!(Instant::now() < until, "not delivered in four minutes");
        let list = ask().await.unwrap_or_default();
        let order = &list["orders"][0];
        if kills == 1 && order.is_object() {
            kills += 1;
            drop(running.take());
            running = Some(Killed::start(storage.path(), http, dicom, &archive));
        }
        if order["deliveries"][0]["state"] == "delivered" {
            assert_eq!(list["total"], 1, "{list:#}");
            break order.clone();
        }
        assert_ne!(order["state"], "failed", "{order:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(count(&archive, &study).await, sample_study().len() + 1);
    let path = format!("/dicom-web/studies/{study}/series?Modality=SEG");
    let (_, series) = archive.get_json(&path).await;
    assert_eq!(series[0]["0020000E"]["Value"][0], order["result"]["seg_series_uid"], "{series:#}");
    drop(running);
}
