//! Orders over HTTP on a server without models, where they wait until they are cancelled.

use futures_util::StreamExt;
use serde_json::json;

use super::*;

const ORDERS: &str = "/api/v1/orders";
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

async fn give(server: &Server, body: &Value) -> Response {
    post(server, ORDERS, "application/json", body.to_string().into_bytes()).await
}

/// A server with one study, and the body of an order for it.
async fn with_study() -> (Server, Value) {
    let server = server().await;
    let slice = Slice::new(1, 1);
    store(&server, &[slice.clone(), Slice::new(1, 2)]).await;
    (server, json!({ "study_uid": slice.study, "text": "outline the left hippocampus" }))
}

async fn accepted(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = response.headers()["location"].to_str().expect("ASCII").to_owned();
    let order: Value = response.json().await.expect("JSON");
    assert_eq!(order["links"]["self"], location.as_str());
    order
}

#[tokio::test]
async fn an_order_is_accepted_listed_and_read() {
    let (server, body) = with_study().await;
    let order = accepted(give(&server, &body).await).await;
    assert_eq!(order["state"], "queued");
    assert_eq!(order["text"], body["text"]);
    let path = order["links"]["self"].as_str().expect("path");
    let (status, read) = json(get(&server, path, "*/*").await).await;
    assert_eq!((status, &read), (StatusCode::OK, &order));
    let second = accepted(give(&server, &body).await).await;
    let list =
        async |query: &str| json(get(&server, &format!("{ORDERS}{query}"), "*/*").await).await.1;
    let all = list("").await;
    assert_eq!(all["total"], 2);
    assert_eq!(all["orders"][0]["id"], second["id"], "newest first");
    let page = list("?limit=1&offset=1&state=queued").await;
    assert_eq!(page["orders"], json!([order]));
    assert_eq!(list("?state=completed").await["total"], 0);
    assert_eq!(list("?study_uid=1.2.3").await["total"], 0);
}

#[tokio::test]
async fn a_repeated_request_names_the_same_order() {
    let (server, body) = with_study().await;
    let send = async |key: &str, body: &Value| {
        let request = server.client.post(format!("{}{ORDERS}", server.base));
        request.header("idempotency-key", key).json(body).send().await.expect("response")
    };
    let order = accepted(send("a", &body).await).await;
    let again = send("a", &body).await;
    assert_eq!(again.headers()["location"], order["links"]["self"].as_str().expect("path"));
    let (status, again) = json(again).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &order["id"]));
    let mut other = body.clone();
    other["text"] = "outline the right hippocampus".into();
    problem(send("a", &other).await, 409).await;
    assert_ne!(accepted(send("b", &body).await).await["id"], order["id"]);
    problem(send(&"k".repeat(201), &body).await, 400).await;
}

#[tokio::test]
async fn orders_that_cannot_be_met_are_refused_with_the_reason() {
    let (server, body) = with_study().await;
    let check = async |changes: Value, status: u16, words: &str| {
        let mut body = body.clone();
        for (key, value) in changes.as_object().expect("object") {
            body[key] = value.clone();
        }
        let detail = problem(give(&server, &body).await, status).await;
        assert!(detail.contains(words), "{detail:?} lacks {words:?}");
    };
    check(json!({ "text": "" }), 400, "text is empty").await;
    check(json!({ "text": " \n\t" }), 400, "text is empty").await;
    check(json!({ "text": "x".repeat(100_000) }), 413, "100000").await;
    check(json!({ "study_uid": "1.2.3" }), 404, "1.2.3").await;
    check(json!({ "study_uid": "../../etc" }), 400, "StudyInstanceUID").await;
    check(json!({ "series_uid": "4.5.6" }), 404, "4.5.6").await;
    check(json!({ "series_uid": "x" }), 400, "SeriesInstanceUID").await;
    check(json!({ "priority": "high" }), 400, "expected").await;
    check(json!({ "colour": "red" }), 400, "colour").await;
    let post = async |content_type: &str, body: &str| {
        post(&server, ORDERS, content_type, body.as_bytes().to_vec()).await
    };
    let detail = problem(post("application/json", "{\"text\": }").await, 400).await;
    assert!(detail.contains("line 1 column 10"), "{detail}");
    let detail = problem(post("application/json", "{\"text\":").await, 400).await;
    assert!(detail.contains("ends early"), "{detail}");
    let detail = problem(post("application/json", "{}").await, 400).await;
    assert!(detail.contains("study_uid"), "{detail}");
    let detail = problem(post("text/plain", "outline it").await, 415).await;
    assert!(detail.contains("text/plain"), "{detail}");
    let (_, list) = json(get(&server, ORDERS, "*/*").await).await;
    assert_eq!(list["total"], 0);
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let server = server_with(|config| config.orders.queue_length = 2).await;
    let slice = Slice::new(1, 1);
    store(&server, &[slice.clone(), Slice::new(1, 2)]).await;
    let body = json!({ "study_uid": slice.study, "text": "outline it" });
    for _ in 0..2 {
        accepted(give(&server, &body).await).await;
    }
    let refused = give(&server, &body).await;
    assert_eq!(refused.headers()["retry-after"], "10");
    let detail = problem(refused, 503).await;
    assert!(detail.contains('2'), "{detail}");
}

