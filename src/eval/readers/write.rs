//! Found cases as a suite.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ndarray::Array3;

use super::{FoundCase, Layout, LayoutFacts, Voxels, meta_image, pictures};
use crate::eval::ask::{RequestPlan, requests_for, write_requests};
use crate::eval::random::Random;
use crate::eval::suite::{CaseFacts, SuiteFacts};
use crate::eval::words::{Scene, Synthesizer};
use crate::eval::{EvalError, Request, Split};
use crate::geometry::VolumeGeometry;
use crate::runtime::vocabulary::Vocabulary;
use crate::series::Modality;
use crate::threads::Progress;
use crate::volume::{Volume, VolumeError, nifti};

/// What is asked about the cases.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSettings {
    /// The sequence that becomes the image, where there are several.
    pub sequence: Option<String>,
    /// Most cases, in the order of their names.
    pub case_count_max: Option<usize>,
    /// Free wordings of each target.
    pub wordings: usize,
    /// Requests to be refused, of each case.
    pub rejections: usize,
    /// Share of patients held out.
    pub heldout_share: f64,
    /// Seed of wordings and split.
    pub seed: u64,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            sequence: None,
            case_count_max: None,
            wordings: 8,
            rejections: 6,
            heldout_share: 0.5,
            seed: 0,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Cases.
    pub case_count: usize,
    /// Requests.
    pub request_count: usize,
}

/// Writes the cases of a data set as a suite in `out`.
///
/// Images and label maps in NIfTI are copied byte by byte, others are converted. Only targets that
/// a case's label map has are asked for. Wordings come from `vocabulary` where it knows a target,
/// else from the target's own name.
///
/// # Errors
/// When the layout is not there, a file cannot be read, or `out` cannot be written.
pub fn import(
    layout: Layout,
    root: &Path,
    out: &Path,
    vocabulary: &Vocabulary,
    settings: &ImportSettings,
    progress: &Progress,
) -> Result<Imported, EvalError> {
    let mut cases = layout.find(root, settings.sequence.as_deref())?;
    cases.truncate(settings.case_count_max.unwrap_or(usize::MAX));
    let facts = layout.facts();
    let words = Synthesizer::new(vocabulary);
    let splits = splits(&cases, settings);
    let mut requests: Vec<Request> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        progress.report(index as u64, cases.len() as u64);
        let present = write_case(case, &facts, out)?;
        let split = splits.get(&case.patient).copied();
        requests.extend(ask(&case.name, &facts, &present, (&words, settings), split));
    }
    progress.report(cases.len() as u64, cases.len() as u64);
    let labels = facts.targets.iter().filter(|(_, labels)| labels.len() == 1);
    let suite = SuiteFacts {
        name: facts.name.to_owned(),
        source: facts.source.to_owned(),
        licence: facts.licence.to_owned(),
        labels: labels.map(|(name, labels)| (labels[0].to_string(), (*name).to_owned())).collect(),
    };
    write_toml(&out.join("suite.toml"), &suite)?;
    write_requests(&out.join("requests.jsonl"), &requests)?;
    Ok(Imported { case_count: cases.len(), request_count: requests.len() })
}

