"""Writes tests/data/parity/voxtell: a toy VoxTell bundle, and what `voxtell`'s own predictor makes of volumes.

    python parity_backbone.py OUT

The network, its text encoder and the whole host (NIfTI reader, cropping, sliding window, writer) are the
package's and its dependencies'. Only the constructor of `VoxTellPredictor` is passed over, because it
fixes the published sizes in code.

The package adds up logits and their Gaussian weights in half precision. Towards the border of a volume the
weights are so small there that a logit keeps a bit or two: 0.4 becomes 0 or 1. The server sums in single
precision. So `masks.bin`, a bit a voxel, holds for each prompt the package's own answer, and the answers of the
same code with its two half-precision arrays in single precision, at three thresholds of the averaged logit.
"""
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from voxtell.inference import predictor as predictor_module
from voxtell.inference.predictor import VoxTellPredictor

import export_voxtell
import tiny_checkpoints

PATCH = (32, 32, 64)
PROMPTS = ["Liver", "left hippocampus", "metastasis, 5 mm, next to the portal vein"]
#: Thresholds of the averaged logit.
LEVELS = [0.0, -0.5, 0.5]
#: Directions at right angles, as DICOM can say them: coronal slices, tilted and turned.
TURNED = [[n / 7 * mm for n in axis] for axis, mm in (([-3, 6, 2], 1.9), ([2, 3, -6], 0.9), ([6, 2, 3], 0.8))]
CASES = [
    # name, shape [slice, row, column], columns of the affine (LPS mm per index), modality, zero margin, offset
    {"name": "odd sizes, axial", "shape": [41, 39, 77], "columns": [[0, 0, 2.5], [0, 0.8, 0], [0.7, 0, 0]], "modality": "CT", "margin": 0, "offset": -1024},
    {"name": "oblique, negated cosines", "shape": [35, 47, 67], "columns": [[-0.2, 0.4, 1.4], [0.1, -0.9, 0.3], [-0.8, -0.1, 0.1]], "modality": "MR", "margin": 0, "offset": 7},
    {"name": "smaller than a patch", "shape": [9, 20, 31], "columns": [[0, 0, -5.0], [0, 0.9, 0], [0.9, 0, 0]], "modality": "MR", "margin": 0, "offset": 11},
    {"name": "all-zero border", "shape": [44, 50, 90], "columns": [[0, 0, 1.0], [0, 1.2, 0], [1.1, 0, 0]], "modality": "MR", "margin": 6, "offset": 3},
    {"name": "all-zero border, smaller than a patch inside", "shape": [40, 40, 60], "columns": [[0, 0, 1.0], [0, 1.2, 0], [1.1, 0, 0]], "modality": "MR", "margin": 9, "offset": 3},
    {"name": "sagittal slices", "shape": [70, 37, 33], "columns": [[1.3, 0, 0], [0, 0, -0.9], [0, 0.8, 0]], "modality": "MR", "margin": 0, "offset": 5},
    {"name": "coronal slices, oblique", "shape": [33, 45, 68], "columns": TURNED, "modality": "CT", "margin": 0, "offset": -600},
    {"name": "exactly a patch", "shape": [32, 32, 64], "columns": [[0, 0, 1.0], [0, 1.0, 0], [1.0, 0, 0]], "modality": "CT", "margin": 0, "offset": -200},
    {"name": "long and thin", "shape": [12, 33, 161], "columns": [[0, 0, 4.0], [0, 0.6, 0], [0.6, 0, 0]], "modality": "MR", "margin": 1, "offset": 2},
    {"name": "one slice", "shape": [1, 50, 70], "columns": [[0, 0, 3.0], [0, 0.8, 0], [0.8, 0, 0]], "modality": "CT", "margin": 0, "offset": -300},
]
ORIGIN = [-31.5, 12.25, 407.0]


