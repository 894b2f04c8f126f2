//! Retrievals from us (C-MOVE and C-GET provider).

use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, Length, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use serde_json::json;

use super::queries::reader;
use super::scu::{
    EXPLICIT, IMPLICIT, PATIENT_GET, PATIENT_MOVE, STUDY_GET, STUDY_MOVE, Scu, decoded, options,
    text,
};
use super::*;
use crate::support::studies::{COLUMNS, PATIENT_ID, ROWS, Slice};

const MR: &str = uids::MR_IMAGE_STORAGE;

/// Two series of three instances each.
fn slices(study: u32) -> Vec<Slice> {
    let series = |series| (1..=3).map(move |number| Slice::new(study, number).in_series(series));
    (1..=2).flat_map(series).collect()
}

fn store(server: &Server, slices: &[Slice]) {
    for slice in slices {
        server.app.archive.store(&slice.bytes()).unwrap();
    }
}

/// A slice in RLE Lossless: two segments of literal runs, the high bytes first (PS3.5 Annex G).
fn compressed(slice: &Slice) -> Vec<u8> {
    let pixels = slice.pixels();
    let run = |shift: u16| {
        let bytes = pixels.iter().map(|pixel| (pixel >> shift) as u8);
        let mut run: Vec<u8> = std::iter::once((ROWS * COLUMNS - 1) as u8).chain(bytes).collect();
        run.resize(run.len().next_multiple_of(2), 0);
        run
    };
    let (high, low) = (run(8), run(0));
    let mut fragment = vec![0; 64];
    for (at, number) in [2, 64, 64 + high.len() as u32].into_iter().enumerate() {
        fragment[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    fragment.extend(high);
    fragment.extend(low);
    let mut file = dicom_object::from_reader(&slice.bytes()[128..]).unwrap();
    file.put(DataElement::new_with_len(
        tags::PIXEL_DATA,
        VR::OB,
        Length::UNDEFINED,
        PixelFragmentSequence::new_fragments(vec![fragment]),
    ));
    let mut meta = file.meta().clone();
    meta.transfer_syntax = uids::RLE_LOSSLESS.to_owned();
    let mut bytes = Vec::new();
    file.into_inner().with_exact_meta(meta).write_all(&mut bytes).unwrap();
    bytes
}

/// An archive and a workstation that may query it and receives from it.
async fn pair() -> (Server, Server) {
    let (from, gone) = (peers::free_port(), peers::free_port());
    let workstation = server(|config| {
        config.pacs.ae_title = "STATION".into();
        let mut get = dimse("get", "SEER", from);
        get.retrieve = Retrieve::Get;
        config.pacs.dimse = vec![dimse("move", "SEER", from), get];
    })
    .await;
    let to = port(&workstation);
    let archive = server(|config| {
        config.pacs.bind = Some(([127, 0, 0, 1], from).into());
        config.pacs.dimse = vec![
            reader("station", "STATION", to),
            reader("reader", "READER", 104),
            dimse("gone", "GONE", gone),
        ];
    })
    .await;
    (archive, workstation)
}

#[tokio::test]
async fn our_own_requestor_fetches_by_move_and_get() {
    let (archive, workstation) = pair().await;
    for (number, node) in [(830, "move"), (831, "get")] {
        let slices = slices(number);
        store(&archive, &slices);
        let pacs = workstation.app.pacs.clone();
        let study = seer::dicom::StudyUid::parse(&slices[0].study).unwrap();
        let fetched = blocking(move || {
            let wanted = seer::pacs::Wanted { study, series: None };
            let (cancel, progress) = (Default::default(), seer::threads::Progress::silent());
            pacs.fetch(Some(node), &wanted, &cancel, &progress).unwrap()
        })
        .await;
        assert_eq!((fetched.series_count, fetched.instance_count), (2, 6), "{node}");
        let path = format!("/dicom-web/studies/{}/metadata", slices[0].study);
        let ((_, here), (_, there)) =
            (workstation.get_json(&path).await, archive.get_json(&path).await);
        let without_urls = |metadata: &serde_json::Value| {
            let rows = metadata.as_array().unwrap().iter();
            let bare = rows.map(|row| {
                let mut row = row.as_object().unwrap().clone();
                row.remove("7FE00010");
                row
            });
            bare.collect::<Vec<_>>()
        };
        assert_eq!(without_urls(&here), without_urls(&there), "{node}");
    }
}

#[tokio::test]
async fn what_is_wanted_is_moved_at_every_level() {
    let (archive, workstation) = pair().await;
    let all: Vec<Slice> = [840, 841].into_iter().flat_map(slices).collect();
    store(&archive, &all);
    let (first, second) = (all[0].study.clone(), all[6].study.clone());
    let series = all[0].series.clone();
    let images = format!("{}\\{}", all[0].sop_instance(), all[2].sop_instance());
    let from = port(&archive);
    let moved = async |class: &'static str, keys: Vec<(Tag, String)>| {
        blocking(move || {
            let mut scu = Scu::for_class(from, "READER", class, EXPLICIT);
            let keys: Vec<(Tag, &str)> = keys.iter().map(|(t, v)| (*t, v.as_str())).collect();
            let outcome = scu.move_to(class, "STATION", &keys);
            scu.release();
            outcome
        })
        .await
    };
    let level = |word: &str| (tags::QUERY_RETRIEVE_LEVEL, word.to_owned());
    let study = (tags::STUDY_INSTANCE_UID, first.clone());
    let of_series = (tags::SERIES_INSTANCE_UID, series);
    let of_images = (tags::SOP_INSTANCE_UID, images);
    let patient = (tags::PATIENT_ID, PATIENT_ID.to_owned());
    let both = (tags::STUDY_INSTANCE_UID, format!("{first}\\{second}"));
    let none = (tags::STUDY_INSTANCE_UID, "1.2.3".to_owned());
    // What is moved, how much of it, and how much the workstation has then of both studies.
    let rows = [
        (STUDY_MOVE, vec![level("STUDY"), none], 0, [0, 0]),
        (STUDY_MOVE, vec![level("IMAGE"), study.clone(), of_series.clone(), of_images], 2, [2, 0]),
        (STUDY_MOVE, vec![level("SERIES"), study.clone(), of_series], 3, [3, 0]),
        (PATIENT_MOVE, vec![level("STUDY"), patient.clone(), study], 6, [6, 0]),
        (STUDY_MOVE, vec![level("STUDY"), both], 12, [6, 6]),
        (PATIENT_MOVE, vec![level("PATIENT"), patient], 12, [6, 6]),
    ];
    for (class, keys, completed, counts) in rows {
        let what = format!("{keys:?}");
        let outcome = moved(class, keys).await;
        assert_eq!(outcome.status, 0, "{what}: {outcome:?}");
        let told = (outcome.completed, outcome.failed, outcome.warned, outcome.remaining);
        assert_eq!(told, (completed, 0, 0, None), "{what}");
        assert_eq!(outcome.pending_count, usize::from(completed.saturating_sub(1)), "{what}");
        let found = [count(&workstation, &first).await, count(&workstation, &second).await];
        assert_eq!(found, counts, "{what}");
    }
}

#[tokio::test]
async fn moves_to_nowhere_and_of_nothing_are_refused_by_name() {
    let (archive, workstation) = pair().await;
    let slices = slices(850);
    store(&archive, &slices);
    let (from, study) = (port(&archive), slices[0].study.clone());
    let outcomes = blocking(move || {
        let mut scu = Scu::for_class(from, "READER", STUDY_MOVE, IMPLICIT);
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, &*study)];
        let unnamed = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, "")];
        let everything = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, "*")];
        let outcomes = [
            ("an unknown destination", scu.move_to(STUDY_MOVE, "NOBODY", &keys), 0xA801),
            ("ourselves", scu.move_to(STUDY_MOVE, "SEER", &keys), 0xA801),
            ("no study named", scu.move_to(STUDY_MOVE, "STATION", &unnamed), 0xA900),
            ("everything", scu.move_to(STUDY_MOVE, "STATION", &everything), 0xA900),
            // It is configured, and down.
            ("a node that is down", scu.move_to(STUDY_MOVE, "GONE", &keys), 0xA702),
        ];
        scu.release();
        outcomes
    })
    .await;
    for (what, outcome, status) in &outcomes {
        assert_eq!(outcome.status, *status, "{what}: {outcome:?}");
        assert_eq!(outcome.completed, 0, "{what}");
    }
    let down = &outcomes[4].1;
    let expected: Vec<String> = slices.iter().map(Slice::sop_instance).collect();
    assert_eq!((down.failed, &down.failed_uids), (6, &expected));
    assert_eq!(count(&workstation, &slices[0].study).await, 0);
}

