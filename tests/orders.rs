//! The walk through the real server: STOW-RS, order, events, SEG and record.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use seer::app::App;
use seer::config::Config;
use seer::dicom::{DicomLimits, Instance, SeriesUid};
use seer::orders::{Created, NewOrder, Order, OrderState, Outputs, Routing};
use serde_json::{Value, json};

use crate::support::{Server, engine, sample_study};

#[tokio::test]
async fn sample_study_and_a_sentence_become_a_seg_and_a_record() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let body = json!({ "study_uid": study, "text": "pls outline the lt hippocampus" });
    let (status, order) = server.post_json("/api/v1/orders", &body).await;
    assert_eq!(status, 202, "{order}");
    let id = order["id"].as_str().unwrap().to_owned();

    let states = follow(&server, &id).await;
    assert_eq!(states.last().map(String::as_str), Some("completed"), "{states:?}");
    let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
    assert_eq!(record["answer"]["targets"][0]["concept"], "left hippocampus", "{record:#}");
    assert_eq!(record["trace"]["format_ok"], true);
    assert_eq!(record["source"]["sop_instance_uids"].as_array().unwrap().len(), 80);
    let volume_ml = record["result"]["segments"][0]["volume_ml"].as_f64().unwrap();
    assert!((0.3..20.0).contains(&volume_ml), "a hippocampus has a few ml, not {volume_ml}");

    let seg = server
        .client
        .get(format!("{}/api/v1/orders/{id}/segmentation", server.base))
        .send()
        .await
        .unwrap();
    assert_eq!(seg.headers()["content-type"], "application/dicom");
    let bytes = seg.bytes().await.unwrap();
    let (instance, _) = Instance::parse(&bytes, &DicomLimits::default()).unwrap();
    assert_eq!(instance.identity().study.as_str(), study);
    let result = &record["result"];
    assert_eq!(instance.identity().sop_instance.as_str(), result["seg_sop_instance_uid"]);

    let overlay = server
        .client
        .get(format!("{}/api/v1/orders/{id}/artefacts/overlay.png", server.base))
        .send()
        .await
        .unwrap();
    assert_eq!(&overlay.bytes().await.unwrap()[1..4], b"PNG");
}

#[tokio::test]
async fn left_is_left_in_the_patient() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    for (text, left) in [("segment the left putamen", true), ("segment the right putamen", false)] {
        let body = json!({ "study_uid": study, "text": text });
        let (_, order) = server.post_json("/api/v1/orders", &body).await;
        let id = order["id"].as_str().unwrap().to_owned();
        let order = server.wait(&id).await;
        assert_eq!(order["state"], "completed", "{order:#}");
        let seg = server
            .client
            .get(format!("{}/api/v1/orders/{id}/segmentation", server.base))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
        let source = record["source"]["series_instance_uid"].as_str().unwrap();
        let x = mean_patient_x(&server, &seg, source);
        assert_eq!(x > 0.0, left, "{text}: mask lies at LPS x = {x:.1} mm");
    }
}

/// The recipe and the grammar of answers must spell both sides alike: where they do not, the
/// reasoner is led to one side after it has named both.
#[tokio::test]
async fn an_order_for_both_sides_gets_both() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    for text in ["both hippocampi", "segment the left and right thalamus", "bilateral putamen"] {
        let body = json!({ "study_uid": study, "text": text });
        let (_, order) = server.post_json("/api/v1/orders", &body).await;
        let id = order["id"].as_str().unwrap().to_owned();
        let order = server.wait(&id).await;
        assert_eq!(order["state"], "completed", "{text}: {order:#}");
        let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
        let concept = record["answer"]["targets"][0]["concept"].as_str().unwrap();
        assert!(concept.starts_with("both "), "{text}: {:#}", record["trace"]);
        let codes: Vec<_> = record["findings"].as_array().into_iter().flatten().collect();
        assert!(codes.iter().all(|f| f["code"] != "laterality_both_named"), "{text}: {codes:?}");
    }
}

