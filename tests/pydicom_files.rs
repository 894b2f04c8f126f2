//! Every file that pydicom tests itself with, and the shared studies: what this server does with it,
//! and whether that is what pydicom reads. The table goes to `target/pydicom-files.md`.

use std::fmt::Write as _;
use std::path::Path;

use seer::archive::{Archive, Scope, StoredFrames};
use seer::dicom::DicomLimits;
use serde_json::Value;

use crate::support::dicom_json::Compared;

/// What differs from pydicom by design, and why.
const EXPLAINED: [(&str, &str); 4] = [
    ("00080005", "our texts are UTF-8 and say so"),
    ("00083002", "we tell the transfer syntax; files that have the attribute have pydicom's value"),
    ("7FE00010", "compared frame by frame"),
    ("00089215", "a length of an odd file that pydicom rewrites"),
];

/// Grey levels by which lossy decoders may differ on average.
const LOSSY_TOLERANCE: f64 = 1.0;

#[derive(Default)]
struct Summary {
    files: usize,
    stored: usize,
    refused: std::collections::BTreeMap<String, usize>,
    attributes: usize,
    frames_equal: usize,
    frames_close: usize,
    not_decoded: std::collections::BTreeMap<String, usize>,
    differences: Vec<String>,
}

#[test]
fn pydicom_files_are_read_as_pydicom_reads_them_or_refused() {
    let Ok(judges) = std::env::var("SEER_JUDGES") else {
        eprintln!("SKIPPED: SEER_JUDGES names no folder with the Python judges");
        return;
    };
    let python = Path::new(&judges).join("bin/python");
    let mut command = std::process::Command::new(&python);
    command.args(["-c", include_str!("dicom/pydicom_table.py")]);
    command.args(folders(&python));
    let output = command.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let version = lines.next().expect("version")["version"].as_str().expect("text").to_owned();
    let mut table =
        String::from("| file | what we do | attributes | frames |\n|---|---|---|---|\n");
    let mut summary = Summary::default();
    for line in lines {
        let row = judge(&line, &mut summary);
        let _ = writeln!(table, "| {} | {row} |", line["name"].as_str().expect("name"));
    }
    let told = summary.markdown(&version);
    let _ = std::fs::write("target/pydicom-files.md", format!("{told}\n{table}"));
    eprintln!("{told}");
    assert!(summary.differences.is_empty(), "unexplained:\n{}", summary.differences.join("\n"));
    if std::env::var_os("SEER_TEST_DATA").is_some() || summary.files < 60 {
        return;
    }
    const COMMITTED: &str = "static/conformance-files.md";
    if std::env::var_os("SEER_UPDATE_CONFORMANCE").is_some() {
        std::fs::write(COMMITTED, &told).expect("write");
    }
    let committed = std::fs::read_to_string(COMMITTED).expect("committed summary");
    if committed.contains(&format!("pydicom {version}")) {
        assert_eq!(committed, told, "SEER_UPDATE_CONFORMANCE=1 writes the new one");
    }
}

fn folders(python: &Path) -> Vec<String> {
    let script =
        "import pydicom, os; print(os.path.join(os.path.dirname(pydicom.__file__), 'data'))";
    let output = std::process::Command::new(python).args(["-c", script]).output().expect("python");
    let data = String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned();
    let own = ["test_files", "charset_files"].map(|name| format!("{data}/{name}"));
    let shared = std::env::var("SEER_TEST_DATA").ok().map(|folder| format!("{folder}/dicom"));
    own.into_iter().chain(shared).collect()
}

/// One row of the table after the name.
fn judge(line: &Value, summary: &mut Summary) -> String {
    let bytes = std::fs::read(line["path"].as_str().expect("path")).expect("file");
    let folder = tempfile::tempdir().expect("folder");
    let archive = Archive::open(folder.path(), DicomLimits::default()).expect("archive");
    summary.files += 1;
    let stored = match archive.store(&bytes) {
        Ok(stored) => stored,
        Err(error) => {
            let reason = kind_of_refusal(&error.to_string());
            *summary.refused.entry(reason).or_default() += 1;
            return format!("refused: {error} | |");
        }
    };
    summary.stored += 1;
    let identity = stored.identity;
    let scope = Scope::instance(identity.study, identity.series, identity.sop_instance);
    let name = line["name"].as_str().expect("name");
    let attributes = attributes(&archive, &scope, line, name, summary);
    let frames = match archive.frames(&scope) {
        Ok(frames) => judge_frames(&frames, line, name, summary),
        Err(_) => "none".to_owned(),
    };
    let codes: Vec<_> = stored.findings.into_iter().map(|finding| finding.code).collect();
    let stored = if codes.is_empty() {
        "stored".to_owned()
    } else {
        format!("stored ({})", codes.join(", "))
    };
    format!("{stored} | {attributes} | {frames}")
}