#[tokio::test]
async fn the_events_of_an_order_end_with_it() {
    let (server, body) = with_study().await;
    let order = accepted(give(&server, &body).await).await;
    let other = accepted(give(&server, &body).await).await;
    let path = |order: &Value, rest: &str| {
        format!("{}{}{rest}", server.base, order["links"]["self"].as_str().expect("path"))
    };
    let response = server.client.get(path(&order, "/events")).send().await.expect("response");
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let mut stream = response.bytes_stream();
    let first = stream.next().await.expect("event").expect("bytes");
    let first = String::from_utf8(first.to_vec()).expect("UTF-8");
    assert!(first.contains("event: order") && first.contains("\"queued\""), "{first}");
    for order in [&other, &order] {
        let cancel = server.client.post(path(order, "/cancel")).send().await.expect("response");
        assert_eq!(json(cancel).await.1["state"], "cancelled");
    }
    let mut rest = String::new();
    while let Some(chunk) = stream.next().await {
        rest.push_str(&String::from_utf8_lossy(&chunk.expect("bytes")));
    }
    assert!(rest.contains("\"cancelled\""), "{rest}");
    assert!(!rest.contains(other["id"].as_str().expect("id")), "{rest}");
    // Whoever comes later is told the end at once.
    let late = server.client.get(path(&order, "/events")).send().await.expect("response");
    let late = late.text().await.expect("text");
    assert_eq!(late.matches("event: order").count(), 1);
    let again = server.client.post(path(&order, "/cancel")).send().await.expect("response");
    problem(again, 409).await;
}

#[tokio::test]
async fn results_that_do_not_exist_are_told_apart_from_unknown_orders() {
    let (server, body) = with_study().await;
    let order = accepted(give(&server, &body).await).await;
    let path = order["links"]["self"].as_str().expect("path");
    for rest in ["reasoning", "segmentation"] {
        let detail = problem(get(&server, &format!("{path}/{rest}"), "*/*").await, 409).await;
        assert!(detail.contains("queued"), "{detail}");
    }
    problem(get(&server, &format!("{path}/artefacts/overlay.png"), "*/*").await, 404).await;
    for rest in ["", "/events", "/reasoning", "/segmentation", "/artefacts/overlay.png"] {
        let unknown = format!("{ORDERS}/{UNKNOWN}{rest}");
        let detail = problem(get(&server, &unknown, "*/*").await, 404).await;
        assert!(detail.contains(UNKNOWN), "{detail}");
    }
}

#[tokio::test]
async fn one_request_can_bring_the_images_along() {
    let server = server().await;
    let form = |fields: &[(&str, Vec<u8>)]| {
        let mut body = Vec::new();
        for (name, bytes) in fields {
            let head = format!("--f\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
        }
        body.extend_from_slice(b"--f--\r\n");
        body
    };
    let send = async |fields: &[(&str, Vec<u8>)]| {
        post(&server, ORDERS, "multipart/form-data; boundary=f", form(fields)).await
    };
    let slices = [Slice::new(1, 1), Slice::new(1, 2)];
    let [first, second] = slices.each_ref().map(Slice::bytes);
    let text = b"outline it".to_vec();
    let wordings = ["trace it", "its contour pls"];
    let [other, another] = wordings.map(|wording| ("rephrasing", wording.as_bytes().to_vec()));
    let fields =
        [("file", first.clone()), ("text", text.clone()), other, ("file", second), another];
    let order = accepted(send(&fields).await).await;
    assert_eq!(order["study_uid"], slices[0].study.as_str());
    assert_eq!(order["rephrasings"], serde_json::json!(wordings));
    let path = format!("{STUDIES}/{}/instances", slices[0].study);
    let (_, found) = json(get(&server, &path, "*/*").await).await;
    assert_eq!(found.as_array().expect("array").len(), 2);

    let elsewhere = Slice::new(2, 1).bytes();
    problem(send(&[("text", text.clone()), ("file", first), ("file", elsewhere)]).await, 400).await;
    problem(send(&[("text", text.clone()), ("file", b"junk".to_vec())]).await, 400).await;
    problem(send(&[("text", text.clone())]).await, 400).await;
    let empty = [("text", text.clone()), ("file", slices[0].bytes()), ("rephrasing", Vec::new())];
    let detail = problem(send(&empty).await, 400).await;
    assert!(detail.contains("rephrasing 1"), "{detail}");
    problem(send(&[("text", text.clone()), ("colour", text)]).await, 400).await;
}
