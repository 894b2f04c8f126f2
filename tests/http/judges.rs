//! A client that others wrote (`dicomweb-client`) speaks to the server.

use super::*;
use crate::support::studies::{COLUMNS, PATIENT_ID, PATIENT_NAME, ROWS};

const SCRIPT: &str = r#"
import json, os, sys
import pydicom
from dicomweb_client.api import DICOMwebClient

base, study, series, instance, *files = sys.argv[1:]
client = DICOMwebClient(base)
stored = client.store_instances([pydicom.dcmread(file) for file in files])
study_found = client.search_for_studies(search_filters={"PatientID": os.environ["PATIENT_ID"]})
series_found = client.search_for_series(study_instance_uid=study)
whole = client.retrieve_study(study)
one = client.retrieve_instance(study, series, instance)
metadata = client.retrieve_series_metadata(study, series)
frame = client.retrieve_instance_frames(study, series, instance, [1])[0]
dataset = pydicom.Dataset.from_json(
    metadata[0], bulk_data_uri_handler=lambda uri: bytes(client.retrieve_bulkdata(
        # This client sends a Host without the port, so the server cannot know its own URL.
        base + uri.split("/dicom-web")[1])[0]))
fuzzy = client.search_for_studies(
    fuzzymatching=True, fields=["00100030"], search_filters={"PatientName": "recognisable"})
instances = client.search_for_instances(study, series, limit=1, offset=1)
rendered = client.retrieve_instance_rendered(
    study, series, instance, media_types=("image/png",))
from_bulk = dataset.PixelData == frame
client.delete_series(study, series)
left = client.search_for_studies()
print(json.dumps({
    "stored": len(stored.ReferencedSOPSequence),
    "studies": len(study_found),
    "series": len(series_found),
    "whole": sorted(str(found.SOPInstanceUID) for found in whole),
    "name": str(one.PatientName),
    "same_pixels": one.PixelData == frame,
    "shape": list(one.pixel_array.shape),
    "position": [float(number) for number in dataset.ImagePositionPatient],
    "metadata": len(metadata),
    "fuzzy": len(fuzzy),
    "second": instances[0]["00200013"]["Value"][0],
    "rendered": rendered[1:4].decode(),
    "from_bulk": from_bulk,
    "left": len(left),
}))
"#;

#[tokio::test]
async fn dicomweb_client_stores_searches_retrieves_and_deletes() {
    let Ok(judges) = std::env::var("SEER_JUDGES") else {
        eprintln!("SKIPPED: SEER_JUDGES names no folder with the Python judges");
        return;
    };
    let server = server().await;
    let folder = tempfile::tempdir().expect("folder");
    let slices = [Slice::new(1, 1), Slice::new(1, 2)];
    let files = slices.each_ref().map(|slice| {
        let path = folder.path().join(format!("{}.dcm", slice.number));
        std::fs::write(&path, slice.bytes()).expect("write");
        path
    });
    let [first, _] = &slices;
    let mut command = std::process::Command::new(format!("{judges}/bin/python"));
    command
        .args(["-c", SCRIPT, &format!("{}/dicom-web", server.base)])
        .args([&first.study, &first.series, &first.sop_instance()])
        .args(&files)
        .env("PATIENT_ID", PATIENT_ID)
        .stderr(std::process::Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("task").expect("python runs");
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["stored"], 2);
    assert_eq!(said["studies"], 1);
    assert_eq!(said["series"], 1);
    assert_eq!(said["metadata"], 2);
    assert_eq!(said["whole"], serde_json::json!(slices.each_ref().map(Slice::sop_instance)));
    assert_eq!(said["fuzzy"], 1);
    assert_eq!(said["second"], 2);
    assert_eq!(said["rendered"], "PNG");
    assert_eq!(said["from_bulk"], true);
    assert_eq!(said["left"], 0);
    assert_eq!(said["name"], PATIENT_NAME);
    assert_eq!(said["same_pixels"], true);
    assert_eq!(said["shape"], serde_json::json!([ROWS, COLUMNS]));
    assert_eq!(said["position"], serde_json::json!([10.5, -20.0, 3.5]));
}