/// The mean LPS x of the first segment, through our own SEG reader.
fn mean_patient_x(server: &Server, seg: &[u8], source: &str) -> f64 {
    let (instance, _) = Instance::parse(seg, &DicomLimits::default()).unwrap();
    let study = instance.identity().study.clone();
    let source = SeriesUid::parse(source).unwrap();
    let instances = server.app.archive.load_series(&study, &source).unwrap();
    let (series, _) = seer::series::assemble(instances).unwrap();
    let (volume, _) = seer::volume::assemble(&series).unwrap();
    let (segments, _) = seer::dicom_seg::read(&instance, &series).unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    for ((slice, row, column), inside) in segments[0].mask.indexed_iter() {
        if *inside {
            let at = seer::geometry::VoxelPoint([slice as f64, row as f64, column as f64]);
            sum += volume.geometry.voxel_to_patient().apply(at).0[0];
            count += 1.0;
        }
    }
    assert!(count > 0.0, "the mask is empty");
    sum / count
}

#[tokio::test]
async fn refuses_what_is_not_in_the_scan_and_keeps_the_record() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let body = json!({ "study_uid": study, "text": "please contour the liver" });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let id = order["id"].as_str().unwrap().to_owned();
    let order = server.wait(&id).await;
    assert_eq!(order["state"], "refused", "{order:#}");
    assert_eq!(order["refusal"]["reason"], "out_of_region");
    let (status, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
    assert_eq!(status, 200);
    assert!(record.get("result").is_none(), "{record:#}");
    let (status, problem) = server.get_json(&format!("/api/v1/orders/{id}/segmentation")).await;
    assert_eq!(status, 409, "{problem}");
}

#[tokio::test]
async fn an_order_run_again_gives_the_same_and_a_changed_record_shows() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let mut ids = Vec::new();
    for text in ["outline the left thalamus and the right putamen", "segment the prostate"] {
        let body = json!({ "study_uid": study, "text": text });
        let (_, order) = server.post_json("/api/v1/orders", &body).await;
        let id = order["id"].as_str().unwrap().to_owned();
        follow(&server, &id).await;
        let (status, replay) =
            server.post_json(&format!("/api/v1/orders/{id}/replay"), &json!({})).await;
        assert_eq!(status, 200, "{replay}");
        for same in ["matches", "views_match", "trace_matches"] {
            assert_eq!(replay[same], true, "{same} of {replay:#}");
        }
        assert_eq!(replay["differences"], json!([]), "{replay:#}");
        ids.push((id, replay));
    }
    assert!(!ids[0].1["segments"].as_array().unwrap().is_empty());
    assert_eq!(ids[1].1["segments"], json!([]), "a refusal has no masks");

    let (_, chain) = server.get_json("/api/v1/records/chain").await;
    assert_eq!(chain["record_count"], 2, "{chain}");
    assert!(chain.get("fault").is_none(), "{chain}");
    let database = server.app.config.storage.path.join("orders/orders.sqlite");
    let changed = rusqlite::Connection::open(&database).unwrap().execute(
        "UPDATE records SET record = replace(record, 'left thalamus', 'right thalamus') WHERE id = ?1",
        [&ids[0].0],
    );
    assert_eq!(changed.unwrap(), 1);
    let (_, chain) = server.get_json("/api/v1/records/chain").await;
    assert_eq!(chain["fault"]["order_id"], ids[0].0, "{chain}");
    // The changed record does not say any more what was done, and the replay says so.
    let (_, replay) =
        server.post_json(&format!("/api/v1/orders/{}/replay", ids[0].0), &json!({})).await;
    assert_eq!((&replay["matches"], &replay["answer"]["matches"]), (&json!(false), &json!(false)));

    let unknown = uuid::Uuid::now_v7();
    let (status, _) =
        server.post_json(&format!("/api/v1/orders/{unknown}/replay"), &json!({})).await;
    assert_eq!(status, 404);
}

