"""Dice of the exported bundle on volumes the training never saw, with checks against self-deception.

usage: python evaluate.py --data DATA --cache CACHE --bundle ../../seer-mini --out DIR [--only brain headneck ...]

Writes DIR/dice.json and an overlay picture per volume. Checks: a left prompt against the right reference (swap),
prompts of another body region (false-positive volume), a random mask of the reference's size (chance).
"""

import argparse
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import torch

from make_vocabulary import concepts
from overlays import save_overlay
from pipeline import Backbone
from prepare_data import CHEST_TEST, HEARTS, bounding_box, heart_mask, lung_labels, read_ras
from sampling import Sampler

CONCEPTS = {c.name: c for c in concepts()}
TORSO_ON_BRAIN = ["liver", "spleen", "both kidneys", "both hip bones", "urinary bladder", "both lungs"]
BRAIN_ON_TORSO = ["brain", "left hippocampus", "both thalami", "cerebellum", "ventricles"]


class Case:
    """A volume [z, y, x], its spacing and the reference masks by concept name."""

    def __init__(self, name, modality, volume, spacing_mm, references, foreign):
        self.name, self.modality, self.volume, self.spacing_mm = name, modality, volume, spacing_mm
        self.references, self.foreign = references, foreign


def masks_from(labels, kind, names=None):
    """{concept: mask} of a label volume in the values of a training data set."""
    found = {}
    for concept in CONCEPTS.values():
        values = concept.sources.get(kind)
        if values and (names is None or concept.name in names):
            mask = np.isin(labels, values)
            if mask.any():
                found[concept.name] = mask
    return found


def synthetic_brains(cache):
    """Label maps 19 and 20 with a synthesised T1-like image: whole head, and brain only."""
    for number in (19, 20):
        labels = np.load(cache / f"brain_{number}.npz")["labels"]
        sampler = Sampler(cache, labels.shape, 1.0, seed=number, kinds=())
        sampler.chance = lambda probability: probability >= 0.5  # the likelier branch: T1-like, dark background
        image = sampler.synthesise(torch.from_numpy(labels).long()).numpy()
        image = np.clip(image * 200, 1, None).astype(np.float32)
        ids = sampler.brain_ids[labels]
        yield Case(f"labelmap_{number} head (synthetic)", "MR", image, [1.0] * 3, masks_from(ids, "brain"),
                   TORSO_ON_BRAIN)
        inside = (ids > 0) & (ids < 500)
        yield Case(f"labelmap_{number} brain (synthetic)", "MR", image * inside, [1.0] * 3, masks_from(ids, "brain"),
                   TORSO_ON_BRAIN)


def freesurfer_subject(data):
    """Real T1, brain only; Destrieux cortex and corpus callosum folded into the values of the label maps."""
    volume, spacing = read_ras(data / "brain-t1/fs_subject_t1.nii.gz")
    labels = read_ras(data / "brain-t1/fs_subject_seg.nii.gz")[0].astype(int)
    middle = np.nonzero((labels == 14))[2].mean()  # third ventricle
    left = np.broadcast_to(np.arange(labels.shape[2]) < middle, labels.shape)
    labels = np.where((labels > 11100) & (labels < 11200), 3, labels)
    labels = np.where((labels > 12100) & (labels < 12200), 42, labels)
    labels = np.where(np.isin(labels, (77, 251, 252, 253, 254, 255)), np.where(left, 2, 41), labels)
    for value, into in ((31, 4), (63, 43)):
        labels[labels == value] = into
    yield Case("fs_subject T1 (real, brain only)", "MR", volume, spacing, masks_from(labels, "brain"), TORSO_ON_BRAIN)


AAL = {"hippocampus": 37, "amygdala": 41, "caudate nucleus": 71, "putamen": 73, "globus pallidus": 75, "thalamus": 77}


def colin(data):
    """Real T1, whole head; AAL draws its regions by other rules than FreeSurfer, so Dice has a lower ceiling."""
    volume, spacing = read_ras(data / "brain-t1/colin27_t1.nii.gz")
    labels = read_ras(data / "brain-t1/colin27_aal_seg.nii.gz")[0]
    found = {f"{side} {name}": labels == value + i for name, value in AAL.items() for i, side in
             enumerate(("left", "right"))}
    found["cerebellum"] = (labels >= 91) & (labels <= 116)
    yield Case("colin27 T1 (real, head, AAL)", "MR", volume, spacing, found, TORSO_ON_BRAIN)


def mni(data):
    """The template of the sample study; grey and white matter by probability > 0.5."""
    volume, spacing = read_ras(data / "brain-t1/mni152_2009a_sym_t1.nii.gz")
    grey, white = (read_ras(data / f"brain-t1/mni152_2009a_sym_{k}.nii.gz")[0] / 255 for k in ("gm", "wm"))
    yield Case("mni152 T1 (real, brain only)", "MR", volume, spacing, {"brain": grey + white > 0.5}, TORSO_ON_BRAIN)


def headneck(data, cache, count):
    """OpenKBP cases kept out of the training."""
    for name in (cache / "headneck_test.txt").read_text().split()[:count]:
        volume, spacing = read_ras(data / f"headneck-ct/{name}_ct.nii.gz")
        labels, _ = read_ras(data / f"headneck-ct/{name}_seg.nii.gz")
        box = bounding_box(volume > -1000, 4)  # the air around the body only costs time
        yield Case(name, "CT", volume[box], spacing, masks_from(labels[box], "headneck"), ["liver", "urinary bladder"])


