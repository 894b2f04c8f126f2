//! WADO-RS beyond the stored bytes: other transfer syntaxes, colour, pictures, bulk data, archives.

use std::collections::BTreeSet;
use std::io::Read;

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderName, IF_NONE_MATCH, RANGE,
};
use seer::dicom::{DicomLimits, Instance};

use super::*;
use crate::support::studies::{COLUMNS, ROWS};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// A fixture, stored.
struct Fixture {
    server: Server,
    bytes: Vec<u8>,
    instance: Instance,
    path: String,
}

impl Fixture {
    async fn store(name: &str) -> Self {
        let bytes = std::fs::read(format!("tests/data/{name}")).expect("fixture");
        let server = server().await;
        let response = post(&server, STUDIES, "application/dicom", bytes.clone()).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}: {:?}", response.text().await);
        let instance = parse(&bytes);
        let identity = instance.identity();
        let path = format!(
            "{STUDIES}/{}/series/{}/instances/{}",
            identity.study, identity.series, identity.sop_instance
        );
        Self { server, bytes, instance, path }
    }

    async fn get(&self, below: &str, accept: &str) -> Response {
        get(&self.server, &format!("{}{below}", self.path), accept).await
    }

    async fn ask(&self, below: &str, header: HeaderName, value: &str) -> Response {
        let url = format!("{}{}{below}", self.server.base, self.path);
        self.server.client.get(url).header(header, value).send().await.expect("response")
    }
}

fn parse(bytes: &[u8]) -> Instance {
    Instance::parse(bytes, &DicomLimits::default()).expect("an instance").0
}

fn decoded(instance: &Instance) -> Vec<Vec<u8>> {
    (1..=instance.frame_count()).map(|n| instance.native_frame(n).expect("frame")).collect()
}

#[tokio::test]
async fn compressed_instances_are_decoded_for_those_who_name_no_transfer_syntax() {
    for name in
        ["pydicom/MR_small_jp2klossless.dcm", "pydicom/rtdose_rle.dcm", "pydicom/SC_rgb_jpeg.dcm"]
    {
        let fixture = Fixture::store(name).await;
        let stored = parts(
            fixture
                .get("", "multipart/related; type=\"application/dicom\"; transfer-syntax=*")
                .await,
        );
        assert_eq!(stored.await[0].1, fixture.bytes, "{name} as stored");
        for accept in [
            "multipart/related; type=\"application/dicom\"".to_owned(),
            format!("multipart/related; type=application/dicom; transfer-syntax={EXPLICIT}"),
        ] {
            let got = parts(fixture.get("", &accept).await).await;
            assert!(got[0].0.ends_with(&format!("transfer-syntax={EXPLICIT}")), "{}", got[0].0);
            let explicit = parse(&got[0].1);
            assert_eq!(explicit.identity().transfer_syntax_uid, EXPLICIT);
            assert_eq!(explicit.identity().sop_instance, fixture.instance.identity().sop_instance);
            assert_eq!(decoded(&explicit), decoded(&fixture.instance), "{name}");
        }
        let whole = fixture.get("", "application/dicom").await;
        assert_eq!(
            parse(&whole.bytes().await.expect("body")).frame_count(),
            fixture.instance.frame_count()
        );
        let accept =
            "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.80";
        problem(fixture.get("", accept).await, 406).await;
    }
}

#[tokio::test]
async fn implicit_and_big_endian_instances_can_be_had_in_explicit() {
    for name in ["pydicom/MR_small_implicit.dcm", "pydicom/MR_small_bigendian.dcm"] {
        let fixture = Fixture::store(name).await;
        let accept = format!("application/dicom; transfer-syntax={EXPLICIT}");
        let got = fixture.get("", &accept).await.bytes().await.expect("body");
        let explicit = parse(&got);
        assert_eq!(explicit.identity().transfer_syntax_uid, EXPLICIT);
        assert_eq!(decoded(&explicit), decoded(&fixture.instance));
        let pixels = fixture.get("/frames/1", "application/octet-stream").await;
        assert_eq!(pixels.bytes().await.expect("body"), decoded(&fixture.instance)[0]);
    }
}

