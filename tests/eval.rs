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

mod readers {
    use std::io::Cursor;
    use std::path::{Path, PathBuf};

    use ndarray::Array3;
    use seer::error::Kind;
    use seer::eval::readers::{ImportSettings, Layout, import};
    use seer::eval::{Expect, Mode, Split, Suite};
    use seer::geometry::{PatientPoint, VolumeGeometry};
    use seer::runtime::Bundle;
    use seer::series::Modality;
    use seer::threads::Progress;
    use seer::volume::{Volume, nifti};

    const SHAPE: [usize; 3] = [6, 8, 10];

    fn grid() -> VolumeGeometry {
        VolumeGeometry::from_frames(
            SHAPE,
            PatientPoint([9.0, -4.0, 2.0]),
            [[-0.96, 0.28, 0.0], [0.28, 0.96, 0.0]],
            [1.5, 0.75],
            [0.0, 0.0, 3.0],
        )
        .unwrap()
    }

    fn image(folder: &Path, name: &str) {
        std::fs::create_dir_all(folder).unwrap();
        let voxels = Array3::from_shape_fn(SHAPE, |(s, r, c)| (s * 100 + r * 10 + c) as f32);
        let volume = Volume { geometry: grid(), voxels, modality: Modality::Mr };
        nifti::write_image(&folder.join(name), &volume).unwrap();
    }

    fn labels(folder: &Path, name: &str, values: &[u16]) {
        std::fs::create_dir_all(folder).unwrap();
        let map = Array3::from_shape_fn(
            SHAPE,
            |(s, r, _)| {
                if s < 3 { 0 } else { values[r % values.len()] }
            },
        );
        nifti::write_labels(&folder.join(name), &map, &grid()).unwrap();
    }

