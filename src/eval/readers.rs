//! Public data sets in the folders in which they come, into suites.
//!
//! Nothing is downloaded; licences are the data sets' own and stand in `suite.toml`. A reader finds
//! cases (`Layout::find`), [`import`] writes them as a suite: the image, the label map, and
//! requests: the canonical name of every target that the case has, wordings of it, and requests
//! that should be refused.

mod brainmetshare;
mod brats;
mod flare22;
mod hvsmr;
mod isles;
mod meta_image;
mod pengwin;
mod pictures;
mod write;

use std::path::{Path, PathBuf};

use super::EvalError;

pub use meta_image::{MetaImage, read as read_meta_image};
pub use write::{ImportSettings, Imported, import};

/// The layouts that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// BrainMetShare (Stanford AIMI).
    BrainMetShare,
    /// PENGWIN 2024, task 1 (pelvic CT).
    Pengwin,
    /// BraTS 2021 (glioma before treatment).
    Brats2021,
    /// BraTS 2024, post-treatment glioma.
    Brats2024,
    /// ISLES 2022 (stroke).
    Isles2022,
    /// FLARE22 (abdominal CT).
    Flare22,
    /// HVSMR-2.0 (cardiac MR).
    Hvsmr2,
}

/// Where the voxels of an image or of labels lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voxels {
    /// One NIfTI file.
    Nifti(PathBuf),
    /// One MetaImage file (`.mha`).
    Meta(PathBuf),
    /// PNG slices from feet to head, with the distance of their pixels (row, column) and of the
    /// slices in micrometres.
    Slices {
        /// Files in order.
        files: Vec<PathBuf>,
        /// Between slices, rows and columns.
        spacing_um: [u32; 3],
    },
}

/// One case as a reader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCase {
    /// Its name in the suite.
    pub name: String,
    /// The patient, by the data set's own code.
    pub patient: String,
    /// The image.
    pub image: Voxels,
    /// The label map.
    pub labels: Voxels,
}

/// What is true of every case of a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct LayoutFacts {
    /// The data set's name.
    pub name: &'static str,
    /// Where it comes from and who made it.
    pub source: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Modality code.
    pub modality: &'static str,
    /// What the scans show.
    pub body_regions: &'static [&'static str],
    /// Targets and the labels whose union they are.
    pub targets: Vec<(&'static str, Vec<u32>)>,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 7] = [
        Self::BrainMetShare,
        Self::Pengwin,
        Self::Brats2021,
        Self::Brats2024,
        Self::Isles2022,
        Self::Flare22,
        Self::Hvsmr2,
    ];

    /// As the command line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::BrainMetShare => "brainmetshare",
            Self::Pengwin => "pengwin",
            Self::Brats2021 => "brats2021",
            Self::Brats2024 => "brats2024",
            Self::Isles2022 => "isles2022",
            Self::Flare22 => "flare22",
            Self::Hvsmr2 => "hvsmr2",
        }
    }

    /// The layout that the command line calls so.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.word() == word)
    }

    /// What is true of every case.
    pub fn facts(self) -> LayoutFacts {
        match self {
            Self::BrainMetShare => brainmetshare::facts(),
            Self::Pengwin => pengwin::facts(),
            Self::Brats2021 => brats::facts_2021(),
            Self::Brats2024 => brats::facts_2024(),
            Self::Isles2022 => isles::facts(),
            Self::Flare22 => flare22::facts(),
            Self::Hvsmr2 => hvsmr::facts(),
        }
    }

    /// The sequences that may be chosen as the image, the usual one first; none where there is one.
    pub fn sequences(self) -> &'static [&'static str] {
        match self {
            Self::BrainMetShare => &brainmetshare::SEQUENCES,
            Self::Brats2021 => &brats::SEQUENCES_2021,
            Self::Brats2024 => &brats::SEQUENCES_2024,
            Self::Isles2022 => &isles::SEQUENCES,
            Self::Hvsmr2 => &hvsmr::SEQUENCES,
            Self::Pengwin | Self::Flare22 => &[],
        }
    }

    /// Finds the labelled cases below `root`, sorted by name.
    ///
    /// # Errors
    /// When there is no case, or one lacks the file that its layout promises.
    pub fn find(self, root: &Path, sequence: Option<&str>) -> Result<Vec<FoundCase>, EvalError> {
        let malformed = |reason| EvalError::Malformed { path: root.to_owned(), reason };
        let known = self.sequences();
        let sequence = match (sequence, known.first()) {
            (Some(word), Some(_)) if known.contains(&word) => word,
            (None, Some(first)) => first,
            (None, None) => "",
            (Some(word), _) => {
                let reason = format!("sequence {word:?} is none of {}", known.join(", "));
                return Err(malformed(reason));
            }
        };
        let mut cases = match self {
            Self::BrainMetShare => brainmetshare::find(root, sequence)?,
            Self::Pengwin => pengwin::find(root)?,
            Self::Brats2021 => brats::find(root, "BraTS2021_", '_', sequence)?,
            Self::Brats2024 => brats::find(root, "BraTS-GLI-", '-', sequence)?,
            Self::Isles2022 => isles::find(root, sequence)?,
            Self::Flare22 => flare22::find(root)?,
            Self::Hvsmr2 => hvsmr::find(root, sequence)?,
        };
        if cases.is_empty() {
            return Err(malformed(format!("it holds no labelled case of {}", self.word())));
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }
}

/// Files and folders below `root`, down to `depth` levels, sorted.
fn walk(root: &Path, depth: usize) -> Result<Vec<PathBuf>, EvalError> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), depth)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(EvalError::io(&folder))?.flatten() {
            let path = entry.path();
            if path.is_dir() && depth > 1 {
                folders.push((path.clone(), depth - 1));
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `<stem>.nii.gz` or `<stem>.nii` in a folder.
fn nifti_in(folder: &Path, stem: &str) -> Option<PathBuf> {
    ["nii.gz", "nii"]
        .into_iter()
        .map(|end| folder.join(format!("{stem}.{end}")))
        .find(|path| path.is_file())
}

fn needed(path: Option<PathBuf>, folder: &Path, what: &str) -> Result<PathBuf, EvalError> {
    path.ok_or_else(|| EvalError::Malformed {
        path: folder.to_owned(),
        reason: format!("it has no {what}"),
    })
}