def voxels(case):
    """The formula that the Rust test shares, [slice, row, column]; whole numbers."""
    shape, margin = case["shape"], case["margin"]
    s, r, c = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    inside = np.ones(shape, bool)
    for at, n in zip((s, r, c), shape):
        inside &= (at >= margin) & (at + margin < n)
    away = 9 * (s - shape[0] // 3) ** 2 + 4 * (r - shape[1] // 2) ** 2 + 5 * (c - shape[2] // 4) ** 2
    value = np.maximum(1200 - 2 * away, 0) + (s * 7 + r * 13 + c * 29) % 31 * 8 + case["offset"]
    return np.where(inside, value, 0).astype(np.int16)


def write_nifti(case, path):
    """The volume as NIfTI: index (column, row, slice), affine in RAS."""
    affine = np.eye(4)
    for axis, column in zip((2, 1, 0), case["columns"]):
        affine[:3, axis] = column
    affine[:3, 3] = ORIGIN
    affine[:2] *= -1
    nibabel.save(nibabel.Nifti1Image(voxels(case).transpose(2, 1, 0), affine), path)


def predictor(network, patch, text_encoder):
    """A VoxTellPredictor with its attributes set as its constructor would."""
    made = VoxTellPredictor.__new__(VoxTellPredictor)
    made.device, made.network, made.patch_size = torch.device("cpu"), network, list(patch)
    made.normalization = ZScoreNormalization(intensityproperties={})
    made.tile_step_size, made.perform_everything_on_device = 0.5, True
    made._text_encoding_model, made.tokenizer, made.text_backbone = str(text_encoder), None, None
    made.max_text_length, made.embedding_bank = 8192, None
    return made


class SinglePrecision:
    """`torch` as the predictor's module sees it, with `half` meaning float32."""
    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


def summed_in_single_precision(made, data, embeddings):
    """Averaged logits by the predictor's own code with single-precision sums."""
    gaussian = predictor_module.compute_gaussian
    predictor_module.torch = SinglePrecision()
    predictor_module.compute_gaussian = lambda *args, **kwargs: gaussian(*args, **{**kwargs, "dtype": torch.float32})
    try:
        return made.predict_sliding_window_return_logits(data, embeddings).numpy()
    finally:
        predictor_module.torch, predictor_module.compute_gaussian = torch, gaussian


def overlap(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def predict(made, path, prompts, folder):
    """Masks [prompt, 1 + level, slice, row, column] in the file's own orientation, and mean logits of the masks."""
    reader = NibabelIOWithReorient()
    image, properties = reader.read_images([str(path)])
    embeddings = made.embed_text_prompts(prompts)
    answer = made.predict_single_image(image, text_embeddings=embeddings)
    data, box, shape = made.preprocess(image)
    logits = summed_in_single_precision(made, data, embeddings)
    at_levels, means = [], []
    for index in range(len(prompts)):
        whole = [answer[index]]
        for level in LEVELS:
            padded = np.zeros(shape, np.uint8)
            padded[tuple(slice(*b) for b in box)] = logits[index] > level
            whole.append(padded)
        found = []
        for mask in whole:
            reader.write_seg(mask, str(folder / "mask.nii.gz"), properties)
            found.append(np.asarray(nibabel.load(folder / "mask.nii.gz").dataobj).transpose(2, 1, 0) > 0)
        at_levels.append(found)
        means.append(float(logits[index][logits[index] > 0].mean()))
    return np.array(at_levels), means


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    work = Path(tempfile.mkdtemp())
    tiny_checkpoints.qwen3_embedding(work / "embedding")
    network = tiny_checkpoints.voxtell(work / "model", patch=PATCH)
    if out.exists():
        shutil.rmtree(out)
    export_voxtell.export(export_voxtell.parser().parse_args(
        ["--model", str(work / "model"), "--text-encoder", str(work / "embedding"), "--out", str(out), "--licence", "Apache-2.0",
         "--precision", "fp32", "--text-precision", "fp16-stored", "--winograd-channels", "1", "128"]))
    (out / "CARD.md").unlink()
    made = predictor(network, PATCH, work / "embedding")
    packed, described, first = [], [], 0
    for case in CASES:
        write_nifti(case, work / "image.nii.gz")
        masks, means = predict(made, work / "image.nii.gz", PROMPTS, work)
        share = masks.mean((2, 3, 4))
        halves = [overlap(prompt[0], prompt[1]) for prompt in masks]
        print(f"{case['name']}: shares {np.round(share[:, 0], 3)}, mean logits {np.round(means, 3)}, "
              f"half against single precision IoU {np.round(halves, 4)}", flush=True)
        if share.min() < 0.005 or share.max() > 0.995:
            raise SystemExit("a mask is nearly empty or full")
        bits = [np.packbits(m.ravel(), bitorder="little") for prompt in masks for m in prompt]
        described.append({**case, "first_byte": first, "mean_logits": means})
        packed += bits
        first += sum(b.nbytes for b in bits)
    (out / "masks.bin").write_bytes(b"".join(b.tobytes() for b in packed))
    oblique = out / "oblique.nii.gz"
    write_nifti(CASES[6], work / "image.nii")
    import gzip
    oblique.write_bytes(gzip.compress((work / "image.nii").read_bytes(), mtime=0))
    (out / "cases.json").write_text(json.dumps(
        {"prompts": PROMPTS, "levels": LEVELS, "origin": ORIGIN, "oblique_case": CASES[6]["name"], "cases": described,
         "masks_sha256": hashlib.sha256((out / "masks.bin").read_bytes()).hexdigest()}, indent=1) + "\n")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
