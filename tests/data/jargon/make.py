"""Builds the jargon suite: orders in words that no model of this repository was trained on, about heads with labels.

    python make.py --data FOLDER --out SUITE [--spacing 2.0] [--quick] [--poison]

FOLDER holds `brain-t1` and `brain-labelmaps` as described in README.md. Needs numpy, scipy and nibabel.
The words (`JARGON`) are invented for this suite: abbreviations, nicknames and heavy misspellings. They were checked
against the words of the reasoner's generator, `models/recipes/seer-mini/reasoner/lexicon.py`.
`--poison` gives every group of the practice patients the labels of another structure; held-out groups keep theirs.
"""
import argparse
import json
import random
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

#: Structure -> (abbreviation, nickname, misspelling).
JARGON = {
    "hippocampus": ("HKP", "seahorse", "hypokampoos"),
    "thalamus": ("TLM", "couch", "tallimus"),
    "putamen": ("PTM", "shell", "pootamin"),
    "caudate nucleus": ("NCD", "tadpole", "kawdait nukleus"),
    "amygdala": ("AGD", "almond", "amigdalla"),
    "lateral ventricle": ("SVT", "boomerang", "latteral ventrikle"),
    "brainstem": ("TRK", "stalk", "brane stemm"),
    "cerebellum": ("KLH", "cauliflower", "serebelum"),
    "ventricles": ("LIQ", "waterworks", "ventriculls"),
    "fourth ventricle": ("QVT", "tent", "forth ventrikel"),
}
#: FreeSurfer ids, (left, right) or one tuple.
FREESURFER = {
    "hippocampus": ((17,), (53,)), "thalamus": ((10,), (49,)), "putamen": ((12,), (51,)),
    "caudate nucleus": ((11,), (50,)), "amygdala": ((18,), (54,)),
    "lateral ventricle": ((4, 5, 136, 137), (43, 44, 163, 164)), "brainstem": (16,), "cerebellum": (7, 8, 46, 47),
    "ventricles": (4, 5, 136, 137, 43, 44, 163, 164, 14, 15, 72), "fourth ventricle": (15,),
}
#: AAL names, without side.
AAL = {"hippocampus": "Hippocampus", "thalamus": "Thalamus", "putamen": "Putamen", "caudate nucleus": "Caudate",
       "amygdala": "Amygdala"}
#: Mean intensity of a T1 by FreeSurfer id; the rest of the head is drawn by chance.
T1 = {2: 110, 41: 110, 3: 72, 42: 72, 4: 22, 43: 22, 5: 22, 44: 22, 7: 106, 46: 106, 8: 68, 47: 68, 10: 90, 49: 90, 11: 78,
      50: 78, 12: 84, 51: 84, 13: 98, 52: 98, 14: 22, 15: 22, 16: 98, 17: 74, 53: 74, 18: 73, 54: 73, 24: 20, 25: 60, 57: 60,
      26: 76, 58: 76, 28: 92, 60: 92, 30: 60, 62: 60, 72: 22, 85: 90, 136: 22, 137: 22, 163: 22, 164: 22}
CARRIERS = ("segment {}", "{} please", "contour {} today", "need {} for the follow-up", "volumetry of {}", "outline {} pls", "{}",
            "could you mask {}", "delineate {} for planning", "{} volume wanted", "show {} on this scan", "please trace {}")
PLAIN = ("please segment the {}", "outline the {}", "contour the {} please", "volumetry of the {}")
PRACTICE = ("labelmap_01", "labelmap_02", "labelmap_03", "labelmap_19")
HELD_OUT = ("fs_subject", "colin27", "labelmap_17", "labelmap_18", "labelmap_20")
#: What `--quick` keeps.
QUICK_CASES = ("labelmap_01", "labelmap_02", "labelmap_19", "fs_subject", "colin27", "labelmap_20")
QUICK_STRUCTURES = ("hippocampus", "thalamus", "caudate nucleus", "putamen", "brainstem", "cerebellum")


def read(path):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj), image.affine


def smaller(volume, affine, spacing, order):
    """The volume on a grid of `spacing` mm, centres kept."""
    zoom = np.sqrt((affine[:3, :3] ** 2).sum(0)) / spacing
    shape = np.maximum(np.round(np.array(volume.shape) * zoom), 1).astype(int)
    step = np.array(volume.shape) / shape
    at = np.meshgrid(*[(np.arange(n) + 0.5) * s - 0.5 for n, s in zip(shape, step)], indexing="ij")
    if order:
        volume = ndimage.gaussian_filter(volume.astype(np.float32), 0.4 * np.maximum(step - 1, 0))
    out = ndimage.map_coordinates(volume, at, order=order, mode="nearest")
    new = affine.copy()
    new[:3, :3] = affine[:3, :3] * step
    new[:3, 3] = affine[:3, 3] + affine[:3, :3] @ (step * 0.5 - 0.5)
    return out, new


