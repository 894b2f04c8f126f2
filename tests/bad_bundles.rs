//! Bundles broken for real: each is refused when it is loaded, with file, expectation and finding,
//! and what is loaded already keeps serving.

use std::path::Path;
use std::process::Command;

use seer::error::{ErrorKind, Kind};
use seer::reason::{ReasonError, ReasonRequest, Reasoner, ReasonerSettings};
use seer::runtime::{Bundle, MemoryLimits, MemoryPlan, Provider, Runtime, RuntimeSettings};
use seer::telemetry::error_chain;
use seer::threads::{Cancel, Progress};
use sha2::{Digest, Sha256};

use crate::runtime::{copy_to, fixture, runtime};
use crate::support::library;

/// Changes a file and makes the manifest agree with it: a bundle that is wrong but sealed.
fn reseal(folder: &Path, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let old = std::fs::read(folder.join(file)).unwrap();
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let sealed = |bytes: &[u8]| format!("\"{}\"\nsize_bytes = {}", digest(bytes), bytes.len());
    let new = change(old.clone());
    assert_ne!(old, new, "{file} was not changed");
    let manifest = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (from, to) = (sealed(&old), sealed(&new));
    assert!(text.contains(&from), "{file}");
    std::fs::write(folder.join(file), new).unwrap();
    std::fs::write(&manifest, text.replace(&from, &to)).unwrap();
}

