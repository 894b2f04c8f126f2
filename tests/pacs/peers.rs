//! Programs of others, when they are installed.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Finds programs; says loudly what is skipped without them.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_none()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a program to its end.
pub async fn run(program: &'static str, arguments: &[String]) -> Output {
    let arguments = arguments.to_vec();
    super::blocking(move || Command::new(program).args(arguments).output().unwrap()).await
}

/// What a program said, on both streams.
pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A program that runs until it is dropped.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens on a port.
pub async fn listens(port: u16) {
    let until = Instant::now() + Duration::from_secs(60);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < until, "nothing listens on port {port} after a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

/// Orthanc with its DICOMweb plugin, which knows one server of ours.
pub struct Orthanc {
    pub http: u16,
    pub dicom: u16,
    client: reqwest::Client,
    _running: Running,
    _folder: tempfile::TempDir,
}

impl Orthanc {
    pub fn installed() -> bool {
        if !installed(&["Orthanc"]) {
            return false;
        }
        let plugin = Path::new(PLUGIN).is_file();
        if !plugin {
            eprintln!("SKIPPED: Orthanc's DICOMweb plugin is not installed");
        }
        plugin
    }

    /// Ports are chosen before, so that each side can be told the other's.
    pub async fn start(http: u16, dicom: u16, ours_http: u16, ours_dicom: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "Name": "peer", "StorageDirectory": folder.path(), "IndexDirectory": folder.path(),
            "HttpPort": http, "DicomPort": dicom, "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
            "Plugins": [PLUGIN], "OverwriteInstances": false, "StableAge": 1,
            "DicomModalities": { "seer": ["SEER", "127.0.0.1", ours_dicom] },
            "DicomWeb": {
                "Enable": true, "Root": "/dicom-web/", "EnableWado": false,
                "Servers": { "seer": { "Url": format!("http://127.0.0.1:{ours_http}/dicom-web/"), "HasDelete": false } },
            },
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let running = Running::start(Command::new("Orthanc").arg(&file));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        listens(http).await;
        listens(dicom).await;
        Self { http, dicom, client, _running: running, _folder: folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let response =
            self.client.post(self.url(path)).body(body.to_string()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    pub async fn store(&self, bytes: Vec<u8>) {
        let response = self.client.post(self.url("/instances")).body(bytes).send().await.unwrap();
        assert!(response.status().is_success(), "{:?}", response.text().await);
    }

    /// Orthanc's own id of a study.
    pub async fn find(&self, study: &str) -> Option<String> {
        let query = json!({ "Level": "Study", "Query": { "StudyInstanceUID": study } });
        let found = self.post("/tools/find", query).await;
        found[0].as_str().map(str::to_owned)
    }

    /// How many instances of a study it keeps.
    pub async fn count(&self, study: &str) -> usize {
        let Some(id) = self.find(study).await else { return 0 };
        let instances = self.get(&format!("/studies/{id}/instances")).await;
        instances.as_array().map_or(0, Vec::len)
    }
}
