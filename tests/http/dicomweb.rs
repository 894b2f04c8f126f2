//! STOW-RS, QIDO-RS and WADO-RS, as clients really speak them.

use serde_json::json;

use super::*;
use crate::support::studies::{COLUMNS, PATIENT_NAME, ROWS};

#[tokio::test]
async fn what_is_stored_comes_back_byte_by_byte() {
    let server = server().await;
    let slices = [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 1).in_series(2)];
    store(&server, &slices).await;
    let study = format!("{STUDIES}/{}", slices[0].study);
    let series = format!("{study}/series/{}", slices[0].series);
    let instance = format!("{series}/instances/{}", slices[1].sop_instance());
    let check = async |path: &str, accept: &str, expected: &[&Slice]| {
        let response = get(&server, path, accept).await;
        assert_eq!(response.status(), StatusCode::OK, "{path} {accept}");
        let got = parts(response).await;
        assert_eq!(got.len(), expected.len(), "{path}");
        for ((headers, bytes), slice) in got.iter().zip(expected) {
            let kind = "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1";
            assert_eq!(headers, kind);
            assert_eq!(*bytes, slice.bytes());
        }
    };
    let [first, second, other] = &slices;
    check(&study, "*/*", &[first, second, other]).await;
    check(&series, "multipart/related; type=\"application/dicom\"", &[first, second]).await;
    let unquoted = "multipart/related; type=application/dicom; transfer-syntax=*";
    check(&instance, unquoted, &[second]).await;

    let whole = get(&server, &instance, "application/dicom").await;
    assert_eq!(whole.headers()[CONTENT_TYPE], "application/dicom");
    assert_eq!(whole.bytes().await.expect("body"), second.bytes());
}

#[tokio::test]
async fn a_store_response_names_what_is_stored() {
    let server = server().await;
    let slice = Slice::new(1, 1);
    let response = post(&server, STUDIES, MULTIPART, multipart(&[slice.bytes()])).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "application/dicom+json");
    let (status, document) = json(response).await;
    assert_eq!(status, StatusCode::OK);
    let item = &document["00081199"]["Value"][0];
    assert_eq!(item["00081155"]["Value"][0], slice.sop_instance());
    let url = item["00081190"]["Value"][0].as_str().expect("URL");
    let back = server.client.get(url).header(ACCEPT, "application/dicom").send().await;
    assert_eq!(back.expect("response").bytes().await.expect("body"), slice.bytes());
    assert!(document.get("00081198").is_none());
}