/// The other wordings are compared and leave the result as it is.
#[tokio::test]
async fn other_wordings_show_how_stable_an_answer_is() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let run = async |body: Value| {
        let (status, order) = server.post_json("/api/v1/orders", &body).await;
        assert_eq!(status, 202, "{order}");
        let id = order["id"].as_str().unwrap().to_owned();
        follow(&server, &id).await;
        let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
        (id, record)
    };
    let text = "outline the left putamen";
    let (_, alone) = run(json!({ "study_uid": study, "text": text })).await;
    assert!(alone.get("stability").is_none(), "{alone:#}");
    let rephrasings =
        ["pls segment the lt putamen", "segment the right putamen", "segment the prostate"];
    let (id, record) =
        run(json!({ "study_uid": study, "text": text, "rephrasings": rephrasings })).await;
    assert_eq!(record["result"]["segments"], alone["result"]["segments"]);
    let stability = &record["stability"];
    let rows = stability["rephrasings"].as_array().unwrap();
    let agree: Vec<_> = rows.iter().map(|row| row["agrees"].as_bool().unwrap()).collect();
    assert_eq!(agree, [true, false, false], "{stability:#}");
    let dice: Vec<_> = rows.iter().map(|row| row["dice"].as_f64().unwrap()).collect();
    assert_eq!((dice[0], dice[2]), (1.0, 0.0), "{stability:#}");
    assert!(dice[1] < 0.2, "left and right overlap: {stability:#}");
    // One pair of six agrees.
    assert!((stability["answer_agreement"].as_f64().unwrap() - 1.0 / 6.0).abs() < 1e-9);
    let codes: Vec<_> =
        record["findings"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
    assert!(codes.contains(&json!("rephrasings_disagree")), "{codes:?}");

    let (_, replay) = server.post_json(&format!("/api/v1/orders/{id}/replay"), &json!({})).await;
    assert_eq!(replay["matches"], true, "{replay:#}");
}

#[tokio::test]
async fn same_idempotency_key_names_the_same_order() {
    let server = Server::with(|_| {}, None).await;
    let study = server.stow_sample().await;
    let send = |text: &'static str| {
        server
            .client
            .post(format!("{}/api/v1/orders", server.base))
            .header("idempotency-key", "k-1")
            .json(&json!({ "study_uid": study, "text": text }))
            .send()
    };
    let first: Value = send("left hippocampus").await.unwrap().json().await.unwrap();
    let again: Value = send("left hippocampus").await.unwrap().json().await.unwrap();
    assert_eq!(first["id"], again["id"]);
    assert_eq!(send("right hippocampus").await.unwrap().status(), 409);
}

