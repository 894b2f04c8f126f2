//! The `dicom` room against files nobody here wrote, and against bytes somebody broke.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dicom_core::Tag;
use seer::dicom::{Attributes, DicomError, DicomLimits, GreyFrame, Instance};
use sha2::{Digest, Sha256};

#[path = "dicom/hostile.rs"]
mod hostile;

/// What `expected.json` says about one frame.
#[derive(serde::Deserialize)]
struct Expected {
    rows: usize,
    columns: usize,
    min: i32,
    max: i32,
    sum: i64,
    sha256: String,
    /// Grey levels by which the mean of a lossy decoder may differ; extremes by two.
    tolerance: Option<f64>,
}

fn data(topic: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(topic)
}

fn read(topic: &str, name: &str) -> Vec<u8> {
    std::fs::read(data(topic).join(name)).unwrap()
}

fn expected(topic: &str) -> BTreeMap<String, Vec<Expected>> {
    serde_json::from_slice(&read(topic, "expected.json")).unwrap()
}

/// Appends the UIDs that some test files lack; the reader does not mind the order.
fn with_uids(mut bytes: Vec<u8>, is_implicit: bool) -> Vec<u8> {
    let uids = [
        (0x0008, 0x0016, &b"1.2.840.10008.5.1.4.1.1.2\0"[..]),
        (0x0008, 0x0018, b"2.25.18\0"),
        (0x0020, 0x000D, b"2.25.13\0"),
        (0x0020, 0x000E, b"2.25.14\0"),
    ];
    for (group, element, uid) in uids {
        bytes.extend(u16::to_le_bytes(group));
        bytes.extend(u16::to_le_bytes(element));
        match is_implicit {
            true => bytes.extend((uid.len() as u32).to_le_bytes()),
            false => bytes.extend([*b"UI", (uid.len() as u16).to_le_bytes()].concat()),
        }
        bytes.extend(uid);
    }
    bytes
}

fn parse(bytes: &[u8]) -> Result<(Instance, Vec<String>), DicomError> {
    let (instance, findings) = Instance::parse(bytes, &DicomLimits::default())?;
    Ok((instance, findings.into_iter().map(|finding| finding.code).collect()))
}

fn sha256(frame: &GreyFrame) -> String {
    let bytes: Vec<u8> = frame.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    hex::encode(Sha256::digest(bytes))
}

fn check_frame(what: &str, frame: &GreyFrame, expected: &Expected) {
    assert_eq!((frame.rows, frame.columns), (expected.rows, expected.columns), "{what}");
    let sum: i64 = frame.values.iter().copied().map(i64::from).sum();
    if let Some(tolerance) = expected.tolerance {
        let apart = (sum - expected.sum) as f64 / frame.values.len() as f64;
        assert!(apart.abs() <= tolerance, "{what}: {apart} apart on average");
        let extremes =
            [(frame.values.iter().min(), expected.min), (frame.values.iter().max(), expected.max)];
        for (found, expected) in extremes {
            assert!((found.unwrap() - expected).abs() <= 2, "{what}: {found:?}, not {expected}");
        }
        return;
    }
    let found = (frame.values.iter().min(), frame.values.iter().max(), sum);
    assert_eq!(found, (Some(&expected.min), Some(&expected.max), expected.sum), "{what}");
    assert_eq!(sha256(frame), expected.sha256, "{what}");
}

#[test]
fn decodes_every_frame_to_the_values_that_other_decoders_give() {
    for topic in ["pydicom", "codecs"] {
        for (name, frames) in expected(topic) {
            let bytes = match name.starts_with("JPEGLS") {
                true => with_uids(read(topic, &name), false),
                false => read(topic, &name),
            };
            let (instance, _) = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(instance.frame_count() as usize, frames.len(), "{name}");
            // Last frame first: a frame must not depend on the ones before it.
            for (index, expected) in frames.iter().enumerate().rev() {
                let number = index as u32 + 1;
                let frame = instance.decode_frame(number);
                let frame = frame.unwrap_or_else(|error| panic!("{name}: {error}"));
                check_frame(&format!("{name} frame {number}"), &frame, expected);
            }
            let beyond = frames.len() as u32 + 1;
            assert!(matches!(instance.decode_frame(beyond), Err(DicomError::NoSuchFrame { .. })));
            assert!(matches!(instance.decode_frame(0), Err(DicomError::NoSuchFrame { .. })));
        }
    }
}

