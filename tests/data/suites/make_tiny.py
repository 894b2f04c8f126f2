"""Writes the suite `tiny` from the sample study of this repository.

Usage: python make_tiny.py   (numpy 2, pydicom 3, nibabel 5; run in this folder)

The series is averaged onto about 4 mm. Reference: voxels of the brain (the template is
brain-extracted), left and right of the plane x = 0 of MNI space. Case `head_b` holds the same
anatomy with other axes, so that a swapped axis shows. The same packages give the same bytes.
"""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom

STUDY = Path("../../../static/sample-study/mni152-t1")
OUT = Path("tiny")
STEP = (2, 4, 4)  # slices, rows, columns averaged together


def volume():
    """Voxels [slice, row, column] and the LPS affine of them."""
    slices = sorted((pydicom.dcmread(p) for p in STUDY.glob("*.dcm")), key=lambda d: d.InstanceNumber)
    voxels = np.stack([d.pixel_array for d in slices]).astype(np.float64)
    first, last = (np.array(slices[i].ImagePositionPatient, float) for i in (0, -1))
    along_row, along_column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(v) for v in slices[0].PixelSpacing]
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(slices) - 1)
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = along_row * spacing[1]
    affine[:3, 3] = first
    return voxels, affine


def averaged(voxels, affine):
    shape = [n // s for n, s in zip(voxels.shape, STEP)]
    cut = voxels[tuple(slice(0, n * s) for n, s in zip(shape, STEP))]
    blocks = cut.reshape(shape[0], STEP[0], shape[1], STEP[1], shape[2], STEP[2])
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ [(s - 1) / 2 for s in STEP]
    out[:3, :3] = affine[:3, :3] * STEP
    return blocks.mean(axis=(1, 3, 5)), out


def write(path, voxels, affine_lps):
    """NIfTI: axes [column, row, slice], RAS; no time stamp in the gzip header."""
    ras = np.diag([-1, -1, 1, 1]) @ affine_lps[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(np.ascontiguousarray(voxels.transpose(2, 1, 0)), ras)
    path.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


def reference(voxels, affine):
    grid = np.moveaxis(np.indices(voxels.shape), 0, -1)
    x = grid @ affine[0, :3] + affine[0, 3]
    brain = voxels > 0.25 * np.percentile(voxels, 99)
    return np.where(brain, np.where(x > 0, 1, 2), 0).astype(np.uint8)


def case(name, voxels, labels, affine):
    folder = OUT / "cases" / name
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "image.nii.gz", np.clip(voxels / voxels.max() * 255, 0, 255).astype(np.uint8), affine)
    write(folder / "labels.nii.gz", labels, affine)
    (folder / "case.toml").write_text(f'modality = "MR"\npatient = "{name}"\nbody_regions = ["head"]\n')


REQUESTS = {
    ("left cerebral hemisphere", (1,)): [
        ("label", "formal_task", "left cerebral hemisphere"),
        ("free", "formal_task", "Segment the left cerebral hemisphere."),
        ("free", "clinical_request", "Please outline the left cerebral hemisphere."),
        ("free", "messy_or_misspelled", "contour lt cerebral hemispere pls"),
    ],
    ("brain", (1, 2)): [
        ("label", "formal_task", "brain"),
        ("free", "formal_task", "Segment the brain."),
        ("free", "verbose_request", "Hello, could you please contour the brain for us? Thank you."),
    ],
}


def requests():
    for name, split in (("head_a", "practice"), ("head_b", "heldout")):
        for (target, labels), wordings in REQUESTS.items():
            for mode, style, text in wordings:
                yield dict(case=name, group=f"{name}/{target}", mode=mode, style=style, text=text,
                           target=target, labels=list(labels), split=split, expect="segment")
        for group, text, reason in (
            ("urinary bladder", "Segment the urinary bladder.", "out_of_region"),
            ("urinary bladder", "outline the bladder please", "out_of_region"),
            ("chat", "What is the weather like?", "not_a_segmentation_request"),
        ):
            yield dict(case=name, group=f"{name}/reject {group}", mode="free", style="out_of_region_reference"
                       if reason == "out_of_region" else "clinical_request", text=text,
                       target="urinary bladder" if reason == "out_of_region" else "", labels=[], split=split,
                       expect="reject", reason=reason)


def main():
    voxels, affine = averaged(*volume())
    labels = reference(voxels, affine)
    case("head_a", voxels, labels, affine)
    # Coronal slices from back to front, rows from head to feet, columns from left to right.
    turn = np.zeros((4, 4))
    turn[1, 0], turn[0, 1], turn[2, 2], turn[3, 3] = -1, -1, -1, 1
    turn[1, 3], turn[0, 3], turn[2, 3] = voxels.shape[1] - 1, voxels.shape[0] - 1, voxels.shape[2] - 1
    flip = (slice(None, None, -1),) * 3
    case("head_b", *(v.transpose(1, 0, 2)[flip] for v in (voxels, labels)), affine @ turn)
    (OUT / "suite.toml").write_text(
        'name = "tiny"\nsource = "MNI152 2009a symmetric template, see static/sample-study/README.md"\n'
        'licence = "ICBM notice; BSD-3-Clause"\n\n[labels]\n1 = "left cerebral hemisphere"\n'
        '2 = "right cerebral hemisphere"\n')
    (OUT / "requests.jsonl").write_text("".join(json.dumps(r) + "\n" for r in requests()))


if __name__ == "__main__":
    main()