fn write_toml<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), EvalError> {
    let text = toml::to_string(value).map_err(|error| EvalError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    std::fs::write(path, text).map_err(EvalError::io(path))
}

/// Patients by part: a seeded order, the first share held out, at least one in each part.
fn splits(cases: &[FoundCase], settings: &ImportSettings) -> BTreeMap<String, Split> {
    let patients: BTreeSet<&String> = cases.iter().map(|case| &case.patient).collect();
    let mut patients: Vec<&String> = patients.into_iter().collect();
    Random::of(settings.seed, &["split"]).shuffle(&mut patients);
    let heldout = (patients.len() as f64 * settings.heldout_share).round() as usize;
    let most = patients.len().saturating_sub(1).max(1);
    let heldout = heldout.clamp(usize::from(settings.heldout_share > 0.0), most);
    let part = |at| if at < heldout { Split::Heldout } else { Split::Practice };
    patients.into_iter().enumerate().map(|(at, name)| (name.clone(), part(at))).collect()
}

/// Writes image, labels and facts; gives the labels that are there.
fn write_case(
    case: &FoundCase,
    facts: &LayoutFacts,
    out: &Path,
) -> Result<BTreeSet<u32>, EvalError> {
    let folder = out.join("cases").join(&case.name);
    std::fs::create_dir_all(&folder).map_err(EvalError::io(&folder))?;
    let of_volume = |source: VolumeError| EvalError::Volume { case: case.name.clone(), source };
    match &case.image {
        Voxels::Nifti(path) => copy(path, &folder, "image")?,
        Voxels::Meta(_) | Voxels::Slices { .. } => {
            let (voxels, geometry) = read(&case.image)?;
            let modality = Modality::parse(facts.modality);
            let volume = Volume { geometry, voxels, modality };
            nifti::write_image(&folder.join("image.nii.gz"), &volume).map_err(of_volume)?;
        }
    }
    let map = match &case.labels {
        Voxels::Nifti(path) => {
            copy(path, &folder, "labels")?;
            nifti::read_labels(path).map_err(of_volume)?.0
        }
        Voxels::Meta(_) | Voxels::Slices { .. } => {
            let (voxels, geometry) = read(&case.labels)?;
            let is_picture = matches!(case.labels, Voxels::Slices { .. });
            // Pictures mark a structure by 255; anything bright is inside.
            let label =
                |value: f32| if is_picture { u16::from(value > 127.0) } else { value as u16 };
            let labels: Array3<u16> = voxels.mapv(label);
            nifti::write_labels(&folder.join("labels.nii.gz"), &labels, &geometry)
                .map_err(of_volume)?;
            labels.mapv(u32::from)
        }
    };
    let case_facts = CaseFacts {
        modality: Some(facts.modality.to_owned()),
        patient: Some(case.patient.clone()),
        body_regions: facts.body_regions.iter().map(|r| (*r).to_owned()).collect(),
        ..CaseFacts::default()
    };
    write_toml(&folder.join("case.toml"), &case_facts)?;
    Ok(map.iter().copied().filter(|label| *label > 0).collect())
}

fn read(voxels: &Voxels) -> Result<(Array3<f32>, VolumeGeometry), EvalError> {
    match voxels {
        Voxels::Meta(path) => meta_image::read(path),
        Voxels::Slices { files, spacing_um } => pictures::read(files, *spacing_um),
        Voxels::Nifti(path) => Err(EvalError::Malformed {
            path: path.clone(),
            reason: "NIfTI files are copied, not converted".to_owned(),
        }),
    }
}

fn copy(from: &Path, folder: &Path, stem: &str) -> Result<(), EvalError> {
    let end = if from.to_string_lossy().ends_with(".gz") { "nii.gz" } else { "nii" };
    let to = folder.join(format!("{stem}.{end}"));
    std::fs::copy(from, &to).map_err(EvalError::io(from))?;
    Ok(())
}

fn ask(
    case: &str,
    facts: &LayoutFacts,
    present: &BTreeSet<u32>,
    (words, settings): (&Synthesizer<'_>, &ImportSettings),
    split: Option<Split>,
) -> Vec<Request> {
    let is_here = |labels: &[u32]| labels.iter().any(|label| present.contains(label));
    let (here, missing): (Vec<_>, Vec<_>) =
        facts.targets.iter().partition(|(_, labels)| is_here(labels));
    let targets: Vec<(String, Vec<u32>)> =
        here.into_iter().map(|(name, labels)| ((*name).to_owned(), labels.clone())).collect();
    let scene = Scene {
        modality: facts.modality.to_owned(),
        body_regions: facts.body_regions.iter().map(|r| (*r).to_owned()).collect(),
        visible: targets.iter().map(|(name, _)| name.clone()).collect(),
        absent: missing.into_iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    let plan = RequestPlan {
        case,
        wordings: settings.wordings,
        rejections: settings.rejections,
        seed: settings.seed,
        split,
    };
    requests_for(&plan, &targets, &scene, words)
}
