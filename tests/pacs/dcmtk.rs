//! dcmtk: storescu, echoscu, storescp, findscu, movescu, getscu.

use std::process::Command;

use super::peers::{Running, free_port, installed, listens, run, text};
use super::*;
use crate::support::studies::Slice;

fn write(folder: &std::path::Path, slices: &[Slice]) -> Vec<String> {
    slices
        .iter()
        .map(|slice| {
            let path = folder.join(format!("{}.dcm", slice.sop_instance()));
            std::fs::write(&path, slice.bytes()).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect()
}

fn call(port: u16, calling: &str, called: &str, more: &[&str]) -> Vec<String> {
    let port = port.to_string();
    let first = ["-v", "-aet", calling, "-aec", called];
    first.iter().chain(more).chain(&["127.0.0.1", port.as_str()]).map(|s| s.to_string()).collect()
}

#[tokio::test]
async fn storescu_stores_and_stores_again() {
    if !installed(&["storescu", "echoscu"]) {
        return;
    }
    let server = server(|config| config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104)]).await;
    let echo = run("echoscu", &call(port(&server), "SCANNER", "SEER", &[])).await;
    assert!(echo.status.success(), "{}", text(&echo));

    let folder = tempfile::tempdir().unwrap();
    let slices: Vec<Slice> = (1..=4).map(|number| Slice::new(700, number)).collect();
    let files = write(folder.path(), &slices);
    for transfer in ["-xe", "-xi"] {
        // Implicit VR is another data set under the same UID only to bytes; the sender is told so.
        let mut arguments = call(port(&server), "SCANNER", "SEER", &[transfer]);
        arguments.extend(files.clone());
        let stored = run("storescu", &arguments).await;
        let said = text(&stored);
        match transfer {
            "-xe" => assert!(stored.status.success(), "{said}"),
            _ => assert!(said.contains("0x111"), "{said}"),
        }
    }
    assert_eq!(count(&server, &slices[0].study).await, 4);
    // The same again over the same road is acknowledged, and so is the same after STOW.
    let mut arguments = call(port(&server), "SCANNER", "SEER", &["-xe"]);
    arguments.extend(files);
    let again = run("storescu", &arguments).await;
    assert!(again.status.success(), "{}", text(&again));
    let (status, answer) =
        server.stow(&[folder.path().join(format!("{}.dcm", slices[0].sop_instance()))]).await;
    assert!(status == 200 || status == 409, "{answer}");
    assert_eq!(count(&server, &slices[0].study).await, 4);
    // Byte for byte what was sent, behind meta information of our own.
    let scope =
        seer::archive::Scope::study(seer::dicom::StudyUid::parse(&slices[0].study).unwrap());
    let path = &server.app.archive.instances(&scope).unwrap()[0].path;
    let (kept, sent) = (std::fs::read(path).unwrap(), slices[0].bytes());
    let data_set = |bytes: &[u8]| {
        let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap());
        bytes[144 + length as usize..].to_vec()
    };
    let (instance, _) = seer::dicom::Instance::parse(&kept, &Default::default()).unwrap();
    assert_eq!(instance.identity().sop_instance.as_str(), slices[0].sop_instance());
    // storescu writes sequences and lengths its own way; pixels are the same.
    assert!(data_set(&kept).ends_with(&data_set(&sent)[data_set(&sent).len() - 70..]));
}

