//! BrainMetShare (E. Grøvik et al., JMRI 2020, doi 10.1002/jmri.26766; aimi.stanford.edu).
//!
//! The official release holds slices as PNG files:
//! `mets_stanford_releaseMask_train/Mets_005/{0,1,2,3,seg}/<number>.png`, where 0 is T1
//! gradient-echo after contrast (BRAVO), 1 T1 spin-echo before and 2 after contrast, 3 FLAIR after
//! contrast, and seg the metastases (255). Slices are 256 × 256 pixels of 0.94 mm, 1 mm apart, in
//! radiological display. A redistribution holds `train/Mets_005/{bravo,t1_pre,t1_gd,flair,seg}.nii`.

use std::path::{Path, PathBuf};

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, nifti_in, walk};
use crate::eval::EvalError;

pub(super) const SEQUENCES: [&str; 4] = ["bravo", "t1_gd", "flair", "t1_pre"];

/// Field of view of 240 mm over 256 pixels; slices 1 mm apart.
const SPACING_UM: [u32; 3] = [1000, 938, 938];

pub(super) fn facts() -> LayoutFacts {
    LayoutFacts {
        name: "BrainMetShare",
        source: "BrainMetShare, E. Grøvik et al., JMRI 2020, Stanford AIMI",
        licence: "Stanford University Dataset Research Use Agreement",
        modality: "MR",
        body_regions: &["head"],
        targets: vec![("brain metastases", vec![1])],
    }
}

pub(super) fn find(root: &Path, sequence: &str) -> Result<Vec<FoundCase>, EvalError> {
    let folders = walk(root, 4)?;
    let folders = folders.into_iter().filter(|path| path.is_dir());
    let mut cases = Vec::new();
    for folder in folders.filter(|path| name_of(path).starts_with("Mets_")) {
        let found = if folder.join("seg").is_dir() {
            Some((slices(&folder.join(number_of(sequence)))?, slices(&folder.join("seg"))?))
        } else if let Some(labels) = nifti_in(&folder, "seg") {
            let image = needed(nifti_in(&folder, sequence), &folder, sequence)?;
            Some((Voxels::Nifti(image), Voxels::Nifti(labels)))
        } else {
            None
        };
        let Some((image, labels)) = found else { continue };
        let name = name_of(&folder);
        cases.push(FoundCase { patient: name.clone(), name, image, labels });
    }
    Ok(cases)
}

fn number_of(sequence: &str) -> &'static str {
    match sequence {
        "bravo" => "0",
        "t1_pre" => "1",
        "t1_gd" => "2",
        _ => "3",
    }
}

/// PNG files of a folder by the number in their name.
fn slices(folder: &Path) -> Result<Voxels, EvalError> {
    let mut files: Vec<PathBuf> = walk(folder, 1)?
        .into_iter()
        .filter(|path| name_of(path).to_lowercase().ends_with(".png"))
        .collect();
    if files.is_empty() {
        let reason = "it has no PNG slices".to_owned();
        return Err(EvalError::Malformed { path: folder.to_owned(), reason });
    }
    files.sort_by_key(|path| {
        let digits: String = name_of(path).chars().filter(char::is_ascii_digit).collect();
        (digits.parse::<u64>().unwrap_or(0), name_of(path))
    });
    Ok(Voxels::Slices { files, spacing_um: SPACING_UM })
}
