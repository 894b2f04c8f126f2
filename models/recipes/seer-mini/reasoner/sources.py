"""The scans to learn from: volumes in RAS order with their labels and where structures lie.

Arrays are [x, y, z] = (to the right, to the front, to the head). Held-out volumes are those of the
backbone: label maps 19 and 20, eight head-and-neck cases, one chest CT, and whole data sets
(colin27, fs_subject, pgbm, a DICOM liver MR), which are read by `evaluate.py` alone.
"""
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from scipy import ndimage

import prepare_data
from traces import CONCEPTS, NAMES

#: Concepts that have voxels of their own; "both" follows from left and right.
SINGLE = [n for n in NAMES if CONCEPTS[n].laterality != "both"]
#: Twin of each single concept across the midline, itself where there is none.
MIRROR = [SINGLE.index({"left": "right " + n[5:], "right": "left " + n[6:]}.get(CONCEPTS[n].laterality, n)) for n in SINGLE]
BRAIN_IDS_SKULL, BRAIN_IDS_DIPLOE, BRAIN_IDS_SKIN = 515, 516, 511


@dataclass
class Source:
    """One volume; `image` or `labels` may be missing (a label map to paint, or an unlabelled scan)."""

    name: str
    modality: str
    kind: str  # brain | brain-real | headneck | torso | trunk | chest | abdomen-mr | limb
    spacing: np.ndarray  # mm, [x, y, z]
    image: np.ndarray | None = None
    labels: np.ndarray | None = None
    table: np.ndarray | None = None  # (label values, single concepts) bool
    extent: dict = field(default_factory=dict)  # single concept index -> (lowest, highest) slice
    body: tuple = ()  # bounding box of what is not background, slices per axis

    @property
    def shape(self):
        return (self.image if self.image is not None else self.labels).shape


def read(path):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj), np.asarray(image.header.get_zooms()[:3], np.float32)


def concept_table(data_set, values):
    table = np.zeros((values, len(SINGLE)), bool)
    for i, name in enumerate(SINGLE):
        table[[v for v in CONCEPTS[name].sources.get(data_set, ()) if v < values], i] = True
    return table


def locate(source):
    """Fills the slice range of each labelled concept."""
    present = ndimage.find_objects(source.labels.astype(np.int32))
    for i in range(len(SINGLE)):
        spans = [present[v - 1][2] for v in np.flatnonzero(source.table[:, i]) if 0 < v <= len(present) and present[v - 1]]
        if spans:
            source.extent[i] = (min(s.start for s in spans), max(s.stop for s in spans))
    return source


def box_of(mask):
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def brain_maps(data, numbers):
    for number in numbers:
        labels, spacing = read(data / f"brain-labelmaps/labelmap_{number:02d}.nii.gz")
        labels = labels.astype(np.int16)
        yield locate(Source(f"labelmap_{number:02d}", "MR", "brain", spacing, labels=labels,
                            table=concept_table("brain", 531), body=box_of(labels > 0)))


def brain_scans(data, names):
    for name in names:
        image, spacing = read(data / f"{name}.nii.gz")
        yield Source(Path(name).name, "MR", "brain-real", spacing, image=image.astype(np.float32),
                     body=box_of(image > 0.05 * np.percentile(image, 99)))


def headneck(data, test=False):
    held_out = prepare_data.headneck_test_cases(data)
    for path in sorted((data / "headneck-ct").glob("*_ct.nii.gz")):
        name = path.name.removesuffix("_ct.nii.gz")
        if (name in held_out) != test:
            continue
        image, spacing = read(path)
        labels, _ = read(path.with_name(f"{name}_seg.nii.gz"))
        yield locate(Source(name, "CT", "headneck", spacing, image.astype(np.float32), labels.astype(np.int16),
                            concept_table("headneck", 8), body=box_of(image > -500)))


def torso(data):
    image, spacing = read(data / "torso-ct/abdomen_pelvis_ct.nii.gz")
    labels, _ = read(data / "torso-ct/abdomen_pelvis_seg.nii.gz")
    return locate(Source("abdomen_pelvis", "CT", "torso", spacing, image.astype(np.float32), labels.astype(np.int16),
                         concept_table("torso", 118), body=box_of(image > -500)))


def chest(data, names):
    """Chest CT; lungs are labelled from air."""
    for name in names:
        image, spacing = read(data / f"{name}_ct.nii.gz")
        lungs = prepare_data.lung_labels(image.transpose(2, 1, 0), spacing[::-1]).transpose(2, 1, 0)
        yield locate(Source(Path(name).name, "CT", "chest", spacing, image.astype(np.float32), lungs.astype(np.int16),
                            concept_table("chest", 3), body=box_of(image > -500)))


def chest_parts(data, names):
    """Chest CT cropped to a vessel, without labels of ours."""
    for name in names:
        image, spacing = read(data / f"torso-ct/{name}_ct.nii.gz")
        yield Source(name, "CT", "chest", spacing, image.astype(np.float32), body=box_of(image > -500))


def abdomen_mr(data):
    image, spacing = read(data / "torso-ct/abdomen_mr.nii.gz")
    return Source("abdomen_mr", "MR", "abdomen-mr", spacing, image.astype(np.float32), body=box_of(image > 20))


def trunk(data, names):
    """DICOM series of the trunk, without labels of ours."""
    for name in names:
        image, spacing = dicom_volume(data / "dicom" / name)
        yield Source(name, "CT", "trunk", spacing, image, body=box_of(image > -500))


def dicom_volume(folder):
    """(volume [x, y, z] in RAS order, spacing mm) of an axial DICOM series."""
    slices = [pydicom.dcmread(p) for p in sorted(folder.glob("[0-9]*.dcm"))]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    grey = np.stack([s.pixel_array * float(getattr(s, "RescaleSlope", 1)) + float(getattr(s, "RescaleIntercept", 0)) for s in slices])
    row, column = (float(v) for v in slices[0].PixelSpacing)
    step = abs(float(slices[-1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])) / max(1, len(slices) - 1)
    # Rows run to the back and columns to the left in an axial image; RAS runs the other way.
    return grey.transpose(2, 1, 0)[::-1, ::-1].astype(np.float32), np.array([column, row, step], np.float32)


def limbs(data, cases=None):
    for path in sorted((data / "extremity-ct-mr").glob("sts_*.nii.gz")):
        if path.name.endswith("_seg.nii.gz") or (cases and path.name[:7] not in cases):
            continue
        image, spacing = read(path)
        ct = path.name.endswith("_ct.nii.gz")
        level = -500 if ct else 0.05 * np.percentile(image, 99)
        yield Source(path.name.removesuffix(".nii.gz"), "CT" if ct else "MR", "limb", spacing, image.astype(np.float32),
                     body=box_of(image > level))
