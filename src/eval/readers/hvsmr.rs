//! HVSMR-2.0 (D. Pace et al., Scientific Data 2024, doi 10.1038/s41597-024-03469-9):
//! `cropped/pat0_cropped.nii.gz`, `pat0_cropped_norm.nii.gz` and `pat0_cropped_seg.nii.gz`;
//! `*_seg_endpoints.nii.gz` mark vessel ends and are not used. Labels 1 left ventricle, 2 right
//! ventricle, 3 left atrium, 4 right atrium, 5 aorta, 6 pulmonary artery, 7 superior and
//! 8 inferior vena cava; left and right are the chambers' kinds, not their places.

use std::path::Path;

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, nifti_in, walk};
use crate::eval::EvalError;

pub(super) const SEQUENCES: [&str; 2] = ["cropped", "cropped_norm"];

const STRUCTURES: [&str; 8] = [
    "left ventricle",
    "right ventricle",
    "left atrium",
    "right atrium",
    "aorta",
    "pulmonary artery",
    "superior vena cava",
    "inferior vena cava",
];

pub(super) fn facts() -> LayoutFacts {
    let mut targets: Vec<_> =
        (1..).zip(STRUCTURES).map(|(label, name)| (name, vec![label])).collect();
    targets.push(("heart", vec![1, 2, 3, 4]));
    LayoutFacts {
        name: "HVSMR-2.0",
        source: "HVSMR-2.0, D. Pace et al., Scientific Data 2024",
        licence: "CC BY 4.0",
        modality: "MR",
        body_regions: &["chest"],
        targets,
    }
}

pub(super) fn find(root: &Path, sequence: &str) -> Result<Vec<FoundCase>, EvalError> {
    let mut cases = Vec::new();
    for labels in walk(root, 3)?.into_iter().filter(|path| path.is_file()) {
        let file = name_of(&labels);
        let stem = file.strip_suffix(".nii.gz").or_else(|| file.strip_suffix(".nii"));
        let Some(name) = stem.and_then(|stem| stem.strip_suffix("_cropped_seg")) else { continue };
        let folder = labels.parent().unwrap_or(root);
        let what = format!("{name}_{sequence}.nii.gz");
        let image = needed(nifti_in(folder, &format!("{name}_{sequence}")), folder, &what)?;
        let (name, patient) = (name.to_owned(), name.to_owned());
        let (image, labels) = (Voxels::Nifti(image), Voxels::Nifti(labels));
        cases.push(FoundCase { name, patient, image, labels });
    }
    Ok(cases)
}
