//! UPS-RS through the real router: work items, event channels, and orders that come as IHE AIW-I
//! work items.

use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, WARNING};
use reqwest::{Method, Response};
use seer::config::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::Server;

const WORKITEMS: &str = "/dicom-web/workitems";
const GLOBAL: &str = "1.2.840.10008.5.1.4.34.5";
const FILTERED: &str = "1.2.840.10008.5.1.4.34.5.1";
const JSON: &str = "application/dicom+json";

async fn call(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Response {
    let request = server.client.request(method, format!("{}{path}", server.base));
    let request = match body {
        Some(body) => request.header(CONTENT_TYPE, JSON).body(body.to_string()),
        None => request,
    };
    request.send().await.unwrap()
}

async fn post(server: &Server, path: &str, body: &Value) -> Response {
    call(server, Method::POST, path, Some(body)).await
}

fn warning(response: &Response) -> String {
    let warning = response.headers().get(WARNING);
    warning.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn code(value: &str) -> Value {
    json!({
        "00080100": { "vr": "SH", "Value": [value] },
        "00080102": { "vr": "SH", "Value": ["99TEST"] },
        "00080104": { "vr": "LO", "Value": ["meaning"] },
    })
}

/// A work item that anybody may perform.
fn workitem() -> Value {
    json!({
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Doe^Jane" }] },
        "00100020": { "vr": "LO", "Value": ["P-1"] },
        "00404005": { "vr": "DT", "Value": ["20200101120000"] },
        "00404018": { "vr": "SQ", "Value": [code("SEGMENT")] },
        "00404041": { "vr": "CS", "Value": ["READY"] },
        "00741000": { "vr": "CS", "Value": ["SCHEDULED"] },
        "00741200": { "vr": "CS", "Value": ["MEDIUM"] },
        "00741202": { "vr": "LO", "Value": ["AI"] },
        "00741204": { "vr": "LO", "Value": ["Read the scan"] },
    })
}

/// A work item that is addressed to us, on a study.
fn addressed(study: &str, text: &str) -> Value {
    let mut item = workitem();
    item["00404025"] = json!({ "vr": "SQ", "Value": [code("SEER")] });
    item["00404021"] =
        json!({ "vr": "SQ", "Value": [{ "0020000D": { "vr": "UI", "Value": [study] } }] });
    item["00741210"] = json!({ "vr": "SQ", "Value": [{
        "0040A040": { "vr": "CS", "Value": ["TEXT"] },
        "0040A043": { "vr": "SQ", "Value": [code("ORDER_TEXT")] },
        "0040A160": { "vr": "UT", "Value": [text] },
    }]});
    item
}

/// Creates a work item and gives its path.
async fn create(server: &Server, item: &Value) -> String {
    let response = post(server, WORKITEMS, item).await;
    assert_eq!(response.status(), 201, "{:?}", response.text().await);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    location.strip_prefix(&server.base).unwrap().to_owned()
}

async fn retrieve(server: &Server, path: &str) -> Value {
    let (status, found) = server.get_json(path).await;
    assert_eq!(status, 200, "{found}");
    found[0].clone()
}

fn state(item: &Value) -> &str {
    item["00741000"]["Value"][0].as_str().unwrap()
}

async fn until(server: &Server, path: &str, wanted: &str) -> Value {
    for _ in 0..1200 {
        let item = retrieve(server, path).await;
        if state(&item) == wanted {
            return item;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not {wanted} after a minute: {:#}", retrieve(server, path).await);
}

fn change(transaction: &str, state: &str) -> Value {
    json!({
        "00081195": { "vr": "UI", "Value": [transaction] },
        "00741000": { "vr": "CS", "Value": [state] },
    })
}

async fn put_state(server: &Server, path: &str, transaction: &str, state: &str) -> Response {
    let body = change(transaction, state);
    call(server, Method::PUT, &format!("{path}/state"), Some(&body)).await
}

fn performed() -> Value {
    json!({ "00741216": { "vr": "SQ", "Value": [{
        "00404028": { "vr": "SQ", "Value": [code("STATION")] },
        "00404019": { "vr": "SQ", "Value": [code("SEGMENT")] },
        "00404050": { "vr": "DT", "Value": ["20261124120000"] },
        "00404051": { "vr": "DT", "Value": ["20261124120100"] },
        "00404033": { "vr": "SQ" },
    }]}})
}

#[tokio::test]
async fn another_performer_claims_updates_and_completes() {
    let server = Server::with(|_| {}, None).await;
    let path = create(&server, &workitem()).await;
    let found = retrieve(&server, &path).await;
    assert_eq!(found["00080016"]["Value"][0], "1.2.840.10008.5.1.4.34.6.1");
    assert!(path.ends_with(found["00080018"]["Value"][0].as_str().unwrap()), "{found:#}");

    let early = put_state(&server, &path, "1.2.3.9", "COMPLETED").await;
    assert_eq!(early.status(), 409);
    assert!(warning(&early).contains("inconsistent with the current state"), "{}", warning(&early));
    assert_eq!(put_state(&server, &path, "1.2.3.9", "IN PROGRESS").await.status(), 200);
    assert_eq!(put_state(&server, &path, "1.2.3.10", "IN PROGRESS").await.status(), 409);
    let claimed = retrieve(&server, &path).await;
    assert_eq!(state(&claimed), "IN PROGRESS");
    assert!(claimed.get("00081195").is_none(), "the Transaction UID is the performer's secret");

    let missing = post(&server, &path, &performed()).await;
    assert_eq!(missing.status(), 400);
    assert!(warning(&missing).contains("Transaction UID is missing"), "{}", warning(&missing));
    let wrong = post(&server, &format!("{path}?transaction=1.2.3.10"), &performed()).await;
    assert_eq!(wrong.status(), 400);
    assert!(warning(&wrong).contains("incorrect"), "{}", warning(&wrong));
    let unfinished = put_state(&server, &path, "1.2.3.9", "COMPLETED").await;
    assert_eq!(unfinished.status(), 409);
    let problem: Value = unfinished.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("00741216"), "{problem}");
    let updated = post(&server, &format!("{path}?transaction=1.2.3.9"), &performed()).await;
    assert_eq!(updated.status(), 200, "{:?}", updated.text().await);
    let done = put_state(&server, &path, "1.2.3.9", "COMPLETED").await;
    assert_eq!((done.status().as_u16(), warning(&done).as_str()), (200, ""));
    let again = put_state(&server, &path, "1.2.3.9", "COMPLETED").await;
    assert_eq!(again.status(), 200);
    assert!(warning(&again).contains("already in the requested state of COMPLETED"));
    let late = post(&server, &format!("{path}?transaction=1.2.3.9"), &performed()).await;
    assert_eq!(late.status(), 409);
    let cancel = call(&server, Method::POST, &format!("{path}/cancelrequest"), None).await;
    assert_eq!(cancel.status(), 409);
}

#[tokio::test]
async fn searches_match_attributes_and_sequences_page_by_page() {
    let server = Server::with(|_| {}, None).await;
    for number in 0..3 {
        let mut item = workitem();
        item["00741204"]["Value"][0] = json!(format!("Label {number}"));
        if number == 2 {
            item["00404026"] = json!({ "vr": "SQ", "Value": [code("AI")] });
        }
        create(&server, &item).await;
    }
    let count = async |query: &str| {
        let (status, found) = server.get_json(&format!("{WORKITEMS}?{query}")).await;
        assert_eq!(status, 200, "{query}: {found}");
        found.as_array().unwrap().len()
    };
    assert_eq!(count("ProcedureStepState=SCHEDULED").await, 3);
    assert_eq!(count("ProcedureStepState=COMPLETED").await, 0);
    assert_eq!(count("00741204=Label%20?&WorklistLabel=AI").await, 3);
    assert_eq!(count("ProcedureStepLabel=*1").await, 1);
    assert_eq!(count("00404026.00080100=AI").await, 1);
    assert_eq!(count("PatientName=doe*&includefield=all").await, 3);
    assert_eq!(count("ScheduledProcedureStepStartDateTime=20200101").await, 3);
    assert_eq!(count("offset=2").await, 1);
    let page = call(&server, Method::GET, &format!("{WORKITEMS}?limit=2"), None).await;
    assert!(warning(&page).contains("additional results"), "{}", warning(&page));
    assert_eq!(page.headers()[CONTENT_TYPE], JSON);
    assert_eq!(page.json::<Value>().await.unwrap().as_array().unwrap().len(), 2);
    let (status, _) = server.get_json(&format!("{WORKITEMS}?Nonsense=1")).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn malformed_work_items_name_the_attribute() {
    let server = Server::with(|_| {}, None).await;
    let with = |key: &str, value: Value| {
        let mut item = workitem();
        item[key] = value;
        item
    };
    let without = |key: &str| {
        let mut item = workitem();
        item.as_object_mut().unwrap().remove(key);
        item
    };
    let mut deep = json!({});
    for _ in 0..20 {
        deep = json!({ "00400440": { "vr": "SQ", "Value": [deep] } });
    }
    let rows = [
        (without("00741000"), "00741000"),
        (with("00741000", json!({ "vr": "CS", "Value": ["COMPLETED"] })), "00741000"),
        (without("00741204"), "00741204"),
        (with("00741200", json!({ "vr": "CS", "Value": ["URGENT"] })), "HIGH, MEDIUM, LOW"),
        (with("00081195", json!({ "vr": "UI", "Value": ["1.2"] })), "00081195"),
        (with("00080018", json!({ "vr": "UI", "Value": ["1..2"] })), "SOPInstanceUID"),
        (with("PatientName", json!({ "vr": "PN" })), "hexadecimal"),
        (with("00100030", json!("19700101")), "00100030 has no vr"),
        (with("00400440", deep["00400440"].clone()), "deeply"),
        (json!([]), "0 data sets"),
        (json!([workitem(), workitem()]), "2 data sets"),
    ];
    for (item, word) in rows {
        let response = post(&server, WORKITEMS, &item).await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 400, "{word}: {text}");
        assert!(text.contains(word), "{text} does not say {word}");
    }
    let path = format!("{WORKITEMS}?AffectedSOPInstanceUID=1.2.3.4");
    assert_eq!(post(&server, &path, &workitem()).await.status(), 201);
    assert_eq!(post(&server, &path, &workitem()).await.status(), 409, "it exists");
    let identity = json!({ "00100020": { "vr": "LO", "Value": ["P-2"] } });
    let item = format!("{WORKITEMS}/1.2.3.4");
    assert_eq!(post(&server, &item, &identity).await.status(), 400, "the patient stays");
    let xml = server.client.post(format!("{}{WORKITEMS}", server.base));
    let xml = xml.header(CONTENT_TYPE, "application/dicom+xml").body("<NativeDicomModel/>");
    assert_eq!(xml.send().await.unwrap().status(), 415);
    assert_eq!(server.get_json(&format!("{WORKITEMS}/1.2.3.5")).await.0, 404);
    assert_eq!(server.get_json(&format!("{WORKITEMS}/nonsense")).await.0, 400);
}

type Channel =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open_channel(server: &Server, aet: &str) -> Channel {
    let url = format!("{}/dicom-web/subscribers/{aet}", server.base.replacen("http", "ws", 1));
    let (channel, response) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(response.status(), 101);
    channel
}

/// The next event report: work item, event type, and the rest.
async fn next(channel: &mut Channel) -> (String, u64, Value) {
    loop {
        let message = tokio::time::timeout(std::time::Duration::from_secs(20), channel.next());
        if let Message::Text(text) = message.await.expect("an event").unwrap().unwrap() {
            let report: Value = serde_json::from_str(&text).unwrap();
            let uid = report["00001000"]["Value"][0].as_str().unwrap().to_owned();
            return (uid, report["00001002"]["Value"][0].as_u64().unwrap(), report);
        }
    }
}

async fn subscribe(server: &Server, uid: &str, aet: &str, query: &str) -> Response {
    let path = format!("{WORKITEMS}/{uid}/subscribers/{aet}{query}");
    call(server, Method::POST, &path, None).await
}

#[tokio::test]
async fn subscribers_are_told_what_happens() {
    let server = Server::with(|_| {}, None).await;
    let before = create(&server, &workitem()).await;
    let uid = before.rsplit('/').next().unwrap().to_owned();
    let mut watcher = open_channel(&server, "WATCHER").await;
    let mut stranger = open_channel(&server, "STRANGER").await;
    let mut reader = open_channel(&server, "READER").await;
    let subscribed = subscribe(&server, GLOBAL, "WATCHER", "").await;
    assert_eq!(subscribed.status(), 201);
    let place = subscribed.headers()["content-location"].to_str().unwrap();
    assert!(place.starts_with("ws://") && place.ends_with("/dicom-web/subscribers/WATCHER"));
    let filter = "?filter=00404026.00080100=READING,ProcedureStepState=SCHEDULED";
    assert_eq!(subscribe(&server, FILTERED, "READER", filter).await.status(), 201);
    assert_eq!(subscribe(&server, FILTERED, "READER", "").await.status(), 400, "no filter");
    assert_eq!(subscribe(&server, "1.2.3", "READER", "").await.status(), 404, "no work item");

    // The one that was there, then one that comes and is for the reader too.
    assert_eq!(put_state(&server, &before, "1.2.9", "IN PROGRESS").await.status(), 200);
    let (of, kind, report) = next(&mut watcher).await;
    assert_eq!((of.as_str(), kind), (uid.as_str(), 1));
    assert_eq!(report["00741000"]["Value"][0], "IN PROGRESS");
    let mut reading = workitem();
    reading["00404026"] = json!({ "vr": "SQ", "Value": [code("READING")] });
    let after = create(&server, &reading).await;
    let after_uid = after.rsplit('/').next().unwrap();
    for channel in [&mut watcher, &mut reader] {
        let (of, kind, report) = next(channel).await;
        assert_eq!((of.as_str(), kind), (after_uid, 1), "{report:#}");
        assert_eq!(report["00741000"]["Value"][0], "SCHEDULED");
        assert_eq!(report["00404041"]["Value"][0], "READY");
    }
    // Progress, assignment, a cancel request to its performer, and the end.
    let progress = json!({ "00741002": { "vr": "SQ", "Value": [{ "00741004": { "vr": "DS", "Value": [50] } }] } });
    post(&server, &format!("{before}?transaction=1.2.9"), &progress).await;
    let (_, kind, report) = next(&mut watcher).await;
    assert_eq!(kind, 3, "{report:#}");
    assert_eq!(report["00741002"]["Value"][0]["00741004"]["Value"][0], 50);
    let assigned = json!({ "00404025": { "vr": "SQ", "Value": [code("ELSEWHERE")] } });
    post(&server, &after, &assigned).await;
    assert_eq!(next(&mut watcher).await.1, 5);
    let reason = json!({ "00741238": { "vr": "LT", "Value": ["not needed"] } });
    let asked = post(&server, &format!("{before}/cancelrequest"), &reason).await;
    assert_eq!(asked.status(), 202);
    let (of, kind, report) = next(&mut watcher).await;
    assert_eq!((of.as_str(), kind), (uid.as_str(), 2));
    assert_eq!(report["00741238"]["Value"][0], "not needed");
    // One that is only scheduled is cancelled on request.
    assert_eq!(post(&server, &format!("{after}/cancelrequest"), &reason).await.status(), 202);
    let cancelled = retrieve(&server, &after).await;
    assert_eq!(state(&cancelled), "CANCELED");
    assert_eq!(cancelled["00741002"]["Value"][0]["00741238"]["Value"][0], "not needed");
    assert_eq!(next(&mut watcher).await.2["00741000"]["Value"][0], "CANCELED");
    let again = post(&server, &format!("{after}/cancelrequest"), &reason).await;
    assert!(again.status() == 202 && warning(&again).contains("CANCELED"), "{}", warning(&again));

    // Suspended: no new ones. Unsubscribed: none at all.
    let suspend = format!("{WORKITEMS}/{GLOBAL}/subscribers/WATCHER/suspend");
    assert_eq!(call(&server, Method::POST, &suspend, None).await.status(), 200);
    create(&server, &workitem()).await;
    post(&server, &format!("{before}?transaction=1.2.9"), &performed()).await;
    put_state(&server, &before, "1.2.9", "COMPLETED").await;
    let (of, _, report) = next(&mut watcher).await;
    assert_eq!(of, uid, "only the old one is told of: {report:#}");
    assert_eq!(report["00741000"]["Value"][0], "COMPLETED");
    let own = format!("{WORKITEMS}/{uid}/subscribers/WATCHER");
    assert_eq!(call(&server, Method::DELETE, &own, None).await.status(), 200);
    assert_eq!(call(&server, Method::DELETE, &own, None).await.status(), 404);
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), stranger.next()).await;
    assert!(quiet.is_err() || matches!(quiet, Ok(Some(Ok(Message::Ping(_))))), "{quiet:?}");
}

#[tokio::test]
async fn a_cancel_request_that_nobody_hears_is_refused() {
    let server = Server::with(|_| {}, None).await;
    let path = create(&server, &workitem()).await;
    put_state(&server, &path, "1.2.9", "IN PROGRESS").await;
    let asked = call(&server, Method::POST, &format!("{path}/cancelrequest"), None).await;
    assert_eq!(asked.status(), 409);
    assert!(warning(&asked).contains("cannot be contacted"), "{}", warning(&asked));
}

#[tokio::test]
async fn work_item_for_us_becomes_an_order_whose_result_it_references() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let item = addressed(&study, "left hippocampus please");
    let path = create(&server, &item).await;
    let done = until(&server, &path, "COMPLETED").await;
    let performed = &done["00741216"]["Value"][0];
    let outputs = performed["00404033"]["Value"].as_array().unwrap();
    assert_eq!(outputs.len(), 2, "SEG and report: {performed:#}");
    let report = &outputs[1]["00081199"]["Value"][0]["00081150"]["Value"][0];
    assert!(report.as_str().unwrap().starts_with("1.2.840.10008.5.1.4.1.1.88."), "{report}");
    let output = &outputs[0];
    assert_eq!(output["0020000D"]["Value"][0], study, "{performed:#}");
    let (_, orders) = server.get_json("/api/v1/orders").await;
    assert_eq!(orders["total"], 1);
    let order = &orders["orders"][0];
    assert_eq!(order["text"], "left hippocampus please");
    assert_eq!(output["0020000E"]["Value"][0], order["result"]["seg_series_uid"]);
    let reference = &output["00081199"]["Value"][0];
    assert_eq!(reference["00081150"]["Value"][0], "1.2.840.10008.5.1.4.1.1.66.4");
    assert_eq!(reference["00081155"]["Value"][0], order["result"]["seg_sop_instance_uid"]);
    assert_eq!(performed["00404028"]["Value"][0]["00080100"]["Value"][0], "SEER");
    assert_eq!(performed["00404019"]["Value"][0]["00080100"]["Value"][0], "SEGMENT");
    for time in ["00404050", "00404051"] {
        assert!(performed[time]["Value"][0].as_str().unwrap().len() > 14, "{performed:#}");
    }
    assert_eq!(done["00741002"]["Value"][0]["00741004"]["Value"][0], 100);

    // What the reasoner refuses was not performed.
    let path = create(&server, &addressed(&study, "please contour the liver")).await;
    let refused = until(&server, &path, "CANCELED").await;
    let progress = &refused["00741002"]["Value"][0];
    assert!(!progress["00741238"]["Value"][0].as_str().unwrap().is_empty(), "{progress:#}");
    assert_eq!(progress["0074100E"]["Value"][0]["00080100"]["Value"][0], "110502");
    assert!(progress["00404052"]["Value"][0].is_string(), "when: {progress:#}");
}

#[tokio::test]
async fn what_is_not_ready_not_due_or_not_ours_is_left_alone_and_what_is_impossible_cancelled() {
    let server = Server::with(|_| {}, None).await;
    let study = server.stow_sample().await;
    let mut not_ready = addressed(&study, "brain");
    not_ready["00404041"]["Value"][0] = json!("INCOMPLETE");
    let mut not_due = addressed(&study, "brain");
    not_due["00404005"]["Value"][0] = json!("20990101");
    let mut other = addressed(&study, "brain");
    other["00404025"]["Value"][0] = code("OTHER");
    let mut waiting = Vec::new();
    for item in [not_ready, not_due, other] {
        waiting.push(create(&server, &item).await);
    }
    let nowhere = create(&server, &addressed("1.2.3.4.5", "brain")).await;
    let failed = until(&server, &nowhere, "CANCELED").await;
    let why = failed["00741002"]["Value"][0]["00741238"]["Value"][0].as_str().unwrap();
    assert!(why.contains("1.2.3.4.5"), "{why}");
    let mut two = addressed(&study, "brain");
    let second = json!({ "0020000D": { "vr": "UI", "Value": ["1.2.3"] } });
    two["00404021"]["Value"].as_array_mut().unwrap().push(second);
    let two = create(&server, &two).await;
    let failed = until(&server, &two, "CANCELED").await;
    let why = failed["00741002"]["Value"][0]["00741238"]["Value"][0].as_str().unwrap();
    assert!(why.contains("2 studies"), "{why}");
    for path in &waiting {
        assert_eq!(state(&retrieve(&server, path).await), "SCHEDULED");
    }
    // When its input gets ready, it is ours to do.
    let ready = json!({ "00404041": { "vr": "CS", "Value": ["READY"] } });
    assert_eq!(post(&server, &waiting[0], &ready).await.status(), 200);
    until(&server, &waiting[0], "IN PROGRESS").await;
    // Without models the order waits; a cancel request ends both.
    let asked = call(&server, Method::POST, &format!("{}/cancelrequest", waiting[0]), None).await;
    assert_eq!(asked.status(), 202);
    until(&server, &waiting[0], "CANCELED").await;
    let (_, orders) = server.get_json("/api/v1/orders").await;
    assert_eq!(orders["orders"][0]["state"], "cancelled", "{orders:#}");
}

#[tokio::test]
async fn claimed_work_items_and_subscriptions_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || async {
        let mut config = Config::default();
        config.storage.path = folder.path().to_owned();
        loop {
            // The threads of an earlier opening hold the folder until they notice the stop.
            if let Ok(app) = seer::app::App::with_engine(config.clone(), None) {
                return app;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let app = open().await;
    let mut study = None;
    for file in crate::support::sample_study() {
        study = Some(app.archive.store_file(&file).unwrap().identity.study);
    }
    let study = study.unwrap();
    let item = addressed(study.as_str(), "brain").as_object().unwrap().clone();
    let uid = app.worklist.create(None, item).unwrap();
    let target = seer::orders::worklist::Target::Item(uid.clone());
    app.worklist.subscribe("WATCHER", &target, true).unwrap();
    let order = loop {
        let (orders, _) =
            app.orders.list(&seer::orders::OrderQuery { limit: 9, ..Default::default() }).unwrap();
        if let [order] = orders.as_slice() {
            break order.id;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    app.orders.stop();
    drop(app);
    let app = open().await;
    let mut events = app.worklist.events();
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let (orders, total) =
        app.orders.list(&seer::orders::OrderQuery { limit: 9, ..Default::default() }).unwrap();
    assert_eq!((total, orders[0].id), (1, order), "no second order");
    app.orders.cancel(order).unwrap();
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        loop {
            let event = events.recv().await.unwrap();
            let message = event.message();
            if message["00741000"]["Value"][0] == "CANCELED" {
                return event.is_for("WATCHER");
            }
        }
    })
    .await
    .unwrap();
    assert!(told);
    let attributes = app.worklist.retrieve(&uid).unwrap();
    assert_eq!(attributes["00741000"]["Value"][0], "CANCELED");
    app.orders.stop();
}