#[tokio::test]
async fn frames_come_as_stored_for_viewers_that_decode() {
    let fixture = Fixture::store("pydicom/rtdose_rle.dcm").await;
    let ohif = "multipart/related; type=application/octet-stream; transfer-syntax=*";
    let stored = parts(fixture.get("/frames/1,15,3", ohif).await).await;
    let native = parts(
        fixture.get("/frames/1,15,3", "multipart/related; type=\"application/octet-stream\"").await,
    )
    .await;
    assert_eq!((stored.len(), native.len()), (3, 3));
    for ((number, (head, bytes)), (_, plain)) in [1, 15, 3].into_iter().zip(&stored).zip(&native) {
        assert!(head.contains("image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"), "{head}");
        assert_eq!(*plain, fixture.instance.native_frame(number).expect("frame"));
        assert_eq!(fixture.instance.native_frame_from(number, bytes).expect("decodes"), *plain);
    }
    problem(fixture.get("/frames/16", ohif).await, 404).await;

    let deflated = Fixture::store("codecs/deflated_frames.dcm").await;
    let plain = parts(deflated.get("/frames/2", ohif).await).await;
    assert!(plain[0].0.ends_with(EXPLICIT), "no viewer decodes it: {}", plain[0].0);
    assert_eq!(plain[0].1, deflated.instance.native_frame(2).expect("frame"));
}

#[tokio::test]
async fn colour_is_shown_in_its_colours() {
    let fixture = Fixture::store("pydicom/SC_rgb_small_odd.dcm").await;
    let picture = fixture.get("/rendered", "image/png").await.bytes().await.expect("body");
    let picture = image::load_from_memory(&picture).expect("a picture").into_rgb8();
    assert_eq!(picture.as_raw()[..], fixture.instance.native_frame(1).expect("frame")[..27]);
    let jpeg = Fixture::store("pydicom/SC_rgb_jpeg.dcm").await;
    let frame =
        parts(jpeg.get("/frames/1", "multipart/related; type=application/octet-stream").await)
            .await;
    assert_eq!(frame[0].1.len(), 256 * 256 * 3);
    let picture = jpeg.get("/rendered?quality=100&viewport=64,32", "image/jpeg").await;
    let picture =
        image::load_from_memory(&picture.bytes().await.expect("body")).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (32, 32), "in its own proportions");
    problem(jpeg.get("/rendered?quality=0", "image/jpeg").await, 400).await;
    problem(jpeg.get("/rendered?viewport=1", "image/jpeg").await, 400).await;
}

#[tokio::test]
async fn every_level_has_pictures_and_thumbnails() {
    let server = server().await;
    let slices = [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 3)];
    store(&server, &slices).await;
    let study = format!("{STUDIES}/{}", slices[0].study);
    let series = format!("{study}/series/{}", slices[0].series);
    let instance = format!("{series}/instances/{}", slices[1].sop_instance());
    let frame = format!("{instance}/frames/1");
    for path in [&study, &series, &instance, &frame] {
        for (last, accept) in [("thumbnail", "image/jpeg"), ("rendered", "image/png")] {
            let response = get(&server, &format!("{path}/{last}"), accept).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}/{last}");
            assert_eq!(response.headers()[CONTENT_TYPE], accept);
            let picture = response.bytes().await.expect("body");
            let picture = image::load_from_memory(&picture).expect("a picture");
            let expected = match last {
                "rendered" => (u32::from(COLUMNS), u32::from(ROWS)),
                _ => (200, 143),
            };
            assert_eq!((picture.width(), picture.height()), expected, "{path}/{last}");
        }
    }
    let rendered = format!("{study}/rendered");
    let all = get(&server, &rendered, "multipart/related; type=\"image/jpeg\"").await;
    let all = parts(all).await;
    assert_eq!(all.len(), 3);
    assert!(
        all[0].0.starts_with("Content-Type: image/jpeg\r\nContent-Location: http"),
        "{}",
        all[0].0
    );
    let unknown = format!("{study}/series/9.9/thumbnail");
    problem(get(&server, &unknown, "image/png").await, 404).await;
}

