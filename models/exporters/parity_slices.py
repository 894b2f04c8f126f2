"""Writes tests/data/parity/sam3: a toy SAM3 bundle, and what transformers makes of the slices of volumes.

    python parity_slices.py OUT

Slices become 8-bit pictures by the window of the manifest, as the server shows them; from there on
everything is transformers': `Sam3Processor`, `Sam3Model`, `post_process_instance_segmentation`. The mask of
a slice is the union of its instances. Masks lie in `masks.bin`, a bit a voxel.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Processor

import export_sam3
import tiny_checkpoints

PROMPTS = ["Liver", "left kidney with cyst", "metastasis of the pons"]
CASES = [
    {"name": "CT, larger than the network's picture", "shape": [4, 130, 150], "columns": [[0, 0, 2.5], [0, 0.8, 0], [0.7, 0, 0]], "modality": "CT", "offset": -400},
    {"name": "MR, smaller, not square", "shape": [5, 45, 70], "columns": [[0, 0, 3.0], [0, 1.2, 0], [0.9, 0, 0]], "modality": "MR", "offset": 10},
    {"name": "MR, head first, seen from behind and the other side", "shape": [5, 60, 52], "columns": [[0, 0.1, -3.0], [0.1, -1.2, 0], [-0.9, 0, 0.1]], "modality": "MR", "offset": 4},
    {"name": "CT, coronal slices", "shape": [40, 5, 61], "columns": [[0, 1.1, 0], [0, 0, -1.3], [0.8, 0, 0]], "modality": "CT", "offset": -300},
    {"name": "MR, the network's own size", "shape": [3, 112, 112], "columns": [[0, 0, 3.0], [0, 1.0, 0], [1.0, 0, 0]], "modality": "MR", "offset": 1},
]
WINDOWS = {"CT": (-150.0, 250.0), "MR": (0.5, 99.5)}


def voxels(case):
    """The formula that the Rust test shares, [slice, row, column]; whole numbers."""
    shape = case["shape"]
    s, r, c = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    away = 9 * (s - shape[0] // 3) ** 2 + 4 * (r - shape[1] // 2) ** 2 + 5 * (c - shape[2] // 4) ** 2
    return (np.maximum(1200 - 2 * away, 0) + (s * 7 + r * 13 + c * 29) % 31 * 8 + case["offset"]).astype(np.float32)


def to_display(case, array):
    """Axial slices foot to head, rows to the back, columns to the patient's left; a view of `array`."""
    columns = np.array(case["columns"])
    # The voxel axis closest to each patient axis, z y x, and whether it runs the other way.
    order = [int(np.abs(columns[:, axis] / np.linalg.norm(columns, axis=1)).argmax()) for axis in (2, 1, 0)]
    flips = [slice(None, None, -1 if columns[voxel, axis] < 0 else 1) for voxel, axis in zip(order, (2, 1, 0))]
    return array.transpose(order)[tuple(flips)]


def grey(slice_, modality):
    """8 bits: clipped, scaled, cut off; in double precision."""
    values = slice_.astype(np.float64)
    low, high = WINDOWS[modality] if modality == "CT" else np.percentile(values, WINDOWS[modality])
    return ((np.clip(values, low, high) - low) / (high - low) * 255).astype(np.uint8)


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    work = Path(tempfile.mkdtemp())
    model = tiny_checkpoints.sam3(work)
    processor = Sam3Processor(image_processor=Sam3ImageProcessor.from_pretrained(work), tokenizer=CLIPTokenizer.from_pretrained(work))
    answers = {}
    for number, case in enumerate(CASES):
        shown = to_display(case, voxels(case))
        for index, slice_ in enumerate(shown):
            picture = Image.fromarray(np.repeat(grey(slice_, case["modality"])[..., None], 3, 2))
            for prompt in PROMPTS:
                inputs = processor(images=picture, text=prompt, return_tensors="pt")
                with torch.no_grad():
                    answers[number, index, prompt] = model(**{k: inputs[k] for k in ("pixel_values", "input_ids", "attention_mask")})
    scores = np.sort(np.concatenate([(o.pred_logits.sigmoid() * o.presence_logits.sigmoid()).numpy().ravel() for o in answers.values()]))
    # A threshold in the widest gap of the middle: no score is near it.
    middle = scores[len(scores) // 3:len(scores) * 2 // 3]
    at = int(np.diff(middle).argmax())
    threshold = round(float((middle[at] + middle[at + 1]) / 2), 5)
    print(f"scores from {scores[0]:.4f} to {scores[-1]:.4f}; threshold {threshold}, {np.mean(scores > threshold):.2f} kept, "
          f"nearest {np.abs(scores - threshold).min():.1e} away", flush=True)
    if np.abs(scores - threshold).min() < 2e-5:
        raise SystemExit("a score is too near to the threshold")
    packed, described, first = [], [], 0
    for number, case in enumerate(CASES):
        shares = []
        for prompt in PROMPTS:
            mask = np.zeros(case["shape"], bool)
            display = to_display(case, mask)
            for index, slice_ in enumerate(display):
                found = processor.image_processor.post_process_instance_segmentation(
                    answers[number, index, prompt], threshold=threshold, mask_threshold=0.5, target_sizes=[slice_.shape])[0]
                slice_[...] = found["masks"].any(0).numpy() if len(found["masks"]) else False
            shares.append(mask.mean())
            packed.append(np.packbits(mask.ravel(), bitorder="little"))
        described.append({**case, "first_byte": first})
        first = sum(p.nbytes for p in packed)
        print(f"{case['name']}: shares {np.round(shares, 3)}", flush=True)
        if max(shares) == 0 or min(shares) > 0.99:
            raise SystemExit("the masks say nothing")
    if out.exists():
        shutil.rmtree(out)
    export_sam3.export(export_sam3.parser().parse_args(
        ["--checkpoint", str(work), "--out", str(out), "--licence", "Apache-2.0", "--precision", "fp32", "--score-threshold", str(threshold)]))
    (out / "CARD.md").unlink()
    (out / "masks.bin").write_bytes(b"".join(p.tobytes() for p in packed))
    (out / "cases.json").write_text(json.dumps({"prompts": PROMPTS, "cases": described}, indent=1) + "\n")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
