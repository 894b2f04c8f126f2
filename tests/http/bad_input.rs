//! What is wrong is answered with a problem document that names it, and nothing is harmed.

use super::*;

const ORDERS: &str = "/api/v1/orders";
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn uploads_that_cannot_be_read_are_refused_and_the_server_stays_up() {
    let server = server().await;
    let whole = Slice::new(1, 1).bytes();
    let check = async |content_type: &str, body: Vec<u8>, status: u16, words: &str| {
        let detail = problem(post(&server, STUDIES, content_type, body).await, status).await;
        assert!(detail.contains(words), "{detail}");
    };
    check("application/json", b"{}".to_vec(), 415, "application/json").await;
    check("", whole.clone(), 415, "missing").await;
    check("multipart/related; type=\"image/jpeg\"; boundary=x", vec![], 415, "image/jpeg").await;
    check("multipart/related; type=\"application/dicom\"", vec![], 400, "boundary").await;
    let long = format!("multipart/related; boundary={}", "x".repeat(71));
    check(&long, vec![], 400, "boundary").await;
    check(MULTIPART, b"--between--\r\n".to_vec(), 400, "no instances").await;
    check(MULTIPART, vec![], 400, "ends before").await;
    check(MULTIPART, b"nothing of the kind".to_vec(), 400, "ends before").await;
    let body = multipart(std::slice::from_ref(&whole));
    check(MULTIPART, body[..body.len() - 30].to_vec(), 400, "ends before").await;
    // Neither a header nor a preamble may grow for ever.
    let endless = [b"--between\r\nX: ".to_vec(), vec![b'x'; (4 << 20) + 4096]].concat();
    check(MULTIPART, endless, 400, "headers").await;
    check(MULTIPART, vec![b'x'; (4 << 20) + 4096], 400, "before a part").await;
    // Values of JSON take many times the memory of their text: so many are not even listed.
    let many = format!("[{}{{}}]", "{},".repeat(10_000));
    check("application/dicom+json", many.into_bytes(), 413, "is 10001, the limit is 10000").await;
    check("application/dicom+json", b"[{}, 7]".to_vec(), 400, "no object").await;
    // A part of another type is passed over, however long it is.
    let head = b"--between\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    let long = [head, vec![b'x'; 5 << 20], b"\r\n".to_vec()].concat();
    let body = [long, multipart(&[Slice::new(1, 3).bytes()])].concat();
    let response = post(&server, STUDIES, MULTIPART, body).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    store(&server, &[Slice::new(1, 2)]).await;
}

#[tokio::test]
async fn files_that_are_not_dicom_are_named_with_the_reason() {
    let server = server().await;
    for bytes in [vec![], b"GIF89a".to_vec(), vec![0; 5000], vec![0xff; 5000]] {
        let response = post(&server, STUDIES, "application/dicom", bytes).await;
        let (status, document) = json(response).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let comment = document["0008119A"]["Value"][0]["00000902"]["Value"][0].as_str();
        assert!(comment.expect("comment").contains("DICOM"), "{comment:?}");
    }
}

