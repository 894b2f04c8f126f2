//! Bundles that are not what they say, libraries that are not there, graphs under load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::ArrayD;
use seer::error::{ErrorKind, Kind};
use seer::runtime::vocabulary::{Meaning, normalise};
use seer::runtime::{
    Bundle, Graph, Inputs, Provider, Runtime, RuntimeError, RuntimeSettings, Tensor, verify,
};
use seer::threads::Cancel;

use crate::support::library;

/// The small bundle with random weights.
pub fn fixture() -> &'static Path {
    Path::new("tests/data/qwen3-vl-parity")
}

/// Copies the small bundle into a folder.
pub fn copy_to(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

/// A copy of the small bundle whose manifest was changed.
fn changed(from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_to(folder.path());
    let path = folder.path().join("manifest.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    assert!(manifest.contains(from), "{from}");
    std::fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
    folder
}

pub fn runtime() -> Runtime {
    Runtime::open(library(), Provider::Cpu).unwrap()
}

#[test]
fn opens_a_bundle_and_finds_its_parts() {
    let bundle = Bundle::open(fixture()).unwrap();
    assert_eq!(bundle.manifest().name, "qwen3-vl-parity");
    assert_eq!(bundle.reasoner().unwrap().deepstack_levels, 2);
    assert_eq!(bundle.sha256("decoder.onnx").unwrap().len(), 64);
    let error = bundle.backbone().unwrap_err();
    assert_eq!(error.to_string(), "bundle qwen3-vl-parity has no [backbone]");
}

#[test]
fn refuses_a_bundle_that_is_not_what_its_manifest_says() {
    let check = |from: &str, to: &str, parts: &[&str]| {
        let folder = changed(from, to);
        let error = Bundle::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let sentence = error.to_string();
        for part in parts {
            assert!(sentence.contains(part), "{part} is not in: {sentence}");
        }
    };
    check("layers = 2\n", "layers = 2\nlayer = 3\n", &["manifest.toml: line", "layer"]);
    check("family = \"qwen3-vl\"", "family = \"qwen9\"", &["qwen9", "qwen3-vl"]);
    check("decoder.onnx\"\ntokenizer", "other.onnx\"\ntokenizer", &["other.onnx is used but"]);
    check("path = \"vocabulary.toml\"", "path = \"../vocabulary.toml\"", &["../vocabulary.toml"]);
    check("size_bytes = 80392", "size_bytes = 80393", &["decoder.onnx", "80393", "80392"]);
    let doubt = &["doubt_below is 7, not within 0 and 1"];
    check("constrained = true", "constrained = true\ndoubt_below = 7.0", doubt);
    check("axial-2", "axial-2\"\nnope = \"", &["nope"]);
}

#[test]
fn refuses_a_file_with_one_bit_flipped() {
    let folder = changed("0.1.0", "0.1.1");
    let path = folder.path().join("embed_tokens.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    let expected = Bundle::open(fixture()).unwrap().sha256("embed_tokens.onnx").unwrap().to_owned();
    let RuntimeError::FileDiffers { what, expected: said, found, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*what, said.as_str()), ("sha256", expected.as_str()));
    assert_ne!(*found, expected);
    assert!(error.to_string().contains("embed_tokens.onnx"));
}

#[test]
fn refuses_a_phrase_with_two_meanings() {
    let folder = changed("0.1.0", "0.1.0");
    let path = folder.path().join("vocabulary.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("hepar", "LT-Hippocampus");
    std::fs::write(&path, &text).unwrap();
    let manifest = folder.path().join("manifest.toml");
    let old = std::fs::read_to_string(&manifest).unwrap();
    let (head, tail) = old.split_once("sha256 = \"").unwrap();
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    let tail = tail.split_once("size_bytes").unwrap().1.split_once('\n').unwrap().1;
    let new = format!("{head}sha256 = \"{hash}\"\nsize_bytes = {}\n{tail}", text.len());
    std::fs::write(&manifest, new).unwrap();
    let sentence = Bundle::open(folder.path()).unwrap_err().to_string();
    assert!(sentence.contains("left hippocampus") && sentence.contains("liver"), "{sentence}");
}

#[test]
fn finds_phrases_by_name_then_synonym_and_never_guesses() {
    let bundle = Bundle::open(fixture()).unwrap();
    let vocabulary = bundle.vocabulary();
    let name = |phrase: &str| match vocabulary.find(phrase)? {
        Meaning::Name(concept) => Some(("name", concept.name.as_str())),
        Meaning::Synonym(concept) => Some(("synonym", concept.name.as_str())),
        Meaning::Absent(term) => Some(("absent", term.name.as_str())),
    };
    assert_eq!(name("the Left  hippocampus."), Some(("name", "left hippocampus")));
    assert_eq!(name("Hippocampus, left"), Some(("synonym", "left hippocampus")));
    assert_eq!(name("THE LIVER"), Some(("name", "liver")));
    assert_eq!(name("vermiform-appendix"), Some(("absent", "appendix")));
    for unknown in ["hippocampus", "left hipocampus", "livers", "the", "", "left hippocampus liver"]
    {
        assert_eq!(name(unknown), None, "{unknown}");
    }
    assert_eq!(normalise("  The\tC5/6-Disc "), "c5 6 disc");
}

#[test]
fn verifies_a_mask_decoder_that_takes_one_prompt() {
    let report = verify(Path::new("tests/data/parity/voxtell"), &runtime());
    assert!(report.passed(), "{:?}", report.checks);
    assert!(report.checks.iter().any(|check| check.name.ends_with("mask_decoder.onnx")));
}

#[test]
fn verifies_a_good_bundle_and_names_what_is_wrong_with_others() {
    let good = verify(fixture(), &runtime());
    assert!(good.passed(), "{:?}", good.checks);
    let names: Vec<_> = good.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "files and hashes",
            "reasoner's memory",
            "vision_encoder.onnx",
            "embed_tokens.onnx",
            "decoder.onnx"
        ]
    );
    let check = |from: &str, to: &str, expected: &str| {
        let folder = changed(from, to);
        let report = verify(folder.path(), &runtime());
        assert!(!report.passed());
        let failed = report.checks.iter().find(|check| !check.ok).unwrap().to_string();
        assert!(failed.contains(expected), "{failed}");
    };
    check(
        "deepstack_levels = 2",
        "deepstack_levels = 3",
        "vision_encoder.onnx has output deepstack_embeds of float (2, ?, 32), but its manifest asks for \
         output deepstack_embeds of float (3, tokens, 32)",
    );
    check("layers = 2", "layers = 3", "no input past_key_values.2.key");
    check("layers = 2", "layers = 1", "an input past_key_values.1.key");
    check("vocabulary_size = 512", "vocabulary_size = 600", "logits of float (1, 1, 600)");
}

#[test]
fn says_to_run_setup_when_the_library_is_missing() {
    let missing = Path::new("nowhere/libonnxruntime.so");
    let error = Runtime::open(missing, Provider::Cpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ONNX Runtime is not at nowhere/libonnxruntime.so; run `seer setup`"
    );
}

#[test]
fn holds_one_library_per_process() {
    let one = runtime();
    let again = runtime();
    assert_eq!(one.build_info(), again.build_info());
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("libonnxruntime.so");
    std::fs::copy(library(), &other).unwrap();
    let sentence = Runtime::open(&other, Provider::Cpu).unwrap_err().to_string();
    assert!(sentence.contains("is already loaded from"), "{sentence}");
}

#[test]
fn says_so_when_the_provider_is_not_in_the_build_and_falls_back_only_if_allowed() {
    runtime();
    let mut settings = RuntimeSettings::new(library(), Provider::Cuda);
    let error = Runtime::open_with(settings.clone()).unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("cannot run on cuda"), "{sentence}");
    assert!(sentence.ends_with("run `seer setup --provider cuda`"), "{sentence}");
    let tensorrt = RuntimeSettings { provider: Provider::TensorRt, ..settings.clone() };
    let sentence = Runtime::open_with(tensorrt).unwrap_err().to_string();
    assert!(sentence.contains("cannot run on tensorrt"), "{sentence}");
    settings.fall_back_to_cpu = true;
    assert_eq!(Runtime::open_with(settings).unwrap().provider(), Provider::Cpu);
}

