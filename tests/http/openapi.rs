//! The committed OpenAPI document is the one of the code.

use super::*;

const COMMITTED: &str = "openapi/openapi.json";

#[test]
fn the_committed_document_is_that_of_the_code() {
    let generated = seer::http::openapi_json().expect("serialises") + "\n";
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    if std::env::var_os("SEER_UPDATE_OPENAPI").is_some() {
        std::fs::write(COMMITTED, &generated).expect("write");
        return;
    }
    assert!(
        committed == generated,
        "{COMMITTED} is not that of the code; `seer openapi` prints the new one"
    );
}

#[tokio::test]
async fn every_documented_route_exists() {
    let server = server().await;
    let document: Value = serde_json::to_value(seer::http::openapi()).expect("serialises");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("item").keys().filter(|key| *key != "parameters") {
            let path = path.replace("{id}", "x").replace("{name}", "x").replace("{study}", "x");
            let path = path.replace("{series}", "x").replace("{instance}", "x");
            let url = format!("{}{}", server.base, path.replace("{frames}", "0"));
            let method: reqwest::Method = method.to_uppercase().parse().expect("method");
            let response =
                server.client.request(method.clone(), url).send().await.expect("response");
            let status = response.status().as_u16();
            assert_ne!(status, 405, "{method} {path}");
            if status == 404 {
                let detail = problem(response, 404).await;
                assert!(!detail.contains("nothing at this path"), "{method} {path}");
            }
        }
    }
}

#[test]
fn every_operation_tells_its_statuses_in_words() {
    let document = serde_json::to_value(seer::http::openapi()).expect("serialises");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("item") {
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            let responses = operation["responses"].as_object().expect("responses");
            // 101 opens a WebSocket.
            let goes_well = |status: &String| status.starts_with('2') || status == "101";
            assert!(responses.keys().any(goes_well), "{method} {path}");
            for (status, response) in responses {
                let described =
                    response["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn the_api_page_needs_nothing_from_elsewhere() {
    let server = server().await;
    let (status, served) = json(get(&server, "/openapi.json", "*/*").await).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(served, serde_json::to_value(seer::http::openapi()).expect("serialises"));
    for page in ["/api/", "/"] {
        let response = get(&server, page, "*/*").await;
        assert_eq!(response.status(), StatusCode::OK, "{page}");
        let text = response.text().await.expect("text");
        for outside in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
            assert!(!text.contains(outside), "{page} loads from elsewhere");
        }
    }
}