    fn meta(folder: &Path, name: &str, value: impl Fn(usize) -> i16) {
        std::fs::create_dir_all(folder).unwrap();
        let mut bytes = b"ObjectType = Image\nNDims = 3\nBinaryData = True\n\
            BinaryDataByteOrderMSB = False\nCompressedData = False\n\
            TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -5 -4 100\nCenterOfRotation = 0 0 0\n\
            ElementSpacing = 0.8 0.8 1\nDimSize = 10 8 6\nAnatomicalOrientation = RAI\n\
            ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
            .to_vec();
        bytes.extend((0..480).flat_map(|n| value(n).to_le_bytes()));
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    fn slices(folder: &Path, value: impl Fn(usize, u32, u32) -> u8) {
        std::fs::create_dir_all(folder).unwrap();
        for slice in 0..12 {
            let picture =
                image::GrayImage::from_fn(10, 8, |x, y| image::Luma([value(slice, x, y)]));
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            std::fs::write(folder.join(format!("{slice}.png")), bytes.into_inner()).unwrap();
        }
    }

    fn build(layout: Layout, root: &Path) {
        match layout {
            Layout::Brats2021 => {
                for case in ["BraTS2021_00000", "BraTS2021_00002"] {
                    let folder = root.join("RSNA_ASNR_MICCAI_BraTS2021_TrainingData").join(case);
                    for kind in ["flair", "t1", "t1ce", "t2"] {
                        image(&folder, &format!("{case}_{kind}.nii.gz"));
                    }
                    labels(&folder, &format!("{case}_seg.nii.gz"), &[0, 1, 2, 4]);
                }
            }
            Layout::Brats2024 => {
                for case in ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00008-100"] {
                    let folder = root.join("training_data1_v2").join(case);
                    for kind in ["t1c", "t1n", "t2f", "t2w"] {
                        image(&folder, &format!("{case}-{kind}.nii.gz"));
                    }
                    labels(&folder, &format!("{case}-seg.nii.gz"), &[0, 2, 3]);
                }
                let unlabelled = root.join("validation/BraTS-GLI-00099-100");
                image(&unlabelled, "BraTS-GLI-00099-100-t1c.nii.gz");
            }
            Layout::Isles2022 => {
                for (number, dwi) in [("0001", "dwi"), ("0002", "dwi")] {
                    let case = format!("sub-strokecase{number}");
                    let session = format!("{case}_ses-0001");
                    let folder = root.join("ISLES-2022").join(&case).join("ses-0001");
                    image(&folder.join(dwi), &format!("{session}_dwi.nii.gz"));
                    image(&folder.join(dwi), &format!("{session}_adc.nii.gz"));
                    image(&folder.join("anat"), &format!("{session}_FLAIR.nii.gz"));
                    let masks = root.join("ISLES-2022/derivatives").join(&case).join("ses-0001");
                    labels(&masks, &format!("{session}_msk.nii.gz"), &[0, 1]);
                }
            }
            Layout::Flare22 => {
                for case in ["FLARE22_Tr_0001", "FLARE22_Tr_0002"] {
                    let root = root.join("FLARE22Train");
                    image(&root.join("images"), &format!("{case}_0000.nii.gz"));
                    labels(&root.join("labels"), &format!("{case}.nii.gz"), &[0, 1, 2, 13, 3]);
                }
            }
            Layout::Hvsmr2 => {
                for case in ["pat0", "pat1"] {
                    let folder = root.join("cropped");
                    image(&folder, &format!("{case}_cropped.nii.gz"));
                    image(&folder, &format!("{case}_cropped_norm.nii.gz"));
                    labels(&folder, &format!("{case}_cropped_seg.nii.gz"), &[0, 1, 2, 3, 4, 5]);
                    labels(&folder, &format!("{case}_cropped_seg_endpoints.nii.gz"), &[0, 9]);
                }
            }
            Layout::Pengwin => {
                for (part, case) in [("part1", "001.mha"), ("part2", "051.mha")] {
                    let images = root.join(format!("PENGWIN_CT_train_images_{part}"));
                    meta(&images, case, |n| n as i16 - 1000);
                    let labels = root.join("PENGWIN_CT_train_labels");
                    meta(&labels, case, |n| [0, 1, 2, 11, 12, 21][n % 6]);
                }
            }
            Layout::BrainMetShare => {
                for case in ["Mets_005", "Mets_010"] {
                    let folder = root.join("mets_stanford_releaseMask_train").join(case);
                    for sequence in ["0", "1", "2", "3"] {
                        slices(&folder.join(sequence), |s, x, y| (s * 20) as u8 + (x + y) as u8);
                    }
                    slices(&folder.join("seg"), |s, x, _| if s == 10 && x < 3 { 255 } else { 0 });
                }
                let test = root.join("mets_stanford_releaseMask_test/Mets_200/0");
                slices(&test, |_, x, _| x as u8);
            }
        }
    }

    #[test]
    fn every_layout_becomes_a_suite() {
        let bundle = Bundle::open(Path::new("models/seer-mini")).unwrap();
        for layout in Layout::ALL {
            let folder = tempfile::tempdir().unwrap();
            let (root, out) = (folder.path().join("in"), folder.path().join("out"));
            build(layout, &root);
            let settings = ImportSettings { wordings: 3, rejections: 3, ..Default::default() };
            let silent = Progress::silent();
            let imported =
                import(layout, &root, &out, bundle.vocabulary(), &settings, &silent).unwrap();
            let suite = Suite::open(&out).unwrap();
            let facts = layout.facts();
            assert_eq!(suite.case_names().len(), imported.case_count, "{layout:?}");
            let patients = if layout == Layout::Brats2024 { 3 } else { 2 };
            assert_eq!(imported.case_count, patients, "{layout:?}");
            for name in suite.case_names() {
                let case = suite.case(&name).unwrap();
                assert_eq!(case.volume.modality.code(), facts.modality, "{layout:?}");
                let mine = || suite.requests().iter().filter(|r| r.case == name);
                assert!(mine().any(|r| r.expect == Expect::Reject), "{layout:?}");
                for request in mine().filter(|r| r.mode == Mode::Label) {
                    let (_, expected) =
                        facts.targets.iter().find(|(name, _)| *name == request.target).unwrap();
                    assert_eq!(&request.labels, expected);
                    let reference = case.reference(&request.labels).unwrap();
                    assert!(reference.voxel_count() > 0, "{layout:?} {}", request.target);
                    let wordings = mine().filter(|r| r.group == request.group).count();
                    assert_eq!(wordings, 4, "{layout:?} {}", request.target);
                }
            }
            let splits: Vec<Option<Split>> = suite.requests().iter().map(|r| r.split).collect();
            assert!(splits.contains(&Some(Split::Heldout)), "{layout:?}");
            assert!(splits.contains(&Some(Split::Practice)), "{layout:?}");
        }
    }