#[test]
fn says_what_is_wrong_without_repeating_text_of_the_file() {
    let check = |name: &str, expected: &str| {
        let outcome = parse(&read("pydicom", name));
        let error = outcome.and_then(|(instance, _)| instance.decode_frame(1)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
    };
    check("MR_truncated.dcm", "(7FE0,0010) at byte 1488 declares 8192 bytes, 8130 remain");
    check("rtplan_truncated.dcm", "(300A,00B0) at byte 1410 declares 976 bytes, 711 remain");
    check("badVR.dcm", "NumberOfFrames (0028,0008) value 1 is not a finite number");
    check("UN_sequence.dcm", "StudyInstanceUID is missing or malformed (0 characters)");
    check("rtplan.dcm", "the instance has no pixel data (7FE0,0010)");
    let colour = "colour where grey is needed: photometric interpretation RGB, 3 samples per pixel";
    check("SC_rgb_small_odd.dcm", colour);
    check("SC_rgb_jpeg.dcm", colour);
}

#[test]
fn reads_files_that_break_small_rules_and_says_so() {
    let check = |name: &str, is_implicit: bool, codes: &[&str]| {
        let bytes = with_uids(read("pydicom", name), is_implicit);
        let (_, found) = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, codes, "{name}");
    };
    check("MR_small.dcm", false, &[]);
    check("UN_sequence.dcm", false, &["un_sequence"]);
    check("no_meta_group_length.dcm", true, &["meta_group_length"]);
    let bare = ["missing_preamble", "missing_meta", "missing_transfer_syntax"];
    check("ExplVR_LitEndNoMeta.dcm", false, &bare);
    check("priv_SQ.dcm", true, &[]);
    // These two were read to their end: only then is the image description looked for.
    for name in ["meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm"] {
        let error = parse(&with_uids(read("pydicom", name), true)).unwrap_err();
        assert_eq!(error.to_string(), "BitsAllocated (0028,0100) is missing", "{name}");
    }
    let (_, found) = parse(&read("pydicom", "ExplVR_BigEndNoMeta.dcm")).unwrap();
    assert_eq!(found, bare);
    let (_, found) = parse(&read("pydicom", "SC_rgb_jpeg.dcm")).unwrap();
    assert_eq!(found, ["wrong_transfer_syntax"]);
}

#[test]
fn reads_the_items_of_a_sequence_written_as_un() {
    let bytes = with_uids(read("pydicom", "UN_sequence.dcm"), false);
    let (instance, _) = parse(&bytes).unwrap();
    // What pydicom shows: a private sequence, in it two standard ones.
    let item = instance.item(Tag(0x4453, 0x100C)).unwrap();
    let series = item.item(Tag(0x0008, 0x1115)).unwrap();
    let reference = series.item(Tag(0x0008, 0x1199)).unwrap();
    assert_eq!(reference.string(Tag(0x0008, 0x1150)).unwrap(), "1.2.840.10008.5.1.4.1.1.2");
    let root = "1.2.840.113619.2.327.3.185221411.476.";
    assert_eq!(series.string(Tag(0x0020, 0x000E)).unwrap(), format!("{root}1398588726.276"));
    assert_eq!(item.string(Tag(0x0020, 0x000D)).unwrap(), format!("{root}1398588725.795"));
}