/// Opens the library named by the environment and prints what that says. A process can load one
/// library only, so the test below runs this in a process of its own.
#[test]
#[ignore = "run by tells_unusable_libraries_from_old_ones"]
fn child_opens_a_library() {
    let path = PathBuf::from(std::env::var_os("SEER_CHILD_LIBRARY").unwrap());
    match Runtime::open(&path, Provider::Cpu) {
        Ok(runtime) => println!("SAID opened {}", runtime.build_info()),
        Err(error) => println!("SAID {error}"),
    }
}

fn said_by_child(library: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["runtime::child_opens_a_library", "--exact", "--ignored", "--nocapture"])
        .env("SEER_CHILD_LIBRARY", library)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said =
        text.lines().find_map(|line| line.split_once("SAID ").map(|(_, said)| said.to_owned()));
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn tells_unusable_libraries_from_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so");

    std::fs::write(&path, "not a library").unwrap();
    let said = said_by_child(&path);
    assert!(said.starts_with("cannot load ONNX Runtime from "), "{said}");
    assert!(said.ends_with("; run `seer setup`"), "{said}");

    // A library that answers the version question as ONNX Runtime 1.23.2 does.
    let source = folder.path().join("old.c");
    let code = "static const void *api(unsigned v) { (void)v; return 0; }\n\
                static const char *version(void) { return \"1.23.2\"; }\n\
                static const struct { const void *(*api)(unsigned); const char *(*version)(void); }\n\
                base = { api, version };\n\
                const void *OrtGetApiBase(void) { return &base; }\n";
    std::fs::write(&source, code).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(&source).status();
    assert!(compiled.is_ok_and(|status| status.success()), "building this crate needs cc anyway");
    let said = said_by_child(&path);
    let expected = format!(
        "ONNX Runtime at {} is version 1.23.2, older than 1.24; run `seer setup`",
        path.display()
    );
    assert_eq!(said, expected);

    let said = said_by_child(library());
    assert!(said.starts_with("opened "), "{said}");
}

