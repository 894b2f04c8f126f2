"""Writes a small practice suite for seer-mini from its training volumes: cases, views, traces in chat form.

usage: PYTHONPATH=../seer-mini:../seer-mini/reasoner python practice.py --data DATA --cache CACHE --out FOLDER [--groups 60]

Requests and traces come from the order generator of the recipe (skills now and then), four wordings of each request
as one group. Brains are painted from label maps; held-out volumes take no part.
"""

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

import orders
import prompt
import sources
import traces
import views
from sampling import Sampler
from traces import CONCEPTS, Facts

BRAINS, NECKS = (3, 9, 15), 3
WORDINGS, REFUSED_SHARE = 4, 0.25
LABELS = {"brain": "brain", "headneck": "headneck", "torso": "torso"}


def brains(cache):
    """(name, image, labels, spacing, modality, region, data set) of painted, extracted brains, 1 mm, [z, y, x]."""
    for number in BRAINS:
        labels = np.load(cache / f"brain_{number:02d}.npz")["labels"]
        sampler = Sampler(cache, labels.shape, 1.0, seed=number, kinds=())
        sampler.chance = lambda probability: probability >= 0.5
        ids = sampler.brain_ids[labels]
        inside = (ids > 0) & (ids < 500)
        image = np.clip(sampler.synthesise(torch.from_numpy(labels).long()).numpy() * 200, 1, None) * inside
        yield f"brain_{number:02d}", image.astype(np.float32), ids, np.ones(3), "MR", "head", "brain"


def necks(cache):
    for path in sorted(cache.glob("headneck_okbp_*.npz"))[:NECKS]:
        data = np.load(path)
        yield path.stem, data["ct"].astype(np.float32), data["labels"], data["spacing_mm"], "CT", "head and neck", "headneck"


def torso(cache):
    data = np.load(cache / "torso.npz")
    yield "torso", data["ct"].astype(np.float32), data["labels"], data["spacing_mm"], "CT", "abdomen and pelvis", "torso"


def facts_of(labels, modality, region, data_set):
    """Concepts that have voxels here; nothing is said of the others."""
    facts, values = Facts(modality, region), set(np.unique(labels).tolist())
    for name, concept in CONCEPTS.items():
        if set(concept.sources.get(data_set, ())) & values and modality in concept.modalities:
            facts.where[name] = ([2, 3], 2.5)
    return facts


def write_case(folder, image, labels, spacing, modality):
    """Volumes as NIfTI in RAS order, and the modality."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing[::-1], 1.0])
    for name, array in (("image", image), ("labels", labels.astype(np.int16))):
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), folder / f"{name}.nii.gz")
    (folder / "modality").write_text(modality)


def rows_of(case, pictures, facts, labels, data_set, drawer, groups):
    """Lines of traces.jsonl for `groups` requests about one case."""
    r = drawer.r
    inside = sorted(facts.where)
    elsewhere = [n for n in CONCEPTS if facts.verdict(n) == traces.OUT_OF_REGION]
    for number in range(groups):
        name = r.choice(elsewhere) if r.random() < REFUSED_SHARE else r.choice(inside)
        for style in r.sample(orders.STYLES[:7], WORDINGS):
            order = drawer.named(facts, name, style)
            text = prompt.user_text(order.text, order.skills)
            values = sorted(set(CONCEPTS[name].sources.get(data_set, ())) & set(np.unique(labels).tolist())) if order.targets else []
            yield {"messages": [{"role": "system", "content": prompt.SYSTEM},
                                {"role": "user", "content": "<image>" * len(pictures) + text},
                                {"role": "assistant", "content": order.trace}],
                   "images": pictures, "case": case, "group": f"{case}/{number} {name}", "style": style, "target": name,
                   "labels": [int(v) for v in values], "expect": order.expect, "split": "practice"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "cache", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--groups", type=int, default=60, help="requests in all")
    parser.add_argument("--seed", type=int, default=21)
    args = parser.parse_args()
    drawer = orders.Drawer(args.seed, skill_share=0.1)
    cases = [*brains(args.cache), *necks(args.cache), *torso(args.cache)]
    (args.out / "views").mkdir(parents=True, exist_ok=True)
    with (args.out / "traces.jsonl").open("w") as file:
        for case, image, labels, spacing, modality, region, data_set in cases:
            write_case(args.out / "cases" / case, image, labels, spacing, modality)
            pictures = []
            for i, grey in enumerate(views.scan_views(image.transpose(2, 1, 0), np.asarray(spacing)[::-1], modality), 1):
                pictures.append(f"views/{case}_{i}.png")
                Image.fromarray(grey).convert("RGB").save(args.out / pictures[-1])
            facts = facts_of(labels, modality, region, data_set)
            for row in rows_of(case, pictures, facts, labels, data_set, drawer, -(-args.groups // len(cases))):
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
