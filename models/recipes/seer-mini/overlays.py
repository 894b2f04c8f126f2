"""Pictures of masks over the image, three planes, reference above prediction, for looking with one's own eyes."""

import numpy as np
from PIL import Image

from make_vocabulary import concepts

COLOURS = {c.name: np.array(c.rgb) / 255 for c in concepts()}
SIZE = 320


def grey(volume, modality):
    low, high = (-160, 240) if modality == "CT" else np.percentile(volume[volume != 0], (1, 99))
    return np.clip((volume - low) / (high - low), 0, 1)


def picture(plane, masks, aspect):
    """Rows to the top are superior or anterior; radiological, the patient's right on the left."""
    rgb = np.repeat(plane[..., None], 3, -1).astype(np.float32)
    for name, mask in masks.items():
        rgb[mask] = 0.5 * rgb[mask] + 0.5 * COLOURS[name]
    image = Image.fromarray((rgb[::-1, ::-1] * 255).astype(np.uint8))
    scale = min(SIZE / image.width, SIZE / (image.height * aspect))
    return np.asarray(image.resize((SIZE, SIZE)) if scale <= 0 else fit(image, scale, aspect))


def fit(image, scale, aspect):
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * aspect * scale))))
    canvas = Image.new("RGB", (SIZE, SIZE))
    canvas.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return canvas


def shown(case):
    """Parts rather than wholes, so that colours do not cover each other."""
    hidden = ("both ", "brain", "cerebellum", "ventricles", "left cerebral hemi", "right cerebral hemi", "left basal",
              "right basal", "left cerebellar hemi", "right cerebellar hemi")
    names = [n for n in case.references if not n.startswith(hidden) or n == "brainstem"]
    return names or list(case.references)


def save_overlay(path, case, masks):
    names = shown(case)
    union = np.any([case.references[n] for n in names], 0)
    small = min(names, key=lambda n: case.references[n].sum())
    where = np.nonzero(case.references[small] if case.modality == "MR" else union)
    image, (dz, dy, dx) = grey(case.volume, case.modality), case.spacing_mm
    rows = []
    for source in (case.references, masks):
        row = []
        for axis, aspect in ((0, dy / dx), (1, dz / dx), (2, dz / dy)):
            index = int(np.median(where[axis]))
            row.append(picture(np.take(image, index, axis), {n: np.take(source[n], index, axis) for n in names}, aspect))
        rows.append(np.concatenate(row, 1))
    Image.fromarray(np.concatenate(rows, 0)).save(path)
