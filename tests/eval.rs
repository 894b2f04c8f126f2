//! Suites, runs and reports, with the embedded models on a tiny suite.

use std::path::Path;

use ndarray::Array3;
use seer::dicom_seg::{
    self, Provenance, SegInput, SegOptions, SegmentCoding, SegmentInput, Tracking,
};
use seer::eval::{Configuration, Expect, Mode, Runner, Suite, scores};
use seer::reason::DecodingOverrides;
use seer::runtime::vocabulary::Code;
use seer::{dicom, series, volume};

use crate::support::{engine, sample_study};

const TINY: &str = "tests/data/suites/tiny";

fn tiny() -> Suite {
    Suite::open(Path::new(TINY)).unwrap()
}

#[test]
fn a_suite_knows_its_cases_groups_and_references() {
    let suite = tiny();
    assert_eq!(suite.case_names(), ["head_a", "head_b"]);
    let groups = suite.groups();
    assert_eq!(groups.len(), 8);
    let left = groups.iter().find(|g| g.name == "head_a/left cerebral hemisphere").unwrap();
    assert_eq!(left.requests.len(), 4);
    assert_eq!(left.requests.iter().filter(|r| r.mode == Mode::Label).count(), 1);
    let volumes: Vec<f64> = ["head_a", "head_b"]
        .into_iter()
        .map(|name| {
            let case = suite.case(name).unwrap();
            assert_eq!(case.label_values().unwrap(), [1, 2]);
            assert_eq!(case.facts.labels["1"], "left cerebral hemisphere");
            let left = case.reference(&[1]).unwrap();
            let all = case.reference(&[1, 2]).unwrap();
            assert_eq!(
                all.voxel_count(),
                left.voxel_count() + case.reference(&[2]).unwrap().voxel_count()
            );
            assert_eq!(case.reference(&[7]).unwrap().voxel_count(), 0);
            left.volume_ml()
        })
        .collect();
    assert!((volumes[0] - volumes[1]).abs() < 1e-3 * volumes[0], "{volumes:?}");
}

#[test]
fn a_suite_of_dicom_takes_its_references_from_a_segmentation() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("cases/sample");
    std::fs::create_dir_all(case.join("dicom")).unwrap();
    let mut instances = Vec::new();
    for (number, file) in sample_study().iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(case.join(format!("dicom/{number}.dcm")), &bytes).unwrap();
        let (instance, _) = dicom::Instance::parse(&bytes, &dicom::DicomLimits::default()).unwrap();
        instances.push(std::sync::Arc::new(instance));
    }
    let (series, _) = series::assemble(instances).unwrap();
    let (volume, _) = volume::assemble(&series).unwrap();
    let box_of = |rows: std::ops::Range<usize>| {
        Array3::from_shape_fn(volume.geometry.shape(), |(s, r, c)| {
            (20..30).contains(&s) && rows.contains(&r) && (40..90).contains(&c)
        })
    };
    let masks = [box_of(50..90), box_of(80..120)];
    let code =
        |value: &str| Code { value: value.into(), scheme: "99TEST".into(), meaning: value.into() };
    let segments = masks.iter().enumerate().map(|(index, mask)| SegmentInput {
        label: format!("box {index}"),
        mask,
        coding: SegmentCoding {
            category: code("box"),
            property_type: code("box"),
            modifier: None,
            cielab: [30000; 3],
        },
        tracking: Tracking::derive("test", index as u16 + 1),
        algorithm_name: "test".into(),
    });
    let bundle =
        dicom_seg::BundleIdentity { name: "t".into(), version: "1".into(), sha256: "0".repeat(64) };
    let input = SegInput {
        series: &series,
        segments: segments.collect(),
        provenance: Provenance {
            backbone: bundle,
            reasoner: None,
            skill_round: None,
            server_version: "0".into(),
            order_hash: "suite".into(),
            device_uid: "2.25.1".into(),
        },
        created: time::OffsetDateTime::UNIX_EPOCH,
        options: SegOptions::default(),
    };
    let (object, _) = dicom_seg::write(&input).unwrap();
    std::fs::write(case.join("labels.dcm"), &object.bytes).unwrap();
    std::fs::write(
        folder.path().join("suite.toml"),
        "name = \"d\"\nsource = \"s\"\nlicence = \"l\"\n[labels]\n2 = \"liver\"\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("requests.jsonl"),
        r#"{"case":"sample","group":"g","mode":"label","style":"formal_task","text":"liver","target":"liver","labels":[2],"split":null,"expect":"segment"}"#,
    )
    .unwrap();
    let suite = Suite::open(folder.path()).unwrap();
    let read = suite.case("sample").unwrap();
    assert_eq!(read.volume, volume);
    assert_eq!(read.label_values().unwrap(), [1, 2]);
    assert_eq!(read.reference(&[2]).unwrap().voxels, masks[1]);
    let union = read.reference(&[1, 2]).unwrap();
    assert_eq!(union.voxel_count(), 10 * 70 * 50);
    assert!(read.reference(&[3]).is_err());
}

#[test]
fn the_runner_walks_every_configuration() {
    let engine = engine();
    let suite = tiny();
    let case = suite.case("head_a").unwrap();
    let runner = Runner::new(engine.eval_models());
    let mut run = runner.open(&case).unwrap();
    let reference = case.packed_reference(&[1, 2]).unwrap();
    for configuration in Configuration::ALL {
        let (execution, mask) = run.run("Segment the brain.", configuration).unwrap();
        assert_eq!(execution.configuration, configuration);
        let found = scores::dice(&mask, &reference).unwrap();
        if configuration == Configuration::Backbone {
            assert_eq!(execution.answer, "Segment the brain.");
            assert!(execution.trace.is_none() && execution.resolved.is_empty());
        } else {
            assert!(execution.trace.is_some());
        }
        if configuration == Configuration::SeerGrounded {
            assert_eq!(execution.resolved, ["brain"], "{execution:?}");
            assert!(found > 0.7, "{found}");
            // What a live order gives for the same words.
            let walked = seer::orders::walk(
                &engine,
                &case.volume,
                "Segment the brain.",
                &seer::threads::Cancel::new(),
                &(std::sync::Arc::new(|_, _| {}) as seer::orders::Report),
            )
            .unwrap();
            assert_eq!(mask.unpack(&case.volume.geometry).unwrap(), walked.masks[0]);
            assert_eq!(walked.answer.canonical_text(), execution.answer);
        }
    }
    let refused = suite.requests().iter().find(|r| r.expect == Expect::Reject).unwrap();
    let (execution, mask) = run.run(&refused.text, Configuration::SeerGrounded).unwrap();
    assert!(execution.is_refused(), "{execution:?}");
    assert_eq!(mask.voxel_count(), 0);

    let sampled = DecodingOverrides { temperature: Some(1.0), seed: Some(3), ..Default::default() };
    let rollouts = run.samples("contour lt cerebral hemispere pls", &[], sampled, 4).unwrap();
    assert_eq!(rollouts.len(), 4);
    let seeds: Vec<u64> =
        rollouts.iter().map(|r| r.trace.as_ref().unwrap().decoding.seed).collect();
    assert_eq!(seeds, [3, 4, 5, 6]);
}