    #[test]
    fn time_points_of_a_patient_stay_on_one_side() {
        let folder = tempfile::tempdir().unwrap();
        build(Layout::Brats2024, folder.path());
        let cases = Layout::Brats2024.find(folder.path(), None).unwrap();
        let patients: Vec<&str> = cases.iter().map(|case| case.patient.as_str()).collect();
        assert_eq!(patients, ["BraTS-GLI-00005", "BraTS-GLI-00005", "BraTS-GLI-00008"]);
    }

    #[test]
    fn slices_and_meta_images_keep_their_sides() {
        let folder = tempfile::tempdir().unwrap();
        let out: PathBuf = folder.path().join("out");
        let bundle = Bundle::open(Path::new("models/seer-mini")).unwrap();
        let root = folder.path().join("in");
        build(Layout::BrainMetShare, &root);
        let settings = ImportSettings::default();
        let silent = Progress::silent();
        import(Layout::BrainMetShare, &root, &out, bundle.vocabulary(), &settings, &silent)
            .unwrap();
        let case = Suite::open(&out).unwrap().case("Mets_005").unwrap();
        let mask = case.reference(&[1]).unwrap();
        assert_eq!(mask.voxel_count(), 3 * 8);
        // Columns 0 to 2 of a radiological display are the patient's right, slice 10 is near the head.
        for ((slice, row, column), _) in mask.voxels.indexed_iter().filter(|(_, inside)| **inside) {
            let at = seer::geometry::VoxelPoint([slice as f64, row as f64, column as f64]);
            let at = mask.geometry.voxel_to_patient().apply(at).0;
            assert!(at[0] < 0.0 && at[2] > 3.0, "{at:?}");
        }
    }

    #[test]
    fn a_folder_without_the_layout_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for layout in Layout::ALL {
            let error = layout.find(folder.path(), None).unwrap_err();
            assert!(error.to_string().contains(layout.word()), "{error}");
            assert_eq!(error.kind().word(), "invalid");
        }
        let error = Layout::Brats2021.find(folder.path(), Some("t9")).unwrap_err();
        assert!(error.to_string().contains("t9"), "{error}");
    }
}

mod traces {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::Json;
    use axum::routing::post;
    use seer::eval::trace::{
        self, RephraseTask, Rephraser, Statistics, TraceMaker, TraceSettings, Tuple, Verdict,
    };
    use seer::eval::{Expect, Split, Suite};
    use seer::reason::prompt::Prompter;
    use seer::runtime::Bundle;
    use seer::threads::Progress;
    use serde_json::{Value, json};

    use super::TINY;

    const SETTINGS: TraceSettings = TraceSettings {
        wordings: 10,
        rejections: 8,
        pairs: 0,
        review_share: 0.05,
        heldout_share: 0.5,
        seed: 4,
    };

