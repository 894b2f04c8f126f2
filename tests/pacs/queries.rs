//! Queries to us (C-FIND provider), compared with QIDO-RS.

use dicom_core::Tag;
use dicom_core::header::Header;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use serde_json::Value;

use super::scu::{
    EXPLICIT, IMPLICIT, Keys, PATIENT_FIND, STUDY_FIND, STUDY_GET, Scu, decoded, options, text,
};
use super::*;
use crate::support::studies::{PATIENT_ID, Slice};

/// A node that may search and retrieve, but not store.
pub fn reader(name: &str, ae_title: &str, port: u16) -> DimseNode {
    DimseNode { may_send: false, may_query: true, ..dimse(name, ae_title, port) }
}

/// Five studies: names in several alphabets, several modalities, dates and series.
async fn archive() -> Server {
    let server = server(|config| {
        config.pacs.dimse = vec![reader("reader", "READER", 104), dimse("scanner", "SCANNER", 104)];
    })
    .await;
    let names =
        ["Müller^Jörg", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Smith^Ann", "Smyth^Bob", ""];
    let dates = ["20200101", "20210315", "20210316", "20240229", "20250101"];
    for (number, (name, date)) in (800..).zip(names.into_iter().zip(dates)) {
        for (series, modality) in [(1, "MR"), (2, if number % 2 == 0 { "CT" } else { "PT" })] {
            for slice in 1..=3 {
                let mut slice = Slice::new(number, slice).in_series(series);
                slice.patient_name = name.to_owned();
                slice.study_date = date;
                slice.modality = modality;
                server.app.archive.store(&slice.bytes()).unwrap();
            }
        }
    }
    server
}

/// What an element says, as QIDO's JSON would say it.
fn json_texts(value: &Value) -> Vec<String> {
    let values = value["Value"].as_array().cloned().unwrap_or_default();
    let one = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(name) => {
            let group = |key: &str| name.get(key).and_then(Value::as_str).unwrap_or_default();
            let name = ["Alphabetic", "Ideographic", "Phonetic"].map(group).join("=");
            name.trim_end_matches('=').to_owned()
        }
        other => panic!("{other}"),
    };
    values.iter().map(one).collect()
}

fn element_texts(object: &InMemDicomObject, tag: Tag) -> Vec<String> {
    let found = text(object, tag).unwrap_or_else(|| panic!("{tag} was asked for"));
    let values = found.split('\\').map(|value| value.trim_matches([' ', '\0']).to_owned());
    values.filter(|value| !value.is_empty()).collect()
}

const STUDY_KEYS: [Tag; 14] = [
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::STUDY_DESCRIPTION,
    tags::STUDY_ID,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::MODALITIES_IN_STUDY,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
];
const SERIES_KEYS: [Tag; 5] = [
    tags::SERIES_INSTANCE_UID,
    tags::MODALITY,
    tags::SERIES_NUMBER,
    tags::SERIES_DESCRIPTION,
    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
];
const IMAGE_KEYS: [Tag; 8] = [
    tags::SOP_INSTANCE_UID,
    tags::SOP_CLASS_UID,
    tags::INSTANCE_NUMBER,
    tags::IMAGE_TYPE,
    tags::ROWS,
    tags::BITS_STORED,
    tags::PIXEL_SPACING,
    tags::AVAILABLE_TRANSFER_SYNTAX_UID,
];

fn compare(level: &str, found: &[InMemDicomObject], qido: &Value, keys: &[Tag], unique: Tag) {
    let rows = qido.as_array().unwrap();
    assert_eq!(found.len(), rows.len(), "{level}: as many as QIDO finds");
    for answer in found {
        let own = element_texts(answer, unique);
        let row = rows
            .iter()
            .find(|row| json_texts(&row[seer::archive::json_key(unique)]) == own)
            .unwrap_or_else(|| panic!("{level}: {own:?} is in QIDO's answer"));
        for tag in keys {
            let expected = json_texts(&row[seer::archive::json_key(*tag)]);
            let expected: Vec<String> =
                expected.into_iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(element_texts(answer, *tag), expected, "{level} {tag}");
        }
        assert_eq!(text(answer, tags::QUERY_RETRIEVE_LEVEL).as_deref(), Some(level));
        assert_eq!(text(answer, tags::RETRIEVE_AE_TITLE).as_deref(), Some("SEER"));
        let told = answer.iter().map(Header::tag);
        let extra: Vec<Tag> = told
            .filter(|tag| {
                !keys.contains(tag)
                    && ![
                        tags::QUERY_RETRIEVE_LEVEL,
                        tags::RETRIEVE_AE_TITLE,
                        tags::SPECIFIC_CHARACTER_SET,
                    ]
                    .contains(tag)
            })
            .collect();
        assert!(extra.is_empty(), "{level}: only what was asked for, not {extra:?}");
    }
}