#[tokio::test]
async fn bulk_data_come_whole_and_in_ranges() {
    let fixture = Fixture::store("pydicom/CT_small.dcm").await;
    let pixels = fixture.instance.native_frame(1).expect("frame");
    let (_, metadata) = json(fixture.get("/metadata", "application/dicom+json").await).await;
    let url = metadata[0]["7FE00010"]["BulkDataURI"].as_str().expect("URL");
    let request = fixture.server.client.get(url).header(ACCEPT, "*/*");
    let response = request.send().await.expect("response");
    assert_eq!(response.headers()[ACCEPT_RANGES], "bytes");
    assert_eq!(response.bytes().await.expect("body"), pixels);
    let part = fixture.ask("/bulkdata/7FE00010", RANGE, "bytes=100-199").await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let range = format!("bytes 100-199/{}", pixels.len());
    assert_eq!(part.headers()[CONTENT_RANGE], range.as_str());
    assert_eq!(part.bytes().await.expect("body"), pixels[100..200]);
    let beyond = fixture.ask("/bulkdata/7FE00010", RANGE, "bytes=99999999-").await;
    problem(beyond, 416).await;
    problem(fixture.get("/bulkdata/00091FFF", "*/*").await, 404).await;
    problem(fixture.get("/bulkdata/..%2F..%2Fetc", "*/*").await, 404).await;
    let one = parts(fixture.get("/pixeldata", "multipart/related").await).await;
    assert_eq!(one[0].1, pixels);
    assert!(one[0].0.contains("/bulkdata/7FE00010"), "{}", one[0].0);
    let all = parts(fixture.get("/bulkdata", "multipart/related").await).await;
    assert_eq!(all.last().expect("parts").1, pixels);
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let fixture = Fixture::store("pydicom/MR_small_RLE.dcm").await;
    for below in ["", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/7FE00010"] {
        let first = fixture.get(below, "*/*").await;
        assert_eq!(first.status(), StatusCode::OK, "{below}");
        let tag = first.headers()[ETAG].to_str().expect("ASCII").to_owned();
        let again = fixture.ask(below, IF_NONE_MATCH, &tag).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{below}");
        assert_eq!(again.bytes().await.expect("body").len(), 0);
        let other = fixture.ask(below, IF_NONE_MATCH, "\"another\"").await;
        assert_eq!(other.status(), StatusCode::OK, "{below}");
    }
    let study = format!("{STUDIES}/{}/metadata", fixture.instance.identity().study);
    let tag = get(&fixture.server, &study, "*/*").await.headers()[ETAG].clone();
    let mut more = Slice::new(1, 1);
    more.study = fixture.instance.identity().study.to_string();
    store(&fixture.server, &[more]).await;
    assert_ne!(get(&fixture.server, &study, "*/*").await.headers()[ETAG], tag, "the study grew");
}

