//! The same questions to Orthanc and to this server; the answers are compared attribute by
//! attribute, and every kind of difference is explained here, as data.

#[path = "peers_orthanc/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::support::Server;
use crate::support::dicom_json::Compared;
use crate::support::studies::Slice;
use server::Orthanc;

const FIXTURES: [&str; 9] = [
    "CT_small.dcm",
    "MR_small.dcm",
    "chrH32.dcm",
    "chrKoreanMulti.dcm",
    "liver_1frame.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "SC_rgb_small_odd.dcm",
    "test-SR.dcm",
];

/// Attributes that are meant to differ, and why. Empty values count as absent; what one sends inline
/// and the other by URL counts as equal; what we tell beyond Orthanc's answer is not compared.
const EXPLAINED: [(&str, &str); 6] = [
    ("00081190", "Retrieve URL names the server that was asked"),
    ("00080005", "our texts are UTF-8 and we always say so; Orthanc says so only where it was set"),
    ("00080056", "Orthanc's plugin has no Instance Availability (PS3.18 Table 10.6.3-3)"),
    ("00083002", "Orthanc's plugin has no Available Transfer Syntax UID"),
    ("00080061", "the modalities in a study are a set; their order is free"),
    ("7FE00010", "pixel data are told by URL, below each server's own path"),
];

/// Answers that are meant to differ, by a part of how they are told, and why.
const ANSWERS_EXPLAINED: [(&str, &str); 3] = [
    ("山田^太郎", "Orthanc does not decode ISO 2022 escapes to Japanese characters"),
    ("김희중", "Orthanc does not decode ISO 2022 escapes to Korean characters"),
    ("?StudyDate=-20040119", "a study without a date is in Orthanc's open range, and not in ours"),
];

struct Both {
    ours: Server,
    orthanc: Orthanc,
}

impl Both {
    /// Starts both and stores the same files in both.
    async fn start() -> Option<Self> {
        let orthanc = Orthanc::start()?;
        let ours = Server::with(|_| {}, None).await;
        let mut files: Vec<Vec<u8>> = FIXTURES
            .iter()
            .map(|name| std::fs::read(format!("tests/data/pydicom/{name}")).expect("fixture"))
            .collect();
        files.extend(
            [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 1).in_series(2)].map(|s| s.bytes()),
        );
        let mut body = Vec::new();
        for file in &files {
            body.extend(b"--between\r\nContent-Type: application/dicom\r\n\r\n");
            body.extend(file);
            body.extend(b"\r\n");
        }
        body.extend(b"--between--\r\n");
        let both = Self { ours, orthanc };
        for base in [&both.ours.base, &both.orthanc.base] {
            let response = both
                .ours
                .client
                .post(format!("{base}/dicom-web/studies"))
                .header(
                    "content-type",
                    "multipart/related; type=\"application/dicom\"; boundary=between",
                )
                .header("accept", "application/dicom+json")
                .body(body.clone())
                .send()
                .await
                .expect("response");
            let status = response.status().as_u16();
            let text = response.text().await.expect("text");
            assert_eq!(status, 200, "{base}: {text}");
            let stored: Value = serde_json::from_str(&text).expect("JSON");
            let references = stored["00081199"]["Value"].as_array().expect("references");
            assert_eq!(references.len(), files.len(), "{base}");
        }
        Some(both)
    }

    async fn ask(&self, path: &str) -> [Vec<Map<String, Value>>; 2] {
        let mut answers = [Vec::new(), Vec::new()];
        for (base, answer) in [&self.ours.base, &self.orthanc.base].into_iter().zip(&mut answers) {
            let request = self.ours.client.get(format!("{base}/dicom-web{path}"));
            let response = request.header("accept", "application/dicom+json").send().await;
            let response = response.expect("response");
            assert!(response.status().is_success(), "{base}{path}: {}", response.status());
            let text = response.text().await.expect("text");
            let found: Vec<Map<String, Value>> = if text.is_empty() {
                Vec::new()
            } else {
                serde_json::from_str(&text).expect("JSON")
            };
            *answer = found;
        }
        answers
    }
}

fn is_explained(tag: &str) -> bool {
    EXPLAINED.iter().any(|(known, _)| *known == tag)
}

/// What an object is found again by.
fn key(object: &Map<String, Value>) -> String {
    let uid = |key: &str| object.get(key).map(|e| e["Value"][0].to_string()).unwrap_or_default();
    ["0020000D", "0020000E", "00080018"].map(uid).join(" ")
}

fn by_key(objects: Vec<Map<String, Value>>) -> BTreeMap<String, Map<String, Value>> {
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orthanc_and_this_server_answer_alike() {
    let Some(both) = Both::start().await else { return };
    let mut compared = Compared::default();
    let first = Slice::new(1, 1).study;
    let mut questions = vec![
        "/studies".to_owned(),
        "/series".to_owned(),
        "/instances".to_owned(),
        format!("/studies/{first}/series"),
        format!("/studies/{first}/instances"),
        format!("/studies/{first}/series/{first}.1/instances"),
        "/studies?PatientID=PID-QJ7-4431".to_owned(),
        "/studies?00100020=PID*".to_owned(),
        "/studies?PatientName=Zyxwvut*".to_owned(),
        "/studies?PatientName=nobody".to_owned(),
        "/studies?StudyDate=20040101-20041231".to_owned(),
        "/studies?StudyDate=-20040119".to_owned(),
        "/studies?ModalitiesInStudy=CT".to_owned(),
        "/series?Modality=MR".to_owned(),
        "/series?SeriesNumber=1".to_owned(),
        "/instances?SOPClassUID=1.2.840.10008.5.1.4.1.1.4".to_owned(),
        format!("/studies?StudyInstanceUID={first}"),
    ];
    let [studies, _] = both.ask("/studies").await;
    for study in &studies {
        let uid = study["0020000D"]["Value"][0].as_str().expect("UID");
        questions.push(format!("/studies/{uid}/metadata"));
    }
    for question in &questions {
        let [ours, theirs] = both.ask(question).await.map(by_key);
        let keys = |answer: &BTreeMap<String, _>| answer.keys().cloned().collect::<BTreeSet<_>>();
        if keys(&ours) != keys(&theirs) {
            let note = format!("{question}: {:?} here, {:?} there", keys(&ours), keys(&theirs));
            compared.differences.insert(note);
            continue;
        }
        for (key, our) in &ours {
            let kind = question.split(['?']).next().unwrap_or_default();
            let kind = if kind.ends_with("metadata") { "metadata " } else { "search " };
            compared.objects(kind, our, &theirs[key], &is_explained);
        }
    }
    eprintln!("{} questions, {} attributes equal to Orthanc's", questions.len(), compared.equal);
    let explained = |told: &String| ANSWERS_EXPLAINED.iter().any(|(part, _)| told.contains(part));
    let told = compared.differences.into_iter().filter(|told| !explained(told));
    let told: Vec<_> = told.collect();
    assert!(told.is_empty(), "unexplained:\n{}", told.join("\n"));
    assert!(compared.equal > 1500, "only {} attributes were compared", compared.equal);
}