#[tokio::test]
async fn instances_that_the_receiver_refuses_are_listed() {
    let (archive, workstation) = pair().await;
    let slices = slices(851);
    store(&archive, &slices);
    // The workstation has another instance under the UID of the second: a conflict it calls 0111H,
    // which is no failure. The fourth is gone from the archive's disk.
    workstation.app.archive.store(&compressed(&slices[1])).unwrap();
    let scope =
        seer::archive::Scope::study(seer::dicom::StudyUid::parse(&slices[0].study).unwrap());
    let lost = archive.app.archive.instances(&scope).unwrap()[3].clone();
    std::fs::remove_file(&lost.path).unwrap();
    let (from, study) = (port(&archive), slices[0].study.clone());
    let outcome = blocking(move || {
        let mut scu = Scu::for_class(from, "READER", STUDY_MOVE, EXPLICIT);
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, &*study)];
        scu.move_to(STUDY_MOVE, "STATION", &keys)
    })
    .await;
    assert_eq!(outcome.status, 0xB000, "{outcome:?}");
    assert_eq!((outcome.completed, outcome.failed), (5, 1));
    assert_eq!(outcome.failed_uids, [lost.sop_instance.to_string()]);
}

#[tokio::test]
async fn instances_come_back_on_the_association_of_a_get() {
    let (archive, _workstation) = pair().await;
    let slices = slices(860);
    // Every other one is stored compressed.
    for (index, slice) in slices.iter().enumerate() {
        let bytes = if index % 2 == 1 { compressed(slice) } else { slice.bytes() };
        archive.app.archive.store(&bytes).unwrap();
    }
    let (from, study) = (port(&archive), slices[0].study.clone());
    let rows = [
        // Contexts proposed for MR instances, and the transfer syntaxes they then come in.
        (vec![vec![EXPLICIT]], [EXPLICIT; 2]),
        (vec![vec![IMPLICIT]], [IMPLICIT; 2]),
        (vec![vec![uids::RLE_LOSSLESS, IMPLICIT]], [IMPLICIT; 2]),
        (vec![vec![uids::RLE_LOSSLESS], vec![EXPLICIT]], [EXPLICIT, uids::RLE_LOSSLESS]),
    ];
    blocking(move || {
        for (class, (contexts, expected)) in [STUDY_GET, PATIENT_GET].iter().cycle().zip(rows) {
            let mut wishes = options("READER")
                .with_presentation_context(*class, vec![EXPLICIT])
                .with_role_selection(MR, false, true);
            for syntaxes in &contexts {
                wishes = wishes.with_presentation_context(MR, syntaxes.clone());
            }
            let mut scu = Scu::open(from, wishes);
            let keys = [
                (tags::QUERY_RETRIEVE_LEVEL, "STUDY"),
                (tags::PATIENT_ID, PATIENT_ID),
                (tags::STUDY_INSTANCE_UID, &*study),
            ];
            let outcome = scu.get(class, &keys, |_| 0);
            assert_eq!((outcome.status, outcome.completed, outcome.failed), (0, 6, 0));
            assert_eq!(outcome.pending_count, 5);
            for (index, ((syntax, bytes), slice)) in
                outcome.instances.iter().zip(&slices).enumerate()
            {
                assert_eq!(*syntax, expected[index % 2], "{contexts:?}");
                if syntax == uids::RLE_LOSSLESS {
                    let sent = compressed(slice);
                    assert!(sent.ends_with(bytes), "as it is stored");
                    continue;
                }
                let instance = decoded(bytes, syntax);
                assert_eq!(text(&instance, tags::SOP_INSTANCE_UID), Some(slice.sop_instance()));
                let pixels = instance.get(tags::PIXEL_DATA).unwrap();
                assert_eq!(pixels.to_multi_int::<u16>().unwrap(), slice.pixels());
            }
            // The association goes on; statuses of the receiver are counted.
            let outcome = scu.get(class, &keys, |number| [0, 0xB007, 0xA700][number % 3]);
            assert_eq!(outcome.status, 0xB000, "{outcome:?}");
            assert_eq!((outcome.completed, outcome.warned, outcome.failed), (2, 2, 2));
            assert_eq!(outcome.failed_uids, [slices[1].sop_instance(), slices[4].sop_instance()]);
            scu.release();
        }
        // Without the role, or without a context for the class, nothing can come.
        let wishes = options("READER")
            .with_presentation_context(STUDY_GET, vec![EXPLICIT])
            .with_presentation_context(uids::CT_IMAGE_STORAGE, vec![EXPLICIT])
            .with_role_selection(uids::CT_IMAGE_STORAGE, false, true);
        let mut scu = Scu::open(from, wishes);
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, &*study)];
        let outcome = scu.get(STUDY_GET, &keys, |_| 0);
        assert_eq!((outcome.status, outcome.failed, outcome.instances.len()), (0xA702, 6, 0));
        assert_eq!(outcome.failed_uids.len(), 6);
        scu.release();
    })
    .await;
}

