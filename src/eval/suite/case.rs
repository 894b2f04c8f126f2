//! One case: an image, and labels on its grid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array3, Axis};
use serde::{Deserialize, Serialize};

use crate::dicom::{DicomLimits, Instance};
use crate::dicom_seg::SegReader;
use crate::error::Finding;
use crate::eval::{EvalError, PackedMask, Split};
use crate::geometry::{VolumeGeometry, VoxelPoint, dot};
use crate::series::{self, Modality, Series};
use crate::volume::{self, Mask, Volume, nifti};

/// Twin voxels of image and labels may lie this far apart, in millimetres: label maps of the
/// usual data sets repeat the image's affine in single precision.
const SAME_GRID_MM: f64 = 0.05;

/// What `case.toml` says; all of it may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFacts {
    /// Modality code of a NIfTI image; guessed from the values without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// Who was scanned, as a code without meaning: cases of one patient stay on one side of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// What the scan shows, in the words of the vocabulary's `body_regions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub body_regions: Vec<String>,
    /// The part it belongs to, for requests that are made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Names of labels or segment numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Targets that are the union of several labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, Vec<u32>>,
}

/// Where the reference comes from.
enum Labels {
    /// An integer map on the image's grid.
    Map(Array3<u32>),
    /// A Segmentation of the series; segments are read when asked for.
    Seg { seg: Box<Instance>, series: Box<Series> },
}

/// One case: an image, and labels on its grid.
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// What is written about it.
    pub facts: CaseFacts,
    /// The image.
    pub volume: Volume,
    /// What was tolerated when reading it.
    pub findings: Vec<Finding>,
    labels: Labels,
}

impl Case {
    /// Reads image and labels.
    pub(super) fn read(
        name: &str,
        folder: &Path,
        facts: &CaseFacts,
        limits: &DicomLimits,
    ) -> Result<Self, EvalError> {
        let modality = facts.modality.as_deref().map(Modality::parse);
        let dicom = folder.join("dicom");
        let (volume, series, findings) = if let Some(image) = nifti_file(folder, "image") {
            let read = nifti::read(&image, modality).map_err(of_volume(name))?;
            (read.0, None, read.1)
        } else if dicom.is_dir() {
            let (volume, series, findings) = read_series(name, &dicom, limits)?;
            (volume, Some(series), findings)
        } else {
            return Err(EvalError::Missing { case: name.to_owned(), what: "image" });
        };
        let labels = read_labels(name, folder, &volume, series, limits)?;
        Ok(Self { name: name.to_owned(), facts: facts.clone(), volume, findings, labels })
    }

    /// The union of labels (or segments) as one mask on the image's grid.
    ///
    /// A label that no voxel has is empty, as a label map cannot say more; a segment number that
    /// the Segmentation does not have is an error.
    ///
    /// # Errors
    /// When a segment is missing or cannot be read.
    pub fn reference(&self, labels: &[u32]) -> Result<Mask, EvalError> {
        let geometry = self.volume.geometry;
        let voxels = match &self.labels {
            Labels::Map(map) => map.mapv(|value| labels.contains(&value)),
            Labels::Seg { seg, series } => self.seg_union(seg, series, labels)?,
        };
        Ok(Mask { geometry, voxels })
    }

    /// The same as bits.
    ///
    /// # Errors
    /// As [`Case::reference`].
    pub fn packed_reference(&self, labels: &[u32]) -> Result<PackedMask, EvalError> {
        Ok(PackedMask::of(&self.reference(labels)?.voxels))
    }

    /// Labels or segment numbers that are there, ascending, without the background.
    ///
    /// # Errors
    /// When the Segmentation cannot be read.
    pub fn label_values(&self) -> Result<Vec<u32>, EvalError> {
        match &self.labels {
            Labels::Map(map) => {
                let values: BTreeSet<u32> =
                    map.iter().copied().filter(|value| *value > 0).collect();
                Ok(values.into_iter().collect())
            }
            Labels::Seg { seg, series } => {
                let (reader, _) = SegReader::open(seg, series).map_err(of_seg(&self.name))?;
                Ok(reader.segments().map(|segment| u32::from(segment.number)).collect())
            }
        }
    }

