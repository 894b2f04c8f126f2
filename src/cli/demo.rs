//! `seer demo`: the sample study through the real server, as a client would send it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Ended;
use super::progress::WalkProgress;
use super::serve::stop_signal;
use crate::app::App;
use crate::config::Config;
use crate::orders::{OrderEvent, OrderState};
use crate::{http, telemetry};

/// Sends the sample study and an order through the real server.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The order, in free text.
    #[arg(long, default_value = "pls outline the lt hippocampus")]
    text: String,
    /// Folder of the study to send.
    #[arg(long, default_value = "static/sample-study/mni152-t1")]
    study: PathBuf,
    /// Folder for the results.
    #[arg(long, default_value = ".seer/demo")]
    out: PathBuf,
    /// Ends when the order is done, instead of serving on so that the pages can be looked at.
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(super) fn run(self, mut config: Config) -> anyhow::Result<Ended> {
        config.telemetry.log = "warn".to_owned();
        telemetry::init(&config.telemetry)?;
        super::setup::ensure_library(&mut config)?;
        config.storage.path = self.out.join("data");
        // On loopback, and the client of the demo has no key.
        config.auth.api_keys.clear();
        config.http.bind.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        let files = study_files(&self.study)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.drive(config, files))
    }

    async fn drive(&self, config: Config, files: Vec<PathBuf>) -> anyhow::Result<Ended> {
        let listener = listen(&config).await?;
        let base = format!("http://{}", listener.local_addr()?);
        eprintln!("loading the models");
        let app = tokio::task::spawn_blocking(move || App::build(config)).await??;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(http::serve(app, listener, async {
            // A dropped sender means stop as well.
            let _ = stopped.await;
        }));
        let ended = self.send(&base, &files).await;
        if ended.is_ok() && !self.exit && std::io::stdout().is_terminal() {
            println!("serving until Ctrl-C");
            stop_signal().await;
        }
        let _ = stop.send(());
        server.await??;
        ended
    }

    /// Plays the client: STOW-RS, order, events, results.
    async fn send(&self, base: &str, files: &[PathBuf]) -> anyhow::Result<Ended> {
        let client = Client::new();
        let study = stow(&client, base, files).await?;
        eprintln!("stored {} instances by STOW-RS", files.len());
        let response = client
            .post(format!("{base}/api/v1/orders"))
            .json(&json!({ "study_uid": study, "text": self.text }))
            .send()
            .await?;
        let order = checked(response).await?.json::<Value>().await?;
        let id = order["id"].as_str().context("order has no id")?.to_owned();
        eprintln!("ordered: {:?}", self.text);
        let state = follow(&client, base, &id).await?;
        let order_url = format!("{base}/api/v1/orders/{id}");
        match state {
            OrderState::Completed | OrderState::Refused => {}
            OrderState::Failed
            | OrderState::Cancelled
            | OrderState::Queued
            | OrderState::Running => {
                let order = checked(client.get(&order_url).send().await?).await?.text().await?;
                bail!("order ended as {state:?}: {order}");
            }
        }
        self.fetch(&client, &order_url, state).await?;
        println!("look at it: {base}/?order={id}");
        Ok(if state == OrderState::Refused { Ended::Refused } else { Ended::Done })
    }

    async fn fetch(&self, client: &Client, url: &str, state: OrderState) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.out)?;
        let record = self.save(client, format!("{url}/reasoning"), "reasoning.json").await?;
        let record: Value = serde_json::from_slice(&record)?;
        for part in ["evidence", "rationale", "answer"] {
            println!("{part}: {}", record["trace"][part].as_str().unwrap_or("(none)"));
        }
        if state == OrderState::Completed {
            for segment in record["result"]["segments"].as_array().into_iter().flatten() {
                let volume_ml = segment["volume_ml"].as_f64().unwrap_or_default();
                println!("{}: {volume_ml:.1} ml", segment["label"].as_str().unwrap_or_default());
            }
            self.save(client, format!("{url}/segmentation"), "segmentation.dcm").await?;
            self.save(client, format!("{url}/artefacts/overlay.png"), "overlay.png").await?;
        }
        Ok(())
    }

    async fn save(&self, client: &Client, url: String, name: &str) -> anyhow::Result<Vec<u8>> {
        let bytes = checked(client.get(url).send().await?).await?.bytes().await?;
        let path = self.out.join(name);
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(bytes.to_vec())
    }
}

/// The configured port when it is free, any other otherwise.
async fn listen(config: &Config) -> anyhow::Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind(config.http.bind).await {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?),
    }
}

fn study_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the sample study in {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "dcm"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("no .dcm files in {}", folder.display());
    }
    Ok(files)
}

/// Stores the files by STOW-RS (PS3.18 §10.5) and gives the Study Instance UID of the response.
async fn stow(client: &Client, base: &str, files: &[PathBuf]) -> anyhow::Result<String> {
    let boundary = Uuid::new_v4().simple().to_string();
    let mut body = Vec::new();
    for file in files {
        let bytes = std::fs::read(file)?;
        body.extend(format!("--{boundary}\r\nContent-Type: application/dicom\r\n\r\n").bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    let content_type =
        format!("multipart/related; type=\"application/dicom\"; boundary={boundary}");
    let response = client
        .post(format!("{base}/dicom-web/studies"))
        .header("content-type", content_type)
        .header("accept", "application/dicom+json")
        .body(body)
        .send()
        .await?;
    let stored: Value = checked(response).await?.json().await?;
    let url = stored["00081199"]["Value"][0]["00081190"]["Value"][0]
        .as_str()
        .context("STOW-RS response names no stored instance")?;
    let mut parts = url.split('/').skip_while(|part| *part != "studies").skip(1);
    Ok(parts.next().context("retrieve URL names no study")?.to_owned())
}

/// Follows the order's server-sent events to its end.
async fn follow(client: &Client, base: &str, id: &str) -> anyhow::Result<OrderState> {
    let url = format!("{base}/api/v1/orders/{id}/events");
    let mut stream = checked(client.get(url).send().await?).await?.bytes_stream();
    let progress = WalkProgress::new();
    let mut pending = String::new();
    while let Some(chunk) = stream.next().await {
        pending.push_str(&String::from_utf8_lossy(&chunk?));
        while let Some(end) = pending.find('\n') {
            let line: String = pending.drain(..=end).collect();
            let Some(data) = line.trim_end().strip_prefix("data:") else { continue };
            let event: OrderEvent = serde_json::from_str(data.trim())?;
            if let Some(step) = event.step {
                progress.show(step, event.progress);
            }
            if event.state.is_final() {
                progress.finish();
                return Ok(event.state);
            }
        }
    }
    bail!("the event stream of order {id} ended before the order did")
}

async fn checked(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let (url, text) = (response.url().clone(), response.text().await.unwrap_or_default());
    bail!("{url} answered {status}: {text}")
}
