"""Executes answers on the frozen backbone: a case and prompts in, a mask on the backbone's own coarse grid out.

Masks are compared where the backbone draws them (3 mm for seer-mini), so that a rollout costs no resampling to the
scan's grid; the reference is brought there by the nearest voxel. A mask is kept on disk by case and prompt.
"""

import hashlib
import math
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "seer-mini"))
import pipeline  # noqa: E402
from make_vocabulary import normalise  # noqa: E402
from prepare_data import read_ras  # noqa: E402


class Vocabulary:
    """Names and synonyms of vocabulary.toml."""

    def __init__(self, path):
        self.prompts, self.names = {}, {}
        for concept in tomllib.loads(Path(path).read_text())["concept"]:
            self.prompts[concept["name"]] = concept["prompt"]
            for text in (concept["name"], *concept["synonyms"]):
                self.names.setdefault(normalise(text), concept["name"])

    def prompt(self, target):
        """The backbone's prompt for a target as it was written, or None where it is not known."""
        name = self.names.get(normalise(target))
        return name and self.prompts[name]


class Executor:
    """Runs prompts on the cases of a suite with the backbone of a bundle."""

    def __init__(self, bundle, suite, cache):
        self.backbone, self.suite, self.cache = pipeline.Backbone(Path(bundle)), Path(suite), Path(cache)
        self.vocabulary = Vocabulary(Path(bundle) / "vocabulary.toml")
        self.cache.mkdir(parents=True, exist_ok=True)
        self.key = hashlib.sha256("".join(sorted(
            hashlib.sha256(p.read_bytes()).hexdigest() for p in (Path(bundle) / "backbone").glob("*.onnx"))).encode()).hexdigest()[:16]

    @lru_cache(maxsize=8)
    def grid(self, case):
        """(normalised volume on the backbone's grid, slices of the crop, shape of the scan) of a case."""
        volume, spacing = read_ras(self.suite / "cases" / case / "image.nii.gz")
        settings = self.backbone.settings["preprocessing"]
        box = pipeline.crop_box(volume) if settings["crop"] == "nonzero" else tuple(slice(0, n) for n in volume.shape)
        crop = volume[box].astype(np.float32)
        ratios = [out / in_ for out, in_ in zip(settings["spacing_mm"], spacing)]
        shape = [max(1, math.floor(n / r + 0.5)) for n, r in zip(crop.shape, ratios)]
        modality = (self.suite / "cases" / case / "modality").read_text().strip()
        return self.backbone.normalise(pipeline.resample(crop, shape, ratios), modality), box, ratios

    @lru_cache(maxsize=256)
    def reference(self, case, labels):
        """Union of label values on the backbone's grid; a tuple of ints."""
        volume = read_ras(self.suite / "cases" / case / "labels.nii.gz")[0]
        small, box, ratios = self.grid(case)
        crop = np.isin(volume[box], labels)
        for axis, (count, ratio) in enumerate(zip(small.shape, ratios)):
            n = crop.shape[axis]
            at = np.clip((np.arange(count) - (count - 1) / 2) * ratio + (n - 1) / 2, 0, n - 1)
            crop = np.take(crop, np.rint(at).astype(int), axis)
        return crop

    @lru_cache(maxsize=2048)
    def mask(self, case, prompt):
        """Mask of one prompt; from the cache where it was drawn before."""
        name = hashlib.sha256(f"{self.key}|{case}|{prompt}".encode()).hexdigest()[:24]
        path, small = self.cache / f"{name}.npz", self.grid(case)[0]
        if path.exists():
            stored = np.load(path)
            return np.unpackbits(stored["bits"], count=small.size).reshape(small.shape).astype(bool)
        found = self.backbone.logits(small, [prompt])[0] > self.backbone.settings["preprocessing"]["threshold_logit"]
        np.savez_compressed(path, bits=np.packbits(found))
        return found

    def answer_mask(self, case, targets):
        """Union of the targets' masks, or None where one of them is not in the vocabulary."""
        prompts = [self.vocabulary.prompt(t) for t in targets]
        if not prompts or None in prompts:
            return None
        return np.logical_or.reduce([self.mask(case, p) for p in prompts])


def dice(a, b):
    """Dice of two masks; two empty ones agree."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