#[tokio::test]
async fn bodies_larger_than_the_limit_are_refused() {
    let server = server_with(|config| {
        config.http.upload_size_bytes_max = 4000;
        config.http.json_size_bytes_max = 1000;
        config.http.upload_part_count_max = 3;
        config.dicom.instance_size_bytes_max = 1800;
    })
    .await;
    let slice = Slice::new(1, 1).bytes();
    assert!(slice.len() < 1800, "{}", slice.len());
    let too_long = multipart(&[vec![1; 5000]]);
    let detail = problem(post(&server, STUDIES, MULTIPART, too_long.clone()).await, 413).await;
    assert!(detail.contains("4000"), "{detail}");
    // Without a declared length the limit is met while reading.
    let chunks = too_long.chunks(700).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()));
    let stream = futures_util::stream::iter(chunks.collect::<Vec<_>>());
    let request = server.client.post(format!("{}{STUDIES}", server.base));
    let request = request.header(CONTENT_TYPE, MULTIPART).body(reqwest::Body::wrap_stream(stream));
    problem(request.send().await.expect("response"), 413).await;
    // One part that is too large costs only itself.
    let body = multipart(&[vec![1; 1900], slice]);
    let response = post(&server, STUDIES, MULTIPART, body).await;
    let warning = response.headers()["warning"].to_str().expect("ASCII").to_owned();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert!(warning.contains("1800"), "{warning}");
    let many = multipart(&vec![b"x".to_vec(); 4]);
    let detail = problem(post(&server, STUDIES, MULTIPART, many).await, 413).await;
    assert!(detail.contains('3'), "{detail}");
    let text = format!("{{\"study_uid\": \"1.2\", \"text\": \"{}\"}}", "x".repeat(1000));
    let detail = problem(post(&server, ORDERS, "application/json", text.into()).await, 413).await;
    assert!(detail.contains("1000"), "{detail}");
}

#[tokio::test]
async fn paths_with_malformed_uids_lead_nowhere() {
    let server = server().await;
    store(&server, &[Slice::new(1, 1)]).await;
    let long = "1.".repeat(33) + "1";
    for uid in ["abc", "1..2", "..%2f..%2fetc", "1.%002", "1.2.3%0d%0aX:1", &long, "%ff"] {
        for path in [
            format!("{STUDIES}/{uid}"),
            format!("{STUDIES}/1.2/series/{uid}"),
            format!("{STUDIES}/1.2/series/1.3/instances/{uid}"),
            format!("{STUDIES}/{uid}/metadata"),
            format!("{STUDIES}/1.2/series/{uid}/instances"),
            format!("{STUDIES}/1.2/series/1.3/instances/{uid}/frames/1"),
        ] {
            let response = get(&server, &path, "*/*").await;
            let status = response.status().as_u16();
            assert!(matches!(status, 400 | 404), "{path} gave {status}");
            problem(response, status).await;
        }
    }
    for path in ["/static/../Cargo.toml", "/static/%2e%2e/Cargo.toml", "//etc/passwd", "/static/"] {
        assert_eq!(get(&server, path, "*/*").await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn unknown_things_are_not_found_by_name() {
    let server = server().await;
    let check = async |path: &str, words: &str| {
        let detail = problem(get(&server, path, "*/*").await, 404).await;
        assert!(detail.contains(words), "{detail}");
    };
    check(&format!("{STUDIES}/1.2.3"), "study 1.2.3").await;
    check(&format!("{STUDIES}/1.2.3/series/4.5/metadata"), "series 4.5").await;
    check(&format!("{STUDIES}/1.2.3/series/4.5/instances/6.7"), "instance 6.7").await;
    check("/nowhere", "nothing at this path").await;
    check("/api/v1/models/nobody", "model is not loaded").await;
    let response = post(&server, "/v2/health/live", "application/json", vec![]).await;
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    let detail = problem(response, 405).await;
    assert!(detail.contains("POST"), "{detail}");
}

#[tokio::test]
async fn queries_that_make_no_sense_are_refused() {
    let server = server().await;
    let check = async |path: &str, words: &str| {
        let detail = problem(get(&server, path, "*/*").await, 400).await;
        assert!(detail.contains(words), "{detail}");
    };
    check("/dicom-web/studies?limit=many", "limit").await;
    check("/dicom-web/studies?offset=-1", "offset").await;
    check("/api/v1/orders?state=asleep", "state").await;
    check("/api/v1/orders?study_uid=x", "StudyInstanceUID").await;
    check("/api/v1/orders?colour=blue", "study_uid").await;
    check("/api/v1/orders/not-a-uuid", "UUID").await;
    let path = format!("/api/v1/orders/{UNKNOWN}/artefacts/..%2Fpasswd.png");
    check(&path, "artefact name").await;
}
