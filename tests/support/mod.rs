//! What several tests share.

pub mod dicom_json;
pub mod studies;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use seer::app::{self, App};
use seer::config::Config;
use seer::http;
use seer::orders::Engine;
use seer::runtime::{Provider, setup};
use serde_json::Value;

/// The sample study of the repository, in no particular order.
pub fn sample_study() -> Vec<PathBuf> {
    let folder = Path::new("static/sample-study/mni152-t1");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "dcm"))
        .collect();
    assert!(files.len() > 10, "sample study is in the repository");
    files
}

/// ONNX Runtime's library; fetched once when it is missing.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        setup::ensure(Path::new(setup::FOLDER), Provider::Cpu, &|line| eprintln!("{line}")).unwrap()
    })
}

/// The embedded models, loaded once for all tests.
pub fn engine() -> Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    let load = || {
        let mut config = Config::default();
        config.runtime.library = Some(library().to_owned());
        Arc::new(app::engine(&config).unwrap())
    };
    Arc::clone(ENGINE.get_or_init(load))
}

/// A real server in this process, on a free port, with storage of its own.
pub struct Server {
    pub base: String,
    pub app: App,
    pub client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Server {
    /// With the embedded models.
    pub async fn start() -> Self {
        Self::with(|_| {}, Some(engine())).await
    }

    /// With settings of the test's own.
    pub async fn with(change: impl FnOnce(&mut Config), engine: Option<Arc<Engine>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.path = folder.path().to_owned();
        change(&mut config);
        let app = App::with_engine(config, engine).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(http::serve(app.clone(), listener, std::future::pending()));
        Self { base, app, client: reqwest::Client::new(), _folder: folder }
    }

    /// Stores files by STOW-RS and gives the response.
    pub async fn stow(&self, files: &[PathBuf]) -> (u16, Value) {
        stow(&self.client, &self.base, files).await
    }

    /// Stores the sample study and gives its Study Instance UID.
    pub async fn stow_sample(&self) -> String {
        let (status, response) = self.stow(&sample_study()).await;
        assert_eq!(status, 200, "{response}");
        study_of(&response)
    }

    pub async fn get_json(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Polls an order until it is final.
    pub async fn wait(&self, id: &str) -> Value {
        for _ in 0..2400 {
            let (status, order) = self.get_json(&format!("/api/v1/orders/{id}")).await;
            assert_eq!(status, 200, "{order}");
            let state = order["state"].as_str().unwrap();
            if !matches!(state, "queued" | "running") {
                return order;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("order {id} did not end in four minutes");
    }
}

/// Stores files by STOW-RS.
pub async fn stow(client: &reqwest::Client, base: &str, files: &[PathBuf]) -> (u16, Value) {
    let mut body = Vec::new();
    for file in files {
        body.extend(b"--b0undary\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend(std::fs::read(file).unwrap());
        body.extend(b"\r\n");
    }
    body.extend(b"--b0undary--\r\n");
    let response = client
        .post(format!("{base}/dicom-web/studies"))
        .header("content-type", "multipart/related; type=\"application/dicom\"; boundary=b0undary")
        .header("accept", "application/dicom+json")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

/// The Study Instance UID in a STOW-RS response's retrieve URLs.
pub fn study_of(response: &Value) -> String {
    let url = response["00081199"]["Value"][0]["00081190"]["Value"][0].as_str().unwrap();
    url.split("/studies/").nth(1).unwrap().split('/').next().unwrap().to_owned()
}