#[tokio::test]
async fn a_node_that_may_only_query_cannot_store_on_its_roles() {
    let (archive, _workstation) = pair().await;
    let slice = Slice::new(861, 1);
    let from = port(&archive);
    let (sop_instance, study) = (slice.sop_instance(), slice.study.clone());
    let (roles, status) = blocking(move || {
        let wishes = options("READER")
            .with_presentation_context(MR, vec![EXPLICIT])
            .with_role_selection(MR, true, true);
        let mut scu = Scu::open(from, wishes);
        let bytes = slice.bytes();
        let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
        let number = |tag, value: u16| {
            DataElement::new(tag, VR::US, dicom_core::PrimitiveValue::from(value))
        };
        let command = InMemDicomObject::command_from_element_iter([
            DataElement::new(tags::AFFECTED_SOP_CLASS_UID, VR::UI, MR),
            DataElement::new(tags::AFFECTED_SOP_INSTANCE_UID, VR::UI, &*sop_instance),
            number(tags::COMMAND_FIELD, 1),
            number(tags::MESSAGE_ID, 1),
            number(tags::COMMAND_DATA_SET_TYPE, 1),
        ]);
        scu.send(1, &command, Some(&bytes[144 + length..]));
        (scu.roles(), scu.receive().status())
    })
    .await;
    assert!(roles.contains("scu: false, scp: true"), "{roles}");
    assert_eq!(status, 0x0122);
    assert_eq!(count(&archive, &study).await, 0);
}

