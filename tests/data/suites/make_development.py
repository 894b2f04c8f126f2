"""Writes the cases of the development suite from the data that tests find at SEER_TEST_DATA.

usage: SEER_TEST_DATA=DATA python make_development.py OUT   (numpy, scipy, nibabel, pydicom with JPEG 2000)
then:  seer suite ask OUT && seer eval --suite OUT --split heldout --out REPORT --ablation

Real volumes only. `heldout` are volumes that the training of seer-mini does not see
(`models/recipes/seer-mini/prepare_data.py`), `practice` the torso that it is trained on, which shows the pelvis.
Targets are the concepts of the recipe that the reference of a case has. Nothing of this goes into the repository.
"""

import gzip
import os
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).parents[3] / "models/recipes/seer-mini"))
from make_vocabulary import concepts  # noqa: E402
from prepare_data import headneck_test_cases, lung_labels, read_ras  # noqa: E402

DATA, OUT = Path(os.environ["SEER_TEST_DATA"]), Path(sys.argv[1])
CONCEPTS = list(concepts())
AAL = {"hippocampus": 37, "amygdala": 41, "caudate nucleus": 71, "putamen": 73, "globus pallidus": 75, "thalamus": 77}
TUMOURS = ("pgbm_001_t1", "pgbm_001_t2", "pgbm_003_t1", "pgbm_003_t2", "pgbm_006_t1")


def of_kind(labels, kind):
    """{concept: labels} of the values of one of the recipe's data sets that are there."""
    there = set(np.unique(labels).tolist())
    found = {c.name: sorted(there & set(c.sources[kind])) for c in CONCEPTS if c.sources.get(kind)}
    return {name: values for name, values in found.items() if values}


def write(path, voxels, affine):
    image = nibabel.Nifti1Image(voxels, affine)
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


def case(name, modality, regions, image, labels, targets, split="heldout"):
    """`image` and `labels` are (voxels, affine); targets {name: labels}."""
    folder = OUT / "cases" / name
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "image.nii.gz", *image)
    write(folder / "labels.nii.gz", labels[0].astype(np.int16), labels[1])
    lines = [f'modality = "{modality}"', f'patient = "{name.rsplit("_t", 1)[0]}"',
             f"body_regions = {list(regions)!r}".replace("'", '"'), f'split = "{split}"', "", "[targets]"]
    lines += [f'"{target}" = {values}' for target, values in targets.items()]
    (folder / "case.toml").write_text("\n".join(lines) + "\n")
    print(name, len(targets), "targets", flush=True)


def load(path):
    image = nibabel.load(DATA / path)
    return np.asanyarray(image.dataobj), image.affine


def freesurfer():
    image, (labels, affine) = load("brain-t1/fs_subject_t1.nii.gz"), load("brain-t1/fs_subject_seg.nii.gz")
    labels = labels.astype(int)
    x = nibabel.affines.apply_affine(affine, np.argwhere(labels == 14))[:, 0].mean()  # third ventricle
    grid = np.indices(labels.shape).reshape(3, -1).T
    left = (nibabel.affines.apply_affine(affine, grid)[:, 0] < x).reshape(labels.shape)
    labels = np.where((labels > 11100) & (labels < 11200), 3, labels)
    labels = np.where((labels > 12100) & (labels < 12200), 42, labels)
    labels = np.where(np.isin(labels, (77, 251, 252, 253, 254, 255)), np.where(left, 2, 41), labels)
    for value, into in ((31, 4), (63, 43)):
        labels[labels == value] = into
    case("fs_subject", "MR", ["head"], image, (labels, affine), of_kind(labels, "brain"))


def colin():
    image, labels = load("brain-t1/colin27_t1.nii.gz"), load("brain-t1/colin27_aal_seg.nii.gz")
    targets = {f"{side} {name}": [value + i] for name, value in AAL.items() for i, side in enumerate(("left", "right"))}
    targets["cerebellum"] = list(range(91, 117))
    case("colin27", "MR", ["head"], image, labels, targets)


def headneck():
    for name in headneck_test_cases(DATA):
        image, labels = load(f"headneck-ct/{name}_ct.nii.gz"), load(f"headneck-ct/{name}_seg.nii.gz")
        case(name, "CT", ["head", "neck"], image, labels, of_kind(labels[0], "headneck"))


def torso():
    folder = DATA / "dicom/ct-torso-empty-uids-siemens-j2k"
    labels, affine = load("dicom/ct-torso-empty-uids-siemens-j2k/seg.nii.gz")
    slices = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices], -1)
    hu = hu.transpose(1, 0, 2).astype(np.int16)  # columns, rows, slices: LPS
    lps = nibabel.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nibabel.orientations.ornt_transform(lps, nibabel.io_orientation(affine))
    targets = of_kind(labels, "torso")
    keep = ("liver", "spleen", "stomach", "aorta", "vertebrae", "spinal cord")
    case("torso_slab", "CT", ["chest", "abdomen"], (nibabel.orientations.apply_orientation(hu, turn), affine),
         (labels, affine), {name: targets[name] for name in keep if name in targets})
    image, labels = load("torso-ct/abdomen_pelvis_ct.nii.gz"), load("torso-ct/abdomen_pelvis_seg.nii.gz")
    case("torso_trained", "CT", ["abdomen", "pelvis"], image, labels, of_kind(labels[0], "torso"), "practice")


def chest():
    """Lungs by threshold: air inside of the body, left and right apart."""
    path = "chest-ct/pyradiomics_lung2_ct.nii.gz"
    image = nibabel.as_closest_canonical(nibabel.load(DATA / path))
    volume, spacing = read_ras(DATA / path)
    lungs = np.asarray(lung_labels(volume, spacing)).transpose(2, 1, 0)
    values = of_kind(lungs, "chest") or of_kind(lungs, "torso")
    case("lung2", "CT", ["chest"], (np.asanyarray(image.dataobj), image.affine), (lungs, image.affine), values)


def lesions():
    for name in TUMOURS:
        image, labels = load(f"brain-lesions/{name}_t1post.nii.gz"), load(f"brain-lesions/{name}_seg.nii.gz")
        case(name, "MR", ["head"], image, labels, {"brain tumour": [1]})
    image, labels = load("brain-lesions/ms_19_flair.nii.gz"), load("brain-lesions/ms_19_seg.nii.gz")
    case("ms_19", "MR", ["head"], image, labels, {"brain lesion": [1]})


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "suite.toml").write_text('name = "development"\nsource = "see the README of SEER_TEST_DATA"\n'
                                    'licence = "per case, see the README of SEER_TEST_DATA"\n')
    for write_cases in (freesurfer, colin, headneck, torso, chest, lesions):
        write_cases()


if __name__ == "__main__":
    main()
