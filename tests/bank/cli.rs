//! `seer bank` on a folder that no server uses.

use std::path::Path;
use std::process::Command;

fn seer_bank(storage: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_seer"))
        .arg("bank")
        .args(arguments)
        .env("SEER_STORAGE__PATH", storage)
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap(), text.concat())
}

#[test]
fn skills_are_imported_listed_exported_and_rolled_back() {
    let storage = tempfile::tempdir().unwrap();
    let file = storage.path().join("skills.jsonl");
    let line = r#"{"tag": "PROMPT_NORMALIZE", "trigger": "wee bag", "target": "urinary bladder"}"#;
    std::fs::write(&file, format!("{line}\nnonsense\n")).unwrap();
    let (status, text) =
        seer_bank(storage.path(), &["import", file.to_str().unwrap(), "--activate"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("line 2 refused") && text.contains("round 1 is active"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["list"]);
    assert!(
        text.contains("wee bag -> urinary bladder") && text.contains("1 skills in round 1"),
        "{text}"
    );
    let id = text.split_whitespace().next().unwrap().to_owned();
    let (status, text) = seer_bank(storage.path(), &["show", &id]);
    assert!(status == 0 && text.contains("gain unknown"), "{text}");
    let (status, text) = seer_bank(storage.path(), &["rebuild"]);
    assert!(status == 0 && text.contains("rebuilt 2 rounds"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["activate", "0"]);
    assert!(text.contains("round 0 is active"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["rounds"]);
    assert!(text.contains("* 0") && text.contains("  1  1 skills"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["export", "--round", "1"]);
    assert!(text.contains(&id), "{text}");
    let (status, text) = seer_bank(storage.path(), &["activate", "9"]);
    assert!(status == 1 && text.contains("round 9 does not exist"), "{text}");
}

#[test]
fn the_vocabulary_becomes_a_round_of_skills_once() {
    let storage = tempfile::tempdir().unwrap();
    let (status, text) = seer_bank(storage.path(), &["glossary", "--activate"]);
    assert!(status == 0 && text.contains("round 1 is active"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["list"]);
    assert!(text.contains("PROMPT_NORMALIZE  mandible -> mandible"), "{text}");
    assert!(!text.contains("kidney"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["rounds"]);
    assert!(text.contains("glossary of seer-mini"), "{text}");
    let (_, text) = seer_bank(storage.path(), &["glossary"]);
    assert!(text.contains("no skill is new"), "{text}");
}
