//! What is mutated: the fixtures, wrapped as clients wrap them.

use dicom_ul::pdu::{
    AssociationRQ, PDataValue, PDataValueType, Pdu, PresentationContextProposed, UserVariableItem,
    write_pdu,
};
use seer::archive::metadata_json;
use seer::dicom::{DicomLimits, Instance};
use serde_json::{Value, json};

/// Cuts bodies into single bytes, into small pieces, and hardly at all.
const CUTS: [u8; 4] = [0, 70, 130, 255];

/// The DICOM files among the fixtures up to a size, smallest first.
pub fn files(size_max: usize) -> Vec<Vec<u8>> {
    let folders = ["tests/data/pydicom", "tests/data/codecs"];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    let mut files: Vec<_> = paths.map(|path| std::fs::read(path).unwrap()).collect();
    files.retain(|file| file.len() <= size_max);
    files.sort_by_key(|file| (file.len(), file.clone()));
    assert!(!files.is_empty());
    files
}

struct Part<'a> {
    headers: &'a str,
    content: &'a [u8],
}

/// A cut, a content type and a body.
fn upload(cut: u8, content_type: &str, boundary: &str, parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = vec![cut];
    bytes.extend(content_type.as_bytes());
    bytes.push(b'\n');
    for Part { headers, content } in parts {
        bytes.extend(format!("--{boundary}\r\n{headers}\r\n").as_bytes());
        bytes.extend(*content);
        bytes.extend(b"\r\n");
    }
    bytes.extend(format!("--{boundary}--\r\n").as_bytes());
    bytes
}

/// Uploads as DICOMweb clients and browsers send them.
pub fn multipart() -> Vec<Vec<u8>> {
    let files = files(1_500);
    let dicom = "Content-Type: application/dicom\r\n";
    let related = |number: usize, cut: u8| {
        let pair = [&files[number % files.len()], &files[(number + 3) % files.len()]];
        let parts = pair.map(|content| Part { headers: dicom, content });
        let quoted = "multipart/related; type=\"application/dicom\"; boundary=\"b0undary\"";
        let plain = "multipart/related;boundary=b0undary;type=application/dicom";
        upload(cut, if number.is_multiple_of(2) { quoted } else { plain }, "b0undary", &parts)
    };
    let mut seeds: Vec<_> = (0..8).map(|number| related(number, CUTS[number % 4])).collect();
    let text = b"[{\"00080018\":{\"vr\":\"UI\",\"Value\":[\"1.2.3\"]}}]";
    for cut in CUTS {
        let parts = [
            Part { headers: "Content-Type: application/dicom+json\r\n", content: text },
            Part {
                headers: "Content-Type: application/octet-stream; \
                          transfer-syntax=1.2.840.10008.1.2.4.50\r\nContent-Location: pixels\r\n",
                content: b"\xff\xd8--b\r\n\xff\xd9",
            },
        ];
        let kind = "multipart/related; type=\"application/dicom+json\"; boundary=b";
        seeds.push(upload(cut, kind, "b", &parts));
        let parts = [
            Part {
                headers: "Content-Disposition: form-data; name=\"text\"\r\n",
                content: b"liver",
            },
            Part {
                headers: "Content-Disposition: form-data; name=\"file\"; filename=\"a.dcm\"\r\n\
                          Content-Type: application/dicom\r\n",
                content: &files[0],
            },
        ];
        seeds.push(upload(cut, "multipart/form-data; boundary=--x", "--x", &parts));
        // A preamble, an empty part, one without headers, and an epilogue.
        let body =
            b"m/x; boundary=b\npreamble\r\n--b \t\r\n\r\n\r\n--b\r\nA: b\r\n\r\nc\r\n--b--\r\nd";
        seeds.push([&[cut], &body[..]].concat());
    }
    seeds
}

/// Fixtures as we tell them, and what only other writers send.
pub fn dicom_json() -> Vec<Vec<u8>> {
    let limits = DicomLimits::default();
    let files = files(8_000);
    let instances = files.iter().filter_map(|file| Instance::parse(file, &limits).ok());
    let told = instances.map(|(instance, _)| Value::Object(metadata_json(&instance)));
    let mut seeds: Vec<Vec<u8>> = told.map(|told| told.to_string().into_bytes()).collect();
    assert!(seeds.len() > 20, "{} fixtures are told", seeds.len());
    seeds.push(json!([every_kind(), {}]).to_string().into_bytes());
    seeds
}

