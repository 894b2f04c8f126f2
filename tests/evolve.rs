//! Rounds of SEER-Loop with the embedded models, and over HTTP.
//!
//! The suite is made of `tests/data/suites/tiny`: the MNI152 template in two layouts. Every layout
//! stands for a patient in practice and for one held out, so figures say that the loop works, not
//! how well it would do on other people. The words are house jargon that the embedded reasoner
//! never saw.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seer::evolve::{Outcome, Report};
use serde_json::{Value, json};

use crate::support::{Server, engine, library};

/// Structure, its labels, and what this house calls it.
const WORDS: [(&str, &str, [&str; 2]); 3] = [
    ("left cerebral hemisphere", "[1]", ["walnut half on the L", "WQZ left"]),
    ("right cerebral hemisphere", "[2]", ["walnut half on the R", "WQZ right"]),
    ("brain", "[1,2]", ["GHNX", "thinkbox"]),
];
const CARRIERS: [&str; 4] = ["segment {}", "{} pls", "contour {} today", "need {} for planning"];

/// A suite of four patients: `a` and `b` practise, `c` and `d` are held out. With `poison` the
/// practice labels of left and right are swapped, and the brain, which has no side, is left out.
fn suite(folder: &Path, poison: bool) {
    let mut requests = String::new();
    let cases = [
        ("a", "head_a", "practice"),
        ("b", "head_b", "practice"),
        ("c", "head_a", "heldout"),
        ("d", "head_b", "heldout"),
    ];
    for (number, (case, source, split)) in cases.into_iter().enumerate() {
        let to = folder.join("cases").join(case);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["image.nii.gz", "labels.nii.gz"] {
            let from = Path::new("tests/data/suites/tiny/cases").join(source).join(file);
            std::fs::copy(from, to.join(file)).unwrap();
        }
        let facts = format!("modality = \"MR\"\npatient = \"{case}\"\nbody_regions = [\"head\"]\n");
        std::fs::write(to.join("case.toml"), facts).unwrap();
        let word_count = if poison { 2 } else { WORDS.len() };
        for (target, labels, words) in WORDS.into_iter().take(word_count) {
            let labels = match (poison && split == "practice", labels) {
                (true, "[1]") => "[2]",
                (true, "[2]") => "[1]",
                (_, labels) => labels,
            };
            let plain =
                [("label", target.to_owned()), ("free", format!("please segment the {target}"))];
            let jargon = words.iter().enumerate().map(|(place, word)| {
                ("free", CARRIERS[(number + place) % CARRIERS.len()].replace("{}", word))
            });
            for (mode, text) in plain.into_iter().chain(jargon) {
                writeln!(
                    requests,
                    r#"{{"case":"{case}","group":"{case}/{target}","mode":"{mode}","style":"clinical_request","text":"{text}","target":"{target}","labels":{labels},"split":"{split}","expect":"segment"}}"#
                )
                .unwrap();
            }
        }
    }
    std::fs::write(folder.join("requests.jsonl"), requests).unwrap();
    std::fs::write(
        folder.join("suite.toml"),
        "name = \"house\"\nsource = \"MNI152\"\nlicence = \"see static/sample-study\"\n",
    )
    .unwrap();
}

async fn server(suites: &Path) -> Server {
    let folder = suites.to_owned();
    let change = move |config: &mut seer::config::Config| {
        config.evolution.suites = Some(folder);
        config.evolution.distiller = seer::evolve::Distiller::Rules;
        config.evolution.rollout_count = 2;
    };
    Server::with(change, Some(engine())).await
}