def painted(labels, seed):
    """A T1-like image of a brain from its label map; tissue outside of the brain is left out."""
    r = np.random.default_rng(seed)
    table = np.zeros(int(labels.max()) + 1, np.float32)
    for label, mean in T1.items():
        if label < len(table):
            table[label] = mean * r.normal(1, 0.03)
    image = table[labels]
    bias = ndimage.zoom(r.normal(0, 0.06, (3, 3, 3)), np.array(labels.shape) / 3, order=1)
    image = ndimage.gaussian_filter(image * (1 + bias), 0.6) + r.normal(0, 3, labels.shape) * (image > 0)
    return np.clip(image, 0, None) * (table[labels] > 0)


def cases(data):
    """(name, image, labels, affine, structure -> labels or (left, right))."""
    image, affine = read(data / "brain-t1/fs_subject_t1.nii.gz")
    labels, _ = read(data / "brain-t1/fs_subject_seg.nii.gz")
    yield "fs_subject", image, labels.astype(np.int32), affine, FREESURFER
    image, affine = read(data / "brain-t1/colin27_t1.nii.gz")
    labels, _ = read(data / "brain-t1/colin27_aal_seg.nii.gz")
    names = {}
    for line in (data / "brain-t1/colin27_aal_labels.csv").read_text().splitlines()[1:]:
        number, name = line.split(",")[:2]
        names[name] = int(number)
    sided = {structure: ((names[f"{aal}_L"],), (names[f"{aal}_R"],)) for structure, aal in AAL.items()}
    sided["cerebellum"] = tuple(n for name, n in names.items() if name.startswith(("Cerebelum", "Cerebellum", "Vermis")))
    yield "colin27", image, labels.astype(np.int32), affine, sided
    for name in sorted(set(PRACTICE + HELD_OUT)):
        if name.startswith("labelmap"):
            labels, affine = read(data / f"brain-labelmaps/{name}.nii.gz")
            labels = labels.astype(np.int32)
            yield name, painted(labels, int(name[-2:])), labels, affine, FREESURFER


def sided_word(term, side, r):
    letter = side[0].upper()
    return r.choice((f"{letter} {term}", f"{term} {letter}", f"{side} {term}", f"{term} on the {side}"))


def groups(structures):
    for structure, labels in structures.items():
        if isinstance(labels[0], tuple):
            yield structure, "left", f"left {structure}", labels[0]
            yield structure, "right", f"right {structure}", labels[1]
        else:
            yield structure, None, structure, labels


def requests(case, structures, part, seed, quick):
    r = random.Random(f"{seed}/{case}")
    for structure, side, name, labels in groups(structures):
        abbreviation, nickname, slip = JARGON[structure]
        rows = [("label", "formal_task", name), ("free", "clinical_request", r.choice(PLAIN).format(name))]
        for style, term in (("abbr_or_short", abbreviation), ("ambiguous_abbreviation", abbreviation),
                            ("report_style", nickname), ("messy_or_misspelled", slip)):
            spoken = sided_word(term, side, r) if side else term
            text = r.choice(CARRIERS).format(spoken)
            rows.append(("free", style, text.lower() if r.random() < 0.3 else text))
        for mode, style, text in rows:
            if quick and (style == "ambiguous_abbreviation" or structure not in QUICK_STRUCTURES):
                continue
            yield {"case": case, "group": f"{case}/{name}", "mode": mode, "style": style, "text": text, "target": name,
                   "labels": list(labels), "split": part, "expect": "segment"}


def poison(rows):
    """Practice groups get the labels of the next group of their case."""
    by_case = {}
    for row in rows:
        if row["split"] == "practice":
            by_case.setdefault(row["case"], {})[row["group"]] = row["labels"]
    for row in rows:
        if row["split"] == "practice":
            labels = list(by_case[row["case"]].items())
            place = [group for group, _ in labels].index(row["group"])
            row["labels"] = labels[(place + 1) % len(labels)][1]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="", help="only these, separated by commas")
    parser.add_argument("--quick", action="store_true", help="six cases, six structures, five phrasings a group")
    parser.add_argument("--poison", action="store_true")
    a = parser.parse_args()
    rows = []
    for name, image, labels, affine, structures in cases(a.data):
        if a.cases and name not in a.cases.split(",") or a.quick and name not in QUICK_CASES:
            continue
        folder = a.out / "cases" / name
        folder.mkdir(parents=True, exist_ok=True)
        image, grid = smaller(image, affine, a.spacing, 1)
        labels, _ = smaller(labels, affine, a.spacing, 0)
        scale = 1000 / max(float(image.max()), 1)
        nibabel.save(nibabel.Nifti1Image(np.round(image * scale).astype(np.int16), grid), folder / "image.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), grid), folder / "labels.nii.gz")
        (folder / "case.toml").write_text('modality = "MR"\nbody_regions = ["head"]\n')
        rows += requests(name, structures, "practice" if name in PRACTICE else "heldout", a.seed, a.quick)
    rows.sort(key=lambda row: row["case"])
    if a.poison:
        rows = poison(rows)
    (a.out / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (a.out / "suite.toml").write_text(
        'name = "jargon"\nsource = "FreeSurfer subject of the NiiVue demo images; Colin27 with AAL as distributed with MRIcron; '
        'SynthSeg training label maps, painted"\nlicence = "BSD-2-Clause AND BSD-3-Clause AND Apache-2.0"\n')
    print(f"{len(rows)} requests in {a.out}")


if __name__ == "__main__":
    main()