fn every_kind() -> Value {
    json!({
        "00020010": { "vr": "UI", "Value": ["1.2.840.10008.1.2.4.50"] },
        "00080005": { "vr": "CS", "Value": ["ISO_IR 192"] },
        "00080016": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"] },
        "00080018": { "vr": "UI", "Value": ["1.2.3.4"] },
        "0020000d": { "Value": ["1.2.3"] },
        "0020000E": { "vr": "UI", "Value": ["1.2.3.1"] },
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "A^B", "Ideographic": "山^田" }] },
        "00200013": { "vr": "IS", "Value": ["7"] },
        "00280002": { "vr": "US", "Value": [1] },
        "00280010": { "vr": "US", "Value": [2] },
        "00280011": { "vr": "US", "Value": [2] },
        "00280030": { "vr": "DS", "Value": [0.12345678901234568, "2.5"] },
        "00280100": { "vr": "US", "Value": [8] },
        "00280101": { "vr": "US", "Value": [8] },
        "00280103": { "vr": "US", "Value": [0] },
        "00400275": { "vr": "SQ", "Value": [{ "00400009": { "vr": "SH", "Value": ["x"] } }, {}] },
        "00091001": { "vr": "AT", "Value": ["00280010"] },
        "00091002": { "vr": "FD", "Value": [1.5, "NaN", "-inf"] },
        "00091003": { "vr": "SV", "Value": ["-9223372036854775808", 1] },
        "00091004": { "vr": "OB", "InlineBinary": "AAECAw==" },
        "00091005": { "vr": "UT", "Value": ["a\\b\n\u{1b}\u{0}"] },
        "7FE00010": { "vr": "OB", "BulkDataURI": "1.2.840.10008.1.2.4.50/abc/d" },
    })
}

/// An association with a C-STORE, and what ends one.
pub fn dimse() -> Vec<Vec<u8>> {
    let uid = |text: &str| text.to_owned();
    let request = AssociationRQ {
        protocol_version: 1,
        calling_ae_title: uid("PEER"),
        called_ae_title: uid("SEER"),
        application_context_name: uid("1.2.840.10008.3.1.1.1"),
        presentation_contexts: vec![PresentationContextProposed {
            id: 1,
            abstract_syntax: uid("1.2.840.10008.5.1.4.1.1.2"),
            transfer_syntaxes: vec![uid("1.2.840.10008.1.2"), uid("1.2.840.10008.1.2.1")],
        }],
        user_variables: vec![
            UserVariableItem::MaxLength(16_384),
            UserVariableItem::ImplementationClassUID(uid("1.2.3")),
            UserVariableItem::ImplementationVersionName(uid("PEER_1")),
        ],
    };
    let command = [
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0"),
        element(0x0100, &[1, 0]),
        element(0x0110, &[7, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, b"1.2.3.4\0"),
    ]
    .concat();
    let command = [element(0, &(command.len() as u32).to_le_bytes()), command].concat();
    let value = |value_type, data: &[u8]| {
        let data = data.to_vec();
        PDataValue { presentation_context_id: 1, value_type, is_last: true, data }
    };
    // Study Instance UID of a query, implicit.
    let identifier = b"\x20\0\x0d\0\x06\0\0\x001.2.3\0";
    let values =
        vec![value(PDataValueType::Command, &command), value(PDataValueType::Data, identifier)];
    let pdus = [
        Pdu::AssociationRQ(request),
        Pdu::PData { data: values },
        Pdu::ReleaseRQ,
        Pdu::ReleaseRP,
        Pdu::Unknown { pdu_type: 9, data: vec![1, 2, 3] },
    ];
    let mut seeds: Vec<Vec<u8>> = pdus.iter().map(written).collect();
    seeds.push(seeds.concat());
    seeds.push(command);
    seeds
}

fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_le_bytes();
    [&[0, 0], &number.to_le_bytes()[..], &length, value].concat()
}

fn written(pdu: &Pdu) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).unwrap();
    bytes
}