#[tokio::test]
async fn metadata_are_the_same_compressed_plain_and_in_xml() {
    let server = server().await;
    store(&server, &[Slice::new(1, 1), Slice::new(1, 2)]).await;
    let path = format!("{STUDIES}/{}/metadata", Slice::new(1, 1).study);
    let url = format!("{}{path}", server.base);
    let request = server.client.get(&url).header("accept-encoding", "gzip");
    let packed = request.send().await.expect("response");
    assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
    let packed = packed.bytes().await.expect("body");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip");
    let plain = server.client.get(&url).header("accept-encoding", "identity").send().await;
    let plain = plain.expect("response");
    assert!(plain.headers().get(CONTENT_ENCODING).is_none());
    assert_eq!(plain.text().await.expect("text"), text);
    let xml = get(&server, &path, "multipart/related; type=\"application/dicom+xml\"").await;
    let documents = parts(xml).await;
    assert_eq!(documents.len(), 2);
    let document = String::from_utf8(documents[0].1.clone()).expect("UTF-8");
    assert!(document.contains("<FamilyName>Zyxwvut</FamilyName>"), "{document}");
    problem(get(&server, &path, "image/png").await, 406).await;
    let found = get(&server, STUDIES, "multipart/related; type=application/dicom+xml").await;
    assert_eq!(parts(found).await.len(), 1);
}

#[tokio::test]
async fn a_study_comes_as_a_zip_of_its_files() {
    let server = server().await;
    let slices = [Slice::new(1, 1), Slice::new(1, 2).in_series(2)];
    store(&server, &slices).await;
    let response = get(&server, &format!("{STUDIES}/{}", slices[0].study), "application/zip").await;
    assert_eq!(response.headers()[CONTENT_TYPE], "application/zip");
    let body = std::io::Cursor::new(response.bytes().await.expect("body"));
    let mut zip = zip::ZipArchive::new(body).expect("zip");
    let names: BTreeSet<String> =
        zip.file_names().map(|name| name.expect("UTF-8").into_owned()).collect();
    let name = |slice: &Slice| format!("{}/{}.dcm", slice.series, slice.sop_instance());
    assert_eq!(names, slices.iter().map(name).collect());
    let mut bytes = Vec::new();
    zip.by_name(&name(&slices[1])).expect("file").read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, slices[1].bytes());
}

#[tokio::test]
async fn capabilities_name_every_documented_resource() {
    let server = server().await;
    let options = async |accept: &str| {
        let url = format!("{}/dicom-web", server.base);
        let request = server.client.request(reqwest::Method::OPTIONS, url).header(ACCEPT, accept);
        request.send().await.expect("response")
    };
    let wadl = options("*/*").await;
    assert_eq!(wadl.headers()[CONTENT_TYPE], "application/vnd.sun.wadl+xml");
    let wadl = wadl.text().await.expect("text");
    let (_, found) = json(options("application/json").await).await;
    let listed = found["resources"].as_array().expect("resources");
    let document = serde_json::to_value(seer::http::openapi()).expect("serialises");
    let mut documented = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix("/dicom-web/") else { continue };
        for (method, operation) in item.as_object().expect("item") {
            if operation["tags"][0] != "dicomweb" {
                continue;
            }
            let same = |resource: &&Value| {
                resource["path"] == path && resource["method"] == method.to_uppercase()
            };
            assert!(listed.iter().any(|resource| same(&resource)), "{method} {path}");
            assert!(wadl.contains(&format!("<resource path=\"{path}\">")), "{path}");
            documented += 1;
        }
    }
    assert_eq!(documented, listed.len());
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, format!("{}/dicom-web", server.base))
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "GET")
        .send()
        .await
        .expect("response");
    assert!(preflight.headers().get("access-control-allow-methods").is_some());
}

#[test]
fn the_committed_conformance_statement_is_that_of_the_code() {
    const COMMITTED: &str = "static/conformance.md";
    let generated = seer::http::conformance_statement();
    if std::env::var_os("SEER_UPDATE_CONFORMANCE").is_some() {
        std::fs::write(COMMITTED, &generated).expect("write");
        return;
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(committed == generated, "`seer conformance > {COMMITTED}` writes the new one");
}

#[tokio::test]
async fn the_conformance_statement_is_served() {
    let server = server().await;
    let text = get(&server, "/conformance", "*/*").await.text().await.expect("text");
    assert!(text.contains("| Retrieve | GET | `/studies/{study}/metadata` |"), "{text}");
}