/// The sentence without the numbers in it.
fn kind_of_refusal(sentence: &str) -> String {
    let words =
        sentence.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

fn attributes(
    archive: &Archive,
    scope: &Scope,
    line: &Value,
    name: &str,
    summary: &mut Summary,
) -> String {
    let Some(theirs) = line["json"].as_object() else { return "pydicom gives no JSON".to_owned() };
    let text = archive.metadata(scope, "http://here").expect("metadata").swap_remove(0);
    let ours: Value = serde_json::from_str(&text).expect("JSON");
    let mut compared = Compared::default();
    let skip =
        |tag: &str| tag.starts_with("0002") || EXPLAINED.iter().any(|(known, _)| *known == tag);
    compared.objects("", ours.as_object().expect("object"), theirs, &skip);
    summary.attributes += compared.equal;
    let differ = compared.differences.len();
    summary
        .differences
        .extend(compared.differences.into_iter().map(|what| format!("{name} {what}")));
    format!("{} equal, {differ} differ", compared.equal)
}

fn judge_frames(frames: &StoredFrames, line: &Value, name: &str, summary: &mut Summary) -> String {
    let mut told = Vec::new();
    let theirs = line["frames"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, their) in (1..).zip(theirs) {
        let their = base64(their.as_str().expect("base64"));
        let their: Vec<i32> =
            their.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let our = match values(frames, number) {
            Ok(values) => values,
            Err(error) => {
                *summary.not_decoded.entry(kind_of_refusal(&error)).or_default() += 1;
                told.push(error);
                break;
            }
        };
        if our == their {
            summary.frames_equal += 1;
            told.push("equal".to_owned());
            continue;
        }
        let apart = our.iter().zip(&their).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
        let apart = apart / their.len().max(1) as f64;
        if our.len() == their.len() && apart <= LOSSY_TOLERANCE {
            summary.frames_close += 1;
            told.push(format!("{apart:.3} apart"));
        } else {
            let (here, there) = (our.len(), their.len());
            let note =
                format!("{name} frame {number}: {here} and {there} samples, {apart:.3} apart");
            summary.differences.push(note);
        }
    }
    if told.is_empty() { "not read by pydicom".to_owned() } else { told.join(", ") }
}

/// The samples of a frame, those of a colour pixel together.
fn values(frames: &StoredFrames, number: u32) -> Result<Vec<i32>, String> {
    if !frames.instance().is_colour() {
        return frames.grey(number).map(|frame| frame.values).map_err(|error| error.to_string());
    }
    if frames.instance().native_photometric().0.starts_with("YBR") {
        let shown = frames.rgb(number).map_err(|error| error.to_string())?;
        return Ok(shown.pixels.into_iter().map(i32::from).collect());
    }
    let bytes = frames.native(number).map_err(|error| error.to_string())?;
    let (_, planar) = frames.instance().native_photometric();
    let attribute = |element| {
        use seer::dicom::Attributes as _;
        let tag = dicom_core::Tag(0x0028, element);
        frames.instance().u16_opt(tag).ok().flatten().map_or(1, usize::from)
    };
    let samples: Vec<i32> = match attribute(0x0100) {
        8 => bytes.iter().map(|byte| i32::from(*byte)).collect(),
        16 => bytes.as_chunks().0.iter().map(|w| i32::from(u16::from_le_bytes(*w))).collect(),
        _ => bytes.as_chunks().0.iter().map(|w| i32::from_le_bytes(*w)).collect(),
    };
    let count = attribute(0x0010) * attribute(0x0011);
    let per_pixel = attribute(0x0002);
    let samples = samples.get(..count * per_pixel).unwrap_or(&samples).to_vec();
    if !planar {
        return Ok(samples);
    }
    Ok((0..count)
        .flat_map(|pixel| (0..per_pixel).map(move |s| s * count + pixel))
        .map(|at| samples[at])
        .collect())
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let six = alphabet.iter().position(|letter| *letter == byte).expect("base64") as u32;
        buffer = (buffer << 6 | six) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes
}

impl Summary {
    fn markdown(&self, version: &str) -> String {
        let mut text = format!(
            "## Files of other people\n\n\
             A test stores every file that pydicom {version} tests itself with and compares what this \
             server reads with what pydicom reads.\n\n\
             | | count |\n|---|---|\n\
             | files | {} |\n| stored | {} |\n| attributes equal to pydicom's | {} |\n\
             | frames equal to pydicom's (first three of a file) | {} |\n\
             | frames of lossy codecs, at most {LOSSY_TOLERANCE} grey level apart on average | {} |\n",
            self.files, self.stored, self.attributes, self.frames_equal, self.frames_close
        );
        for (reason, count) in &self.refused {
            let _ = writeln!(text, "| refused: {reason} | {count} |");
        }
        for (reason, count) in &self.not_decoded {
            let _ = writeln!(text, "| stored, pixels not decoded: {reason} | {count} |");
        }
        text
    }
}
