//! Logs and metrics say nothing of the patient, whatever goes wrong.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use seer::config::{LogFormat, TelemetrySettings};
use seer::telemetry;

use super::*;
use crate::support::studies::{PATIENT_ID, PATIENT_NAME};

const ORDER_TEXT: &str = "Outline the quokka-shaped lesion of Mrs Zyxwvut";
const FOREIGN_HEADER: &str = "Zyxwvut-in-a-header";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures what the whole test binary logs, from now on.
fn captured() -> &'static Captured {
    static CAPTURED: OnceLock<Captured> = OnceLock::new();
    CAPTURED.get_or_init(|| {
        let captured = Captured::default();
        let writer = captured.clone();
        // Everything, of every crate: the loudest that an administrator could set.
        let settings =
            TelemetrySettings { log: "trace".into(), format: LogFormat::Json, uid_key: None };
        telemetry::init_with(&settings, move || writer.clone(), false).expect("first to log");
        captured
    })
}

#[tokio::test]
async fn logs_and_metrics_say_nothing_of_the_patient() {
    let captured = captured();
    let server = server().await;
    let slice = Slice::new(41, 1);
    let parts = [slice.bytes(), Slice::new(41, 2).bytes(), slice.bytes()[..400].to_vec()];
    let body = multipart(&parts);
    assert_eq!(post(&server, STUDIES, MULTIPART, body).await.status(), StatusCode::ACCEPTED);
    let search = format!("{STUDIES}?PatientName={PATIENT_NAME}&PatientID={PATIENT_ID}");
    assert_eq!(get(&server, &search, "*/*").await.status(), StatusCode::OK);
    let study = format!("{STUDIES}/{}", slice.study);
    for path in [
        format!("{study}/metadata"),
        study.clone(),
        format!("{STUDIES}/{PATIENT_ID}"),
        format!("{study}/series/1.9"),
        format!("/{PATIENT_ID}"),
    ] {
        get(&server, &path, "*/*").await;
    }
    let order = |text: &str, study: &str| {
        serde_json::json!({ "study_uid": study, "text": text }).to_string().into_bytes()
    };
    let accepted =
        post(&server, "/api/v1/orders", "application/json", order(ORDER_TEXT, &slice.study));
    assert_eq!(accepted.await.status(), StatusCode::ACCEPTED);
    for body in [
        order(ORDER_TEXT, "9.9.9"),
        order(ORDER_TEXT, PATIENT_ID),
        format!("{{\"{ORDER_TEXT}\": 1}}").into_bytes(),
        ORDER_TEXT.as_bytes().to_vec(),
    ] {
        let response = post(&server, "/api/v1/orders", "application/json", body).await;
        assert!(response.status().is_client_error());
    }
    let request = server.client.get(format!("{}{STUDIES}", server.base));
    let request = request.header("x-request-id", FOREIGN_HEADER).bearer_auth(FOREIGN_HEADER);
    request.header("user-agent", FOREIGN_HEADER).send().await.expect("response");

    let metrics = get(&server, "/metrics", "*/*").await.text().await.expect("text");
    assert!(metrics.contains("seer_http_requests_total"), "{metrics}");
    assert!(metrics.contains("seer_instances_received_total"), "{metrics}");
    let logs = String::from_utf8_lossy(&captured.0.lock().expect("lock")).into_owned();
    assert!(logs.contains("/dicom-web/studies/{study}"), "requests are logged by route");
    // Surname, id, accession number, birth date, order text, UIDs.
    let secrets =
        ["Zyxwvut", "Recognisable", PATIENT_ID, "ACC-1", "19010203", "quokka", &slice.study];
    for secret in secrets {
        for (name, text) in [("metrics", &metrics), ("logs", &logs)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is in the {name}: {line:?}");
        }
    }
}
