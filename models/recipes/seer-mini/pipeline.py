"""Whole-volume inference with the exported graphs: the reference for the server's own implementation.

Steps, all on arrays [z, y, x] in RAS order (z superior, y anterior, x right):

1. crop      bounding box of non-zero voxels with holes filled
2. resample  to the bundle's spacing, trilinear, on a grid centred on the crop
3. normalise CT: (clip(HU) - mean) / std; otherwise z-score over all voxels of the resampled crop
4. pad       with 0 to the patch, centred: floor(d / 2) voxels before, the rest after
5. tile      step half a patch, logits averaged with Gaussian weights
6. restore   logits trilinear back to the crop's grid, mask = logit > threshold, pasted into the volume

Resampling. `n_out = max(1, floor(n_in * spacing_in / spacing_out + 0.5))` per axis; the centres of both grids
coincide and voxels are points at their centres: `i_in = (i_out - (n_out - 1) / 2) * spacing_out / spacing_in
+ (n_in - 1) / 2`. Positions beyond the first or last voxel take its value. No smoothing before down-sampling.
The way back uses the same formula with the roles exchanged.
"""

import math
import tomllib

import numpy as np
from scipy import ndimage
from tokenizers import Tokenizer

from export_bundle import run_graphs, session

PROMPTS_AT_ONCE = 64  # an image tile is encoded once for so many


def interpolate_axis(volume, axis, count, ratio):
    """Linear interpolation along one axis onto `count` centred points, `ratio` input voxels apart."""
    n = volume.shape[axis]
    at = np.clip((np.arange(count) - (count - 1) / 2) * ratio + (n - 1) / 2, 0, n - 1)
    low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
    share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(volume.ndim)])
    return np.take(volume, low, axis) * (1 - share) + np.take(volume, np.minimum(low + 1, n - 1), axis) * share


def resample(volume, shape, ratios):
    """Trilinear onto a centred grid; the last three axes of `volume` are z, y, x."""
    for axis, (count, ratio) in enumerate(zip(shape, ratios), volume.ndim - 3):
        volume = interpolate_axis(volume, axis, count, ratio)
    return volume


def crop_box(volume):
    filled = ndimage.binary_fill_holes(volume != 0)
    found = ndimage.find_objects(filled.astype(np.uint8))
    return found[0] if found else tuple(slice(0, n) for n in volume.shape)


def tile_starts(length, patch, step):
    """First voxels of the tiles along an axis of at least `patch` voxels."""
    count = math.ceil((length - patch) / (patch * step)) + 1
    return [round(i * (length - patch) / max(count - 1, 1)) for i in range(count)]


def gaussian_weights(patch, sigma_scale):
    weights = np.zeros(patch, np.float32)
    weights[tuple(n // 2 for n in patch)] = 1
    weights = ndimage.gaussian_filter(weights, [n * sigma_scale for n in patch], mode="constant")
    return np.maximum(weights / weights.max(), weights[weights > 0].min() / weights.max()).astype(np.float32)


class Backbone:
    """A bundle folder, ready to segment."""

    def __init__(self, bundle):
        self.settings = tomllib.loads((bundle / "manifest.toml").read_text())["backbone"]
        self.run = run_graphs(bundle / "backbone")
        self.text_graph = session(bundle / self.settings["text_encoder"])
        self.tokenizer = Tokenizer.from_file(str(bundle / self.settings["text_tokenizer"]))

    def embed(self, prompts):
        """(N, E) text embeddings."""
        text = self.settings["text"]
        suffix = self.tokenizer.token_to_id(text["suffix_token"])
        rows = [self.tokenizer.encode(text["template"].replace("{text}", p.lower())).ids + [suffix] for p in prompts]
        ids = np.full((len(rows), max(map(len, rows))), suffix, np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, :len(row)], mask[i, :len(row)] = row, 1
        return self.text_graph.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    def normalise(self, volume, modality):
        rules = self.settings["preprocessing"]["normalization"]
        rule = rules.get(modality, rules["default"])
        if rule["kind"] == "fixed":
            return (np.clip(volume, rule["clip_low"], rule["clip_high"]) - rule["mean"]) / rule["std"]
        return (volume - volume.mean()) / max(float(volume.std()), 1e-8)

    def logits(self, volume, prompts):
        """(N, Z, Y, X) of a normalised volume at the bundle's spacing."""
        settings = self.settings["preprocessing"]
        patch = settings["patch_size"]
        missing = [max(0, p - n) for p, n in zip(patch, volume.shape)]
        padded = np.pad(volume, [(m // 2, m - m // 2) for m in missing])
        text = self.embed(prompts)
        total = np.zeros((len(prompts), *padded.shape), np.float32)
        weight_sum = np.zeros(padded.shape, np.float32)
        weights = gaussian_weights(patch, settings["gaussian_sigma_scale"])
        starts = [tile_starts(n, p, settings["tile_step"]) for n, p in zip(padded.shape, patch)]
        for corner in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3):
            box = tuple(slice(c, c + p) for c, p in zip(corner, patch))
            image = np.ascontiguousarray(padded[box], np.float32)[None, None]
            total[(slice(None), *box)] += self.run(image, text[None])[0] * weights
            weight_sum[box] += weights
        inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, volume.shape))
        return (total / weight_sum)[(slice(None), *inner)]

    def segment(self, volume, spacing_mm, modality, prompts):
        """{prompt: bool mask on the grid of `volume`}."""
        settings = self.settings["preprocessing"]
        box = crop_box(volume) if settings["crop"] == "nonzero" else tuple(slice(0, n) for n in volume.shape)
        crop = volume[box].astype(np.float32)
        ratios = [out / in_ for out, in_ in zip(settings["spacing_mm"], spacing_mm)]
        shape = [max(1, math.floor(n / r + 0.5)) for n, r in zip(crop.shape, ratios)]
        small = self.normalise(resample(crop, shape, ratios), modality)
        masks = {}
        for first in range(0, len(prompts), PROMPTS_AT_ONCE):
            some = prompts[first:first + PROMPTS_AT_ONCE]
            for prompt, logits in zip(some, self.logits(small, some)):
                mask = np.zeros(volume.shape, bool)
                fine = resample(logits, crop.shape, [1 / r for r in ratios])
                mask[box] = fine > settings["threshold_logit"]
                masks[prompt] = mask
        return masks
