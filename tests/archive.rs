//! The archive: what was acknowledged is there again, whatever happened in between.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use seer::archive::{
    Archive, ArchiveError, ArchiveSettings, Attribute, Condition, Include, Level, Outcome, Query,
    Scope,
};
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
    let include = Include::Indexed;
    Query { level, study: None, series: None, conditions, include, limit: 100, offset: 0 }
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
fn metadata_has_every_attribute_and_tells_where_the_pixels_are() {
    let root = folder();
    let archive = open(root.path());
    let slice = Slice::new(1, 1);
    archive.store(&slice.bytes()).expect("stored");
    let metadata =
        archive.metadata(&Scope::study(study(&slice)), "http://here/dicom-web").expect("metadata");
    let json: serde_json::Value = serde_json::from_str(&metadata[0]).expect("JSON");
    assert_eq!(json["00200037"]["Value"], serde_json::json!([-0.8, 0.6, 0, -0.6, -0.8, 0]));
    assert_eq!(json["00280030"]["Value"], serde_json::json!([0.5, 0.75]));
    assert_eq!(json["00200013"]["Value"], serde_json::json!([1]));
    assert_eq!(json["00083002"]["Value"][0], "1.2.840.10008.1.2.1");
    let url = json["7FE00010"]["BulkDataURI"].as_str().expect("URL of the pixels");
    let study = format!("http://here/dicom-web/studies/{}/series/", slice.study);
    assert!(url.starts_with(&study) && url.ends_with("/bulkdata/7FE00010"), "{url}");
    assert!(json.get("00020010").is_none());
}

#[test]
fn names_are_found_by_words_and_sounds() {
    let root = folder();
    let archive = open(root.path());
    let mut other = Slice::new(2, 1);
    other.patient_name = "Müller^Hans=山田^太郎=やまだ^たろう".into();
    for slice in [Slice::new(1, 1), other] {
        archive.store(&slice.bytes()).expect("stored");
    }
    let check = |value: &str, expected: usize| {
        let attribute = Attribute::find("PatientName").expect("indexed");
        let condition = Condition::Fuzzy { attribute, value: value.to_owned() };
        for level in [Level::Study, Level::Series, Level::Instance] {
            let query = Query { conditions: vec![condition.clone()], ..query(level, &[]) };
            let found = archive.search(&query).expect("search");
            assert_eq!(found.len(), expected, "{value} {level:?}");
            assert_eq!(archive.count(&query).expect("count"), expected as u64);
        }
    };
    check("mueller", 1);
    check("hans muller", 1);
    check("山田太郎", 1);
    check("やまだ", 1);
    check("recog zyx", 1);
    check("", 2);
    check("' OR 1=1 --", 0);
    let found = archive.search(&query(Level::Study, &[("PatientName", "山田*")])).expect("search");
    assert_eq!(found.len(), 1, "literal matching looks into each component group");
}

#[test]
fn results_tell_what_they_are_asked_to_include() {
    let root = folder();
    let archive = open(root.path());
    archive.store(&Slice::new(1, 1).bytes()).expect("stored");
    let told = |level, include| {
        let query = Query { include, ..query(level, &[]) };
        archive.search(&query).expect("search").swap_remove(0)
    };
    let spacing = dicom_dictionary_std::tags::PIXEL_SPACING;
    assert!(told(Level::Instance, Include::Indexed).get("00280030").is_none());
    let asked = told(Level::Instance, Include::Tags(vec![spacing]));
    assert_eq!(asked["00280030"]["Value"], serde_json::json!([0.5, 0.75]));
    assert!(asked.get("00200037").is_none());
    let all = told(Level::Instance, Include::All);
    assert!(all.get("00200037").is_some() && all.get("7FE00010").is_none());
    let of_study = told(Level::Study, Include::All);
    assert!(of_study.get("00200037").is_none() && of_study.get("00100030").is_some());
    for told in [&of_study, &all] {
        assert_eq!(told["00080056"]["Value"], serde_json::json!(["ONLINE"]));
        assert_eq!(told["00080005"]["Value"], serde_json::json!(["ISO_IR 192"]));
    }
}

#[test]
fn what_is_deleted_is_gone_after_a_restart_too() {
    let root = folder();
    let archive = open(root.path());
    let slices =
        [Slice::new(1, 1), Slice::new(1, 2), Slice::new(1, 1).in_series(2), Slice::new(2, 1)];
    for slice in &slices {
        archive.store(&slice.bytes()).expect("stored");
    }
    let [first, second, other_series, other_study] = &slices;
    let used = archive.used_bytes();
    let scope = Scope::series(study(first), series(other_series));
    let deleted = archive.delete(&scope).expect("deleted");
    assert_eq!(
        (deleted.instance_count, deleted.size_bytes),
        (1, other_series.bytes().len() as u64)
    );
    assert_eq!(archive.used_bytes(), used - deleted.size_bytes);
    assert!(matches!(archive.delete(&scope), Err(ArchiveError::Unknown { .. })));
    assert!(!file_of(root.path(), other_series).exists() && file_of(root.path(), first).exists());
    archive.delete(&Scope::study(study(other_study))).expect("deleted");
    assert_eq!(archive.search(&query(Level::Study, &[])).expect("search").len(), 1);
    assert_eq!(archive.search(&query(Level::Series, &[])).expect("search").len(), 1);
    drop(archive);
    let archive = open(root.path());
    assert_eq!(archive.search(&query(Level::Instance, &[])).expect("search").len(), 2);
    assert_eq!(fs::read_dir(root.path().join("deleted")).expect("deleted").count(), 0);
    assert_eq!(archive.store(&other_series.bytes()).expect("again").outcome, Outcome::New);
    let _ = second;
}