#[tokio::test]
async fn full_queue_says_503_and_when_to_come_back() {
    let server = Server::with(|config| config.orders.queue_length = 2, None).await;
    let study = server.stow_sample().await;
    let body = json!({ "study_uid": study, "text": "left hippocampus" });
    for _ in 0..2 {
        assert_eq!(server.post_json("/api/v1/orders", &body).await.0, 202);
    }
    let refused = server
        .client
        .post(format!("{}/api/v1/orders", server.base))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn waiting_order_can_be_cancelled_once() {
    let server = Server::with(|_| {}, None).await;
    let study = server.stow_sample().await;
    let body = json!({ "study_uid": study, "text": "left hippocampus" });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let path = format!("/api/v1/orders/{}/cancel", order["id"].as_str().unwrap());
    let (status, cancelled) = server.post_json(&path, &json!({})).await;
    assert!((200..300).contains(&status), "{status} {cancelled}");
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(server.post_json(&path, &json!({})).await.0, 409);
}

#[tokio::test]
async fn bad_orders_name_the_thing_and_the_value() {
    let server = Server::with(|_| {}, None).await;
    let study = server.stow_sample().await;
    let long = "x".repeat(100_000);
    let rows = [
        (json!({ "study_uid": study, "text": "  " }), 400, "empty"),
        (json!({ "study_uid": study, "text": long }), 413, "100000"),
        (json!({ "study_uid": "1.2.3", "text": "liver" }), 404, "1.2.3"),
        (json!({ "study_uid": "1..2", "text": "liver" }), 400, "StudyInstanceUID"),
        (json!({ "text": "liver" }), 400, "study_uid"),
        (json!({ "study_uid": study, "text": "liver", "rephrasings": [""] }), 400, "rephrasing 1"),
        (
            json!({ "study_uid": study, "text": "liver", "rephrasings": vec!["a"; 9] }),
            400,
            "limit is 8",
        ),
    ];
    for (body, expected, word) in rows {
        let (status, problem) = server.post_json("/api/v1/orders", &body).await;
        assert_eq!(status, expected, "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "{detail:?} does not say {word:?}");
    }
}

/// Follows server-sent events to the end; gives the states in order.
async fn follow(server: &Server, id: &str) -> Vec<String> {
    let url = format!("{}/api/v1/orders/{id}/events", server.base);
    let mut stream = server.client.get(url).send().await.unwrap().bytes_stream();
    let (mut pending, mut states) = (String::new(), Vec::new());
    while let Some(chunk) = stream.next().await {
        pending.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        while let Some(end) = pending.find('\n') {
            let line: String = pending.drain(..=end).collect();
            if let Some(data) = line.trim().strip_prefix("data:") {
                let event: Value = serde_json::from_str(data.trim()).unwrap();
                states.push(event["state"].as_str().unwrap().to_owned());
            }
        }
    }
    states
}

#[tokio::test]
async fn study_that_no_walk_could_segment_is_refused_at_once() {
    let server = Server::with(|_| {}, None).await;
    let (status, stored) = server.stow(&crate::support::sample_study()[..1]).await;
    assert_eq!(status, 200, "{stored}");
    let study = crate::support::study_of(&stored);
    let body = json!({ "study_uid": study, "text": "left hippocampus" });
    let (status, problem) = server.post_json("/api/v1/orders", &body).await;
    assert!((400..500).contains(&status), "{status} {problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("has 1 image"), "{detail}");
    assert!(server.app.orders.list(&Default::default()).unwrap().0.is_empty());
}

#[tokio::test]
async fn order_whose_files_cannot_be_written_fails_and_says_so() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    // A file where the folder of the pictures must be.
    let artefacts = server.app.config.storage.path.join("orders/artefacts");
    std::fs::remove_dir_all(&artefacts).unwrap();
    std::fs::write(&artefacts, b"").unwrap();
    let body = json!({ "study_uid": study, "text": "left hippocampus" });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let order = server.wait(order["id"].as_str().unwrap()).await;
    assert_eq!(order["state"], "failed", "{order:#}");
    assert_eq!(order["error"]["kind"], "internal");
}

#[tokio::test]
async fn what_was_asked_for_beside_the_masks_is_in_the_archive() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let body = json!({
        "study_uid": study,
        "text": "segment the left putamen",
        "segmentation_type": "labelmap",
        "structured_report": true,
        "key_images": true,
    });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let id = order["id"].as_str().unwrap().to_owned();
    let order = server.wait(&id).await;
    assert_eq!(order["state"], "completed", "{order:#}");
    let documents = order["result"]["documents"].as_array().unwrap();
    let kinds: Vec<_> = documents.iter().map(|d| d["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["structured_report", "key_image", "key_objects"]);
    let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
    assert_eq!(&record["result"]["documents"], &order["result"]["documents"]);
    for document in documents {
        let path = format!(
            "/dicom-web/studies/{study}/series/{}/instances/{}",
            document["series_uid"].as_str().unwrap(),
            document["sop_instance_uid"].as_str().unwrap()
        );
        let (status, metadata) = server.get_json(&format!("{path}/metadata")).await;
        assert_eq!(status, 200, "{metadata}");
        assert_eq!(metadata[0]["00080016"]["Value"][0], document["sop_class_uid"]);
    }
    let seg = bytes(&server, &format!("/api/v1/orders/{id}/segmentation")).await;
    let (seg, _) = Instance::parse(&seg, &DicomLimits::default()).unwrap();
    assert_eq!(seg.identity().sop_class_uid, "1.2.840.10008.5.1.4.1.1.66.7");
    same_mask_as_nifti(&server, &id, &seg, &record).await;
}

/// The server may die after it has kept the record and before it has stored the SEG.
#[test]
fn an_order_that_died_before_its_seg_was_stored_is_walked_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), true);
    let files = sample_study().into_iter();
    let stored: Vec<_> = files.map(|file| app.archive.store_file(&file).unwrap()).collect();
    let order = NewOrder {
        study_uid: stored[0].identity.study.clone(),
        series_uid: None,
        text: "segment the left putamen".to_owned(),
        priority: 0,
        idempotency_key: None,
        rephrasings: Vec::new(),
        drop_empty_frames: false,
        outputs: Outputs::default(),
        routing: Routing::default(),
    };
    let first = finished(&app, created(&app, &order));
    let first_sop = first.result.unwrap().seg_sop_instance_uid;
    close(app);

    let app = open(folder.path(), false);
    let second = created(&app, &order);
    close(app);
    let database = folder.path().join("orders/orders.sqlite");
    let copied = rusqlite::Connection::open(database).unwrap().execute(
        "UPDATE orders SET state = 'running', attempt_count = 1, record = \
         (SELECT replace(record, ?1, '2.25.404') FROM records WHERE id = ?2) WHERE id = ?3",
        [first_sop.as_str(), &first.id.to_string(), &second.to_string()],
    );
    assert_eq!(copied.unwrap(), 1);

    let app = open(folder.path(), true);
    let second = finished(&app, second);
    assert_eq!(second.state, OrderState::Completed, "{:?}", second.error);
    let second_sop = second.result.unwrap().seg_sop_instance_uid;
    assert!(second_sop != first_sop && second_sop.as_str() != "2.25.404", "{second_sop}");
    close(app);
}