    fn seg_union(
        &self,
        seg: &Instance,
        series: &Series,
        labels: &[u32],
    ) -> Result<Array3<bool>, EvalError> {
        let (reader, _) = SegReader::open(seg, series).map_err(of_seg(&self.name))?;
        let shape = self.volume.geometry.shape();
        let mut union = Array3::from_elem(shape, false);
        let frames = nearest_frames(&self.volume.geometry, series);
        for label in labels {
            let number = u16::try_from(*label).map_err(|_| {
                let reason = format!("segment number {label} is above 65535");
                EvalError::Malformed { path: PathBuf::from("requests.jsonl"), reason }
            })?;
            let mask = reader.mask(number).map_err(of_seg(&self.name))?;
            for (mut slice, frame) in union.axis_iter_mut(Axis(0)).zip(&frames) {
                slice
                    .zip_mut_with(&mask.index_axis(Axis(0), *frame), |all, inside| *all |= *inside);
            }
        }
        Ok(union)
    }
}

/// The frame of the series that lies closest to each slice of the volume's grid; a volume whose
/// slices were interpolated takes each slice's mask from its nearest frame.
fn nearest_frames(geometry: &VolumeGeometry, series: &Series) -> Vec<usize> {
    let (normal, positions) = (series.normal(), series.positions_mm());
    let nearest = |slice: usize| {
        let at = geometry.voxel_to_patient().apply(VoxelPoint([slice as f64, 0.0, 0.0]));
        let at = dot(at.0, normal);
        let distance = |frame: &usize| (positions[*frame] - at).abs();
        (0..positions.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    };
    (0..geometry.shape()[0]).map(nearest).collect()
}

fn nifti_file(folder: &Path, stem: &str) -> Option<PathBuf> {
    ["nii.gz", "nii"]
        .into_iter()
        .map(|end| folder.join(format!("{stem}.{end}")))
        .find(|path| path.is_file())
}

fn read_labels(
    name: &str,
    folder: &Path,
    volume: &Volume,
    series: Option<Series>,
    limits: &DicomLimits,
) -> Result<Labels, EvalError> {
    if let Some(path) = nifti_file(folder, "labels") {
        let (map, geometry) = nifti::read_labels(&path).map_err(of_volume(name))?;
        if !geometry.is_close(&volume.geometry, SAME_GRID_MM) {
            let (labels, image) = (geometry.shape(), volume.geometry.shape());
            return Err(EvalError::OtherGrid { case: name.to_owned(), labels, image });
        }
        return Ok(Labels::Map(map));
    }
    let missing = || EvalError::Missing { case: name.to_owned(), what: "labels" };
    let series = series.ok_or_else(missing)?;
    let file = dicom_files(folder)?.into_iter().next().ok_or_else(missing)?;
    let seg = parse(name, &file, limits)?;
    SegReader::open(&seg, &series).map_err(of_seg(name))?;
    Ok(Labels::Seg { seg: Box::new(seg), series: Box::new(series) })
}

fn read_series(
    name: &str,
    folder: &Path,
    limits: &DicomLimits,
) -> Result<(Volume, Series, Vec<Finding>), EvalError> {
    let files = dicom_files(folder)?;
    let instances: Vec<Arc<Instance>> = files
        .iter()
        .map(|file| parse(name, file, limits).map(Arc::new))
        .collect::<Result<_, _>>()?;
    let of_series = |source| EvalError::Series { case: name.to_owned(), source };
    let (series, mut findings) = series::assemble(instances).map_err(of_series)?;
    let (volume, found) = volume::assemble(&series).map_err(of_volume(name))?;
    findings.extend(found);
    Ok((volume, series, findings))
}

/// Files of a folder, sorted; hidden ones and those of other well-known types do not count.
fn dicom_files(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let entries = std::fs::read_dir(folder).map_err(EvalError::io(folder))?;
    let is_dicom = |path: &PathBuf| {
        let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
        let other = ["toml", "gz", "nii", "csv", "txt", "md", "json", "png"];
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        path.is_file() && !hidden && !end.is_some_and(|end| other.contains(&end.as_str()))
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_dicom).collect();
    files.sort();
    Ok(files)
}

fn parse(name: &str, file: &Path, limits: &DicomLimits) -> Result<Instance, EvalError> {
    let bytes = std::fs::read(file).map_err(EvalError::io(file))?;
    let parsed = Instance::parse(&bytes, limits);
    parsed
        .map(|(instance, _)| instance)
        .map_err(|source| EvalError::Dicom { case: name.to_owned(), source })
}

fn of_volume(name: &str) -> impl Fn(volume::VolumeError) -> EvalError + '_ {
    move |source| EvalError::Volume { case: name.to_owned(), source }
}

fn of_seg(name: &str) -> impl Fn(crate::dicom_seg::SegError) -> EvalError + '_ {
    move |source| EvalError::Seg { case: name.to_owned(), source }
}
