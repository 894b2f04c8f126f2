//! PENGWIN 2024, task 1 (Y. Liu et al., Zenodo 10927452; Y. Sang et al., arXiv:2504.02382):
//! `PENGWIN_CT_train_images_part{1,2}/001.mha` and `PENGWIN_CT_train_labels/001.mha`; labels 1-10
//! fragments of the sacrum, 11-20 of the left, 21-30 of the right hip bone.

use std::path::Path;

use super::{FoundCase, LayoutFacts, Voxels, name_of, needed, walk};
use crate::eval::EvalError;

pub(super) fn facts() -> LayoutFacts {
    LayoutFacts {
        name: "PENGWIN",
        source: "PENGWIN 2024 task 1, doi 10.5281/zenodo.10927452",
        licence: "CC BY 4.0",
        modality: "CT",
        body_regions: &["pelvis"],
        targets: vec![
            ("sacrum", (1..=10).collect()),
            ("left hip bone", (11..=20).collect()),
            ("right hip bone", (21..=30).collect()),
            ("both hip bones", (11..=30).collect()),
        ],
    }
}

pub(super) fn find(root: &Path) -> Result<Vec<FoundCase>, EvalError> {
    let files: Vec<_> = walk(root, 3)?
        .into_iter()
        .filter(|path| path.is_file() && name_of(path).ends_with(".mha"))
        .collect();
    let folder_of = |path: &Path| path.parent().map(name_of).unwrap_or_default();
    let mut cases = Vec::new();
    for labels in files.iter().filter(|path| folder_of(path).contains("labels")) {
        let file = name_of(labels);
        let image = files.iter().find(|path| {
            let folder = folder_of(path);
            folder.contains("images") && name_of(path) == file
        });
        let image = needed(image.cloned(), root, &format!("image {file}"))?;
        let name = format!("pengwin_{}", file.trim_end_matches(".mha"));
        let (image, labels) = (Voxels::Meta(image), Voxels::Meta(labels.clone()));
        cases.push(FoundCase { patient: name.clone(), name, image, labels });
    }
    Ok(cases)
}
