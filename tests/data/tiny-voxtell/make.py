"""Writes a tiny random backbone of the VoxTell family and what a reference host makes of it.

usage: python make.py        (torch, onnx, onnxruntime, tokenizers, numpy, scipy, nibabel)

The reference below is written with nibabel and SciPy, step by step as nnU-Net does it, and shares nothing with the
server. expected.json describes each case; expected.bin holds its masks, one bit a voxel, lowest bit first.
"""

import json
import math
from pathlib import Path

import nibabel
import numpy as np
import onnx
import onnxruntime
import torch
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from scipy import ndimage
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
PATCH, EMBEDDING = (16, 20, 16), 12
TEMPLATE, SUFFIX = "Find this: {text}", "<|end|>"
PROMPTS = ["left kidney", "Liver", "the whole of the right hip bone"]
FEATURES, MASK_EMBEDDINGS = ["features_1", "features_2"], ["mask_embedding_1", "mask_embedding_2"]


class TextEncoder(nn.Module):
    """Order of tokens and the mask both matter."""

    def __init__(self, vocabulary):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, 16), nn.Parameter(torch.randn(64, 16))
        self.out = nn.Linear(16, EMBEDDING)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        x = torch.tanh(self.token(input_ids) + self.place[:input_ids.shape[1]]) * mask
        return self.out(x.sum(1) / mask.sum(1).sqrt())


class ImageEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Conv3d(1, 6, 3, 1, 1), nn.Conv3d(6, 8, 3, 2, 1)
        self.norm_full, self.norm_half = nn.InstanceNorm3d(6, affine=True), nn.InstanceNorm3d(8, affine=True)

    def forward(self, image):
        features_1 = F.leaky_relu(self.norm_full(self.wide(image)))
        return features_1, F.leaky_relu(self.norm_half(self.narrow(features_1)))


class PromptDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(EMBEDDING, 8)
        self.fine, self.coarse = nn.Linear(16, 7), nn.Linear(16, 9)

    def forward(self, features_2, text_embedding):
        query, tokens = self.query(text_embedding), features_2.flatten(2)
        context = torch.softmax(query @ tokens, -1) @ tokens.transpose(1, 2)
        both = torch.cat((query, context), -1)
        return self.fine(both), self.coarse(both)


class MaskDecoder(nn.Module):
    def forward(self, features_1, features_2, mask_embedding_1, mask_embedding_2):
        fine, coarse = (self.project(f, e) for f, e in
                        ((features_1, mask_embedding_1), (features_2, mask_embedding_2)))
        return fine + F.interpolate(coarse, scale_factor=2.0, mode="trilinear", align_corners=False)

    @staticmethod
    def project(features, embedding):
        return (embedding[..., :-1] @ features.flatten(2) + embedding[..., -1:]).unflatten(2, features.shape[2:])


def export(name, module, inputs, input_names, output_names, dynamic):
    path = HERE / f"{name}.onnx"
    torch.onnx.export(module.eval(), inputs, str(path), input_names=input_names, output_names=output_names,
                      dynamic_axes=dynamic, opset_version=18, dynamo=False)
    model = onnx.load(path)
    model.producer_name, model.producer_version = "tiny-voxtell", ""
    onnx.save(model, path)


