//! The binary as a process: killed, restarted, misused.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{self, library, sample_study};

fn seer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seer"));
    command.env("SEER_RUNTIME__LIBRARY", library());
    command
}

fn run(arguments: &[&str]) -> Output {
    seer().args(arguments).output().unwrap()
}

struct Served {
    child: Child,
    base: String,
}

impl Served {
    fn start(storage: &Path, port: u16) -> Self {
        let child = seer()
            .arg("serve")
            .env("SEER_STORAGE__PATH", storage)
            .env("SEER_HTTP__BIND", format!("127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, base: format!("http://127.0.0.1:{port}") }
    }

    async fn ready(&self, client: &reqwest::Client) {
        let until = Instant::now() + Duration::from_secs(120);
        while Instant::now() < until {
            let url = format!("{}/v2/health/ready", self.base);
            if client.get(url).send().await.is_ok_and(|r| r.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not get ready in two minutes");
    }

    async fn get(&self, client: &reqwest::Client, path: &str) -> Value {
        client.get(format!("{}{path}", self.base)).send().await.unwrap().json().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // SIGKILL: what a test leaves behind must not depend on a clean stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn killed_in_the_middle_an_order_is_finished_once() {
    let storage = tempfile::tempdir().unwrap();
    let port = free_port();
    let client = reqwest::Client::new();
    let server = Served::start(storage.path(), port);
    server.ready(&client).await;
    let (status, stored) = support::stow(&client, &server.base, &sample_study()).await;
    assert_eq!(status, 200, "{stored}");
    let study = support::study_of(&stored);
    let mut ids = Vec::new();
    for text in ["left hippocampus", "right thalamus", "brainstem"] {
        let order: Value = client
            .post(format!("{}/api/v1/orders", server.base))
            .json(&json!({ "study_uid": study, "text": text }))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        ids.push(order["id"].as_str().unwrap().to_owned());
    }
    let first = format!("/api/v1/orders/{}", ids[0]);
    while server.get(&client, &first).await["state"] != "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(server);

    let mut kills = 1;
    let until = Instant::now() + Duration::from_secs(240);
    // Killed twice more while it resumes, then left alone.
    let server = loop {
        let server = Served::start(storage.path(), port);
        server.ready(&client).await;
        if kills == 3 {
            break server;
        }
        tokio::time::sleep(Duration::from_millis(700 * kills)).await;
        kills += 1;
    };
    for id in &ids {
        loop {
            let order = server.get(&client, &format!("/api/v1/orders/{id}")).await;
            match order["state"].as_str().unwrap() {
                "completed" => break,
                "queued" | "running" => {}
                other => panic!("order is {other}: {order:#}"),
            }
            assert!(Instant::now() < until, "orders did not finish in four minutes");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let url = format!("/dicom-web/studies/{study}/series?Modality=SEG");
    let series = server.get(&client, &url).await;
    assert_eq!(series.as_array().unwrap().len(), ids.len(), "one SEG per order: {series:#}");
}

/// `seer segment` writes a record, `seer replay` runs it again; images that are not those of the
/// record give another result, which is a failure.
#[test]
fn a_record_is_replayed_over_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let sample = sample_study()[0].parent().unwrap().to_str().unwrap().to_owned();
    let made = run(&["segment", &sample, "--text", "left thalamus", "--out", out]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));

    let record = folder.path().join("reasoning.json");
    let again = run(&["replay", record.to_str().unwrap(), &sample, "--json"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let replay: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&replay["matches"], &replay["views_match"]), (&json!(true), &json!(true)));
    assert_eq!(replay["segments"].as_array().unwrap().len(), 1, "{replay:#}");

    let labels = "tests/data/nifti/both_i32_4d.nii.gz";
    let other = run(&["replay", record.to_str().unwrap(), labels]);
    assert_eq!(other.status.code(), Some(1), "{}", String::from_utf8_lossy(&other.stdout));
    let none = run(&["replay", labels, &sample]);
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(none.status.code() == Some(1) && said.contains("cannot read"), "{said}");
}

#[test]
fn missing_onnx_runtime_is_one_sentence_that_says_what_to_run() {
    let out = Command::new(env!("CARGO_BIN_EXE_seer"))
        .arg("serve")
        .env("SEER_RUNTIME__LIBRARY", "nowhere/libonnxruntime.so")
        .env("SEER_STORAGE__PATH", tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("nowhere/libonnxruntime.so; run `seer setup`"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("error")).count(), 1, "{text}");
}

#[test]
fn asked_for_cuda_without_it_is_one_sentence() {
    let out = seer()
        .arg("serve")
        .env("SEER_RUNTIME__PROVIDER", "cuda")
        .env("SEER_STORAGE__PATH", tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("run `seer setup --provider cuda`"), "{text}");
}

#[test]
fn open_address_without_keys_refuses_to_start() {
    let out = seer().arg("serve").env("SEER_HTTP__BIND", "0.0.0.0:0").output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("0.0.0.0:0") && text.contains("auth"), "{text}");
}

#[test]
fn segment_writes_seg_record_and_overlay() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let study = "static/sample-study/mni152-t1";
    let done = run(&["segment", study, "--text", "rt thalamus", "--out", folder]);
    let text = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{text}");
    for name in ["segmentation.dcm", "reasoning.json", "overlay.png"] {
        assert!(out.path().join(name).metadata().is_ok_and(|m| m.len() > 500), "{name}");
    }
    let refused = run(&["segment", study, "--text", "segment the prostate", "--out", folder]);
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn wrong_usage_is_status_2_and_bad_input_status_1() {
    assert_eq!(run(&["segment"]).status.code(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.dcm"), b"not dicom at all").unwrap();
    let path = folder.path().to_str().unwrap();
    let bad = run(&["segment", path, "--text", "liver", "--out", path]);
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8_lossy(&bad.stderr);
    assert!(text.contains("x.dcm"), "{text}");
}

#[test]
fn embedded_bundle_passes_verification() {
    let out = run(&["models", "verify", "seer-mini"]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn openapi_is_the_committed_document() {
    let out = run(&["openapi"]);
    let committed = std::fs::read_to_string("openapi/openapi.json").unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), committed.trim());
}
