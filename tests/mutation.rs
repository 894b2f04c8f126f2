//! What `tests/fuzz` looks for with coverage, a little of it in every run: real uploads and DICOM
//! JSON, changed here and there by a seeded hand.

#[path = "fuzz/checks/dicom_json.rs"]
#[allow(dead_code, reason = "the heap is counted where it can be")]
mod dicom_json;
#[path = "fuzz/checks/dimse.rs"]
#[allow(dead_code, reason = "the heap is counted where it can be")]
mod dimse;
#[path = "fuzz/checks/multipart.rs"]
#[allow(dead_code, reason = "the heap is counted where it can be")]
mod multipart;
mod mutator;
mod seeds;

use std::panic::catch_unwind;
use std::path::PathBuf;

use mutator::{Mutator, tokens};

/// Checks the seeds as they are, then many changed ones; what fails is shown as it was.
fn check_mutations(count: usize, seeds: &[Vec<u8>], dictionary: &str, check: fn(&[u8])) {
    seeds.iter().for_each(|seed| check(seed));
    let mut mutator = Mutator::new(5, tokens(dictionary));
    for number in 0..count {
        let input = mutator.changed(&seeds[number % seeds.len()], &seeds[number / 7 % seeds.len()]);
        let outcome = catch_unwind(|| check(&input));
        assert!(outcome.is_ok(), "mutation {number}: {}", input.escape_ascii());
    }
}

#[test]
fn changed_uploads_have_the_same_parts_however_they_are_cut() {
    let dictionary = include_str!("fuzz/dictionaries/multipart.txt");
    check_mutations(3_000, &seeds::multipart(), dictionary, multipart::check);
}

#[test]
fn changed_dicom_json_makes_well_formed_files_or_errors() {
    let dictionary = include_str!("fuzz/dictionaries/dicom_json.txt");
    check_mutations(3_000, &seeds::dicom_json(), dictionary, dicom_json::check);
}

#[test]
fn changed_messages_of_other_nodes_are_commands_or_errors() {
    let dictionary = include_str!("fuzz/dictionaries/dimse.txt");
    check_mutations(5_000, &seeds::dimse(), dictionary, dimse::check);
}

/// Where the seeds for fuzzing go: a folder each.
fn corpus(target: &str) -> PathBuf {
    let root = std::env::var_os("SEER_FUZZ_CORPUS").unwrap_or_else(|| "tests/fuzz/corpus".into());
    let folder = PathBuf::from(root).join(target);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes seeds for fuzzing, named by number.
pub fn write_corpus(target: &str, seeds: &[Vec<u8>]) {
    let folder = corpus(target);
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
    }
}

#[test]
#[ignore = "writes the seeds that tests/fuzz/README.md speaks of"]
fn fuzzing_seeds_are_written() {
    write_corpus("multipart", &seeds::multipart());
    write_corpus("dicom_json", &seeds::dicom_json());
    write_corpus("dimse", &seeds::dimse());
    write_corpus("instance", &seeds::files(50_000));
}
