//! Two servers of our own, one as the other's archive.

use serde_json::json;

use super::*;
use crate::support::studies::Slice;
use crate::support::{engine, sample_study};

/// An archive with the sample study.
async fn archive_with_sample() -> (Server, String) {
    let archive = server(|_| {}).await;
    let study = archive.stow_sample().await;
    (archive, study)
}

#[tokio::test]
async fn an_order_on_a_study_elsewhere_is_fetched_walked_and_delivered() {
    let (archive, study) = archive_with_sample().await;
    let node = dicomweb("archive", &format!("{}/dicom-web", archive.base));
    let server = Server::with(
        |config| {
            listening(config);
            config.pacs.dicomweb = vec![node];
            config.pacs.deliver_to = vec!["archive".into()];
        },
        Some(engine()),
    )
    .await;
    let body = json!({ "study_uid": study, "text": "left hippocampus" });
    let (status, order) = server.post_json("/api/v1/orders", &body).await;
    assert_eq!(status, 202, "{order}");
    assert_eq!(order["fetch"]["wanted"], true, "{order}");
    let id = order["id"].as_str().unwrap().to_owned();
    let order = server.wait(&id).await;
    assert_eq!(order["state"], "completed", "{order:#}");
    assert_eq!(order["fetch"]["wanted"], false);
    assert_eq!(count(&server, &study).await, sample_study().len() + 1);
    let order = until(&server, &id, |order| order["deliveries"][0]["state"] == "delivered").await;
    assert_eq!(order["deliveries"][0]["node"], "archive", "{order:#}");
    let (_, series) =
        archive.get_json(&format!("/dicom-web/studies/{study}/series?Modality=SEG")).await;
    let uid = &series[0]["0020000E"]["Value"][0];
    assert_eq!(*uid, order["result"]["seg_series_uid"], "{series:#}");
    // Delivering it once more does no harm.
    let retry = format!("/api/v1/deliveries/{}/retry", order["deliveries"][0]["id"]);
    assert_eq!(server.post_json(&retry, &json!({})).await.0, 409);
    let (_, list) = server.get_json("/api/v1/deliveries?state=delivered").await;
    assert_eq!(list["total"], 1, "{list}");
}

#[tokio::test]
async fn what_no_node_has_is_said_at_the_order() {
    let (archive, _) = archive_with_sample().await;
    let node = dicomweb("archive", &format!("{}/dicom-web", archive.base));
    let server = server(|config| config.pacs.dicomweb = vec![node]).await;
    let body = json!({ "study_uid": "1.2.3", "text": "liver" });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let order = server.wait(order["id"].as_str().unwrap()).await;
    assert_eq!(order["state"], "failed", "{order:#}");
    assert_eq!(order["error"]["kind"], "not_found");
    let message = order["error"]["message"].as_str().unwrap();
    assert_eq!(message, "study 1.2.3 is not stored here, and none of 1 nodes has it");
    let body = json!({ "study_uid": "1.2.3", "text": "liver", "source": "nowhere" });
    let (status, problem) = server.post_json("/api/v1/orders", &body).await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(problem["detail"], "node nowhere is not configured");
}