fn load(name: &str, settings: RuntimeSettings) -> Graph {
    Runtime::open_with(settings).unwrap().load(&fixture().join(name)).unwrap()
}

#[test]
fn names_graph_and_input_when_a_run_does_not_fit() {
    let graph = load("embed_tokens.onnx", RuntimeSettings::new(library(), Provider::Cpu));
    let check = |inputs: Inputs, expected: &str| {
        let sentence = graph.run(inputs, &Cancel::new()).unwrap_err().to_string();
        assert!(sentence.starts_with("graph embed_tokens failed: "), "{sentence}");
        assert!(sentence.contains(expected), "{expected} is not in: {sentence}");
    };
    let ids = || Tensor::I64(ArrayD::zeros(vec![1, 3]));
    check(Inputs::new(), "input_ids");
    check(Inputs::new().with("ids", ids()), "it has no input ids");
    check(Inputs::new().with("input_ids", Tensor::F32(ArrayD::zeros(vec![1, 3]))), "floats");
    check(Inputs::new().with("input_ids", Tensor::I64(ArrayD::zeros(vec![3]))), "ank");
    let out_of_range = Tensor::I64(ArrayD::from_elem(vec![1, 1], 512));
    check(Inputs::new().with("input_ids", out_of_range), "512");
    // The thread survives all of that.
    let good = graph.run(Inputs::new().with("input_ids", ids()), &Cancel::new());
    assert_eq!(good.unwrap().take_f32("inputs_embeds").unwrap().shape(), [1, 3, 32]);
}

/// Attention over this many patches takes the small vision encoder about a second or more.
const MANY_PATCHES: usize = 6000;

