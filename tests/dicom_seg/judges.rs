//! Runs `tests/judges/seg.py` when there are judges.

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::Array3;
use seer::dicom_seg::ResultObject;
use seer::series::Series;

/// Environment: folder of a Python environment (or its `bin`) with highdicom, dcmqi, dicom3tools
/// and nibabel.
const JUDGES: &str = "SEER_JUDGES";
/// The same with pydicom-seg, which needs numpy below 2.
const JUDGES_PYDICOM_SEG: &str = "SEER_JUDGES_PYDICOM_SEG";

/// Writes a case folder and lets each judge look at it.
pub fn judge(
    name: &str,
    series: &Series,
    files: &[Vec<u8>],
    masks: &[Array3<bool>],
    seg: &[u8],
    judges: &[&str],
) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_case(folder.path(), series, files, masks, seg);
    if let Some(kept) = std::env::var_os("SEER_KEEP_CASES") {
        let kept = PathBuf::from(kept).join(name.replace([' ', '/'], "-"));
        std::fs::create_dir_all(&kept).expect("a folder for the case");
        write_case(&kept, series, files, masks, seg);
    }
    for judge in judges {
        let variable = if *judge == "pydicom-seg" { JUDGES_PYDICOM_SEG } else { JUDGES };
        let Some(python) = python(variable) else {
            eprintln!("SKIPPED: {judge} on {name}: {variable} is not set");
            continue;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/seg.py");
        let output = Command::new(python)
            .arg(script)
            .arg(judge)
            .arg(folder.path())
            .output()
            .expect("python starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {judge} disagrees: {said}{complaint}");
        eprintln!("{name}: {}", said.trim_end());
    }
}

/// Writes the documents of a case and lets each judge look at them.
pub fn judge_documents(
    name: &str,
    sources: &[Vec<u8>],
    files: &[(&str, &ResultObject)],
    facts: &serde_json::Value,
) {
    let kept = std::env::var_os("SEER_KEEP_CASES").map(PathBuf::from);
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = match kept {
        Some(kept) => kept.join(name.replace([' ', '/'], "-")),
        None => temporary.path().to_owned(),
    };
    std::fs::create_dir_all(folder.join("source")).expect("a folder for the case");
    for (index, bytes) in sources.iter().enumerate() {
        std::fs::write(folder.join(format!("source/{index}.dcm")), bytes).expect("a file");
    }
    for (file, object) in files {
        std::fs::write(folder.join(format!("{file}.dcm")), &object.bytes).expect("a file");
    }
    std::fs::write(folder.join("documents.json"), facts.to_string()).expect("a file");
    let Some(python) = python(JUDGES) else {
        eprintln!("SKIPPED: judges on {name}: {JUDGES} is not set");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/documents.py");
    let has_dcmtk = Command::new("dsrdump").arg("--version").output().is_ok();
    for judge in ["dciodvfy", "dcentvfy", "highdicom", "dcmqi", "dsrdump"] {
        if judge == "dsrdump" && !has_dcmtk {
            eprintln!("SKIPPED: dsrdump on {name}: dcmtk is not installed");
            continue;
        }
        let mut command = Command::new(&python);
        let output = command.arg(&script).arg(judge).arg(&folder).output().expect("python starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {judge} disagrees: {said}{complaint}");
        eprintln!("{name}: {}", said.trim_end());
    }
}

fn python(variable: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(variable)?);
    let candidates = [folder.join("bin/python"), folder.join("python")];
    candidates.into_iter().find(|path| path.exists())
}

fn write_case(
    folder: &Path,
    series: &Series,
    files: &[Vec<u8>],
    masks: &[Array3<bool>],
    seg: &[u8],
) {
    std::fs::create_dir_all(folder.join("source")).expect("a folder");
    for (index, bytes) in files.iter().enumerate() {
        let path = folder.join(format!("source/{index:04}.dcm"));
        std::fs::write(path, bytes).expect("a source file");
    }
    std::fs::write(folder.join("seg.dcm"), seg).expect("the segmentation");
    let expected: Vec<u8> = masks.iter().flatten().map(|inside| u8::from(*inside)).collect();
    std::fs::write(folder.join("expected.u8"), expected).expect("the masks");
    let frames = series.frames.iter().map(|frame| {
        let sop = series.instances[frame.instance_index].identity().sop_instance.as_str();
        serde_json::json!({
            "position": frame.position.0, "sop": sop, "frame": frame.frame_number,
        })
    });
    let facts = serde_json::json!({
        "shape": [masks.len(), series.frames.len(), series.rows, series.columns],
        "orientation": series.orientation.concat(),
        "spacing": series.pixel_spacing_mm,
        "frames": frames.collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("case.json"), facts.to_string()).expect("the facts");
}