#[tokio::test]
async fn retrievals_can_be_cancelled_between_instances() {
    let (archive, workstation) = pair().await;
    let slices: Vec<Slice> = (1..=40).map(|number| Slice::new(862, number)).collect();
    store(&archive, &slices);
    let (from, study) = (port(&archive), slices[0].study.clone());
    let (get, moved) = blocking(move || {
        let wishes = options("READER")
            .with_presentation_context(STUDY_GET, vec![EXPLICIT])
            .with_presentation_context(STUDY_MOVE, vec![EXPLICIT])
            .with_presentation_context(MR, vec![EXPLICIT])
            .with_role_selection(MR, false, true);
        let mut scu = Scu::open(from, wishes);
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "STUDY"), (tags::STUDY_INSTANCE_UID, &*study)];
        // The cancel is there before the answer to the third instance.
        let message_id = scu.start(STUDY_GET, 0x0010, None, &keys);
        let get = scu.outcome_with(|scu, number| {
            if number == 3 {
                scu.cancel(STUDY_GET, message_id);
            }
            0
        });
        let message_id = scu.start(STUDY_MOVE, 0x0021, Some("STATION"), &keys);
        scu.cancel(STUDY_MOVE, message_id);
        let moved = scu.outcome(|_| 0);
        scu.release();
        (get, moved)
    })
    .await;
    assert_eq!((get.status, get.completed, get.remaining), (0xFE00, 3, Some(37)), "{get:?}");
    assert_eq!((moved.status, moved.failed), (0xFE00, 0), "{moved:?}");
    let (completed, remaining) = (usize::from(moved.completed), moved.remaining.unwrap());
    assert_eq!(completed + usize::from(remaining), 40);
    assert_eq!(count(&workstation, &slices[0].study).await, completed);
}

#[tokio::test]
async fn results_go_uncompressed_to_nodes_that_take_nothing_else() {
    if !peers::installed(&["storescp"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = peers::free_port();
    let _scp = peers::Running::start(
        std::process::Command::new("storescp")
            .args(["-aet", "RECEIVER", "+xi", "-od"])
            .arg(folder.path())
            .arg(to.to_string()),
    );
    peers::listens(to).await;
    let server = server(|config| config.pacs.dimse = vec![dimse("receiver", "RECEIVER", to)]).await;
    let slice = Slice::new(863, 1);
    server.app.archive.store(&compressed(&slice)).unwrap();
    let body = json!({});
    let (status, _) = server.post_json("/api/v1/nodes/receiver/echo", &body).await;
    assert_eq!(status, 200);
    let pacs = server.app.pacs.clone();
    let study = seer::dicom::StudyUid::parse(&slice.study).unwrap();
    blocking(move || pacs.send("receiver", &[seer::archive::Scope::study(study)]).unwrap()).await;
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(file).unwrap();
    let (instance, _) = seer::dicom::Instance::parse(&bytes, &Default::default()).unwrap();
    assert_eq!(instance.identity().transfer_syntax_uid, IMPLICIT);
    let expected: Vec<i32> = slice.pixels().into_iter().map(i32::from).collect();
    assert_eq!(instance.decode_frame(1).unwrap().values, expected);
}