fn asked<'a>(level: &'a str, fixed: Keys<'a>, keys: &[Tag]) -> Vec<(Tag, &'a str)> {
    let mut all = vec![(tags::QUERY_RETRIEVE_LEVEL, level)];
    all.extend(keys.iter().filter(|tag| fixed.iter().all(|(f, _)| f != *tag)).map(|t| (*t, "")));
    all.extend(fixed);
    all
}

fn fields(keys: &[Tag]) -> String {
    keys.iter().map(|tag| seer::archive::json_key(*tag)).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn answers_are_those_of_qido_at_every_level() {
    let server = archive().await;
    let to = port(&server);
    let study = Slice::new(800, 1).study;
    let series = format!("{study}.2");
    let keys: Vec<Tag> = STUDY_KEYS.into_iter().chain(SERIES_KEYS).collect();
    let (_, studies) =
        server.get_json(&format!("/dicom-web/studies?includefield={}", fields(&STUDY_KEYS))).await;
    let (_, all_series) = server.get_json(&format!("/dicom-web/studies/{study}/series")).await;
    let path = format!("/dicom-web/studies/{study}/series/{series}/instances");
    let (_, images) =
        server.get_json(&format!("{path}?includefield={}", fields(&IMAGE_KEYS))).await;
    blocking(move || {
        for (class, syntax) in
            [(STUDY_FIND, EXPLICIT), (STUDY_FIND, IMPLICIT), (PATIENT_FIND, EXPLICIT)]
        {
            let mut scu = Scu::for_class(to, "READER", class, syntax);
            let patient = (tags::PATIENT_ID, PATIENT_ID);
            let above: &[(Tag, &str)] = if class == PATIENT_FIND { &[patient] } else { &[] };
            let found = scu.find(class, &asked("STUDY", above, &STUDY_KEYS));
            compare("STUDY", &found, &studies, &STUDY_KEYS, tags::STUDY_INSTANCE_UID);

            let above = [above, &[(tags::STUDY_INSTANCE_UID, &*study)]].concat();
            let tags_of_series: Vec<Tag> = keys
                .iter()
                .copied()
                .filter(|tag| all_series[0].get(seer::archive::json_key(*tag)).is_some())
                .collect();
            assert!(tags_of_series.len() > 10, "{tags_of_series:?}");
            let found = scu.find(class, &asked("SERIES", &above, &tags_of_series));
            compare("SERIES", &found, &all_series, &tags_of_series, tags::SERIES_INSTANCE_UID);

            let above = [&above[..], &[(tags::SERIES_INSTANCE_UID, &*series)]].concat();
            let with_above: Vec<Tag> =
                IMAGE_KEYS.into_iter().chain(above.iter().map(|(tag, _)| *tag)).collect();
            let found = scu.find(class, &asked("IMAGE", &above, &with_above));
            compare("IMAGE", &found, &images, &with_above, tags::SOP_INSTANCE_UID);
            scu.release();
        }
    })
    .await;
}

#[tokio::test]
async fn keys_match_as_in_qido() {
    let server = archive().await;
    let to = port(&server);
    let (first, second) = (Slice::new(800, 1).study, Slice::new(802, 1).study);
    let list = format!("{first}\\{second}\\1.2.3");
    let rows: Vec<(Tag, &str, String, usize)> = vec![
        (tags::PATIENT_NAME, "PatientName", "SM?TH*".to_owned(), 2),
        (tags::PATIENT_NAME, "PatientName", "smith^ann".to_owned(), 1),
        (tags::PATIENT_NAME, "PatientName", "*山田*".to_owned(), 1),
        (tags::PATIENT_NAME, "PatientName", "Nobody".to_owned(), 0),
        (tags::STUDY_DATE, "StudyDate", "20210101-20240101".to_owned(), 2),
        (tags::STUDY_DATE, "StudyDate", "-20210315".to_owned(), 2),
        (tags::STUDY_DATE, "StudyDate", "20250101".to_owned(), 1),
        (tags::STUDY_TIME, "StudyTime", "1200-1201".to_owned(), 5),
        (tags::STUDY_INSTANCE_UID, "StudyInstanceUID", list, 2),
        (tags::MODALITIES_IN_STUDY, "ModalitiesInStudy", "CT".to_owned(), 3),
        (tags::MODALITIES_IN_STUDY, "ModalitiesInStudy", "CT\\PT".to_owned(), 5),
        (tags::MODALITY, "Modality", "PT".to_owned(), 2),
        (tags::ACCESSION_NUMBER, "AccessionNumber", "ACC*".to_owned(), 5),
        (tags::ACCESSION_NUMBER, "AccessionNumber", "acc*".to_owned(), 0),
    ];
    let mut expected = Vec::new();
    for (tag, name, value, count) in rows {
        let query = reqwest::Url::parse_with_params("http://h/dicom-web/studies", [(name, &value)]);
        let path = query.unwrap().to_string().replacen("http://h", "", 1);
        let (_, qido) = server.get_json(&path).await;
        let mut uids: Vec<String> = qido
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["0020000D"]["Value"][0].as_str().unwrap().to_owned())
            .collect();
        uids.sort();
        assert_eq!(uids.len(), count, "{name}={value}");
        expected.push((tag, value, uids));
    }
    blocking(move || {
        let mut scu = Scu::for_class(to, "READER", STUDY_FIND, EXPLICIT);
        for (tag, value, uids) in expected {
            let mut keys = vec![
                (tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192"),
                (tags::QUERY_RETRIEVE_LEVEL, "STUDY"),
                (tags::STUDY_INSTANCE_UID, ""),
            ];
            keys.retain(|(key, _)| *key != tag);
            keys.push((tag, &value));
            keys.sort_by_key(|(tag, _)| *tag);
            let found = scu.find(STUDY_FIND, &keys);
            let mut told: Vec<String> =
                found.iter().map(|found| text(found, tags::STUDY_INSTANCE_UID).unwrap()).collect();
            told.sort();
            assert_eq!(told, uids, "{tag} {value}");
        }
        // What is not matched is said with each match; what does not exist is not told at all.
        let keys = [
            (tags::QUERY_RETRIEVE_LEVEL, "STUDY"),
            (tags::STUDY_INSTANCE_UID, &*first),
            (tags::PATIENT_COMMENTS, "tall"),
            (tags::SOP_INSTANCE_UID, ""),
        ];
        let (found, status) = scu.find_raw(STUDY_FIND, &keys);
        assert_eq!((found.len(), found[0].0, status), (1, 0xFF01, 0));
        let answer = decoded(&found[0].1, EXPLICIT);
        assert_eq!(text(&answer, tags::SOP_INSTANCE_UID).as_deref(), Some(""), "of which one?");
        assert_eq!(text(&answer, tags::PATIENT_COMMENTS).as_deref(), Some(""));
        scu.release();
        // Fuzzy matching and relational queries, when they were agreed on.
        let wishes = options("READER")
            .with_presentation_context(STUDY_FIND, vec![EXPLICIT])
            .with_extended_negotiation(STUDY_FIND, vec![1, 1, 1]);
        let mut scu = Scu::open(to, wishes);
        assert!(scu.roles().contains("[1, 0, 1]"), "{}", scu.roles());
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "SERIES"), (tags::PATIENT_NAME, "Mueller")];
        assert_eq!(scu.find(STUDY_FIND, &keys).len(), 2, "both series of Müller");
        scu.release();
    })
    .await;
}