def torso_slab(data):
    """The DICOM torso series: 20 slices of 2 mm with 31 labels."""
    folder = data / "dicom/ct-torso-empty-uids-siemens-j2k"
    image = nibabel.load(folder / "seg.nii.gz")
    slices = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])  # [z, row, col]
    hu = hu[:, ::-1, ::-1]  # rows run to posterior, columns to left
    labels, spacing = read_ras(folder / "seg.nii.gz")
    assert labels.shape == hu.shape and image.shape[2] == len(slices)
    names = ["liver", "spleen", "stomach", "aorta", "vertebrae", "spinal cord"]
    yield Case("ct-torso slab (real)", "CT", hu, spacing, masks_from(labels, "torso", names), BRAIN_ON_TORSO)


def lesions(data):
    """Real lesions that no training saw: glioblastoma after contrast, and multiple sclerosis on FLAIR."""
    for name, image, target in [(f"pgbm_{c}", "t1post", "brain tumour") for c in ("001_t1", "003_t1", "006_t1")] + [("ms_19", "flair", "brain lesion")]:
        volume, spacing = read_ras(data / f"brain-lesions/{name}_{image}.nii.gz")
        labels, _ = read_ras(data / f"brain-lesions/{name}_seg.nii.gz")
        yield Case(f"{name} (real)", "MR", volume, spacing, {target: labels > 0}, TORSO_ON_BRAIN)


def torso_others(data):
    volume, spacing = read_ras(data / "torso-ct/thorax_cta_ct.nii.gz")
    labels, _ = read_ras(data / "torso-ct/thorax_cta_seg.nii.gz")
    yield Case("thorax_cta (TRAINING case of the aorta)", "CT", volume, spacing,
               {"aorta": np.isin(labels, (1, 2, 3))}, BRAIN_ON_TORSO)
    for name in CHEST_TEST:
        volume, spacing = read_ras(data / f"chest-ct/{name}_ct.nii.gz")
        labels = lung_labels(volume, spacing)
        labels[heart_mask(volume, spacing, HEARTS[name]) & (labels == 0)] = 4
        yield Case(f"{name} (real, lungs by threshold, heart by eye)", "CT", volume, spacing, masks_from(labels, "chest"),
                   BRAIN_ON_TORSO)
    volume, spacing = read_ras(data / "torso-ct/abdomen_pelvis_ct.nii.gz")
    labels, _ = read_ras(data / "torso-ct/abdomen_pelvis_seg.nii.gz")
    yield Case("abdomen_pelvis (TRAINING case)", "CT", volume, spacing, masks_from(labels, "torso"), BRAIN_ON_TORSO)


def dice(mask, reference):
    return float(2 * (mask & reference).sum() / max(1, mask.sum() + reference.sum()))


def other_side(name):
    return name.replace("left ", "right ", 1) if name.startswith("left ") else name.replace("right ", "left ", 1)


def measure(backbone, case, out):
    started = time.process_time()
    masks = backbone.segment(case.volume, case.spacing_mm, case.modality, [*case.references, *case.foreign])
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000
    result = {"cpu_seconds": round(time.process_time() - started, 1), "dice": {}, "swapped": {}, "chance": {},
              "volume_ml": {}, "false_positive_ml": {}}
    for name, reference in case.references.items():
        result["dice"][name] = round(dice(masks[name], reference), 3)
        result["chance"][name] = round(float(reference.mean()), 4)
        result["volume_ml"][name] = [round(float(m.sum()) * voxel_ml, 1) for m in (masks[name], reference)]
        if name.startswith(("left ", "right ")) and other_side(name) in case.references:
            result["swapped"][name] = round(dice(masks[name], case.references[other_side(name)]), 3)
    for name in case.foreign:
        result["false_positive_ml"][name] = round(float(masks[name].sum()) * voxel_ml, 1)
    save_overlay(out / (case.name.split(" (")[0].replace(" ", "_") + ".png"), case, masks)
    return result


def cases(args):
    groups = {"real": lambda: [*freesurfer_subject(args.data), *mni(args.data), *colin(args.data)],
              "brain": lambda: synthetic_brains(args.cache),
              "headneck": lambda: headneck(args.data, args.cache, args.headneck_cases),
              "lesions": lambda: lesions(args.data),
              "torso": lambda: [*torso_slab(args.data), *torso_others(args.data)]}
    for name in args.only or groups:
        yield from groups[name]()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "cache", "bundle", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=["real", "brain", "headneck", "lesions", "torso"])
    parser.add_argument("--headneck-cases", type=int, default=8)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    backbone, results = Backbone(args.bundle), {}
    for case in cases(args):
        results[case.name] = found = measure(backbone, case, args.out)
        print(f"{case.name}: mean {np.mean(list(found['dice'].values())):.3f} cpu {found['cpu_seconds']} s "
              f"swapped max {max(found['swapped'].values(), default=0):.3f}\n  {found['dice']}\n"
              f"  foreign ml {found['false_positive_ml']}", flush=True)
        (args.out / "dice.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
