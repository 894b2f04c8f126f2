//! Orders that arriving studies get by themselves.

use seer::config::ArrivalRule;

use super::*;
use crate::support::studies::Slice;

fn rule(name: &str) -> ArrivalRule {
    ArrivalRule {
        name: name.into(),
        from: Vec::new(),
        modality: Some("mr".into()),
        body_part: None,
        text: "both hippocampi".into(),
        quiet_seconds: 1,
        priority: 3,
        deliver_to: Vec::new(),
    }
}

async fn stow(server: &Server, slices: &[Slice]) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = slices
        .iter()
        .map(|slice| {
            let path = folder.path().join(slice.sop_instance());
            std::fs::write(&path, slice.bytes()).unwrap();
            path
        })
        .collect();
    let (status, answer) = server.stow(&files).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_quiet_study_gets_one_order_per_rule_across_a_restart() {
    let slices: Vec<Slice> = (1..=3).map(|number| Slice::new(740, number)).collect();
    let mut other_sender = rule("not from there");
    other_sender.from = vec!["scanner".into()];
    let mut other_modality = rule("not of these");
    other_modality.modality = Some("CT".into());
    let rules = vec![rule("hippocampi"), other_sender, other_modality];
    let server = server(|config| {
        config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104)];
        config.pacs.rules = rules.clone();
    })
    .await;
    stow(&server, &slices[..2]).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    stow(&server, &slices[2..]).await;
    let (_, list) = server.get_json("/api/v1/orders").await;
    assert_eq!(list["total"], 0, "more came, so it is not quiet yet: {list:#}");
    let mut list = Value::Null;
    for _ in 0..100 {
        list = server.get_json("/api/v1/orders").await.1;
        if list["total"] != 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(list["total"], 1, "{list:#}");
    assert_eq!(list["orders"][0]["text"], "both hippocampi");
    assert_eq!(list["orders"][0]["series_uid"], slices[0].series);
    assert_eq!(list["orders"][0]["priority"], 3);
    // The same again is the same study.
    stow(&server, &slices).await;
    tokio::time::sleep(std::time::Duration::from_millis(1700)).await;
    let (_, list) = server.get_json("/api/v1/orders").await;
    assert_eq!(list["total"], 1, "{list:#}");
}

#[tokio::test]
async fn an_arrival_before_a_stop_gets_its_order_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.storage.path = folder.path().to_owned();
    config.pacs.rules = vec![rule("hippocampi")];
    let mut impatient = config.clone();
    config.pacs.rules[0].quiet_seconds = 3600;
    let app = seer::app::App::with_engine(config, None).unwrap();
    for number in 1..=3 {
        let slice = Slice::new(741, number);
        let stored = app.archive.store(&slice.bytes()).unwrap();
        let arrival = seer::pacs::Arrival {
            study: stored.identity.study,
            series: stored.identity.series,
            from: "scanner".into(),
        };
        assert!(app.arrivals.note(&arrival));
    }
    app.orders.stop();
    drop(app);
    impatient.pacs.rules[0].quiet_seconds = 0;
    let app = loop {
        match seer::app::App::with_engine(impatient.clone(), None) {
            Ok(app) => break app,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    for _ in 0..100 {
        let (orders, _) =
            app.orders.list(&seer::orders::OrderQuery { limit: 9, ..Default::default() }).unwrap();
        if !orders.is_empty() {
            assert_eq!(orders.len(), 1);
            app.orders.stop();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no order in five seconds");
}