#[tokio::test]
async fn patients_are_found_by_their_studies() {
    let server = archive().await;
    let mut other = Slice::new(810, 1);
    other.patient_name = "Other^Person".into();
    let bytes = other.bytes();
    // Another patient: the id is replaced by one of the same length.
    let at = bytes.windows(PATIENT_ID.len()).position(|w| w == PATIENT_ID.as_bytes()).unwrap();
    let mut bytes = bytes.clone();
    bytes[at..at + PATIENT_ID.len()].copy_from_slice(b"PID-XXX-0000");
    server.app.archive.store(&bytes).unwrap();
    let to = port(&server);
    blocking(move || {
        let mut scu = Scu::for_class(to, "READER", PATIENT_FIND, EXPLICIT);
        let counts = [
            (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_SERIES, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, ""),
        ];
        let ask = |scu: &mut Scu, id, name| {
            let mut keys = vec![
                (tags::QUERY_RETRIEVE_LEVEL, "PATIENT"),
                (tags::PATIENT_NAME, name),
                (tags::PATIENT_ID, id),
                (tags::PATIENT_SEX, ""),
                (tags::STUDY_DATE, ""),
            ];
            keys.extend(counts);
            scu.find(PATIENT_FIND, &keys)
        };
        let all = ask(&mut scu, "", "");
        let told = |patient: &InMemDicomObject| {
            let mut texts = vec![text(patient, tags::PATIENT_ID).unwrap()];
            texts.extend(counts.map(|(tag, _)| text(patient, tag).unwrap()));
            texts.join(" ")
        };
        let all_told: Vec<String> = all.iter().map(told).collect();
        assert_eq!(all_told, [format!("{PATIENT_ID} 5 10 30"), "PID-XXX-0000 1 1 1".to_owned()]);
        assert_eq!(text(&all[0], tags::PATIENT_SEX).as_deref(), Some("O"));
        assert_eq!(text(&all[0], tags::STUDY_DATE).as_deref(), Some(""), "of a lower level");
        // Counts are of the patient, not of the studies that match.
        let one = ask(&mut scu, "PID-Q*", "Smith*");
        assert_eq!(one.iter().map(told).collect::<Vec<_>>(), [format!("{PATIENT_ID} 5 10 30")]);
        assert!(ask(&mut scu, "nobody", "").is_empty());
        scu.release();
    })
    .await;
}

