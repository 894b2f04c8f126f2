//! The archive: what was acknowledged is there again, whatever happened in between.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use seer::archive::{Archive, ArchiveError, Attribute, Condition, Level, Outcome, Query, Scope};
use seer::dicom::{DicomLimits, SeriesUid, StudyUid};
use seer::error::{ErrorKind, Kind};

use crate::support::studies::{self, Slice};

fn open(folder: &Path) -> Archive {
    Archive::open(folder, DicomLimits::default()).expect("archive opens")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn study(slice: &Slice) -> StudyUid {
    StudyUid::parse(&slice.study).expect("uid")
}

fn series(slice: &Slice) -> SeriesUid {
    SeriesUid::parse(&slice.series).expect("uid")
}

fn file_of(root: &Path, slice: &Slice) -> PathBuf {
    let folder = root.join("instances").join(&slice.study).join(&slice.series);
    folder.join(format!("{}.dcm", slice.sop_instance()))
}

fn query(level: Level, conditions: &[(&str, &str)]) -> Query {
    let conditions = conditions.iter().map(|(name, value)| Condition::Matches {
        attribute: Attribute::find(name).expect(name),
        value: (*value).to_owned(),
    });
    let conditions = conditions.collect();
    Query { level, study: None, series: None, conditions, limit: 100, offset: 0 }
}

#[test]
fn stored_instances_come_back_in_order_with_zeroed_preambles() {
    let root = folder();
    let archive = open(root.path());
    for number in [10, 2, 1] {
        let mut bytes = Slice::new(1, number).bytes();
        bytes[..4].copy_from_slice(b"MZ\x90\0");
        let stored = archive.store(&bytes).expect("stored");
        assert_eq!(stored.outcome, Outcome::New);
    }
    let slice = Slice::new(1, 1);
    let instances = archive.load_series(&study(&slice), &series(&slice)).expect("series");
    let uids: Vec<_> = instances.iter().map(|i| i.identity().sop_instance.to_string()).collect();
    let expected: Vec<_> =
        [1, 2, 10].iter().map(|number| Slice::new(1, *number).sop_instance()).collect();
    assert_eq!(uids, expected);
    let bytes = fs::read(file_of(root.path(), &slice)).expect("file");
    assert_eq!(bytes, slice.bytes(), "kept byte by byte, but for the preamble");
}

#[test]
fn the_same_bytes_are_acknowledged_again_and_others_refused() {
    let root = folder();
    let archive = open(root.path());
    let slice = Slice::new(1, 1);
    archive.store(&slice.bytes()).expect("stored");
    let again = archive.store(&slice.bytes()).expect("stored again");
    assert_eq!(again.outcome, Outcome::AlreadyStored);
    let renamed = Slice { patient_name: "Other^Name".into(), ..slice.clone() };
    let refused = archive.store(&renamed.bytes()).expect_err("other content");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let kept = fs::read(file_of(root.path(), &slice)).expect("file");
    assert_eq!(kept, slice.bytes());
}

#[test]
fn a_file_without_preamble_becomes_a_whole_one() {
    let root = folder();
    let archive = open(root.path());
    let slice = Slice::new(1, 1);
    let stored = archive.store(&slice.bytes()[132..]).expect("stored");
    assert!(stored.findings.iter().any(|finding| finding.code == "missing_preamble"));
    let bytes = fs::read(file_of(root.path(), &slice)).expect("file");
    assert_eq!(&bytes[128..132], b"DICM");
    let again = archive.store(&slice.bytes()[132..]).expect("stored again");
    assert_eq!(again.outcome, Outcome::AlreadyStored);
}

#[test]
fn what_is_not_dicom_leaves_nothing_behind() {
    let root = folder();
    let archive = open(root.path());
    let whole = Slice::new(1, 1).bytes();
    for bytes in [&b""[..], b"not DICOM at all", &whole[..whole.len() - 9], &[0xff; 4096]] {
        let refused = archive.store(bytes).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    let limits = DicomLimits { instance_size_bytes_max: 100, ..DicomLimits::default() };
    drop(archive);
    let archive = Archive::open(root.path(), limits).expect("opens");
    let refused = archive.store(&whole).expect_err("too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    let left = |name: &str| fs::read_dir(root.path().join(name)).expect(name).count();
    assert_eq!((left("instances"), left("incoming")), (0, 0));
}

#[test]
fn a_second_server_cannot_use_the_same_folder() {
    let root = folder();
    let archive = open(root.path());
    let refused = Archive::open(root.path(), DicomLimits::default()).expect_err("in use");
    assert!(matches!(refused, ArchiveError::InUse { .. }), "{refused}");
    drop(archive);
    open(root.path());
}

#[test]
fn unknown_things_are_named() {
    let root = folder();
    let archive = open(root.path());
    let slice = Slice::new(1, 1);
    archive.store(&slice.bytes()).expect("stored");
    let other = SeriesUid::parse("1.2.3.4").expect("uid");
    let refused = archive.instances(&Scope::series(study(&slice), other)).expect_err("unknown");
    assert_eq!(refused.to_string(), "series 1.2.3.4 is not stored here");
    let refused = archive.series_of(&StudyUid::parse("9.9").expect("uid"));
    assert_eq!(refused.expect_err("unknown").to_string(), "study 9.9 is not stored here");
}

#[test]
fn an_index_that_was_lost_is_rebuilt_from_the_files() {
    let root = folder();
    let archive = open(root.path());
    for number in 1..=3 {
        archive.store(&Slice::new(1, number).bytes()).expect("stored");
    }
    let before = archive.search(&query(Level::Instance, &[])).expect("search");
    drop(archive);
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = fs::remove_file(root.path().join(name));
    }
    let archive = open(root.path());
    assert_eq!(archive.search(&query(Level::Instance, &[])).expect("search"), before);
    let again = archive.store(&Slice::new(1, 1).bytes()).expect("stored again");
    assert_eq!(again.outcome, Outcome::AlreadyStored);
}

#[test]
fn starts_clean_after_dying_at_any_step() {
    let root = folder();
    let archive = open(root.path());
    let (whole, lost, fresh) = (Slice::new(1, 1), Slice::new(1, 2), Slice::new(2, 1));
    archive.store(&whole.bytes()).expect("stored");
    archive.store(&lost.bytes()).expect("stored");
    drop(archive);
    // Died while receiving, after keeping the file but before its row, and a torn and a lost file.
    fs::write(root.path().join("incoming/.tmpabc"), &whole.bytes()[..99]).expect("write");
    let place = file_of(root.path(), &fresh);
    fs::create_dir_all(place.parent().expect("folder")).expect("folder");
    fs::write(&place, fresh.bytes()).expect("write");
    let torn = Slice::new(2, 2);
    fs::write(file_of(root.path(), &torn), &torn.bytes()[..200]).expect("write");
    fs::remove_file(file_of(root.path(), &lost)).expect("remove");

    let archive = open(root.path());
    assert_eq!(fs::read_dir(root.path().join("incoming")).expect("incoming").count(), 0);
    let found = archive.search(&query(Level::Instance, &[])).expect("search");
    let uids: Vec<_> = found.iter().map(|i| i["00080018"]["Value"][0].as_str()).collect();
    assert_eq!(uids, [Some(&*whole.sop_instance()), Some(&*fresh.sop_instance())]);
    assert!(!file_of(root.path(), &torn).exists(), "set aside");
    assert_eq!(archive.store(&torn.bytes()).expect("stored").outcome, Outcome::New);
    assert_eq!(archive.store(&lost.bytes()).expect("stored").outcome, Outcome::New);
}

/// Runs as a child of the next test: stores until it is killed, telling each acknowledged UID.
#[test]
#[ignore = "runs as a child process of another test"]
fn stores_until_killed() {
    let Ok(root) = std::env::var("SEER_TEST_ARCHIVE") else { return };
    let archive = open(Path::new(&root));
    for number in 1.. {
        let slice = Slice::new(7, number).in_series(number / 4);
        archive.store(&slice.bytes()).expect("stored");
        println!("acknowledged {}", slice.sop_instance());
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let root = folder();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        fs::remove_dir_all(root.path().join("instances")).ok();
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["stores_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env("SEER_TEST_ARCHIVE", root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("child starts");
        acknowledged.clear();
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some((_, uid)) = line.split_once("acknowledged ") {
                acknowledged.push(uid.to_owned());
            }
            if acknowledged.len() == 9 + round * 7 {
                child.kill().expect("kill");
            }
        }
        child.wait().expect("wait");
        assert!(acknowledged.len() >= 9 + round * 7);
        let archive = open(root.path());
        let all = Query { limit: 10_000, ..query(Level::Instance, &[]) };
        let found = archive.search(&all).expect("search");
        for uid in &acknowledged {
            let there = found.iter().any(|i| i["00080018"]["Value"][0] == uid.as_str());
            assert!(there, "{uid} was acknowledged and is gone");
        }
        for slice in 1..=acknowledged.len() as u32 {
            let slice = Slice::new(7, slice).in_series(slice / 4);
            let bytes = fs::read(file_of(root.path(), &slice)).expect("file");
            assert_eq!(bytes, slice.bytes());
        }
    }
}

#[test]
fn searches_match_as_dicom_says() {
    let root = folder();
    let archive = open(root.path());
    let mut other = Slice::new(2, 1);
    (other.modality, other.study_date) = ("CT", "20201231");
    other.patient_name = "Müller^Hans_Peter".into();
    for slice in [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 1).in_series(2), other] {
        archive.store(&slice.bytes()).expect("stored");
    }
    let check = |level: Level, conditions: &[(&str, &str)], count: usize| {
        let found = archive.search(&query(level, conditions)).expect("search");
        assert_eq!(found.len(), count, "{level:?} {conditions:?}");
    };
    use Level::{Instance, Series, Study};
    check(Study, &[], 2);
    check(Series, &[], 3);
    check(Instance, &[], 4);
    check(Study, &[("PatientName", "*wvut*")], 1);
    check(Study, &[("PatientName", "zyxwvut^recognisable")], 1);
    check(Study, &[("PatientName", "m?ller*")], 1);
    check(Study, &[("PatientName", "Zyxwvut")], 0);
    check(Study, &[("PatientName", "%")], 0);
    check(Study, &[("PatientName", "M*Hans_P*")], 1);
    check(Study, &[("PatientName", "Z*Recog_isable")], 0);
    check(Study, &[("PatientID", studies::PATIENT_ID)], 2);
    check(Study, &[("PatientID", "pid*")], 0);
    check(Study, &[("PatientID", "PID-???-4*")], 2);
    check(Study, &[("PatientID", "[P]*")], 0);
    check(Study, &[("PatientID", "' OR 1=1 --")], 0);
    check(Study, &[("StudyDate", "20240229")], 1);
    check(Study, &[("StudyDate", "20200101-20231231")], 1);
    check(Study, &[("StudyDate", "20210101-")], 1);
    check(Study, &[("StudyDate", "-20210101")], 1);
    check(Study, &[("StudyTime", "1100-1200")], 2);
    check(Study, &[("StudyTime", "1201-")], 0);
    check(Study, &[("Modality", "CT")], 1);
    check(Study, &[("Modality", "")], 2);
    check(Study, &[("00080060", "MR"), ("StudyDate", "2020*")], 0);
    check(Series, &[("Modality", "MR")], 2);
    check(Series, &[("SeriesNumber", "01")], 3);
    check(Instance, &[("InstanceNumber", "2")], 1);
    check(Instance, &[("Rows", "5"), ("PatientName", "Z*")], 3);
    let (first, second) = (Slice::new(1, 1).study, Slice::new(2, 1).study);
    check(Study, &[("StudyInstanceUID", &format!("{first},{second}"))], 2);
    check(Instance, &[("StudyInstanceUID", &second)], 1);
}

#[test]
fn studies_tell_their_counts_and_modalities() {
    let root = folder();
    let archive = open(root.path());
    let ct = Slice { modality: "CT", ..Slice::new(1, 1) }.in_series(2);
    for slice in [Slice::new(1, 1), Slice::new(1, 2), ct] {
        archive.store(&slice.bytes()).expect("stored");
    }
    let found = archive.search(&query(Level::Study, &[])).expect("search");
    assert_eq!(found[0]["00201206"]["Value"], serde_json::json!([2]));
    assert_eq!(found[0]["00201208"]["Value"], serde_json::json!([3]));
    let mut modalities: Vec<_> = found[0]["00080061"]["Value"].as_array().expect("array").clone();
    modalities.sort_by_key(|value| value.to_string());
    assert_eq!(modalities, ["CT", "MR"]);
    assert_eq!(found[0]["00100010"]["Value"][0]["Alphabetic"], studies::PATIENT_NAME);
    let found = archive.search(&query(Level::Series, &[("Modality", "MR")])).expect("search");
    assert_eq!(found[0]["00201209"]["Value"], serde_json::json!([2]));

    let candidates = archive.series_of(&study(&Slice::new(1, 1))).expect("candidates");
    assert_eq!(candidates.len(), 2);
    let mr = candidates.iter().find(|candidate| candidate.modality == "MR").expect("MR");
    assert_eq!((mr.instance_count, mr.frame_count), (2, 2));
    assert_eq!((mr.rows, mr.columns), (u32::from(studies::ROWS), u32::from(studies::COLUMNS)));
    assert_eq!(mr.image_type.as_deref(), Some("ORIGINAL\\PRIMARY"));
    assert_eq!(mr.description.as_deref(), Some("T1 sagittal"));
}

#[test]
fn pages_neither_overlap_nor_skip() {
    let root = folder();
    let archive = open(root.path());
    for study in 1..=5 {
        archive.store(&Slice::new(study, 1).bytes()).expect("stored");
    }
    let mut seen = Vec::new();
    for offset in [0, 2, 4, 6] {
        let page = Query { limit: 2, offset, ..query(Level::Study, &[]) };
        let found = archive.search(&page).expect("search");
        seen.extend(found.iter().map(|study| study["0020000D"]["Value"][0].to_string()));
    }
    assert_eq!(seen.len(), 5);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[test]
fn metadata_has_every_attribute_but_the_pixels() {
    let root = folder();
    let archive = open(root.path());
    let slice = Slice::new(1, 1);
    archive.store(&slice.bytes()).expect("stored");
    let metadata = archive.metadata(&Scope::study(study(&slice))).expect("metadata");
    let json: serde_json::Value = serde_json::from_str(&metadata[0]).expect("JSON");
    assert_eq!(json["00200037"]["Value"], serde_json::json!([-0.8, 0.6, 0, -0.6, -0.8, 0]));
    assert_eq!(json["00280030"]["Value"], serde_json::json!([0.5, 0.75]));
    assert_eq!(json["00200013"]["Value"], serde_json::json!([1]));
    assert_eq!(json["00083002"]["Value"][0], "1.2.840.10008.1.2.1");
    assert!(json.get("7FE00010").is_none() && json.get("00020010").is_none());
}
