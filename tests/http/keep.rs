//! STOW-RS of DICOM JSON, refusals for want of room, deletion, and searches beyond plain matching.

use seer::config::{ApiKey, Role};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

const JSON_PARTS: &str = "multipart/related; type=\"application/dicom+json\"; boundary=between";

fn data_set(uid: &str, pixels: Value) -> Value {
    let us = |number: u16| json!({ "vr": "US", "Value": [number] });
    json!({
        "00080016": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"] },
        "00080018": { "vr": "UI", "Value": [uid] },
        "00080060": { "vr": "CS", "Value": ["OT"] },
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Žák^Jiří" }] },
        "00100020": { "vr": "LO", "Value": ["P1"] },
        "0020000D": { "vr": "UI", "Value": ["1.2.3"] },
        "0020000E": { "vr": "UI", "Value": ["1.2.3.1"] },
        "00200013": { "vr": "IS", "Value": [4] },
        "00280002": us(1), "00280004": { "vr": "CS", "Value": ["MONOCHROME2"] },
        "00280010": us(2), "00280011": us(3), "00280030": { "vr": "DS", "Value": [0.5, 0.25] },
        "00280100": us(8), "00280101": us(8), "00280102": us(7), "00280103": us(0),
        "7FE00010": pixels,
    })
}

