//! OHIF opens a study of ours in a browser and shows our SEG.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Server, engine};

/// Folder with OHIF's `package/dist` and `node_modules/puppeteer-core`; `tests/peers/setup.sh`.
const OHIF: &str = "SEER_OHIF";

#[tokio::test(flavor = "multi_thread")]
async fn ohif_shows_binary_and_label_map_segmentations_in_their_place() {
    let Some(ohif) = ohif() else { return };
    let allow_all = |config: &mut seer::config::Config| {
        config.http.cors_origins = vec!["*".to_owned()];
    };
    let server = Server::with(allow_all, Some(engine())).await;
    let study = server.stow_sample().await;
    for (target, kind) in [("left putamen", "binary"), ("right thalamus", "labelmap")] {
        let body = json!({
            "study_uid": study, "text": format!("segment the {target}"), "segmentation_type": kind,
        });
        let (_, order) = server.post_json("/api/v1/orders", &body).await;
        let order = server.wait(order["id"].as_str().unwrap()).await;
        assert_eq!(order["state"], "completed", "{order:#}");
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ohif-{kind}.png"));
        let root = format!("{}/dicom-web", server.base);
        let description = format!("SEER {target}");
        let (ohif, study, at) = (ohif.clone(), study.clone(), picture.clone());
        let output =
            tokio::task::spawn_blocking(move || open(&ohif, &root, &study, &description, &at))
                .await
                .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {said}{complaint}");
        let said: Value = serde_json::from_str(said.trim()).unwrap();
        // OHIF also lists the background of a label map.
        let segments = said["shown"][0]["segments"].as_array().unwrap();
        assert_eq!(segments.last().unwrap(), target, "{kind}: {said}");
        eprintln!("{kind}: {said}; picture in {}", picture.display());
    }
}

fn open(ohif: &Path, root: &str, study: &str, description: &str, picture: &Path) -> Output {
    // Modules are looked for beside the script.
    let script = ohif.join("ohif.mjs");
    std::fs::copy("tests/peers/ohif.mjs", &script).unwrap();
    Command::new("node")
        .arg(script)
        .arg(ohif.join("package/dist"))
        .args([root, study, description])
        .arg(picture)
        .output()
        .expect("node starts")
}

fn ohif() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os(OHIF).map(PathBuf::from) else {
        eprintln!("SKIPPED: OHIF: {OHIF} is not set");
        return None;
    };
    for program in ["node", "chromium"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("SKIPPED: OHIF: {program} is not installed");
            return None;
        }
    }
    Some(folder)
}
