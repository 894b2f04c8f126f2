//! Keys, hosts, origins and health.

use seer::config::{ApiKey, Role};
use sha2::{Digest, Sha256};

use super::*;

fn key(name: &str, role: Role) -> ApiKey {
    ApiKey { name: name.into(), sha256: hex::encode(Sha256::digest(name)), role }
}

#[tokio::test]
async fn keys_open_what_their_role_may_do() {
    let server = server_with(|config| {
        config.auth.api_keys = vec![key("look", Role::Viewer), key("give", Role::Orderer)];
    })
    .await;
    let url = format!("{}{STUDIES}", server.base);
    let body = || multipart(&[Slice::new(1, 1).bytes()]);
    let send = async |method: reqwest::Method, key: Option<&str>| {
        let mut request = server.client.request(method.clone(), &url);
        if method == reqwest::Method::POST {
            request = request.header(CONTENT_TYPE, MULTIPART).body(body());
        }
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        request.send().await.expect("response")
    };
    use reqwest::Method;
    let response = send(Method::GET, None).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    problem(response, 401).await;
    problem(send(Method::GET, Some("guess")).await, 401).await;
    problem(send(Method::POST, Some("guess")).await, 401).await;
    assert_eq!(send(Method::GET, Some("look")).await.status(), StatusCode::OK);
    let detail = problem(send(Method::POST, Some("look")).await, 403).await;
    assert!(detail.contains("viewer") && detail.contains("orderer"), "{detail}");
    assert_eq!(send(Method::POST, Some("give")).await.status(), StatusCode::OK);
    for open in ["/v2/health/live", "/openapi.json", "/"] {
        assert_eq!(get(&server, open, "*/*").await.status(), StatusCode::OK, "{open}");
    }
    for closed in ["/metrics", "/api/v1/models", "/api/v1/orders", "/dicom-web/series"] {
        problem(get(&server, closed, "*/*").await, 401).await;
    }
}

#[tokio::test]
async fn without_keys_only_this_machine_is_answered() {
    let server = server().await;
    let ask = async |host: &str| {
        let request = server.client.get(format!("{}{STUDIES}", server.base));
        request.header("host", host).send().await.expect("response")
    };
    for host in ["localhost:8042", "127.0.0.1", "[::1]:80", "LOCALHOST"] {
        assert_eq!(ask(host).await.status(), StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8042", "localhost.evil.example"] {
        problem(ask(host).await, 421).await;
    }
}

#[tokio::test]
async fn pages_of_known_origins_may_use_it_and_others_may_not() {
    let server = server().await;
    let viewer = "http://localhost:3000";
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, format!("{}{STUDIES}", server.base))
        .header("origin", viewer)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "accept,authorization,content-type")
        .send()
        .await
        .expect("response");
    assert_eq!(preflight.status(), StatusCode::OK);
    assert_eq!(preflight.headers()["access-control-allow-origin"], viewer);
    let allowed = preflight.headers()["access-control-allow-headers"].to_str().expect("ASCII");
    for header in ["accept", "authorization", "content-type"] {
        assert!(allowed.contains(header), "{allowed}");
    }
    let from = async |origin: &str| {
        let request = server.client.post(format!("{}{STUDIES}", server.base));
        let request = request.header("origin", origin).header("sec-fetch-site", "cross-site");
        let request = request.header(CONTENT_TYPE, MULTIPART);
        request.body(multipart(&[Slice::new(1, 1).bytes()])).send().await.expect("response")
    };
    assert_eq!(from(viewer).await.status(), StatusCode::OK);
    let refused = from("http://evil.example").await;
    assert!(refused.headers().get("access-control-allow-origin").is_none());
    problem(refused, 403).await;
}

#[tokio::test]
async fn errors_reach_pages_of_known_origins_too() {
    let server = server().await;
    let request = server.client.get(format!("{}{STUDIES}/1.2.3", server.base));
    let response =
        request.header("origin", "http://localhost:3000").send().await.expect("response");
    assert!(response.headers().contains_key("access-control-allow-origin"));
    problem(response, 404).await;
}

#[tokio::test]
async fn request_ids_are_ours() {
    let server = server().await;
    let request = server.client.get(format!("{}/nowhere", server.base));
    let response = request.header("x-request-id", "Patient^Name").send().await.expect("response");
    assert_ne!(response.headers()["x-request-id"], "Patient^Name");
    assert_eq!(response.headers().get_all("x-request-id").iter().count(), 1);
    problem(response, 404).await;
}

#[tokio::test]
async fn health_tells_alive_from_ready() {
    let server = server().await;
    let (status, live) = json(get(&server, "/v2/health/live", "*/*").await).await;
    assert_eq!((status, &live["live"]), (StatusCode::OK, &Value::Bool(true)));
    let response = get(&server, "/v2/health/ready", "*/*").await;
    assert!(response.headers().contains_key("retry-after"));
    let detail = problem(response, 503).await;
    assert!(detail.contains("reasoner"), "no models are loaded here: {detail}");
}

#[tokio::test]
async fn silent_uploads_end() {
    let server = server_with(|config| config.http.upload_idle_timeout_seconds = 1).await;
    let first = multipart(&[Slice::new(1, 1).bytes()])[..500].to_vec();
    let body = futures_util::stream::once(async { Ok::<_, std::io::Error>(first) });
    let body = futures_util::StreamExt::chain(body, futures_util::stream::pending());
    let request = server.client.post(format!("{}{STUDIES}", server.base));
    let request = request.header(CONTENT_TYPE, MULTIPART).body(reqwest::Body::wrap_stream(body));
    let detail = problem(request.send().await.expect("response"), 408).await;
    assert!(detail.contains("1 second"), "{detail}");
}

#[tokio::test]
async fn the_server_stops_when_asked_and_lets_open_requests_end() {
    let server = server().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let base = format!("http://{}", listener.local_addr().expect("address"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let serving = tokio::spawn(seer::http::serve(server.app.clone(), listener, shutdown));
    let first = multipart(&[Slice::new(1, 1).bytes()]);
    let (head, tail) = (first[..500].to_vec(), first[500..].to_vec());
    let (started, start) = tokio::sync::oneshot::channel::<()>();
    let body = futures_util::stream::unfold((0, Some(start), head, tail), async |state| {
        let (step, start, head, tail) = state;
        match step {
            0 => Some((Ok::<_, std::io::Error>(head), (1, start, vec![], tail))),
            1 => {
                drop(start.expect("once").await);
                Some((Ok(tail), (2, None, vec![], vec![])))
            }
            _ => None,
        }
    });
    let request = server.client.post(format!("{base}{STUDIES}"));
    let request = request.header(CONTENT_TYPE, MULTIPART);
    let upload = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    drop(stop);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(started);
    let response = upload.await.expect("task").expect("response");
    assert_eq!(response.status(), StatusCode::OK);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), serving).await;
    ended.expect("ends in time").expect("task").expect("clean");
    assert!(server.client.get(&base).send().await.is_err(), "nothing listens any more");
}