fn json_body(metadata: &Value, bulks: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = b"--between\r\nContent-Type: application/dicom+json\r\n\r\n".to_vec();
    body.extend(metadata.to_string().as_bytes());
    for (location, kind, bytes) in bulks {
        let head = format!(
            "\r\n--between\r\nContent-Type: {kind}\r\nContent-Location: {location}\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*bytes);
    }
    body.extend(b"\r\n--between--\r\n");
    body
}

#[tokio::test]
async fn json_with_bulk_data_becomes_instances() {
    let server = server().await;
    let by_uri = |uri: &str| json!({ "vr": "OB", "BulkDataURI": uri });
    let metadata = json!([
        data_set("1.2.3.1.1", by_uri("bulk/1")),
        data_set("1.2.3.1.2", json!({ "vr": "OB", "InlineBinary": "BgUEAwIB" })),
        data_set("1.2.3.1.3", by_uri("bulk/that/never/came")),
    ]);
    let body = json_body(&metadata, &[("bulk/1", "application/octet-stream", &[1, 2, 3, 4, 5, 6])]);
    let response = post(&server, STUDIES, JSON_PARTS, body).await;
    let (status, document) = json(response).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{document}");
    assert_eq!(document["00081199"]["Value"].as_array().expect("stored").len(), 2);
    let refused = &document["0008119A"]["Value"][0];
    assert_eq!(refused["00081197"]["Value"][0], 0xC000);
    let comment = refused["00000902"]["Value"][0].as_str().expect("comment");
    assert!(comment.contains("bulk data that did not come"), "{comment}");
    let frame = |uid: &str| format!("{STUDIES}/1.2.3/series/1.2.3.1/instances/{uid}/frames/1");
    let bytes = async |uid: &str| {
        let response = get(&server, &frame(uid), "application/octet-stream").await;
        response.bytes().await.expect("body").to_vec()
    };
    assert_eq!(bytes("1.2.3.1.1").await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(bytes("1.2.3.1.2").await, [6, 5, 4, 3, 2, 1]);
    let (_, found) =
        json(get(&server, &format!("{STUDIES}?PatientName=zak&fuzzymatching=true"), "*/*").await)
            .await;
    assert_eq!(found[0]["00100010"]["Value"][0]["Alphabetic"], "Žák^Jiří");

    let alone = json!([data_set("1.2.3.1.9", json!({ "vr": "OB", "InlineBinary": "BgUEAwIB" }))]);
    let response = post(&server, STUDIES, "application/dicom+json", alone.to_string().into()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let broken = post(&server, STUDIES, "application/dicom+json", b"[1]".to_vec()).await;
    problem(broken, 400).await;
}

#[tokio::test]
async fn compressed_frames_in_bulk_parts_stay_compressed() {
    let server = server().await;
    let file = std::fs::read("tests/data/codecs/jpeg_ls_lossless.dcm").expect("fixture");
    post(&server, STUDIES, "application/dicom", file).await;
    let (_, studies) = json(get(&server, "/dicom-web/instances", "*/*").await).await;
    let url = studies[0]["00081190"]["Value"][0].as_str().expect("URL").to_owned();
    let path = url.strip_prefix(&server.base).expect("ours");
    let (_, mut metadata) = json(get(&server, &format!("{path}/metadata"), "*/*").await).await;
    let stored = "multipart/related; type=\"image/jls\"";
    let frame = parts(get(&server, &format!("{path}/frames/1"), stored).await).await;
    // The same object under another UID, sent as JSON and one JPEG-LS frame.
    metadata[0]["00080018"]["Value"][0] = json!("1.2.3.9.9");
    let uri = metadata[0]["7FE00010"]["BulkDataURI"].as_str().expect("URI").to_owned();
    let kind = "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80";
    let body = json_body(&metadata, &[(&uri, kind, &frame[0].1)]);
    let (status, document) = json(post(&server, STUDIES, JSON_PARTS, body).await).await;
    assert_eq!(status, StatusCode::OK, "{document}");
    let url = document["00081199"]["Value"][0]["00081190"]["Value"][0].as_str().expect("URL");
    let again = format!("{}/frames/1", url.strip_prefix(&server.base).expect("ours"));
    assert_eq!(parts(get(&server, &again, stored).await).await[0].1, frame[0].1);
}

#[tokio::test]
async fn a_full_archive_answers_insufficient_storage() {
    let size = Slice::new(1, 1).bytes().len() as u64;
    let server = server_with(|config| config.storage.quota_bytes = Some(size + 10)).await;
    store(&server, &[Slice::new(1, 1)]).await;
    let body = multipart(&[Slice::new(1, 2).bytes()]);
    let (status, document) = json(post(&server, STUDIES, MULTIPART, body).await).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(document["0008119A"]["Value"][0]["00081197"]["Value"][0], 0xA700);
    let body = multipart(&[Slice::new(1, 1).bytes(), Slice::new(1, 2).bytes()]);
    let response = post(&server, STUDIES, MULTIPART, body).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn only_administrators_delete() {
    let key = |name: &str, role| ApiKey {
        name: name.into(),
        sha256: hex::encode(Sha256::digest(name)),
        role,
    };
    let server = server_with(|config| {
        config.auth.api_keys = vec![key("orderer", Role::Orderer), key("admin", Role::Admin)];
    })
    .await;
    let slices = [Slice::new(1, 1), Slice::new(1, 1).in_series(2)];
    let send = async |method: &str, path: &str, key: &str, body: Vec<u8>| {
        let method: reqwest::Method = method.parse().expect("method");
        let request = server.client.request(method, format!("{}{path}", server.base));
        let request = request.bearer_auth(key).header(CONTENT_TYPE, MULTIPART);
        request.body(body).send().await.expect("response")
    };
    let body = multipart(&slices.each_ref().map(Slice::bytes));
    assert_eq!(send("POST", STUDIES, "orderer", body).await.status(), StatusCode::OK);
    let study = format!("{STUDIES}/{}", slices[0].study);
    let series = format!("{study}/series/{}", slices[1].series);
    problem(send("DELETE", &series, "orderer", Vec::new()).await, 403).await;
    assert_eq!(send("DELETE", &series, "admin", Vec::new()).await.status(), StatusCode::NO_CONTENT);
    problem(send("DELETE", &series, "admin", Vec::new()).await, 404).await;
    assert_eq!(send("GET", &study, "orderer", Vec::new()).await.status(), StatusCode::OK);
    assert_eq!(send("DELETE", &study, "admin", Vec::new()).await.status(), StatusCode::NO_CONTENT);
    problem(send("GET", &study, "orderer", Vec::new()).await, 404).await;
    problem(send("DELETE", &format!("{STUDIES}/1..2"), "admin", Vec::new()).await, 400).await;
    problem(send("DELETE", &format!("{STUDIES}/..%2F.."), "admin", Vec::new()).await, 400).await;
}

#[tokio::test]
async fn searches_tell_totals_fields_and_any_of_several_modalities() {
    let server = server().await;
    let ct = Slice { modality: "CT", ..Slice::new(2, 1) };
    store(&server, &[Slice::new(1, 1), ct, Slice::new(3, 1)]).await;
    let ask = async |query: &str| {
        let response = get(&server, &format!("{STUDIES}?{query}"), "*/*").await;
        let total = response.headers()["x-total-count"].to_str().expect("ASCII").to_owned();
        let (_, found) = json(response).await;
        (found.as_array().expect("array").len(), total, found)
    };
    for (query, count, total) in [
        ("", 3, "3"),
        ("limit=1", 1, "3"),
        ("limit=1&offset=2", 1, "3"),
        ("offset=9", 0, "3"),
        ("ModalitiesInStudy=CT,MR", 3, "3"),
        ("ModalitiesInStudy=CT%5CPT", 1, "1"),
        ("ModalitiesInStudy=XX", 0, "0"),
        ("PatientName=recognisable&fuzzymatching=true", 3, "3"),
        ("RequestAttributesSequence.ScheduledProcedureStepID=none", 0, "0"),
    ] {
        let (found, all, _) = ask(query).await;
        assert_eq!((found, all.as_str()), (count, total), "{query}");
    }
    let (_, _, found) = ask("includefield=all&limit=1").await;
    assert!(found[0].get("00080005").is_some() && found[0].get("00200037").is_none());
}