#[test]
fn a_full_archive_says_so_until_something_is_deleted() {
    let root = folder();
    let size = Slice::new(1, 1).bytes().len() as u64;
    let settings =
        ArchiveSettings { quota_bytes: Some(size * 2 + size / 2), ..ArchiveSettings::default() };
    let archive = Archive::open_with(root.path(), settings.clone()).expect("opens");
    for number in 1..=2 {
        archive.store(&Slice::new(1, number).bytes()).expect("stored");
    }
    let (quota, used) = (size * 2 + size / 2, archive.used_bytes());
    assert!((size * 2 - 8..=size * 2 + 8).contains(&used), "{used}");
    let other = Slice::new(2, 1).bytes();
    let refused = archive.store(&other).expect_err("full");
    let size = other.len();
    let expected =
        format!("storage quota of {quota} bytes leaves no room for {size} bytes, {used} are used");
    assert_eq!(refused.to_string(), expected);
    let again = archive.store(&Slice::new(1, 1).bytes()).expect("known already");
    assert_eq!(again.outcome, Outcome::AlreadyStored);
    drop(archive);
    let archive = Archive::open_with(root.path(), settings).expect("opens");
    archive.store(&Slice::new(2, 1).bytes()).expect_err("still full");
    archive.delete(&Scope::study(study(&Slice::new(1, 1)))).expect("deleted");
    archive.store(&Slice::new(2, 1).bytes()).expect("room again");
}

#[test]
fn instances_are_replaced_only_where_the_settings_allow_it() {
    let root = folder();
    let settings = ArchiveSettings { replace_instances: true, ..ArchiveSettings::default() };
    let archive = Archive::open_with(root.path(), settings).expect("opens");
    let slice = Slice::new(1, 1);
    archive.store(&slice.bytes()).expect("stored");
    let before = archive.fingerprint(&Scope::study(study(&slice))).expect("fingerprint");
    let renamed = Slice { patient_name: "Other^Name".into(), ..slice.clone() };
    let replaced = archive.store(&renamed.bytes()).expect("replaced");
    assert_eq!(replaced.outcome, Outcome::Replaced);
    assert_eq!(fs::read(file_of(root.path(), &slice)).expect("file"), renamed.bytes());
    assert_ne!(archive.fingerprint(&Scope::study(study(&slice))).expect("fingerprint"), before);
    assert_eq!(archive.used_bytes(), renamed.bytes().len() as u64);
    // The same instance moved into another series leaves no file behind.
    let moved = Slice { series: format!("{}.7", slice.study), ..slice.clone() };
    assert_ne!(moved.sop_instance(), slice.sop_instance());
    drop(archive);
    let archive = open(root.path());
    let found = archive.search(&query(Level::Study, &[("PatientName", "Other*")])).expect("search");
    assert_eq!(found.len(), 1);
}

#[test]
fn old_studies_go_and_young_ones_stay() {
    let root = folder();
    let at = |days| time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(days);
    for (number, days) in [(1, 100), (2, 200)] {
        let clock = seer::clock::Clock::fixed(at(days));
        let settings = ArchiveSettings { clock, ..ArchiveSettings::default() };
        let archive = Archive::open_with(root.path(), settings).expect("opens");
        archive.store(&Slice::new(number, 1).bytes()).expect("stored");
    }
    let archive = open(root.path());
    let deleted = archive.delete_received_before(at(150)).expect("deleted");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].study, study(&Slice::new(1, 1)));
    assert_eq!(archive.search(&query(Level::Study, &[])).expect("search").len(), 1);
}

#[test]
fn instances_stored_at_the_same_time_are_committed_together() {
    let root = folder();
    let archive = open(root.path());
    let slices: Vec<_> =
        (1..=24).map(|number| Slice::new(1, number).in_series(number % 3)).collect();
    std::thread::scope(|scope| {
        for slice in &slices {
            let (archive, root) = (archive.clone(), &root);
            scope.spawn(move || {
                let outcome = archive.store(&slice.bytes()).expect("stored").outcome;
                assert_eq!(outcome, Outcome::New);
                assert!(file_of(root.path(), slice).exists());
            });
        }
        // The same bytes from two clients at once: one is new.
        for _ in 0..4 {
            let archive = archive.clone();
            scope.spawn(move || archive.store(&Slice::new(9, 1).bytes()).expect("stored"));
        }
    });
    assert_eq!(archive.search(&query(Level::Instance, &[])).expect("search").len(), 25);
    assert_eq!(fs::read_dir(root.path().join("incoming")).expect("incoming").count(), 0);
}

#[test]
fn frames_are_read_without_the_rest_of_the_file() {
    let root = folder();
    let archive = open(root.path());
    let bytes = fs::read("tests/data/pydicom/liver_1frame.dcm").expect("file");
    let stored = archive.store(&bytes).expect("stored").identity;
    let whole = archive
        .load_instance(&Scope::instance(
            stored.study.clone(),
            stored.series.clone(),
            stored.sop_instance.clone(),
        ))
        .expect("instance");
    let scope = Scope::instance(stored.study, stored.series, stored.sop_instance);
    let frames = archive.frames(&scope).expect("frames");
    assert!(frames.kept_bytes() < bytes.len() as u64 * 2);
    assert_eq!(frames.native(1).expect("native"), whole.native_frame(1).expect("native"));
    assert_eq!(frames.grey(1).expect("grey"), whole.decode_frame(1).expect("grey"));
    assert!(frames.native(2).is_err());
}