#[test]
fn decodes_names_with_escape_sequences() {
    let name = Tag(0x0010, 0x0010);
    let (japanese, _) = parse(&read("pydicom", "chrH32.dcm")).unwrap();
    assert_eq!(japanese.string(name).unwrap(), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう");
    let (korean, _) = parse(&read("pydicom", "chrKoreanMulti.dcm")).unwrap();
    assert_eq!(korean.string(name).unwrap(), "김희중");
}

/// Where dicom-rs's own reader is right, ours gives the same object.
#[test]
fn agrees_with_dicom_rs_on_well_formed_files() {
    let names = [
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "CT_small.dcm",
        "rtplan.dcm",
        "test-SR.dcm",
        "liver_1frame.dcm",
        "image_dfl.dcm",
    ];
    for name in names {
        let bytes = read("pydicom", name);
        let theirs = dicom_object::from_reader(bytes.as_slice()).unwrap();
        let (ours, _) = parse(&bytes).unwrap();
        let json = |object: &dicom_object::InMemDicomObject| dicom_json::to_value(object).unwrap();
        let (theirs, ours) = (json(&theirs), json(ours.object()));
        let theirs = theirs.as_object().unwrap();
        assert_eq!(theirs.len(), ours.as_object().unwrap().len(), "{name}");
        for (tag, value) in theirs {
            assert_eq!(&ours[tag], value, "{name} {tag}");
        }
    }
}

/// What the guard repaired or swapped stays right when dicom-rs writes the object.
#[test]
fn objects_written_by_dicom_rs_read_back_the_same() {
    let names = [
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "image_dfl.dcm",
        "rtdose_expb_1frame.dcm",
        "UN_sequence.dcm",
        "no_meta_group_length.dcm",
        "chrKoreanMulti.dcm",
    ];
    for name in names {
        let bytes = match name {
            "UN_sequence.dcm" => with_uids(read("pydicom", name), false),
            "no_meta_group_length.dcm" => with_uids(read("pydicom", name), true),
            _ => read("pydicom", name),
        };
        let (first, _) = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut written = Vec::new();
        first.object().write_all(&mut written).unwrap();
        let (second, findings) = parse(&written).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(findings, [""; 0], "{name}");
        assert_eq!(first.identity().sop_instance, second.identity().sop_instance, "{name}");
        let json = |instance: &Instance| dicom_json::to_value(&**instance.object()).unwrap();
        assert_eq!(json(&first), json(&second), "{name}");
        if first.frame_count() > 0 {
            assert_eq!(first.decode_frame(1).unwrap(), second.decode_frame(1).unwrap(), "{name}");
        }
    }
}

#[test]
fn reads_attributes_and_functional_groups() {
    let (instance, _) = parse(&read("pydicom", "liver_1frame.dcm")).unwrap();
    let measures = instance.functional_group(1, Tag(0x0028, 0x9110)).unwrap();
    let spacing: [f64; 2] = measures.f64_array(Tag(0x0028, 0x0030)).unwrap();
    assert!(spacing.iter().all(|side| *side > 0.0));
    let position = instance.functional_group(1, Tag(0x0020, 0x9113)).unwrap();
    assert_eq!(position.f64s(Tag(0x0020, 0x0032)).unwrap().len(), 3);
    assert!(instance.functional_group(1, Tag(0x0018, 0x9114)).is_none());
    let missing = instance.f64_array::<3>(Tag(0x0020, 0x0032)).unwrap_err();
    assert_eq!(missing.to_string(), "ImagePositionPatient (0020,0032) is missing");
}

/// Every frame of the shared studies that pydicom decodes without extra plugins.
#[test]
fn agrees_with_pydicom_on_real_studies() {
    let (Ok(studies), Ok(judges)) = (std::env::var("SEER_TEST_DATA"), std::env::var("SEER_JUDGES"))
    else {
        eprintln!("SKIPPED: SEER_TEST_DATA or SEER_JUDGES is not set");
        return;
    };
    let output = std::process::Command::new(Path::new(&judges).join("bin/python"))
        .args(["-c", include_str!("dicom/pydicom_frames.py"), &studies])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compared = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (path, expected) = line.split_once('\t').unwrap();
        let frames: Vec<Expected> = serde_json::from_str(expected).unwrap();
        let (instance, _) = match parse(&std::fs::read(path).unwrap()) {
            Ok(parsed) => parsed,
            Err(DicomError::BadUid { .. }) => continue,
            Err(error) => panic!("{path}: {error}"),
        };
        for (index, expected) in frames.iter().enumerate() {
            let frame = instance.decode_frame(index as u32 + 1).unwrap();
            check_frame(path, &frame, expected);
            compared += 1;
        }
    }
    eprintln!("{compared} frames equal to pydicom's");
    assert!(compared >= 100, "only {compared} frames were compared");
}

/// Refuses within a second, whatever is promised.
fn refused(bytes: &[u8]) -> DicomError {
    let start = Instant::now();
    let error = parse(bytes).map(|(instance, _)| instance.decode_frame(1)).and_then(|f| f);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "took {took:?}");
    error.expect_err("it must be refused")
}
