//! Orthanc with its DICOMweb plugin on a free loopback port, with storage of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";
const START: Duration = Duration::from_secs(60);

/// A running Orthanc; ended when dropped.
pub struct Orthanc {
    pub base: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Orthanc {
    /// Starts it; `None`, loudly, where it is not installed.
    pub fn start() -> Option<Self> {
        let program = program("Orthanc")?;
        if !Path::new(PLUGIN).exists() {
            eprintln!("SKIPPED: {PLUGIN} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("folder");
        // The port is free now; nobody else on this machine is likely to take it before Orthanc.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("free port")
            .port();
        let configuration = serde_json::json!({
            "Name": "peer",
            "HttpPort": port,
            "DicomServerEnabled": false,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "StorageDirectory": folder.path().join("storage"),
            "IndexDirectory": folder.path().join("storage"),
            "Plugins": [PLUGIN],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/", "EnableWado": false },
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, configuration.to_string()).expect("configuration");
        let child = Command::new(program)
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Orthanc starts");
        let orthanc = Self { base: format!("http://127.0.0.1:{port}"), child, _folder: folder };
        orthanc.wait(port);
        Some(orthanc)
    }

    fn wait(&self, port: u16) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START, "Orthanc does not listen after {START:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not in PATH");
    }
    found
}