fn slow_inputs() -> Inputs {
    let floats = |width| Tensor::F32(ArrayD::zeros(vec![MANY_PATCHES, width]));
    let integers = |width| Tensor::I64(ArrayD::zeros(vec![MANY_PATCHES, width]));
    Inputs::new()
        .with("pixel_values", floats(1536))
        .with("position_ids", integers(2))
        .with("interp_indices", integers(4))
        .with("interp_weights", floats(4))
        .with("segment_ids", Tensor::I64(ArrayD::zeros(vec![MANY_PATCHES])))
}

#[test]
fn a_full_queue_is_overloaded_and_cancelling_does_not_wait_for_the_run() {
    let mut settings = RuntimeSettings::new(library(), Provider::Cpu);
    settings.queue_length = 1;
    settings.threads = 1;
    let graph = Arc::new(load("vision_encoder.onnx", settings));
    let cancel = Cancel::new();
    let run = || {
        let (graph, cancel) = (Arc::clone(&graph), cancel.clone());
        std::thread::spawn(move || graph.run(slow_inputs(), &cancel))
    };
    let running = run();
    std::thread::sleep(Duration::from_millis(150));
    let waiting = run();
    std::thread::sleep(Duration::from_millis(150));
    let error = graph.run(slow_inputs(), &Cancel::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.to_string(), "graph vision_encoder already has 1 runs waiting");

    let start = Instant::now();
    cancel.cancel();
    for thread in [running, waiting] {
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn a_deadline_ends_a_run() {
    let graph = load("vision_encoder.onnx", RuntimeSettings::new(library(), Provider::Cpu));
    let deadline = Instant::now() + Duration::from_millis(100);
    let error = graph.run(slow_inputs(), &Cancel::new().with_deadline(deadline)).unwrap_err();
    assert_eq!(error.to_string(), "deadline passed");
}

/// `y = x + x` over a free axis, with an element type of choice (ONNX `TensorProto.DataType`).
fn doubling_graph(element: u8) -> Vec<u8> {
    let value = |name: u8| {
        [b"\x10\n\x01", &[name][..], b"\x12\x0b\n\t\x08", &[element], b"\x12\x05\n\x03\x12\x01n"]
            .concat()
    };
    let node = b"\x08\t:7\n\x0e\n\x01x\n\x01x\x12\x01y\"\x03Add\x12\x01p";
    [&node[..], b"Z", &value(b'x'), b"b", &value(b'y'), b"B\x04\n\x00\x10\x12"].concat()
}

#[test]
fn smaller_number_types_are_converted_at_the_border_and_kept_values_pass_through() {
    let folder = tempfile::tempdir().unwrap();
    let load = |element: u8| {
        let path = folder.path().join(format!("double-{element}.onnx"));
        std::fs::write(&path, doubling_graph(element)).unwrap();
        runtime().load(&path).unwrap()
    };
    let floats = Tensor::F32(ndarray::arr1(&[1.5_f32, -2.25, 1000.0]).into_dyn());
    for element in [1, 10] {
        let graph = load(element);
        let inputs = Inputs::new().with("x", floats.clone());
        let mut kept = graph.run_keeping(inputs, &["y"], &Cancel::new()).unwrap();
        let kept = kept.take("y").unwrap();
        assert_eq!(kept.shape(), [3]);
        // The kept value feeds two runs; the first must not write over it.
        for _ in 0..2 {
            let inputs = Inputs::new().with("x", kept.clone());
            let mut outputs = graph.run(inputs, &Cancel::new()).unwrap();
            let doubled = outputs.take_f32("y").unwrap();
            assert_eq!(doubled.as_slice().unwrap(), [6.0, -9.0, 4000.0]);
            assert!(outputs.take("y").is_err(), "taken once");
        }
    }
    let graph = load(6);
    let run = |value: i64| {
        let x = Tensor::I64(ndarray::arr1(&[value]).into_dyn());
        graph.run(Inputs::new().with("x", x), &Cancel::new())
    };
    let Tensor::I64(doubled) = run(21).unwrap().take("y").unwrap() else { panic!("integers") };
    assert_eq!(doubled.as_slice().unwrap(), [42]);
    let sentence = run(1 << 40).unwrap_err().to_string();
    assert_eq!(sentence, "graph double-6 failed: input x: an integer does not fit 32 bits");
}
