//! ISLES 2022 (M. Hernandez Petzsche et al., Scientific Data 2022, doi 10.1038/s41597-022-01875-5):
//! BIDS. `sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_{dwi,adc}.nii.gz` (older
//! copies have `rawdata/sub-…/ses-0001/` without `dwi/`) and
//! `derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz`, 1 infarct.
//! The mask lies on the grid of DWI and ADC; FLAIR has another and is no choice here.

use std::path::Path;

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, nifti_in, walk};
use crate::eval::EvalError;

pub(super) const SEQUENCES: [&str; 2] = ["dwi", "adc"];

pub(super) fn facts() -> LayoutFacts {
    LayoutFacts {
        name: "ISLES 2022",
        source: "ISLES 2022, M. Hernandez Petzsche et al., Scientific Data 2022",
        licence: "CC BY-SA 4.0",
        modality: "MR",
        body_regions: &["head"],
        targets: vec![("stroke lesion", vec![1])],
    }
}

pub(super) fn find(root: &Path, sequence: &str) -> Result<Vec<FoundCase>, EvalError> {
    let paths = walk(root, 6)?;
    let mut cases = Vec::new();
    for labels in paths.iter().filter(|path| path.is_file()) {
        let file = name_of(labels);
        let stem = file.strip_suffix(".nii.gz").or_else(|| file.strip_suffix(".nii"));
        let Some(name) = stem.and_then(|stem| stem.strip_suffix("_msk")) else { continue };
        let wanted = format!("{name}_{sequence}");
        let image = paths
            .iter()
            .find_map(|path| (path.is_dir()).then(|| nifti_in(path, &wanted)).flatten());
        let image = needed(image, root, &format!("{wanted}.nii.gz"))?;
        let patient = name.split('_').next().unwrap_or(name).to_owned();
        let (image, labels) = (Voxels::Nifti(image), Voxels::Nifti(labels.clone()));
        cases.push(FoundCase { name: name.to_owned(), patient, image, labels });
    }
    Ok(cases)
}