def make_graphs():
    torch.manual_seed(7)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEMPLATE.format(text=p) for p in PROMPTS] * 3, trainers.BpeTrainer(
        vocab_size=300, special_tokens=[SUFFIX], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    tokenizer.save(str(HERE / "tokenizer.json"))
    text, image, prompt, mask = TextEncoder(300), ImageEncoder(), PromptDecoder(), MaskDecoder()
    ids = torch.ones(2, 5, dtype=torch.long)
    with torch.no_grad():
        prompt.query.weight.mul_(4)
        features = image(torch.randn(1, 1, *PATCH))
        embeddings = prompt(features[1], torch.randn(1, 2, EMBEDDING))
    rows = {0: "prompts", 1: "tokens"}
    export("text_encoder", text, (ids, ids), ["input_ids", "attention_mask"], ["text_embedding"],
           {"input_ids": rows, "attention_mask": rows, "text_embedding": {0: "prompts"}})
    export("image_encoder", image, (torch.randn(1, 1, *PATCH),), ["image"], FEATURES, {})
    many = {1: "prompts"}
    export("prompt_decoder", prompt, (features[1], torch.randn(1, 2, EMBEDDING)), ["features_2", "text_embedding"],
           MASK_EMBEDDINGS, {"text_embedding": many, **dict.fromkeys(MASK_EMBEDDINGS, many)})
    export("mask_decoder", mask, (*features, *embeddings), FEATURES + MASK_EMBEDDINGS, ["logits"],
           {**dict.fromkeys(MASK_EMBEDDINGS, many), "logits": many})


def voxels(shape, margin, offset):
    """Whole numbers from a formula that the test repeats; zero in a margin on all sides."""
    s, r, c = np.meshgrid(*map(np.arange, shape), indexing="ij")
    away = 9 * (s - shape[0] // 3) ** 2 + 4 * (r - shape[1] // 2) ** 2 + 5 * (c - shape[2] // 4) ** 2
    values = np.maximum(0, 1200 - 2 * away) + (s * 7 + r * 13 + c * 29) % 31 * 8 + offset
    inside = np.ones(shape, bool)
    for axis, n in zip((s, r, c), shape):
        inside &= (axis >= margin) & (axis < n - margin)
    return np.where(inside, values, 0).astype(np.float32)


def cases():
    """Oblique, anisotropic, non-square, with negated cosines. Columns are LPS steps along slice, row, column."""
    a, b = 0.2, 0.15
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    x, y, z = turn.T
    yield dict(name="smaller than the patch", modality="MR", spacing_mm=None, shape=(9, 13, 11), margin=0, offset=3,
               columns=[-3.0 * z, 1.1 * y, -0.9 * x])
    yield dict(name="larger than the patch, sagittal, with a margin", modality="MR", spacing_mm=None,
               shape=(21, 43, 35), margin=3, offset=5, columns=[1.2 * x, -1.0 * z, 0.8 * y])
    yield dict(name="CT at another spacing", modality="CT", spacing_mm=[2.0, 1.5, 1.5], shape=(17, 51, 47), margin=0,
               offset=-1001, columns=[2.7 * z, -0.8 * y, 0.9 * x])
    yield dict(name="MR made finer and coarser", modality="MR", spacing_mm=[1.0, 1.4, 1.0], shape=(14, 40, 33),
               margin=2, offset=4, columns=[1.7 * y, 0.7 * x, -0.6 * z])


def resample(volume, shape, ratios):
    at = np.meshgrid(*[np.clip((np.arange(n) - (n - 1) / 2) * r + (old - 1) / 2, 0, old - 1)
                       for n, r, old in zip(shape, ratios, volume.shape)], indexing="ij")
    return ndimage.map_coordinates(volume.astype(np.float64), at, order=1, mode="nearest").astype(np.float32)


def steps(length, patch):
    count = int(np.ceil((length - patch) / (patch * 0.5))) + 1
    size = (length - patch) / (count - 1) if count > 1 else 99999999999
    return [int(np.round(size * i)) for i in range(count)]


def weights():
    point = np.zeros(PATCH)
    point[tuple(n // 2 for n in PATCH)] = 1
    g = ndimage.gaussian_filter(point, [n / 8 for n in PATCH], 0, mode="constant", cval=0)
    g = g / g.max() * 10
    g[g == 0] = g[g > 0].min()
    return g


class Host:
    def __init__(self):
        run = lambda n: onnxruntime.InferenceSession(str(HERE / f"{n}.onnx"))
        self.text, self.image, self.prompt, self.mask = map(
            run, ("text_encoder", "image_encoder", "prompt_decoder", "mask_decoder"))
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))

    def embed(self, prompt):
        """One prompt at a time: no padding."""
        ids = self.tokenizer.encode(TEMPLATE.replace("{text}", prompt.lower())).ids
        ids = np.array([ids + [self.tokenizer.token_to_id(SUFFIX)]])
        return self.text.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][None]

    def patch_logits(self, patch, embedding):
        features = dict(zip(FEATURES, self.image.run(None, {"image": patch[None, None]})))
        vectors = self.prompt.run(None, {"features_2": features["features_2"], "text_embedding": embedding})
        return self.mask.run(None, {**features, **dict(zip(MASK_EMBEDDINGS, vectors))})[0][0, 0]

    def logits(self, image, embedding):
        missing = [max(0, p - n) for p, n in zip(PATCH, image.shape)]
        image = np.pad(image, [(m // 2, m // 2 + m % 2) for m in missing])
        total, share, g = np.zeros(image.shape), np.zeros(image.shape), weights()
        for z in steps(image.shape[0], PATCH[0]):
            for y in steps(image.shape[1], PATCH[1]):
                for x in steps(image.shape[2], PATCH[2]):
                    box = np.s_[z:z + PATCH[0], y:y + PATCH[1], x:x + PATCH[2]]
                    total[box] += self.patch_logits(np.ascontiguousarray(image[box]), embedding) * g
                    share[box] += g
        inner = tuple(slice(m // 2, n - (m // 2 + m % 2)) for m, n in zip(missing, image.shape))
        return (total / share)[inner]

    def segment(self, case, prompt):
        """(mask in the case's own axis order, mean logit inside)."""
        affine = np.eye(4)
        affine[:3, :3] = np.array(case["columns"]).T
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        stored = voxels(case["shape"], case["margin"], case["offset"])
        image = nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine))
        spacing = nibabel.affines.voxel_sizes(image.affine)[::-1]
        volume = image.get_fdata(dtype=np.float32).transpose(2, 1, 0)
        box = ndimage.find_objects(ndimage.binary_fill_holes(volume != 0).astype(int))[0]
        crop = volume[box]
        target = np.array(case["spacing_mm"]) if case["spacing_mm"] else spacing
        shape = [max(1, math.floor(n * s / t + 0.5)) for n, s, t in zip(crop.shape, spacing, target)]
        small = resample(crop, shape, target / spacing)
        if case["modality"] == "CT":
            small = np.clip(small, -1000, 1000) / 300
        else:
            small = (small - small.mean()) / max(small.std(), 1e-8)
        fine = resample(self.logits(small.astype(np.float32), self.embed(prompt)), crop.shape, spacing / target)
        mask = np.zeros(volume.shape, bool)
        mask[box] = fine > 0
        back = ornt_transform(io_orientation(image.affine), io_orientation(affine))
        return apply_orientation(mask.transpose(2, 1, 0), back).astype(bool), float(fine[fine > 0].mean())


def main():
    make_graphs()
    host, described, packed = Host(), [], b""
    for case in cases():
        masks, means = zip(*(host.segment(case, p) for p in PROMPTS))
        shares = [float(m.mean()) for m in masks]
        assert all(0.03 < s < 0.97 for s in shares), shares
        assert all((masks[i] != masks[j]).mean() > 0.03 for i in range(3) for j in range(i)), "prompts do not matter"
        case["columns"] = [[float(v) for v in column] for column in case["columns"]]
        described.append({**case, "mean_logits": means, "shares": shares, "first_byte": len(packed)})
        packed += b"".join(np.packbits(m, axis=None, bitorder="little").tobytes() for m in masks)
    (HERE / "expected.json").write_text(json.dumps({"prompts": PROMPTS, "cases": described}, indent=1) + "\n")
    (HERE / "expected.bin").write_bytes(packed)
    print([c["shares"] for c in described], [c["mean_logits"] for c in described])


if __name__ == "__main__":
    main()