#[tokio::test]
async fn a_node_that_is_down_is_asked_again_across_a_restart() {
    let gone = peers::free_port();
    let folder = tempfile::tempdir().unwrap();
    let config = move |path: &std::path::Path| {
        let mut config = Config::default();
        config.storage.path = path.to_owned();
        config.pacs.retry_seconds = 1;
        config.pacs.retry_seconds_max = 1;
        config.pacs.dicomweb =
            vec![dicomweb("archive", &format!("http://127.0.0.1:{gone}/dicom-web"))];
        config
    };
    let slices: Vec<Slice> = (1..=3).map(|number| Slice::new(720, number)).collect();
    let study = seer::dicom::StudyUid::parse(&slices[0].study).unwrap();
    let new = seer::orders::NewOrder {
        study_uid: study.clone(),
        series_uid: None,
        text: "brain".into(),
        priority: 0,
        idempotency_key: None,
        rephrasings: Vec::new(),
        drop_empty_frames: false,
        outputs: seer::orders::Outputs::default(),
        routing: Default::default(),
    };
    let path = folder.path().to_owned();
    let id = blocking(move || {
        let app = seer::app::App::with_engine(config(&path), None).unwrap();
        let seer::orders::Created::New(order) = app.orders.create(new).unwrap() else {
            panic!("it is new");
        };
        let tried = |count: u32| {
            for _ in 0..200 {
                let order = app.orders.get(order.id).unwrap();
                if order
                    .fetch
                    .as_ref()
                    .is_some_and(|fetch| fetch.attempt_count >= count && fetch.error.is_some())
                {
                    return order;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            panic!("not tried {count} times in ten seconds");
        };
        let order = tried(2);
        assert_eq!(order.error, None);
        let error = order.fetch.unwrap().error.unwrap();
        assert_eq!(error.kind, "unavailable");
        assert!(error.message.contains("cannot ask node archive"), "{}", error.message);
        app.orders.stop();
        order.id
    })
    .await;
    // The archive comes up, where it was said to be, while we are down.
    let archive = Server::with(|_| {}, None).await;
    for slice in &slices {
        archive.app.archive.store(&slice.bytes()).unwrap();
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", gone)).await.unwrap();
    tokio::spawn(seer::http::serve(archive.app.clone(), listener, std::future::pending()));
    // The threads of the first opening hold the folder until they notice the stop.
    let app = loop {
        match seer::app::App::with_engine(config(folder.path()), None) {
            Ok(app) => break app,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    for _ in 0..200 {
        let order = app.orders.get(id).unwrap();
        if order.fetch.is_some_and(|fetch| !fetch.wanted) {
            assert_eq!(order.state, seer::orders::OrderState::Queued);
            assert_eq!(app.archive.series_of(&study).unwrap()[0].instance_count, 3);
            app.orders.stop();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the study was not fetched in ten seconds");
}

#[tokio::test]
async fn an_order_that_waits_for_its_images_can_be_cancelled() {
    let gone = peers::free_port();
    let node = dicomweb("archive", &format!("http://127.0.0.1:{gone}/dicom-web"));
    let server = server(|config| {
        config.pacs.dicomweb = vec![node];
        config.pacs.retry_seconds = 600;
        config.pacs.retry_seconds_max = 600;
    })
    .await;
    let body = json!({ "study_uid": "1.2.3", "text": "liver" });
    let (_, order) = server.post_json("/api/v1/orders", &body).await;
    let id = order["id"].as_str().unwrap().to_owned();
    until(&server, &id, |order| order["fetch"]["error"].is_object() && order["state"] == "queued")
        .await;
    let (status, _) = server.post_json(&format!("/api/v1/orders/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    let order = server.wait(&id).await;
    assert_eq!(order["state"], "cancelled", "{order:#}");
}

#[tokio::test]
async fn dimse_between_two_of_ours_echoes_and_stores() {
    let receiver = server(|config| config.pacs.dimse = vec![dimse("sender", "SENDER", 104)]).await;
    let to = port(&receiver);
    let sender = server(|config| {
        config.pacs.ae_title = "SENDER".into();
        config.pacs.dimse = vec![dimse("receiver", "SEER", to)];
    })
    .await;
    let slices: Vec<Slice> = (1..=3).map(|number| Slice::new(730, number)).collect();
    for slice in &slices {
        sender.app.archive.store(&slice.bytes()).unwrap();
    }
    let (status, echo) = sender.post_json("/api/v1/nodes/receiver/echo", &json!({})).await;
    assert_eq!(status, 200, "{echo}");
    let (status, problem) = sender.post_json("/api/v1/nodes/nobody/echo", &json!({})).await;
    assert_eq!(status, 404, "{problem}");
    let pacs = sender.app.pacs.clone();
    let study = seer::dicom::StudyUid::parse(&slices[0].study).unwrap();
    blocking(move || pacs.send("receiver", &[seer::archive::Scope::study(study)]).unwrap()).await;
    assert_eq!(count(&receiver, &slices[0].study).await, 3);
    let (_, nodes) = sender.get_json("/api/v1/nodes").await;
    assert_eq!(nodes["nodes"][0]["name"], "receiver", "{nodes}");
}

#[tokio::test]
async fn a_result_waits_for_its_node_across_a_restart_and_arrives_once() {
    let gone = peers::free_port();
    let folder = tempfile::tempdir().unwrap();
    let config = |path: &std::path::Path| {
        let mut config = Config::default();
        config.storage.path = path.to_owned();
        config.pacs.retry_seconds = 1;
        config.pacs.retry_seconds_max = 1;
        let url = format!("http://127.0.0.1:{gone}/dicom-web");
        config.pacs.dicomweb = vec![dicomweb("archive", &url)];
        config
    };
    let new = |study| seer::orders::NewOrder {
        study_uid: study,
        series_uid: None,
        text: "left hippocampus".into(),
        priority: 0,
        idempotency_key: None,
        rephrasings: Vec::new(),
        drop_empty_frames: true,
        outputs: Default::default(),
        routing: seer::orders::Routing { source: None, deliver_to: vec!["archive".into()] },
    };
    let app = seer::app::App::with_engine(config(folder.path()), Some(engine())).unwrap();
    let mut study = None;
    for file in sample_study() {
        study = Some(app.archive.store_file(&file).unwrap().identity.study);
    }
    let study = study.unwrap();
    let seer::orders::Created::New(order) = app.orders.create(new(study.clone())).unwrap() else {
        panic!("it is new");
    };
    let delivery = async |app: &seer::app::App, what: fn(&seer::orders::Delivery) -> bool| {
        for _ in 0..1200 {
            let order = app.orders.get(order.id).unwrap();
            if order.deliveries.first().is_some_and(what) {
                return order;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{:?}", app.orders.get(order.id).unwrap());
    };
    let waiting = delivery(&app, |delivery| delivery.attempt_count >= 2).await;
    assert_eq!(waiting.state, seer::orders::OrderState::Completed);
    let tried = &waiting.deliveries[0];
    assert_eq!(tried.state, seer::orders::DeliveryState::Waiting);
    assert!(tried.next_at.is_some() && tried.error.is_some(), "{tried:?}");
    app.orders.stop();
    drop(app);
    let archive = Server::with(|_| {}, None).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", gone)).await.unwrap();
    tokio::spawn(seer::http::serve(archive.app.clone(), listener, std::future::pending()));
    let app = loop {
        match seer::app::App::with_engine(config(folder.path()), None) {
            Ok(app) => break app,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    let done =
        delivery(&app, |delivery| delivery.state == seer::orders::DeliveryState::Delivered).await;
    assert!(done.deliveries[0].attempt_count >= 3, "{:?}", done.deliveries);
    assert_eq!(count(&archive, study.as_str()).await, 1, "the segmentation, once");
    app.orders.stop();
}