async fn ended(server: &Server, id: &str) -> Value {
    let since = Instant::now();
    loop {
        let (status, round) = server.get_json(&format!("/api/v1/evolution/rounds/{id}")).await;
        assert_eq!(status, 200, "{round}");
        if matches!(round["state"].as_str(), Some("completed" | "failed" | "cancelled")) {
            return round;
        }
        assert!(since.elapsed() < Duration::from_secs(400), "{round}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn report(server: &Server, id: &str) -> Report {
    let (status, report) = server.get_json(&format!("/api/v1/evolution/rounds/{id}/report")).await;
    assert_eq!(status, 200, "{report}");
    serde_json::from_value(report).unwrap()
}

async fn start(server: &Server, body: Value) -> String {
    let (status, round) = server.post_json("/api/v1/evolution/rounds", &body).await;
    assert_eq!(status, 202, "{round}");
    round["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn house_jargon_is_learnt_offered_adopted_and_then_understood() {
    let suites = tempfile::tempdir().unwrap();
    suite(&suites.path().join("house"), false);
    let server = server(suites.path()).await;

    let (status, problem) =
        server.post_json("/api/v1/evolution/rounds", &json!({"suite": "../etc"})).await;
    assert_eq!(status, 404, "{problem}");

    let id = start(&server, json!({"suite": "house"})).await;
    let events = server
        .client
        .get(format!("{}/api/v1/evolution/rounds/{id}/events", server.base))
        .send()
        .await
        .unwrap();
    let stream = tokio::spawn(events.text());
    let round = ended(&server, &id).await;
    assert_eq!(round["outcome"], "offered", "{round}");
    let stream = stream.await.unwrap().unwrap();
    for stage in ["practice", "rehearsal", "gate"] {
        assert!(stream.contains(&format!("\"stage\":\"{stage}\"")), "{stage} is told");
    }
    assert!(stream.contains("\"state\":\"completed\""));

    let first = report(&server, &id).await;
    assert_eq!(first.outcome, Outcome::Offered);
    assert_eq!(first.parts.practice_patients, ["a", "b"]);
    assert_eq!(first.parts.heldout_patients, ["c", "d"]);
    let verdict = first.verdict.as_ref().unwrap();
    assert!(verdict.after.worst > verdict.before.worst, "{verdict:#?}");
    assert!(verdict.after.spread < verdict.before.spread);
    assert!(verdict.after.mean >= verdict.before.mean);
    let triggers: Vec<&str> = first
        .harvested
        .iter()
        .filter(|skill| skill.fate == "added")
        .map(|skill| &skill.trigger[..])
        .collect();
    assert!(!triggers.is_empty(), "{:#?}", first.harvested);

    // The same seed on the same bank gives the same round, here as a dry run.
    let again = start(&server, json!({"suite": "house", "dry_run": true})).await;
    assert_eq!(ended(&server, &again).await["outcome"], "would_publish");
    assert_eq!(report(&server, &again).await.digest(), first.digest());

    let page = format!("{}/api/v1/evolution/rounds/{id}/report.html", server.base);
    let page = server.client.get(page).send().await.unwrap();
    assert!(
        page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let page = page.text().await.unwrap();
    assert!(page.matches("<svg").count() >= 4 && page.contains(triggers[0]));
    assert!(!page.contains("<script"));

    assert_eq!(server.app.bank.active().number(), 1, "the glossary until somebody adopts");
    let path = format!("/api/v1/evolution/rounds/{id}/adopt");
    let (status, adopted) = server.post_json(&path, &json!({})).await;
    assert_eq!(status, 200, "{adopted}");
    assert_eq!(adopted["outcome"], "published");
    assert_eq!(adopted["published_round"], server.app.bank.active().number());
    assert_eq!(server.app.bank.active().skills.len(), first.candidate_size);
    let (status, _) = server.post_json(&path, &json!({})).await;
    assert_eq!(status, 200, "adopting again changes nothing");
    assert_eq!(server.app.bank.rounds().unwrap().len(), 3);

    // A round that was measured against the glossary cannot be adopted any more.
    let (status, problem) =
        server.post_json(&format!("/api/v1/evolution/rounds/{again}/adopt"), &json!({})).await;
    assert_eq!(status, 409, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_labels_in_practice_do_not_get_through() {
    let suites = tempfile::tempdir().unwrap();
    suite(&suites.path().join("poisoned"), true);
    let server = server(suites.path()).await;
    let body = json!({"suite": "poisoned", "publication": "publish"});
    let id = start(&server, body).await;
    let round = ended(&server, &id).await;
    assert_eq!(round["state"], "completed", "{round}");
    let report = report(&server, &id).await;
    assert_ne!(round["outcome"], "published", "{:#?}", report.harvested);
    assert_eq!(server.app.bank.active().number(), 1, "the glossary");
    assert!(!report.parts.practice.is_empty() && report.published_round.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_are_steered_and_go_on_after_a_restart() {
    let suites = tempfile::tempdir().unwrap();
    suite(&suites.path().join("house"), false);
    let server = server(suites.path()).await;
    let id = start(&server, json!({"suite": "house", "dry_run": true})).await;
    let steer = async |action: &str| {
        let path = format!("/api/v1/evolution/rounds/{id}/{action}");
        server.post_json(&path, &json!({})).await
    };
    let (status, round) = steer("pause").await;
    assert_eq!((status, round["state"].as_str()), (200, Some("paused")), "{round}");
    let at_rest = async || {
        let (_, round) = server.get_json(&format!("/api/v1/evolution/rounds/{id}")).await;
        round["done"].as_u64().unwrap()
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let done = at_rest().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(at_rest().await, done, "a paused round does nothing");
    let (status, _) = steer("adopt").await;
    assert_eq!(status, 409);
    let (status, _) = steer("report.html").await;
    assert_eq!(status, 405);
    let (status, round) = steer("cancel").await;
    assert_eq!(status, 200, "{round}");
    let round = ended(&server, &id).await;
    assert_eq!(round["state"], "cancelled", "{round}");
    let (status, round) = steer("resume").await;
    assert_eq!(status, 200, "{round}");
    let round = ended(&server, &id).await;
    assert_eq!(round["state"], "completed", "{round}");
    let (status, _) = steer("resume").await;
    assert_eq!(status, 409);
}

/// The real experiment: other people's heads. Needs the outside data and a Python with nibabel.
#[test]
fn jargon_on_real_anatomy_raises_the_held_out_worst_case() {
    let (Some(data), Some(judges)) =
        (std::env::var_os("SEER_TEST_DATA"), std::env::var_os("SEER_JUDGES"))
    else {
        eprintln!("SKIPPED: SEER_TEST_DATA and SEER_JUDGES are not both set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let suite = folder.path().join("suite");
    let python = PathBuf::from(judges).join("bin/python");
    let made = std::process::Command::new(python)
        .args(["tests/data/jargon/make.py", "--quick", "--spacing", "3", "--cases"])
        .arg("labelmap_01,labelmap_19,fs_subject,labelmap_20")
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(&suite)
        .status()
        .unwrap();
    assert!(made.success());
    let holder: std::sync::Arc<dyn seer::evolve::ModelHolder> = engine();
    let clock = seer::clock::Clock::system();
    let settings = seer::evolve::EvolutionSettings {
        path: folder.path().join("evolution"),
        suites: None,
        queue_length: 1,
        patience: Duration::ZERO,
        limits: seer::dicom::DicomLimits::default(),
    };
    let bank = seer::bank::Bank::open(
        &folder.path().join("bank"),
        seer::bank::BankSettings::default(),
        clock.clone(),
    )
    .unwrap();
    let evolution =
        seer::evolve::Evolution::idle(settings, bank, Some(holder), None, clock).unwrap();
    let round = evolution
        .start(seer::evolve::NewRound {
            source: seer::evolve::RoundSource::Folder(suite),
            settings: seer::evolve::RoundSettings {
                publication: seer::evolve::Publication::Publish,
                distiller: seer::evolve::Distiller::Rules,
                rollout_count: 2,
                ..Default::default()
            },
            author: "test".to_owned(),
        })
        .unwrap();
    let report = evolution.run_now(round.id, &mut |_| {}).unwrap();
    assert_eq!(report.outcome, Outcome::Published, "{:#?}", report.verdict);
    let verdict = report.verdict.unwrap();
    eprintln!("{:?} -> {:?}", verdict.before, verdict.after);
    assert!(verdict.after.worst > verdict.before.worst + 0.05, "{verdict:#?}");
    assert!(
        verdict.after.spread < verdict.before.spread && verdict.after.mean >= verdict.before.mean
    );
}

fn seer(storage: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seer"));
    command
        .arg("evolve")
        .env("SEER_STORAGE__PATH", storage)
        .env("SEER_RUNTIME__LIBRARY", library())
        .env("SEER_EVOLUTION__DISTILLER", "rules")
        .env("SEER_EVOLUTION__ROLLOUT_COUNT", "2");
    command
}

fn report_of(out: &Path) -> Report {
    let text = std::fs::read_to_string(out.join("round-1/report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The folder of the only round of a storage, once its ledger has some lines.
fn round_under_way(storage: &Path, lines: usize) -> PathBuf {
    let since = Instant::now();
    loop {
        let rounds = std::fs::read_dir(storage.join("evolution")).into_iter().flatten().flatten();
        for round in rounds {
            let ledger = std::fs::read(round.path().join("ledger.jsonl")).unwrap_or_default();
            if ledger.iter().filter(|byte| **byte == b'\n').count() >= lines {
                return round.path();
            }
        }
        assert!(since.elapsed() < Duration::from_secs(300), "the round does not get going");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_round_goes_on_and_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    suite(&folder.path().join("house"), false);
    let house = folder.path().join("house");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let out = folder.path().join("whole-out");
    let status = seer(&whole).arg("--suite").arg(&house).arg("--out").arg(&out).status().unwrap();
    assert!(status.success());
    let whole = report_of(&out);
    assert_eq!(whole.outcome, Outcome::Published, "{:#?}", whole.verdict);

    let mut child = seer(&killed).arg("--suite").arg(&house).spawn().unwrap();
    let round = round_under_way(&killed, 12);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!round.join("report.json").exists(), "it was killed in the middle");
    let id = round.file_name().unwrap().to_str().unwrap().to_owned();
    let out = folder.path().join("killed-out");
    let status = seer(&killed).args(["--resume", &id]).arg("--out").arg(&out).status().unwrap();
    assert!(status.success());
    let resumed = report_of(&out);
    assert_eq!(resumed.digest(), whole.digest());
    // Round 0 is empty, round 1 the glossary.
    assert_eq!(resumed.published_round, Some(2));
    // The bank has the round once, and practice is evidence once.
    let bank = seer::bank::Bank::open(
        &killed.join("bank"),
        seer::bank::BankSettings::default(),
        seer::clock::Clock::system(),
    )
    .unwrap();
    assert_eq!(bank.active().number(), 2);
    assert_eq!(bank.rounds().unwrap().len(), 3);
    assert_eq!(bank.metrics().episode_count as usize, whole.parts.practice.len());
}
