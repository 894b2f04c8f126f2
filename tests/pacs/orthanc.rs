//! Orthanc with its DICOMweb plugin, both ways round.

use serde_json::json;

use super::peers::{Orthanc, free_port, installed, run, text};
use super::*;
use crate::support::studies::Slice;

fn slices(study: u32) -> Vec<Slice> {
    (1..=3).map(|number| Slice::new(study, number)).collect()
}

/// Orthanc and a server of ours that know each other.
async fn pair(change: impl FnOnce(&mut Config)) -> (Server, Orthanc) {
    let (http, dicom) = (free_port(), free_port());
    let server = server(|config| {
        let mut get = dimse("get", "ORTHANC", dicom);
        get.retrieve = Retrieve::Get;
        let mut both = dimse("move", "ORTHANC", dicom);
        both.may_query = true;
        config.pacs.dimse = vec![both, get];
        config.pacs.dicomweb = vec![dicomweb("web", &format!("http://127.0.0.1:{http}/dicom-web"))];
        change(config);
    })
    .await;
    let ours: u16 = server.base.rsplit(':').next().unwrap().parse().unwrap();
    let orthanc = Orthanc::start(http, dicom, ours, port(&server)).await;
    (server, orthanc)
}

#[tokio::test]
async fn studies_are_fetched_by_move_get_and_wado() {
    if !Orthanc::installed() {
        return;
    }
    let (server, orthanc) = pair(|_| {}).await;
    for (number, node) in [(750, "move"), (751, "get"), (752, "web")] {
        let slices = slices(number);
        for slice in &slices {
            orthanc.store(slice.bytes()).await;
        }
        let pacs = server.app.pacs.clone();
        blocking(move || pacs.echo(node).unwrap()).await;
        let body = json!({ "study_uid": slices[0].study, "text": "brain", "source": node });
        let (status, order) = server.post_json("/api/v1/orders", &body).await;
        assert_eq!(status, 202, "{order}");
        let id = order["id"].as_str().unwrap().to_owned();
        let order = until(&server, &id, |order| {
            order["fetch"]["wanted"] == false || order["state"] == "failed"
        })
        .await;
        assert_eq!(order["state"], "queued", "{node}: {order:#}");
        assert_eq!(count(&server, &slices[0].study).await, 3, "{node}");
        // A study that it does not have is said to be missing, by name.
        let body =
            json!({ "study_uid": format!("1.2.3.{number}"), "text": "brain", "source": node });
        let (_, order) = server.post_json("/api/v1/orders", &body).await;
        let order = server.wait(order["id"].as_str().unwrap()).await;
        let message = order["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("node {node} has no CT or MR series")), "{message}");
    }
}

#[tokio::test]
async fn instances_are_sent_by_c_store_and_stow_and_sent_again() {
    if !Orthanc::installed() {
        return;
    }
    let (server, orthanc) = pair(|_| {}).await;
    for (number, node) in [(760, "move"), (761, "web")] {
        let slices = slices(number);
        for slice in &slices {
            server.app.archive.store(&slice.bytes()).unwrap();
        }
        let study = seer::dicom::StudyUid::parse(&slices[0].study).unwrap();
        let pacs = server.app.pacs.clone();
        blocking(move || {
            let scopes = [seer::archive::Scope::study(study)];
            pacs.send(node, &scopes).unwrap();
            pacs.send(node, &scopes).unwrap();
        })
        .await;
        assert_eq!(orthanc.count(&slices[0].study).await, 3, "{node}");
    }
}

#[tokio::test]
async fn orthanc_stores_searches_and_retrieves_over_our_dicomweb() {
    if !Orthanc::installed() {
        return;
    }
    let (server, orthanc) = pair(|_| {}).await;
    let sent = slices(770);
    for slice in &sent {
        orthanc.store(slice.bytes()).await;
    }
    let id = orthanc.find(&sent[0].study).await.unwrap();
    let answer = orthanc
        .post("/dicom-web/servers/seer/stow", json!({ "Resources": [id], "Synchronous": true }))
        .await;
    assert_eq!(count(&server, &sent[0].study).await, 3, "{answer}");

    let query = json!({ "Uri": "/studies", "Arguments": { "StudyInstanceUID": sent[0].study } });
    let found = orthanc.post("/dicom-web/servers/seer/qido", query).await;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");

    let kept = slices(771);
    for slice in &kept {
        server.app.archive.store(&slice.bytes()).unwrap();
    }
    let wanted = json!({ "Resources": [{ "Study": kept[0].study }], "Synchronous": true });
    orthanc.post("/dicom-web/servers/seer/retrieve", wanted).await;
    assert_eq!(orthanc.count(&kept[0].study).await, 3);
}

#[tokio::test]
async fn orthanc_and_dcmtk_send_over_dimse() {
    if !Orthanc::installed() || !installed(&["findscu", "movescu"]) {
        return;
    }
    let (server, orthanc) = pair(|_| {}).await;
    let sent = slices(780);
    for slice in &sent {
        orthanc.store(slice.bytes()).await;
    }
    let id = orthanc.find(&sent[0].study).await.unwrap();
    orthanc.post("/modalities/seer/store", json!(id)).await;
    assert_eq!(count(&server, &sent[0].study).await, 3);
    let echo = orthanc.post("/modalities/seer/echo", json!({})).await;
    assert!(echo.is_object() || echo.is_string(), "{echo}");

    // movescu makes Orthanc send to us: what arrives so was asked for by another than us.
    let moved = slices(781);
    for slice in &moved {
        orthanc.store(slice.bytes()).await;
    }
    let to = orthanc.dicom.to_string();
    let key = format!("StudyInstanceUID={}", moved[0].study);
    let common =
        ["-S", "-aet", "SEER", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=STUDY", "-k", &key];
    let arguments = |more: &[&str]| -> Vec<String> {
        let end = ["127.0.0.1", to.as_str()];
        let all = common.iter().chain(more).chain(&end);
        all.map(|s| s.to_string()).collect()
    };
    let found = run("findscu", &arguments(&["-v"])).await;
    assert!(text(&found).contains("Find Response: 1"), "{}", text(&found));
    let done = run("movescu", &arguments(&["-aem", "SEER"])).await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(count(&server, &moved[0].study).await, 3);
}

#[tokio::test]
async fn orthanc_queries_and_retrieves_over_dimse() {
    if !Orthanc::installed() {
        return;
    }
    let (server, orthanc) = pair(|_| {}).await;
    let kept = slices(790);
    for slice in kept.iter().chain(&slices(791)) {
        server.app.archive.store(&slice.bytes()).unwrap();
    }
    let query = |level: &str, keys: serde_json::Value| json!({ "Level": level, "Query": keys });
    let rows = [
        (query("Patient", json!({ "PatientID": "PID-*" })), 1),
        (query("Study", json!({ "StudyDate": "20240101-20241231" })), 2),
        (query("Study", json!({ "PatientName": "*recog*" })), 2),
        (query("Series", json!({ "StudyInstanceUID": kept[0].study })), 1),
        (
            query(
                "Instance",
                json!({ "StudyInstanceUID": kept[0].study, "SeriesInstanceUID": kept[0].series }),
            ),
            3,
        ),
        (query("Study", json!({ "StudyInstanceUID": kept[0].study })), 1),
    ];
    for (body, expected) in rows {
        let asked = orthanc.post("/modalities/seer/query", body.clone()).await;
        let answers = format!("{}/answers", asked["Path"].as_str().unwrap());
        let found = orthanc.get(&answers).await;
        assert_eq!(found.as_array().map(Vec::len), Some(expected), "{body}: {found}");
        if body["Query"]["StudyInstanceUID"].is_string() && body["Level"] == "Study" {
            let content = orthanc.get(&format!("{answers}/0/content?simplify")).await;
            assert_eq!(content["StudyInstanceUID"], json!(kept[0].study), "{content}");
            let retrieve = format!("{}/retrieve", asked["Path"].as_str().unwrap());
            orthanc.post(&retrieve, json!({ "TargetAet": "ORTHANC", "Synchronous": true })).await;
            assert_eq!(orthanc.count(&kept[0].study).await, 3);
        }
    }
}
