//! FLARE22 (J. Ma et al., Lancet Digital Health 2024; flare22.grand-challenge.org):
//! `images/FLARE22_Tr_0001_0000.nii.gz` and `labels/FLARE22_Tr_0001.nii.gz`, 13 organs.

use std::path::Path;

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, nifti_in, walk};
use crate::eval::EvalError;

const ORGANS: [&str; 13] = [
    "liver",
    "right kidney",
    "spleen",
    "pancreas",
    "aorta",
    "inferior vena cava",
    "right adrenal gland",
    "left adrenal gland",
    "gallbladder",
    "oesophagus",
    "stomach",
    "duodenum",
    "left kidney",
];

pub(super) fn facts() -> LayoutFacts {
    let mut targets: Vec<_> = (1..).zip(ORGANS).map(|(label, name)| (name, vec![label])).collect();
    targets.push(("both kidneys", vec![2, 13]));
    targets.push(("both adrenal glands", vec![7, 8]));
    LayoutFacts {
        name: "FLARE22",
        source: "MICCAI FLARE 2022, J. Ma et al., Lancet Digital Health 2024",
        licence: "CC BY-NC-SA 4.0",
        modality: "CT",
        body_regions: &["abdomen"],
        targets,
    }
}

pub(super) fn find(root: &Path) -> Result<Vec<FoundCase>, EvalError> {
    let mut cases = Vec::new();
    for labels in walk(root, 4)?.into_iter().filter(|path| path.is_file()) {
        let folder = labels.parent().unwrap_or(root).to_owned();
        if name_of(&folder) != "labels" {
            continue;
        }
        let file = name_of(&labels);
        let Some(name) = file.strip_suffix(".nii.gz").or_else(|| file.strip_suffix(".nii")) else {
            continue;
        };
        let images = folder.with_file_name("images");
        let what = format!("{name}_0000.nii.gz");
        let image = needed(nifti_in(&images, &format!("{name}_0000")), &images, &what)?;
        let (name, patient) = (name.to_owned(), name.to_owned());
        let (image, labels) = (Voxels::Nifti(image), Voxels::Nifti(labels));
        cases.push(FoundCase { name, patient, image, labels });
    }
    Ok(cases)
}
