//! A room uses rooms above it, never below (`src/lib.rs` has the map).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom.
const ROOMS: [&str; 17] = [
    "geometry",
    "dicom",
    "archive",
    "pacs",
    "series",
    "volume",
    "view",
    "runtime",
    "reason",
    "answer",
    "segment",
    "dicom_seg",
    "bank",
    "eval",
    "evolve",
    "orders",
    "http",
];
/// Used by every room.
const BESIDE: [&str; 6] = ["clock", "error", "folder_lock", "threads", "telemetry", "config"];
/// Use every room.
const ABOVE_ALL: [&str; 4] = ["app", "cli", "lib", "main"];

fn files_of(room: &str) -> Vec<PathBuf> {
    let mut files = vec![Path::new("src").join(format!("{room}.rs"))];
    let mut folders = vec![Path::new("src").join(room)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The names after `crate::` in code, braces included; comment lines do not count.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        used.insert(std::mem::take(&mut name));
                    }
                    letter if depth == 0 => name.push(letter),
                    _ => {}
                }
            }
            used.insert(name);
        } else {
            used.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used.iter()
        .map(|name| name.trim().split("::").next().unwrap_or_default().trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn reads_nested_use_lists() {
    let used = rooms_used(
        "use crate::{series::{self, Series}, http};\n// crate::cli\nfn f() { crate::dicom::x() }",
    );
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["dicom", "http", "series"]);
}

#[test]
fn rooms_use_only_rooms_above_them() {
    let mut faults = Vec::new();
    for (at, room) in ROOMS.iter().enumerate() {
        let allowed = [&ROOMS[..=at], &BESIDE[..]].concat();
        // `http` serves what `app` built.
        let serves_app = *room == "http";
        for file in files_of(room) {
            let source = fs::read_to_string(&file).expect("source file is readable");
            for used in rooms_used(&source) {
                let known = ROOMS.contains(&used.as_str()) || ABOVE_ALL.contains(&used.as_str());
                let fine = allowed.contains(&used.as_str()) || serves_app && used == "app";
                if known && !fine {
                    faults.push(format!("{} uses {used}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_the_runtime_names_onnx_runtime() {
    for room in ROOMS.iter().chain(&BESIDE).chain(&ABOVE_ALL).filter(|room| **room != "runtime") {
        for file in files_of(room).into_iter().filter(|file| file.exists()) {
            let source = fs::read_to_string(&file).expect("source file is readable");
            let inside_word = |at: usize| {
                source[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            let names = source.match_indices("ort::").any(|(at, _)| !inside_word(at));
            assert!(!names, "{} names `ort`", file.display());
        }
    }
}

#[test]
fn every_source_file_belongs_to_a_room() {
    for entry in fs::read_dir("src").expect("src exists").flatten() {
        let path = entry.path();
        let name = path.file_stem().expect("named").to_string_lossy().into_owned();
        let known = ROOMS.iter().chain(&BESIDE).chain(&ABOVE_ALL).any(|room| *room == name);
        assert!(known, "{} is in no room", path.display());
    }
}