/// Replaces every occurrence of some bytes by as many others.
fn swap(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes;
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

fn change_manifest(folder: &Path, from: &str, to: &str) {
    let path = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn load(folder: &Path, runtime: &Runtime) -> Result<Reasoner, ReasonError> {
    Reasoner::load(&Bundle::open(folder)?, runtime, &ReasonerSettings::default())
}

fn answer_of(reasoner: &Reasoner) -> String {
    let request = ReasonRequest::new(&[], "outline the liver");
    reasoner.reason(request, &Cancel::new(), &Progress::silent()).unwrap().raw
}

#[test]
fn every_kind_of_broken_bundle_is_refused_and_the_others_keep_serving() {
    let runtime = runtime();
    let good = load(fixture(), &runtime).unwrap();
    let answer = answer_of(&good);
    let check = |what: &str, damage: &dyn Fn(&Path), parts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        copy_to(folder.path());
        damage(folder.path());
        let error = load(folder.path(), &runtime).err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        let sentence = error_chain(&error);
        for part in parts {
            assert!(sentence.contains(part), "{what}: {part} is not in: {sentence}");
        }
        assert_eq!(answer_of(&good), answer, "{what}");
    };
    let remove = |folder: &Path| std::fs::remove_file(folder.join("decoder.onnx")).unwrap();
    check("a missing file", &remove, &["decoder.onnx", "No such file"]);

    let flip = |folder: &Path| {
        let path = folder.join("vision_encoder.onnx");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    check("a wrong hash", &flip, &["vision_encoder.onnx has sha256", "its manifest says 2582"]);

    let cut = |folder: &Path| {
        reseal(folder, "decoder.onnx", |bytes| bytes[..bytes.len() / 2].to_vec());
    };
    check("half a graph", &cut, &["decoder.onnx"]);

    let rename = |folder: &Path| {
        reseal(folder, "vision_encoder.onnx", |bytes| swap(bytes, "image_embeds", "image_embedz"));
    };
    check(
        "a wrong tensor name",
        &rename,
        &[
            "vision_encoder.onnx has no output image_embeds",
            "asks for output image_embeds of float (tokens, 32)",
        ],
    );

    let widen = |folder: &Path| change_manifest(folder, "hidden_size = 32", "hidden_size = 48");
    check(
        "a wrong shape",
        &widen,
        &["vision_encoder.onnx has output image_embeds of float (?, 32)"],
    );

    let deepen =
        |folder: &Path| change_manifest(folder, "deepstack_levels = 2", "deepstack_levels = 3");
    check("too few DeepStack levels", &deepen, &["deepstack_embeds of float (2, ?, 32)", "(3, "]);

    let without = |folder: &Path| {
        reseal(folder, "decoder.onnx", |bytes| swap(bytes, "deepstack_embeds", "deepstuck_embeds"));
    };
    check("no DeepStack at all", &without, &["decoder.onnx has no input deepstack_embeds"]);

    let family = |folder: &Path| change_manifest(folder, "\"qwen3-vl\"", "\"qwen9-vl\"");
    check("an unknown family", &family, &["manifest.toml: line 9", "qwen9-vl", "qwen3-vl"]);

    let operator = |folder: &Path| {
        reseal(folder, "decoder.onnx", |bytes| swap(bytes, "\x22\x07Softmax", "\x22\x07Saftmax"));
    };
    check("an unknown operator", &operator, &["cannot load graph", "decoder.onnx", "Saftmax"]);

    let token = |folder: &Path| {
        reseal(folder, "tokenizer.json", |bytes| swap(bytes, "<|image_pad|>", "<|image_bad|>"));
    };
    check("no image token", &token, &["tokenizer.json", "it has no token <|image_pad|>"]);

    let end = |folder: &Path| {
        reseal(folder, "tokenizer.json", |bytes| swap(bytes, "<|im_end|>", "<|im_and|>"));
    };
    check("no end token", &end, &["tokenizer.json", "it has no token <|im_end|>"]);

    let garbage = |folder: &Path| reseal(folder, "tokenizer.json", |_| b"{}".to_vec());
    check("no tokenizer", &garbage, &["tokenizer.json"]);
}

#[test]
fn a_bundle_that_would_not_fit_is_refused_before_loading_with_the_figures() {
    runtime();
    let mut settings = RuntimeSettings::new(library(), Provider::Cpu);
    settings.memory = MemoryLimits { host_bytes: Some(300 << 10) };
    let tight = Runtime::open_with(settings.clone()).unwrap();
    let sentence = load(fixture(), &tight).err().unwrap().to_string();
    for part in ["qwen3-vl-parity's reasoner needs", "of host memory (weights", "300.0 KiB are av"]
    {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
    // The limit is for all that is loaded, and what is dropped no longer counts.
    let bundle = Bundle::open(fixture()).unwrap();
    let one = MemoryPlan::of_reasoner(&bundle, true).unwrap().total_bytes();
    settings.memory = MemoryLimits { host_bytes: Some(one * 3 / 2) };
    let roomy = Runtime::open_with(settings).unwrap();
    let first = load(fixture(), &roomy).unwrap();
    assert!(load(fixture(), &roomy).is_err());
    drop(first);
    assert!(load(fixture(), &roomy).is_ok());
}

#[test]
fn the_command_line_lists_verifies_and_runs_what_is_sound_beside_what_is_not() {
    let models = tempfile::tempdir().unwrap();
    copy_to(&models.path().join("good"));
    let bad = models.path().join("bad");
    copy_to(&bad);
    change_manifest(&bad, "deepstack_levels = 2", "deepstack_levels = 3");
    let seer = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_seer"))
            .env("SEER_RUNTIME__LIBRARY", library())
            .env("SEER_MODELS__FOLDER", models.path())
            .env("SEER_STORAGE__PATH", models.path().join("storage"))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, listed, _) = seer(&["models", "list"]);
    assert_eq!(code, Some(0));
    assert!(listed.contains("good  0.1.0") && listed.contains("reasoner qwen3-vl: "), "{listed}");
    assert!(listed.contains("weights") && listed.contains("cache"), "{listed}");

    let (code, verified, said) = seer(&["models", "verify"]);
    assert_eq!(code, Some(1), "{verified}");
    assert!(said.contains("1 of 2 bundles refused"), "{said}");
    let (refused, sound) = verified.split_once("good\n").unwrap();
    assert!(refused.contains("FAILED vision_encoder.onnx"), "{verified}");
    assert!(!sound.contains("FAILED") && sound.contains("reasoner's memory"), "{verified}");

    let (code, ran, said) = seer(&["models", "run", "good", "reasoner", "--text", "the liver"]);
    assert_eq!(code, Some(0), "{said}");
    let ran: serde_json::Value = serde_json::from_str(&ran).unwrap();
    let decoding = &ran["traces"][0]["decoding"];
    assert_eq!(ran["provider"], "cpu");
    let count = decoding["token_count"].as_u64().unwrap() as usize;
    assert_eq!(decoding["log_probabilities"].as_array().unwrap().len(), count);
    let (code, _, said) = seer(&["models", "run", "good", "backbone", "--text", "the liver"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("needs a volume"), "{said}");
    let (code, _, said) = seer(&["models", "run", "bad", "reasoner", "--text", "the liver"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("deepstack_embeds of float (2, ?, 32)"), "{said}");
}