#[tokio::test]
async fn strangers_and_wrong_titles_are_turned_away() {
    if !installed(&["echoscu", "storescu"]) {
        return;
    }
    let server = server(|config| {
        let mut elsewhere = dimse("elsewhere", "ELSEWHERE", 104);
        elsewhere.host = "127.0.0.2".into();
        let mut reader = dimse("reader", "READER", 104);
        reader.may_send = false;
        config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104), elsewhere, reader];
    })
    .await;
    let rows = [
        ("STRANGER", "SEER", "Calling AE Title Not Recognized"),
        ("SCANNER", "OTHER", "Called AE Title Not Recognized"),
        // It is known, but calls from another address than it should.
        ("ELSEWHERE", "SEER", "Calling AE Title Not Recognized"),
    ];
    for (calling, called, reason) in rows {
        let refused = run("echoscu", &call(port(&server), calling, called, &[])).await;
        let said = text(&refused);
        assert!(!refused.status.success() && said.contains(reason), "{calling}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = call(port(&server), "READER", "SEER", &[]);
    arguments.extend(write(folder.path(), &[Slice::new(701, 1)]));
    let refused = run("storescu", &arguments).await;
    assert!(!refused.status.success(), "{}", text(&refused));
    assert_eq!(count(&server, &Slice::new(701, 1).study).await, 0);
    let echo = run("echoscu", &call(port(&server), "READER", "SEER", &[])).await;
    assert!(echo.status.success(), "it may still ask whether we are there: {}", text(&echo));
}

#[tokio::test]
async fn storescp_receives_what_we_send() {
    if !installed(&["storescp"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Once as it is stored, once by a receiver that takes Implicit VR Little Endian only.
    for options in [&["+xa"][..], &["+xi"][..]] {
        let to = free_port();
        let _scp = Running::start(
            Command::new("storescp")
                .args(["-aet", "RECEIVER", "-od"])
                .arg(folder.path())
                .args(options)
                .arg(to.to_string()),
        );
        listens(to).await;
        let server = server(|config| {
            config.pacs.dimse = vec![dimse("receiver", "RECEIVER", to)];
        })
        .await;
        let slice = Slice::new(702, 1);
        server.app.archive.store(&slice.bytes()).unwrap();
        let pacs = server.app.pacs.clone();
        let scope =
            seer::archive::Scope::study(seer::dicom::StudyUid::parse(&slice.study).unwrap());
        blocking(move || {
            pacs.echo("receiver").unwrap();
            pacs.send("receiver", std::slice::from_ref(&scope)).unwrap();
            pacs.send("receiver", &[scope]).unwrap();
        })
        .await;
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let path = files[0].as_ref().unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let (instance, _) = seer::dicom::Instance::parse(&bytes, &Default::default()).unwrap();
        assert_eq!(instance.identity().sop_instance.as_str(), slice.sop_instance());
        let frame = instance.decode_frame(1).unwrap();
        let expected: Vec<i32> = slice.pixels().into_iter().map(i32::from).collect();
        assert_eq!(frame.values, expected);
        std::fs::remove_file(path).unwrap();
    }
}

/// A server with two studies, and a node that may query it.
async fn archive(move_port: u16) -> (Server, Vec<Slice>) {
    let server = server(|config| {
        config.pacs.dimse = vec![super::queries::reader("reader", "READER", move_port)];
    })
    .await;
    let mut slices: Vec<Slice> = (1..=3).map(|number| Slice::new(703, number)).collect();
    slices.extend((1..=2).map(|number| Slice::new(704, number)));
    for slice in &slices {
        server.app.archive.store(&slice.bytes()).unwrap();
    }
    (server, slices)
}

fn keys<'a>(all: &[&'a str]) -> Vec<&'a str> {
    all.iter().flat_map(|key| ["-k", key]).collect()
}

#[tokio::test]
async fn findscu_finds_at_every_level() {
    if !installed(&["findscu"]) {
        return;
    }
    let (server, slices) = archive(104).await;
    let study = format!("StudyInstanceUID={}", slices[0].study);
    let series = format!("SeriesInstanceUID={}", slices[0].series);
    let patient = format!("PatientID={}", crate::support::studies::PATIENT_ID);
    let rows: [(&str, Vec<&str>, usize); 7] = [
        ("-S", vec!["QueryRetrieveLevel=STUDY", "StudyInstanceUID", "PatientName"], 2),
        ("-S", vec!["QueryRetrieveLevel=STUDY", "PatientName=Nobody*"], 0),
        ("-S", vec!["QueryRetrieveLevel=SERIES", &study, "SeriesInstanceUID", "Modality"], 1),
        ("-S", vec!["QueryRetrieveLevel=IMAGE", &study, &series, "SOPInstanceUID"], 3),
        ("-P", vec!["QueryRetrieveLevel=PATIENT", "PatientID", "PatientName"], 1),
        ("-P", vec!["QueryRetrieveLevel=STUDY", &patient, "StudyInstanceUID"], 2),
        ("-P", vec!["QueryRetrieveLevel=IMAGE", &patient, &study, &series], 3),
    ];
    for (root, asked, expected) in rows {
        let more = [vec![root], keys(&asked)].concat();
        let found = run("findscu", &call(port(&server), "READER", "SEER", &more)).await;
        let said = text(&found);
        assert!(found.status.success(), "{asked:?}: {said}");
        assert_eq!(said.matches("Find Response: ").count(), expected, "{asked:?}: {said}");
        assert!(said.contains("Received Final Find Response (Success)"), "{asked:?}: {said}");
    }
    let more = [vec!["-S"], keys(&["QueryRetrieveLevel=SERIES"])].concat();
    let refused = run("findscu", &call(port(&server), "READER", "SEER", &more)).await;
    let said = text(&refused);
    assert!(said.contains("DataSetDoesNotMatchSOPClass"), "{said}");
    let more = [vec!["-S", "--cancel", "1"], keys(&["QueryRetrieveLevel=STUDY"])].concat();
    let cancelled = run("findscu", &call(port(&server), "READER", "SEER", &more)).await;
    assert!(cancelled.status.success(), "{}", text(&cancelled));
}

