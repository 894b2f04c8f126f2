//! The real router on a real socket: DICOMweb, keys, limits, bad input, and what logs must not say.

mod bad_input;
mod dicomweb;
mod guards;
mod judges;
mod keep;
mod openapi;
mod orders;
mod privacy;
mod retrieve;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use seer::config::Config;
use serde_json::Value;

use crate::support::Server;
use crate::support::studies::Slice;

const STUDIES: &str = "/dicom-web/studies";
const MULTIPART: &str = "multipart/related; type=\"application/dicom\"; boundary=between";

/// A server without models: orders wait for ever.
async fn server() -> Server {
    Server::with(|_| {}, None).await
}

async fn server_with(change: impl FnOnce(&mut Config)) -> Server {
    Server::with(change, None).await
}

/// A `multipart/related` body with the boundary of [`MULTIPART`].
fn multipart(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(b"--between\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--between--\r\n");
    body
}

async fn get(server: &Server, path: &str, accept: &str) -> Response {
    let request = server.client.get(format!("{}{path}", server.base)).header(ACCEPT, accept);
    request.send().await.expect("response")
}

async fn post(server: &Server, path: &str, content_type: &str, body: Vec<u8>) -> Response {
    let request = server.client.post(format!("{}{path}", server.base));
    request.header(CONTENT_TYPE, content_type).body(body).send().await.expect("response")
}

async fn json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, response.json().await.expect("JSON"))
}

/// Stores slices and says that it went well.
async fn store(server: &Server, slices: &[Slice]) {
    let parts: Vec<_> = slices.iter().map(Slice::bytes).collect();
    let response = post(server, STUDIES, MULTIPART, multipart(&parts)).await;
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
}

/// Checks that a response is a problem document, and gives its sentence.
async fn problem(response: Response, status: u16) -> String {
    let found = response.status();
    let content_type = response.headers().get(CONTENT_TYPE).cloned();
    let id = response.headers().get("x-request-id").cloned();
    let text = response.text().await.expect("body");
    assert_eq!(found.as_u16(), status, "{text}");
    assert_eq!(content_type.expect("content type"), "application/problem+json", "{text}");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["status"], status);
    assert_eq!(document["request_id"].as_str(), id.as_ref().map(|id| id.to_str().expect("ASCII")));
    assert!(document["kind"].is_string() && document["title"].is_string(), "{text}");
    document["detail"].as_str().expect("detail").to_owned()
}

/// The parts of a multipart response: headers and bytes.
async fn parts(response: Response) -> Vec<(String, Vec<u8>)> {
    let content_type = response.headers()[CONTENT_TYPE].to_str().expect("ASCII").to_owned();
    let (_, boundary) = content_type.split_once("boundary=").expect("boundary");
    let body = response.bytes().await.expect("body").to_vec();
    let line = format!("--{boundary}");
    assert!(body.starts_with(line.as_bytes()), "Cornerstone wants the boundary first");
    let mut parts = Vec::new();
    let mut rest = &body[..];
    while let Some(start) = find(rest, line.as_bytes()) {
        rest = &rest[start + line.len()..];
        if rest.starts_with(b"--") {
            return parts;
        }
        let end = find(rest, line.as_bytes()).expect("next boundary");
        let head = find(rest, b"\r\n\r\n").expect("end of headers");
        let headers = String::from_utf8(rest[2..head].to_vec()).expect("UTF-8");
        parts.push((headers, rest[head + 4..end - 2].to_vec()));
        rest = &rest[end..];
    }
    panic!("no last boundary");
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