    fn build(out: &Path, seed: u64, rephraser: Option<Rephraser<'_>>) -> Statistics {
        let bundle = Bundle::open(Path::new("models/seer-mini")).unwrap();
        let manifest = bundle.reasoner().unwrap();
        let prompter = Prompter::load(&bundle, manifest).unwrap();
        let maker = TraceMaker {
            vocabulary: bundle.vocabulary(),
            view_plan: &manifest.view_plan,
            prompter: &prompter,
            settings: TraceSettings { seed, ..SETTINGS },
            rephraser,
        };
        let suite = Suite::open(Path::new(TINY)).unwrap();
        maker.build(&suite, out, &Progress::silent()).unwrap()
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn tuples(folder: &Path) -> Vec<Tuple> {
        trace::read_tuples(folder).unwrap()
    }

    #[test]
    fn tuples_say_what_the_reference_shows() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let statistics = build(out, 4, None);
        let found = tuples(out);
        assert_eq!(statistics.tuples, found.len());
        assert_eq!(statistics.cases, 2);
        let ids: BTreeSet<&String> = found.iter().map(|tuple| &tuple.id).collect();
        assert_eq!(ids.len(), found.len());
        let left = || found.iter().filter(|t| t.target == "left cerebral hemisphere");
        assert!(left().count() >= 14, "{}", left().count());
        for tuple in left() {
            // The patient's left is on the picture's right.
            assert!(tuple.evidence.contains("in the right half of the picture"), "{tuple:?}");
            assert!(tuple.evidence.starts_with("MR of the head. "), "{tuple:?}");
            assert_eq!(tuple.answer, "Segment the left cerebral hemisphere.");
            assert_eq!(tuple.labels, [1]);
        }
        for tuple in found.iter().filter(|tuple| tuple.expect == Expect::Reject) {
            assert!(tuple.answer.starts_with("Reject: "), "{tuple:?}");
            assert!(tuple.reason.is_some() && tuple.labels.is_empty(), "{tuple:?}");
        }
        let splits: BTreeSet<(&str, Split)> =
            found.iter().map(|tuple| (tuple.patient.as_str(), tuple.split)).collect();
        assert_eq!(
            splits.into_iter().collect::<Vec<_>>(),
            [("head_a", Split::Practice), ("head_b", Split::Heldout)]
        );
        for image in &found[0].images {
            assert!(out.join(image).is_file(), "{image}");
        }
        let swift = lines(&out.join("swift-train.jsonl"));
        assert_eq!(swift.len(), found.iter().filter(|t| t.split == Split::Practice).count());
        for (row, trl) in swift.iter().zip(lines(&out.join("trl-train.jsonl"))) {
            let user = row["messages"][1]["content"].as_str().unwrap();
            let marks = user.matches("<image>").count();
            assert_eq!(marks, row["images"].as_array().unwrap().len());
            assert!(user.contains("<raw_prompt>"), "{user}");
            let parts = trl["messages"][1]["content"].as_array().unwrap();
            assert_eq!(parts.iter().filter(|part| part["type"] == "image").count(), marks);
            let answer = row["messages"][2]["content"].as_str().unwrap();
            let parsed = seer::reason::trace::parse(answer);
            assert!(parsed.format_ok, "{answer}");
        }
        let shown = found.iter().filter(|tuple| !tuple.skills.is_empty());
        assert!(shown.count() > found.len() / 4);
    }

    #[test]
    fn a_seed_gives_the_same_files() {
        let [a, b, c] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        build(a.path(), 1, None);
        build(b.path(), 1, None);
        build(c.path(), 2, None);
        let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
        for name in ["tuples.jsonl", "swift-train.jsonl", "review.csv", "images/head_a/view-1.png"]
        {
            assert_eq!(read(a.path(), name), read(b.path(), name), "{name}");
        }
        assert_ne!(read(a.path(), "tuples.jsonl"), read(c.path(), "tuples.jsonl"));
    }