#[tokio::test]
async fn answers_are_in_a_character_set_that_has_their_letters() {
    let server = archive().await;
    let to = port(&server);
    let rows = [
        // Asked in, study, expected set, bytes of the family name.
        ("ISO_IR 100", 800, "ISO_IR 100", &b"M\xFCller^J\xF6rg"[..]),
        ("", 800, "ISO_IR 192", "Müller^Jörg".as_bytes()),
        ("ISO_IR 100", 801, "ISO_IR 192", "山田^太郎".as_bytes()),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", 801, "ISO_IR 192", "山田^太郎".as_bytes()),
        ("no such set", 800, "ISO_IR 192", "Müller^Jörg".as_bytes()),
        ("ISO_IR 192", 802, "ISO_IR 192", b"Smith^Ann"),
        ("", 802, "", b"Smith^Ann"),
    ];
    blocking(move || {
        let mut scu = Scu::for_class(to, "READER", STUDY_FIND, EXPLICIT);
        for (set, number, expected, name) in rows {
            let study = Slice::new(number, 1).study;
            let keys = [
                (tags::SPECIFIC_CHARACTER_SET, set),
                (tags::QUERY_RETRIEVE_LEVEL, "STUDY"),
                (tags::PATIENT_NAME, ""),
                (tags::STUDY_INSTANCE_UID, &*study),
            ];
            let (found, status) = scu.find_raw(STUDY_FIND, &keys);
            assert_eq!((found.len(), status), (1, 0), "{set} {number}");
            let bytes = &found[0].1;
            assert!(bytes.windows(name.len()).any(|w| w == name), "{set} {number}: {bytes:?}");
            let answer = decoded(bytes, EXPLICIT);
            let told = text(&answer, tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
            assert_eq!(told, expected, "{set} {number}");
        }
        // A name that is matched is written in the set of the query, too.
        let keys = [
            (tags::SPECIFIC_CHARACTER_SET, "ISO_IR 100"),
            (tags::QUERY_RETRIEVE_LEVEL, "STUDY"),
            (tags::PATIENT_NAME, "Müller*"),
        ];
        assert_eq!(scu.find(STUDY_FIND, &keys).len(), 1);
        scu.release();
    })
    .await;
}

#[tokio::test]
async fn what_is_no_query_is_refused_and_the_association_goes_on() {
    let server = archive().await;
    let to = port(&server);
    blocking(move || {
        let mut scu = Scu::for_class(to, "READER", STUDY_FIND, IMPLICIT);
        let level = |word: &str| {
            let mut bytes = vec![0x08, 0, 0x52, 0, word.len() as u8, 0, 0, 0];
            bytes.extend(word.bytes());
            bytes
        };
        let key = |group: u16, element: u16, value: &[u8]| {
            let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(value);
            bytes
        };
        let study = level("STUDY ");
        let many = key(0x20, 0x0D, "1\\".repeat(20_000).as_bytes());
        let mut nested = Vec::new();
        for _ in 0..100 {
            nested.extend([0x40, 0, 0x75, 2, 0xff, 0xff, 0xff, 0xff]);
            nested.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        let stars = key(0x10, 0x10, "*a".repeat(30).as_bytes());
        let quotes = key(0x10, 0x20, b"' OR 1=1; DROP TABLE study; --");
        let rows: Vec<(&str, Option<Vec<u8>>, u16)> = vec![
            ("no identifier", None, 0xA900),
            ("an empty one", Some(Vec::new()), 0xA900),
            ("no level", Some(key(0x20, 0x0D, b"1.2\0")), 0xA900),
            ("an unknown level", Some(level("WORLD ")), 0xA900),
            ("a level of the other root", Some(level("PATIENT ")), 0xA900),
            ("no study for a series", Some(level("SERIES")), 0xA900),
            ("no data set", Some(vec![0xff; 5000]), 0xC000),
            ("one that breaks off", Some(study[..study.len() - 3].to_vec()), 0xC000),
            (
                "a huge length",
                Some([study.clone(), vec![0x10, 0, 0x10, 0, 0xfe, 0xff, 0xff, 0x7f]].concat()),
                0xC000,
            ),
            ("deep nesting", Some([study.clone(), nested].concat()), 0xC000),
            ("too many UIDs", Some([study.clone(), many].concat()), 0xA700),
            ("too large", Some(vec![0; 3 << 20]), 0xA700),
            ("many wildcards", Some([study.clone(), stars].concat()), 0),
            ("SQL", Some([study.clone(), quotes].concat()), 0),
            ("a good one", Some(study.clone()), 0),
        ];
        for (what, identifier, expected) in rows {
            scu.request(STUDY_FIND, 0x0020, None, identifier.as_deref());
            let (found, status) = scu.matches();
            assert_eq!(status, expected, "{what}: {status:04X} is not {expected:04X}");
            let count = if what == "a good one" { 5 } else { 0 };
            assert_eq!(found.len(), count, "{what}");
        }
        // A C-GET on a context for queries, and a command that does not exist.
        for (field, expected) in [(0x0010, 0x0211), (0x0999, 0x0211)] {
            scu.request(STUDY_FIND, field, None, Some(&study));
            assert_eq!(scu.receive().status(), expected);
        }
        scu.release();
    })
    .await;
}

#[tokio::test]
async fn only_nodes_that_may_query_are_answered() {
    let server = archive().await;
    let to = port(&server);
    blocking(move || {
        let open = |calling: &'static str| {
            options(calling)
                .with_presentation_context(STUDY_FIND, vec![EXPLICIT])
                .with_presentation_context(STUDY_GET, vec![EXPLICIT])
                .with_presentation_context("1.2.840.10008.5.1.4.1.1.4", vec![EXPLICIT])
                .with_role_selection("1.2.840.10008.5.1.4.1.1.4", false, true)
                .establish(("127.0.0.1", to))
        };
        let stranger = open("STRANGER").expect_err("nobody knows it").to_string();
        assert!(stranger.contains("reject"), "{stranger}");
        // It may store, and nothing else: every context is refused.
        let scanner = open("SCANNER").expect_err("no context is left").to_string();
        assert!(scanner.contains("context"), "{scanner}");
        open("READER").expect("it may").release().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_query_can_be_cancelled() {
    let server = archive().await;
    for number in 1..=400 {
        let slice = Slice::new(820, number).in_series(number % 40);
        server.app.archive.store(&slice.bytes()).unwrap();
    }
    let to = port(&server);
    blocking(move || {
        let wishes = options("READER")
            .with_presentation_context(STUDY_FIND, vec![IMPLICIT])
            .with_extended_negotiation(STUDY_FIND, vec![1]);
        let mut scu = Scu::open(to, wishes);
        let keys = [(tags::QUERY_RETRIEVE_LEVEL, "IMAGE"), (tags::SOP_INSTANCE_UID, "")];
        assert_eq!(scu.find(STUDY_FIND, &keys).len(), 430, "two pages, each match once");
        let identifier = [0x08, 0, 0x52, 0, 6, 0, 0, 0, b'I', b'M', b'A', b'G', b'E', b' '];
        let message_id = scu.request(STUDY_FIND, 0x0020, None, Some(&identifier));
        scu.cancel(STUDY_FIND, message_id);
        let (found, status) = scu.matches();
        assert_eq!(status, 0xFE00, "after {} matches", found.len());
        assert!(found.len() < 430, "{} matches", found.len());
        // A cancel that comes too late does no harm, and the message id may be used again.
        scu.cancel(STUDY_FIND, message_id);
        scu.repeat_message_id();
        assert_eq!(scu.find(STUDY_FIND, &keys).len(), 430);
        scu.release();
    })
    .await;
}