/// The SOP instances in a folder, with their pixels.
fn received(folder: &std::path::Path) -> Vec<(String, Vec<i32>)> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut found: Vec<_> = files
        .map(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let (instance, _) = seer::dicom::Instance::parse(&bytes, &Default::default()).unwrap();
            let uid = instance.identity().sop_instance.to_string();
            (uid, instance.decode_frame(1).unwrap().values)
        })
        .collect();
    found.sort();
    found
}

fn expected(slices: &[Slice]) -> Vec<(String, Vec<i32>)> {
    let pixels = |slice: &Slice| slice.pixels().into_iter().map(i32::from).collect();
    let mut expected: Vec<_> =
        slices.iter().map(|slice| (slice.sop_instance(), pixels(slice))).collect();
    expected.sort();
    expected
}

#[tokio::test]
async fn movescu_moves_to_itself_and_to_storescp() {
    if !installed(&["movescu", "storescp"]) {
        return;
    }
    let to = free_port();
    let (server, slices) = archive(to).await;
    let study = format!("StudyInstanceUID={}", slices[0].study);
    let asked = keys(&["QueryRetrieveLevel=STUDY", &study]);
    // movescu's own receiver listens only while it runs.
    let folder = tempfile::tempdir().unwrap();
    let (own, into) = (to.to_string(), folder.path().to_str().unwrap().to_owned());
    let more = [vec!["-S", "-aem", "READER", "+P", &own, "-od", &into], asked.clone()].concat();
    let moved = run("movescu", &call(port(&server), "READER", "SEER", &more)).await;
    assert!(moved.status.success(), "{}", text(&moved));
    assert_eq!(received(folder.path()), expected(&slices[..3]));

    let folder = tempfile::tempdir().unwrap();
    let _scp = Running::start(
        Command::new("storescp")
            .args(["-aet", "READER", "-od"])
            .arg(folder.path())
            .arg(to.to_string()),
    );
    listens(to).await;
    let more = [vec!["-S", "-aem", "READER"], asked.clone()].concat();
    let moved = run("movescu", &call(port(&server), "READER", "SEER", &more)).await;
    assert!(moved.status.success(), "{}", text(&moved));
    assert_eq!(received(folder.path()), expected(&slices[..3]));
    let more = [vec!["-S", "-aem", "NOBODY"], asked].concat();
    let refused = run("movescu", &call(port(&server), "READER", "SEER", &more)).await;
    assert!(text(&refused).contains("MoveDestinationUnknown"), "{}", text(&refused));
}

#[tokio::test]
async fn getscu_gets_studies_and_images() {
    if !installed(&["getscu"]) {
        return;
    }
    let (server, slices) = archive(104).await;
    let study = format!("StudyInstanceUID={}", slices[0].study);
    let series = format!("SeriesInstanceUID={}", slices[0].series);
    let image = format!("SOPInstanceUID={}", slices[1].sop_instance());
    let rows: [(Vec<&str>, &[Slice]); 2] = [
        (vec!["QueryRetrieveLevel=STUDY", &study], &slices[..3]),
        (vec!["QueryRetrieveLevel=IMAGE", &study, &series, &image], &slices[1..2]),
    ];
    // Its default, Implicit VR Little Endian only, and JPEG with the uncompressed ones.
    for (options, (asked, wanted)) in
        [&[][..], &["+xi"], &["+xs"]].iter().cycle().zip(rows.iter().cycle().take(6))
    {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().to_str().unwrap().to_owned();
        let more = [&["-S", "-od", &into][..], options, &keys(asked)].concat();
        let got = run("getscu", &call(port(&server), "READER", "SEER", &more)).await;
        assert!(got.status.success(), "{options:?}: {}", text(&got));
        assert_eq!(received(folder.path()), expected(wanted), "{options:?} {asked:?}");
    }
}
