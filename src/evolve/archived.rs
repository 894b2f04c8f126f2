//! A suite out of the archive: orders that reviewers corrected or accepted become labelled requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::EvolveError;
use crate::archive::{Archive, Scope};
use crate::dicom::{Instance, SeriesUid, SopInstanceUid, StudyUid};
use crate::dicom_seg::{SegReader, SegmentDescription};
use crate::eval::{Expect, Mode, Request};
use crate::runtime::vocabulary::{Concept, Meaning, Vocabulary};
use crate::series;

/// An order whose right result is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledOrder {
    /// Its words.
    pub text: String,
    /// Its study.
    pub study: StudyUid,
    /// The series that was segmented.
    pub source: SeriesUid,
    /// The segmentation that is right: the reviewer's, or the order's own when it was accepted.
    pub reference: SopInstanceUid,
}

/// Writes a suite of labelled orders into `folder`; gives how many orders it holds.
///
/// A case is a series with one reference. The orders that share it are the phrasings of one group,
/// and the canonical name of what the reference shows is one more: it is what says, in practice,
/// which target would have been right. References with several segments, or with a segment that is
/// not in the vocabulary, are left out: which of them an order meant is not known.
/// Patients become codes that mean nothing outside of the suite, which holds the words of orders
/// and belongs with the archive.
///
/// # Errors
/// When archive or disk fail, or no order can be used.
pub fn suite_of_archive(
    archive: &Archive,
    orders: &[LabelledOrder],
    vocabulary: &Vocabulary,
    folder: &Path,
) -> Result<usize, EvolveError> {
    let mut by_reference: BTreeMap<(String, String, String), BTreeSet<&str>> = BTreeMap::new();
    for order in orders {
        let key = (order.study.to_string(), order.source.to_string(), order.reference.to_string());
        by_reference.entry(key).or_default().insert(&order.text);
    }
    let salt = uuid::Uuid::new_v4();
    let mut requests = Vec::new();
    let mut count = 0;
    for ((study, source, reference), texts) in by_reference {
        let (Ok(study), Ok(source), Ok(reference)) =
            (StudyUid::parse(&study), SeriesUid::parse(&source), SopInstanceUid::parse(&reference))
        else {
            continue;
        };
        let Some(found) = labelled(archive, (&study, &source), &reference, vocabulary)? else {
            continue;
        };
        let case = code(&salt, &[source.as_str(), reference.as_str()]);
        write_case(archive, (&study, &source), &found, &salt, &folder.join("cases").join(&case))?;
        count += texts.len();
        let request = |mode: Mode, text: &str| Request {
            case: case.clone(),
            group: format!("{case}/{}", found.concept.name),
            mode,
            style: if mode == Mode::Label { "formal_task" } else { "clinical_request" }.to_owned(),
            text: text.to_owned(),
            target: found.concept.name.clone(),
            labels: vec![found.number],
            split: None,
            expect: Expect::Segment,
            reason: None,
        };
        requests.push(request(Mode::Label, &found.concept.name));
        requests.extend(texts.into_iter().map(|text| request(Mode::Free, text)));
    }
    if requests.is_empty() {
        return Err(EvolveError::NothingToLearnFrom);
    }
    let lines: Vec<String> =
        requests.iter().filter_map(|request| serde_json::to_string(request).ok()).collect();
    write(&folder.join("requests.jsonl"), &(lines.join("\n") + "\n"))?;
    let facts = "name = \"corrected orders\"\nsource = \"the archive of this server\"\n\
                 licence = \"as the studies'\"\n";
    write(&folder.join("suite.toml"), facts)?;
    Ok(count)
}

/// A reference with one segment that the vocabulary knows.
struct Labelled<'v> {
    number: u32,
    concept: &'v Concept,
    path: std::path::PathBuf,
    patient: String,
}

fn labelled<'v>(
    archive: &Archive,
    (study, source): (&StudyUid, &SeriesUid),
    reference: &SopInstanceUid,
    vocabulary: &'v Vocabulary,
) -> Result<Option<Labelled<'v>>, EvolveError> {
    let records = archive.instances(&Scope::study(study.clone()))?;
    let Some(record) = records.iter().find(|record| record.sop_instance == *reference) else {
        return Ok(None);
    };
    let scope = Scope::instance(study.clone(), record.series.clone(), reference.clone());
    let seg = archive.load_instance(&scope)?;
    let Ok((series, _)) = series::assemble(archive.load_series(study, source)?) else {
        return Ok(None);
    };
    let Ok((reader, _)) = SegReader::open(&seg, &series) else { return Ok(None) };
    let mut segments = reader.segments();
    let (Some(segment), None) = (segments.next(), segments.next()) else { return Ok(None) };
    Ok(concept_of(segment, vocabulary).map(|concept| Labelled {
        number: u32::from(segment.number),
        concept,
        path: record.path.clone(),
        patient: patient_of(&seg),
    }))
}

/// The concept of a segment: by code and side, else by label.
fn concept_of<'v>(segment: &SegmentDescription, vocabulary: &'v Vocabulary) -> Option<&'v Concept> {
    let side = segment.modifiers.first().map(|code| (&code.scheme, &code.value));
    let same_code = |concept: &&Concept| {
        let Some(code) = &segment.property_type else { return false };
        let own = &concept.property_type;
        let own_side = concept.modifier.as_ref().map(|code| (&code.scheme, &code.value));
        (&own.scheme, &own.value) == (&code.scheme, &code.value) && own_side == side
    };
    vocabulary.concepts.iter().find(same_code).or_else(|| match vocabulary.find(&segment.label) {
        Some(Meaning::Name(concept) | Meaning::Synonym(concept)) => Some(concept),
        Some(Meaning::Absent(_)) | None => None,
    })
}

fn patient_of(instance: &Instance) -> String {
    let id = instance.object().element_opt(dicom_dictionary_std::tags::PATIENT_ID).ok().flatten();
    let text = id.and_then(|element| element.to_str().ok().map(|text| text.trim().to_owned()));
    let study = instance.identity().study.to_string();
    text.filter(|text| !text.is_empty()).unwrap_or(study)
}

fn code(salt: &uuid::Uuid, parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(salt.as_bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(&hasher.finalize()[..8])
}

fn write_case(
    archive: &Archive,
    (study, source): (&StudyUid, &SeriesUid),
    found: &Labelled<'_>,
    salt: &uuid::Uuid,
    folder: &Path,
) -> Result<(), EvolveError> {
    let dicom = folder.join("dicom");
    fs::create_dir_all(&dicom).map_err(EvolveError::io(&dicom))?;
    for (number, path) in archive.series_instances(study, source)?.iter().enumerate() {
        let to = dicom.join(format!("{number:06}.dcm"));
        link(path, &to).map_err(EvolveError::io(&to))?;
    }
    let to = folder.join("labels.dcm");
    link(&found.path, &to).map_err(EvolveError::io(&to))?;
    let patient = code(salt, &[&found.patient]);
    write(&folder.join("case.toml"), &format!("patient = \"{patient}\"\n"))
}

/// A second name for a file where the file system has that, else a copy.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(from, to).map(|_| ()),
        Ok(()) => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), EvolveError> {
    fs::write(path, text).map_err(EvolveError::io(path))
}
