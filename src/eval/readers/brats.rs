//! BraTS 2021 and BraTS 2024 post-treatment glioma.
//!
//! 2021 (U. Baid et al., arXiv:2107.02314): `BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz`;
//! labels 1 necrotic core, 2 oedema, 4 enhancing tumour.
//! 2024 (M. de Verdier et al., arXiv:2405.18368): `BraTS-GLI-00005-100/BraTS-GLI-00005-100-{t1c,t1n,t2f,t2w,seg}.nii.gz`,
//! patient and time point; labels 1 non-enhancing core, 2 surrounding FLAIR hyperintensity,
//! 3 enhancing tissue, 4 resection cavity.

use std::path::Path;

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, nifti_in, walk};
use crate::eval::EvalError;

pub(super) const SEQUENCES_2021: [&str; 4] = ["t1ce", "flair", "t2", "t1"];
pub(super) const SEQUENCES_2024: [&str; 4] = ["t1c", "t2f", "t2w", "t1n"];

pub(super) fn facts_2021() -> LayoutFacts {
    LayoutFacts {
        name: "BraTS 2021",
        source: "RSNA-ASNR-MICCAI BraTS 2021, U. Baid et al., arXiv:2107.02314",
        licence: "BraTS terms of use",
        modality: "MR",
        body_regions: &["head"],
        targets: vec![
            ("whole tumour", vec![1, 2, 4]),
            ("tumour core", vec![1, 4]),
            ("enhancing tumour", vec![4]),
            ("peritumoural oedema", vec![2]),
            ("necrotic tumour core", vec![1]),
        ],
    }
}

pub(super) fn facts_2024() -> LayoutFacts {
    LayoutFacts {
        name: "BraTS 2024 post-treatment glioma",
        source: "BraTS 2024 glioma, M. de Verdier et al., arXiv:2405.18368",
        licence: "BraTS terms of use",
        modality: "MR",
        body_regions: &["head"],
        targets: vec![
            ("whole tumour", vec![1, 2, 3]),
            ("tumour core", vec![1, 3]),
            ("enhancing tumour", vec![3]),
            ("peritumoural oedema", vec![2]),
            ("non-enhancing tumour core", vec![1]),
            ("resection cavity", vec![4]),
        ],
    }
}

/// Case folders whose name starts with `prefix`, at most three levels down; cases without a
/// segmentation (validation sets) are left out.
pub(super) fn find(
    root: &Path,
    prefix: &str,
    separator: char,
    sequence: &str,
) -> Result<Vec<FoundCase>, EvalError> {
    let folders = walk(root, 3)?;
    let folders = folders.into_iter().filter(|path| path.is_dir());
    let mut cases = Vec::new();
    for folder in folders.filter(|path| name_of(path).starts_with(prefix)) {
        let name = name_of(&folder);
        let file = |kind: &str| nifti_in(&folder, &format!("{name}{separator}{kind}"));
        let Some(labels) = file("seg") else { continue };
        let image = needed(file(sequence), &folder, sequence)?;
        // BraTS-GLI-00005-100: time point 100 of patient 00005.
        let patient = match (separator, name.rsplit_once('-')) {
            ('-', Some((patient, _))) => patient.to_owned(),
            _ => name.clone(),
        };
        let (image, labels) = (Voxels::Nifti(image), Voxels::Nifti(labels));
        cases.push(FoundCase { name, patient, image, labels });
    }
    Ok(cases)
}