/// Opens the storage again; the last owner may take a moment to let go.
fn open(path: &Path, with_models: bool) -> App {
    let mut config = Config::default();
    config.storage.path = path.to_owned();
    for _ in 0..100 {
        match App::with_engine(config.clone(), with_models.then(engine)) {
            Ok(app) => return app,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    App::with_engine(config, None).map(drop).unwrap();
    panic!("storage was taken for five seconds");
}

fn close(app: App) {
    app.orders.stop();
}

fn created(app: &App, order: &NewOrder) -> uuid::Uuid {
    match app.orders.create(order.clone()).unwrap() {
        Created::New(order) | Created::Existing(order) => order.id,
    }
}

fn finished(app: &App, id: uuid::Uuid) -> Order {
    for _ in 0..2400 {
        let order = app.orders.get(id).unwrap();
        if order.state.is_final() {
            return order;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("order did not end in four minutes");
}

async fn bytes(server: &Server, path: &str) -> Vec<u8> {
    let response = server.client.get(format!("{}{path}", server.base)).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.bytes().await.unwrap().to_vec()
}

/// The NIfTI has the SEG's voxels, at the SEG's places in the patient.
async fn same_mask_as_nifti(server: &Server, id: &str, seg: &Instance, record: &Value) {
    let file = tempfile::Builder::new().suffix(".nii.gz").tempfile().unwrap();
    let nifti = bytes(server, &format!("/api/v1/orders/{id}/segmentation.nii.gz")).await;
    std::fs::write(file.path(), nifti).unwrap();
    let (labels, geometry) = seer::volume::nifti::read_labels(file.path()).unwrap();
    let source = SeriesUid::parse(record["source"]["series_instance_uid"].as_str().unwrap());
    let study = seg.identity().study.clone();
    let instances = server.app.archive.load_series(&study, &source.unwrap()).unwrap();
    let (series, _) = seer::series::assemble(instances).unwrap();
    let (segments, _) = seer::dicom_seg::read(seg, &series).unwrap();
    let grid = series.grid(series.frames.len()).unwrap();
    let mut count = 0;
    for ((slice, row, column), inside) in segments[0].mask.indexed_iter() {
        if *inside {
            let voxel = seer::geometry::VoxelPoint([slice as f64, row as f64, column as f64]);
            let patient = grid.voxel_to_patient().apply(voxel);
            let at = geometry.patient_to_voxel().apply(patient).0.map(|v| v.round() as usize);
            assert_eq!(labels[at], 1, "{at:?}");
            count += 1;
        }
    }
    assert!(count > 0, "the mask is empty");
    assert_eq!(labels.iter().filter(|label| **label > 0).count(), count);
}