#[tokio::test]
async fn a_broken_part_is_refused_and_the_rest_is_kept() {
    let server = server().await;
    let (good, other) = (Slice::new(1, 1), Slice::new(1, 2));
    let truncated = other.bytes()[..300].to_vec();
    let changed = Slice { patient_name: "Someone^Else".into(), ..good.clone() }.bytes();
    let body = [b"not DICOM".to_vec(), good.bytes(), truncated, changed, other.bytes()];
    let response = post(&server, STUDIES, MULTIPART, multipart(&body)).await;
    let warning = response.headers()["warning"].to_str().expect("ASCII").to_owned();
    let (status, document) = json(response).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert!(warning.contains("3 of 5") && warning.contains("not a DICOM file"), "{warning}");
    let stored: Vec<_> = document["00081199"]["Value"]
        .as_array()
        .expect("stored")
        .iter()
        .map(|item| item["00081155"]["Value"][0].as_str().expect("UID"))
        .collect();
    assert_eq!(stored, [good.sop_instance(), other.sop_instance()]);
    // The one whose UID is known is named with it; its reason is "duplicate SOP instance".
    let failed = &document["00081198"]["Value"];
    assert_eq!(failed[0]["00081155"]["Value"][0], good.sop_instance());
    assert_eq!(failed[0]["00081197"]["Value"][0], 0x0111);
    let unknown = document["0008119A"]["Value"].as_array().expect("others");
    assert_eq!(unknown.len(), 2);
    assert!(unknown.iter().all(|item| item["00081197"]["Value"][0] == 0xC000));

    let none = post(&server, STUDIES, MULTIPART, multipart(&[b"junk".to_vec()])).await;
    assert_eq!(none.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn instances_of_another_study_than_the_path_names_are_refused() {
    let server = server().await;
    let (ours, theirs) = (Slice::new(1, 1), Slice::new(2, 1));
    let path = format!("{STUDIES}/{}", ours.study);
    let body = multipart(&[ours.bytes(), theirs.bytes()]);
    let (status, document) = json(post(&server, &path, MULTIPART, body).await).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(document["00081198"]["Value"][0]["00081197"]["Value"][0], 0xA900);
    let response = get(&server, &format!("{STUDIES}/{}", theirs.study), "*/*").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn stores_what_clients_send_in_other_shapes() {
    let server = server().await;
    let check = async |content_type: &str, body: Vec<u8>| {
        let response = post(&server, STUDIES, content_type, body).await;
        assert_eq!(response.status(), StatusCode::OK, "{content_type}");
    };
    let body = multipart(&[Slice::new(1, 1).bytes()]);
    check("multipart/related; type=application/dicom; boundary=\"between\"", body.clone()).await;
    check("Multipart/Related;boundary=between", body.clone()).await;
    check("application/dicom", Slice::new(1, 2).bytes()).await;
    // dicomweb-client begins with an empty line.
    check(MULTIPART, [b"\r\n", &body[..]].concat()).await;
}

#[tokio::test]
async fn viewers_find_studies_series_and_instances() {
    let server = server().await;
    let slices =
        [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 1).in_series(2), Slice::new(2, 1)];
    store(&server, &slices).await;
    let found = async |path: &str| {
        let response = get(&server, &format!("/dicom-web{path}"), "application/dicom+json").await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/dicom+json");
        let (status, found) = json(response).await;
        assert_eq!(status, StatusCode::OK, "{path}: {found}");
        found.as_array().expect("array").clone()
    };
    // What OHIF asks for its study list, its series list and a study.
    let ohif = "/studies?limit=101&offset=0&fuzzymatching=false\
                &includefield=00081030%2C00080060%2C00080090%2C00100030&PatientName=*wvut*";
    let studies = found(ohif).await;
    assert_eq!(studies.len(), 2);
    for key in [
        "0020000D", "00080020", "00080030", "00080050", "00100020", "00201208", "00081030",
        "00080061", "00080090", "00201206", "00081190",
    ] {
        assert!(studies[0].get(key).is_some(), "{key} is missing");
    }
    assert_eq!(studies[0]["00100010"]["Value"][0]["Alphabetic"], PATIENT_NAME);
    let first = &slices[0];
    let path = format!("/studies/{}/series?includefield=0008103E,00080021", first.study);
    let series = found(&path).await;
    assert_eq!(series.len(), 2);
    for key in ["0020000D", "0020000E", "00080060", "00200011", "00201209", "0008103E"] {
        assert!(series[0].get(key).is_some(), "{key} is missing");
    }
    let path = format!("/studies/{}/series/{}/instances", first.study, first.series);
    assert_eq!(found(&path).await.len(), 2);
    assert_eq!(found(&format!("/studies/{}/instances", first.study)).await.len(), 3);
    assert_eq!(found("/series").await.len(), 3);
    assert_eq!(found("/instances?limit=2&offset=1").await.len(), 2);
    assert_eq!(found("/studies?ModalitiesInStudy=MR&StudyDate=20240101-20241231").await.len(), 2);
    assert_eq!(found("/studies?ModalitiesInStudy=CT").await.len(), 0);
    assert_eq!(found("/studies?00100020=nobody").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_search_warns_of_what_it_does_not_do() {
    let server = server().await;
    store(&server, &[Slice::new(1, 1), Slice::new(2, 1)]).await;
    let check = async |query: &str, expected: &str| {
        let response = get(&server, &format!("{STUDIES}?{query}"), "*/*").await;
        assert_eq!(response.status(), StatusCode::OK);
        let warning = response.headers().get("warning").expect("warning").to_str().expect("ASCII");
        assert!(warning.starts_with("299 ") && warning.contains(expected), "{warning}");
    };
    check("FavouriteColour=blue", "names no attribute").await;
    check("includefield=FavouriteColour", "names no attribute").await;
    check("limit=1", "There are 1 additional results that can be requested").await;
}

#[tokio::test]
async fn metadata_answers_the_accept_header_that_ohif_sends() {
    let server = server().await;
    let slices = [Slice::new(1, 1), Slice::new(1, 2)];
    store(&server, &slices).await;
    let study = format!("{STUDIES}/{}", slices[0].study);
    let series = format!("{study}/series/{}", slices[0].series);
    let accept = "application/dicom+json, multipart/related; type=application/octet-stream; \
                  transfer-syntax=*";
    for (path, count) in [
        (format!("{study}/metadata"), 2),
        (format!("{series}/metadata"), 2),
        (format!("{series}/instances/{}/metadata", slices[1].sop_instance()), 1),
    ] {
        let (status, found) = json(get(&server, &path, accept).await).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(found.as_array().expect("array").len(), count);
        assert_eq!(found[0]["00280010"]["Value"][0], ROWS);
        assert_eq!(found[0]["00200037"]["Value"], json!([-0.8, 0.6, 0, -0.6, -0.8, 0]));
        let url = found[0]["7FE00010"]["BulkDataURI"].as_str().expect("URL");
        assert!(url.starts_with(&format!("{}{STUDIES}/", server.base)), "{url}");
    }
}

#[tokio::test]
async fn frames_are_the_pixels() {
    let server = server().await;
    let slice = Slice::new(1, 4);
    store(&server, std::slice::from_ref(&slice)).await;
    let path = format!(
        "{STUDIES}/{}/series/{}/instances/{}/frames",
        slice.study,
        slice.series,
        slice.sop_instance()
    );
    let pixels: Vec<u8> = slice.pixels().iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(pixels.len(), usize::from(ROWS * COLUMNS) * 2);
    let ohif = "multipart/related; type=application/octet-stream; transfer-syntax=*";
    let got = parts(get(&server, &format!("{path}/1"), ohif).await).await;
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1, pixels);
    assert!(got[0].0.ends_with("transfer-syntax=1.2.840.10008.1.2.1"), "{}", got[0].0);
    let whole = get(&server, &format!("{path}/1"), "application/octet-stream").await;
    assert_eq!(whole.bytes().await.expect("body"), pixels);
    let detail = problem(get(&server, &format!("{path}/2"), ohif).await, 404).await;
    assert!(detail.contains('2'), "{detail}");
    problem(get(&server, &format!("{path}/0"), ohif).await, 400).await;
    let jpeg = "multipart/related; type=image/jpeg";
    problem(get(&server, &format!("{path}/1"), jpeg).await, 406).await;
}

#[tokio::test]
async fn an_instance_is_rendered_in_the_asked_format() {
    let server = server().await;
    let slice = Slice::new(1, 1);
    store(&server, std::slice::from_ref(&slice)).await;
    let path = format!(
        "{STUDIES}/{}/series/{}/instances/{}/rendered",
        slice.study,
        slice.series,
        slice.sop_instance()
    );
    for (accept, expected) in
        [("image/jpeg", "image/jpeg"), ("image/png", "image/png"), ("*/*", "image/png")]
    {
        let response = get(&server, &path, accept).await;
        assert_eq!(response.headers()[CONTENT_TYPE], expected);
        let bytes = response.bytes().await.expect("body");
        let picture = image::load_from_memory(&bytes).expect("a picture").into_luma8();
        assert_eq!(picture.dimensions(), (u32::from(COLUMNS), u32::from(ROWS)));
        assert!(picture.get_pixel(0, 0).0[0] < 10 && picture.get_pixel(6, 4).0[0] > 245);
    }
    let white = get(&server, &format!("{path}?window=-500,2,linear"), "image/png").await;
    let picture = image::load_from_memory(&white.bytes().await.expect("body")).expect("a picture");
    assert!(picture.into_luma8().pixels().all(|pixel| pixel.0[0] == 255));
    problem(get(&server, &format!("{path}?window=wide"), "image/png").await, 400).await;
    problem(get(&server, &path, "text/html").await, 406).await;
}

#[tokio::test]
async fn transfer_syntaxes_that_are_not_encoded_here_are_refused() {
    let server = server().await;
    let slice = Slice::new(1, 1);
    store(&server, std::slice::from_ref(&slice)).await;
    let path = format!("{STUDIES}/{}", slice.study);
    let accept =
        "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.90";
    let detail = problem(get(&server, &path, accept).await, 406).await;
    assert!(detail.contains("1.2.840.10008.1.2.4.90"), "{detail}");
}

#[tokio::test]
async fn metadata_is_compressed_and_pixels_are_not() {
    let server = server().await;
    let slices: Vec<_> = (1..=4).map(|number| Slice::new(1, number)).collect();
    store(&server, &slices).await;
    let ask = async |path: &str, accept: &str| {
        let request = server.client.get(format!("{}{path}", server.base));
        let request = request.header(ACCEPT, accept).header("accept-encoding", "gzip");
        request.send().await.expect("response")
    };
    let study = format!("{STUDIES}/{}", slices[0].study);
    let metadata = ask(&format!("{study}/metadata"), "*/*").await;
    assert_eq!(metadata.headers()["content-encoding"], "gzip");
    let instances = ask(&study, "*/*").await;
    assert!(instances.headers().get("content-encoding").is_none());
}