    #[test]
    fn marks_of_an_expert_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        build(out, 4, None);
        let found = tuples(out);
        let page = std::fs::read_to_string(out.join("review.html")).unwrap();
        let table = std::fs::read_to_string(out.join("review.csv")).unwrap();
        let sampled: Vec<&Tuple> =
            found.iter().filter(|tuple| page.contains(&format!("id=\"{}\"", tuple.id))).collect();
        assert!(sampled.len() >= 7 && sampled.len() < found.len() / 2, "{}", sampled.len());
        assert!(sampled.iter().all(|tuple| table.contains(&tuple.id)));
        let marks = format!(
            "id,verdict,comment\r\n\"{}\",\"wrong\",\"the side, \"\"left\"\"\"\r\n{},right,\r\n{},unsure,\r\n",
            sampled[0].id, sampled[1].id, sampled[2].id
        );
        let path = out.join("marks.csv");
        std::fs::write(&path, marks).unwrap();
        let marks = trace::read_marks(&path).unwrap();
        assert_eq!(marks[&sampled[0].id], (Verdict::Wrong, "the side, \"left\"".to_owned()));
        let review = trace::reviewed(out, &found, &marks).unwrap();
        assert_eq!((review.marked, review.right.count, review.right.of), (3, 1, 2));
        assert_eq!(review.wrong.keys().collect::<Vec<_>>(), [&sampled[0].id]);
        std::fs::write(&path, "id,verdict\ntrace:0,right\n").unwrap();
        let unknown = trace::read_marks(&path).unwrap();
        assert!(trace::reviewed(out, &found, &unknown).is_err());
    }

    #[test]
    fn wordings_of_a_model_are_used_only_when_they_name_the_target_and_its_side() {
        let folder = tempfile::tempdir().unwrap();
        let answer = |task: &RephraseTask| {
            Ok(match task.target.as_str() {
                "left cerebral hemisphere" => vec![
                    "Kindly trace the left cerebral hemisphere.".to_owned(),
                    "Kindly trace the right cerebral hemisphere.".to_owned(),
                    "Outline the left cerebral hemisphere, not the right one.".to_owned(),
                    "Outline the brain.".to_owned(),
                    "left cerebral hemisphere of patient 4711".to_owned(),
                ],
                _ => Vec::new(),
            })
        };
        let rephraser = Rephraser { name: "model".to_owned(), share: 1.0, rephrase: &answer };
        build(folder.path(), 4, Some(rephraser));
        let used: BTreeSet<String> = tuples(folder.path())
            .into_iter()
            .filter(|tuple| tuple.author == "model")
            .map(|tuple| tuple.request)
            .collect();
        assert_eq!(
            used.into_iter().collect::<Vec<_>>(),
            ["Kindly trace the left cerebral hemisphere."]
        );
    }

    /// The whole command against a real server of the usual interface.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_command_asks_a_model_and_tells_it_nothing_of_a_study() {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Value>::new()));
        let kept = std::sync::Arc::clone(&asked);
        let app = axum::Router::new().route(
            "/v1/chat/completions",
            post(move |Json(body): Json<Value>| async move {
                kept.lock().unwrap().push(body);
                Json(json!({"choices": [{"message": {"role": "assistant",
                    "content": "1. Trace the brain.\n2. Brain contour, thanks."}}]}))
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_owned();
        let run = {
            let out = out.clone();
            move || {
                std::process::Command::new(env!("CARGO_BIN_EXE_seer"))
                    .args(["trace", "build", "--suite", TINY, "--wordings", "3"])
                    .args(["--rephrase-share", "1", "--rephrase-model", "some-model"])
                    .args(["--rephrase-url", &url, "--out"])
                    .arg(&out)
                    .output()
                    .unwrap()
            }
        };
        let command = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        let by_model: Vec<Tuple> =
            tuples(&out).into_iter().filter(|tuple| tuple.author == "some-model").collect();
        assert_eq!(by_model.len(), 4);
        assert!(by_model.iter().all(|tuple| tuple.target == "brain"));
        let asked = asked.lock().unwrap();
        // Three targets in each of two cases.
        assert_eq!(asked.len(), 6);
        let said = serde_json::to_string(&*asked).unwrap();
        for secret in ["head_a", "head_b", "view", "image"] {
            assert!(!said.contains(secret), "{secret}");
        }
    }
}
