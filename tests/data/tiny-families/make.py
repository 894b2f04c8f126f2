"""Writes tiny random backbones of the families sam3 and volume-text, and what a reference host makes of them.

usage: python make.py        (torch, torchvision, onnx, onnxruntime, tokenizers, numpy, scipy, nibabel)

The reference is written with nibabel, torch and torchvision and shares nothing with the server but the patch
geometry of ../tiny-voxtell/make.py, which is checked there. expected.json describes each case; expected.bin holds
its masks, one bit a voxel, lowest bit first.
"""

import importlib.util
import json
from pathlib import Path

import nibabel
import numpy as np
import onnx
import onnxruntime
import torch
import torchvision.transforms.v2.functional
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("voxtell", HERE.parent / "tiny-voxtell" / "make.py")
voxtell = importlib.util.module_from_spec(spec)
spec.loader.exec_module(voxtell)

PROMPTS = ["left kidney", "liver", "right hip bone"]
SIZE, TOKENS, WIDTH, QUERIES = 28, 8, 6, 5
PATCH, WIDE_PATCH, EMBEDDING = (16, 20, 16), (16, 128, 128), 7
WORDS = ["<s>", "</s>", "[PAD]", "left", "right", "kidney", "liver", "hip", "bone"]
voxtell.PATCH = PATCH


def write_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(WORDS[:3])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    # Other hosts' padding; ours must not follow it.
    tokenizer.enable_padding(pad_id=2, pad_token="[PAD]", length=20)
    tokenizer.save(str(HERE / "tokenizer.json"))


def rows(prompts, length):
    """Token ids with the tokenizer's own special tokens, padded on the right."""
    ids = [[0, *(WORDS.index(w) for w in p.split()), 1] for p in prompts]
    mask = [[1] * len(r) + [0] * (length - len(r)) for r in ids]
    return np.array([r + [2] * (length - len(r)) for r in ids]), np.array(mask)


class ConceptText(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(len(WORDS), WIDTH), nn.Parameter(torch.randn(TOKENS, WIDTH))

    def forward(self, input_ids, attention_mask):
        return torch.tanh(self.token(input_ids) + self.place) * attention_mask[..., None].float()


class SliceEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, pixel_values):
        features_0 = torch.tanh(self.fine(pixel_values))
        return features_0, torch.tanh(self.coarse(features_0))


class ConceptDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.score, self.present = nn.Linear(WIDTH + 8, QUERIES * 8), nn.Linear(WIDTH + 8, QUERIES), nn.Linear(8, 1)

    def forward(self, features_0, features_1, text_features, attention_mask):
        mask = attention_mask[..., None].float()
        text = (text_features * mask).sum(1) / mask.sum(1).sqrt()
        both = torch.cat((text, features_1.mean((2, 3)) * 4), -1)
        query = self.query(both).view(-1, QUERIES, 8)
        return torch.einsum("bqc,bchw->bqhw", query, features_0) * 3, self.score(both) * 2, self.present(features_1.mean((2, 3))) + 1


class PromptText(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.kind = nn.Embedding(len(WORDS), EMBEDDING), nn.Embedding(3, EMBEDDING)

    def forward(self, input_ids, attention_mask, modality_id):
        mask = attention_mask[..., None].float()
        place = torch.arange(1, input_ids.shape[1] + 1)[None, :, None].float()
        return torch.tanh((self.token(input_ids) * mask / place).sum(1) + self.kind(modality_id))


class Segmenter(nn.Module):
    """Takes embeddings."""

    def __init__(self, channels):
        super().__init__()
        self.look, self.query = nn.Conv3d(channels, 6, 3, 1, 1), nn.Linear(EMBEDDING, 7)

    def forward(self, image, text_embedding):
        query = self.query(text_embedding)
        features = torch.tanh(self.look(image))
        return torch.einsum("bnc,bcdhw->bndhw", query[..., :-1], features) * 2 + query[..., -1][..., None, None, None]


class TokenSegmenter(nn.Module):
    """Reads tokens itself, one prompt of a fixed number of tokens at a time."""

    def __init__(self):
        super().__init__()
        self.text, self.segment = PromptText(), Segmenter(3)

    def forward(self, image, input_ids, attention_mask, modality_id):
        return self.segment(image, self.text(input_ids, attention_mask, modality_id)[None])


class WideSegmenter(nn.Module):
    """Next to nothing to compute over a wide patch, for tests of memory."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(EMBEDDING, 1)

    def forward(self, image, text_embedding):
        return image * self.query(text_embedding)[..., None, None]


def export(name, module, inputs, input_names, output_names, dynamic):
    path = HERE / f"{name}.onnx"
    torch.onnx.export(module.eval(), inputs, str(path), input_names=input_names, output_names=output_names,
                      dynamic_axes=dynamic, opset_version=18, dynamo=False)
    model = onnx.load(path)
    model.producer_name, model.producer_version = "tiny-families", ""
    onnx.save(model, path)


def make_graphs():
    torch.manual_seed(11)
    write_tokenizer()
    long = lambda *shape: torch.ones(*shape, dtype=torch.long)
    text, image, decoder = ConceptText(), SliceEncoder(), ConceptDecoder()
    ids = long(1, TOKENS)
    export("sam3_text_encoder", text, (ids, ids), ["input_ids", "attention_mask"], ["text_features"], {})
    pixels = torch.randn(1, 3, SIZE, SIZE)
    export("sam3_image_encoder", image, (pixels,), ["pixel_values"], ["features_0", "features_1"], {})
    export("sam3_mask_decoder", decoder, (*image(pixels), text(ids, ids), ids),
           ["features_0", "features_1", "text_features", "attention_mask"], ["pred_masks", "pred_logits", "presence_logits"], {})
    many = {0: "prompts", 1: "tokens"}
    export("text_encoder", PromptText(), (long(2, 5), long(2, 5), long(1)), ["input_ids", "attention_mask", "modality_id"],
           ["text_embedding"], {"input_ids": many, "attention_mask": many, "text_embedding": {0: "prompts"}})
    export("segmenter", Segmenter(1), (torch.randn(1, 1, *PATCH), torch.randn(1, 2, EMBEDDING)), ["image", "text_embedding"],
           ["logits"], {"text_embedding": {1: "prompts"}, "logits": {1: "prompts"}})
    export("wide_segmenter", WideSegmenter(), (torch.randn(1, 1, *WIDE_PATCH), torch.randn(1, 2, EMBEDDING)),
           ["image", "text_embedding"], ["logits"], {"text_embedding": {1: "prompts"}, "logits": {1: "prompts"}})
    export("token_segmenter", TokenSegmenter(), (torch.randn(1, 3, *PATCH), ids, ids, long(1)),
           ["image", "input_ids", "attention_mask", "modality_id"], ["logits"], {})


def image_of(case):
    affine = np.eye(4)
    affine[:3, :3] = np.array(case["columns"]).T
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return nibabel.Nifti1Image(voxtell.voxels(case["shape"], case["margin"], case["offset"]), affine)


def percentile_window(values, low, high):
    a, b = np.percentile(values.astype(np.float64), [low, high])
    return np.zeros(values.shape, np.uint8) if a >= b else ((np.clip(values.astype(np.float64), a, b) - a) / (b - a) * 255).astype(np.uint8)


class Host:
    def __init__(self):
        self.graphs = {p.stem: onnxruntime.InferenceSession(str(p)) for p in HERE.glob("*.onnx")}

    def run(self, name, **feed):
        graph = self.graphs[name]
        return dict(zip([o.name for o in graph.get_outputs()], graph.run(None, feed)))

    def sam3(self, case, prompt):
        image = image_of(case)
        stored = io_orientation(image.affine)
        # Axial as displayed: z to the head, rows to the back, columns to the left.
        shown = ornt_transform(stored, axcodes2ornt("LPS"))
        volume = apply_orientation(image.get_fdata(dtype=np.float32), shown).transpose(2, 1, 0)
        ids, attention = rows([prompt], TOKENS)
        text = self.run("sam3_text_encoder", input_ids=ids, attention_mask=attention)["text_features"]
        mask = np.zeros(volume.shape, bool)
        for index, values in enumerate(volume):
            grey = torch.from_numpy(percentile_window(values, 0.5, 99.5))[None].repeat(3, 1, 1)
            square = torchvision.transforms.v2.functional.resize(grey, [SIZE, SIZE], antialias=True)
            pixels = ((square.float() - 127.5) / 127.5)[None].numpy()
            seen = self.run("sam3_image_encoder", pixel_values=pixels)
            found = self.run("sam3_mask_decoder", **seen, text_features=text, attention_mask=attention)
            score = torch.from_numpy(found["pred_logits"]).sigmoid() * torch.from_numpy(found["presence_logits"]).sigmoid()
            kept = torch.from_numpy(found["pred_masks"])[0][score[0] > 0.5].sigmoid()
            if len(kept):
                sized = F.interpolate(kept[None], size=values.shape, mode="bilinear", align_corners=False)[0]
                mask[index] = (sized > 0.5).any(0).numpy()
        back = ornt_transform(axcodes2ornt("LPS"), stored)
        return apply_orientation(mask.transpose(2, 1, 0), back).astype(bool)

    def volume_text(self, case, prompt, modality):
        image = image_of(case)
        near = nibabel.as_closest_canonical(image)
        volume = near.get_fdata(dtype=np.float32).transpose(2, 1, 0)
        ids, attention = rows([prompt], TOKENS)
        feed = dict(input_ids=ids, attention_mask=attention, modality_id=np.array([modality]))
        if case["fit"] == "resize":
            small = F.interpolate(torch.from_numpy(volume.copy())[None, None], size=PATCH, mode="trilinear", align_corners=False)[0, 0].numpy()
            low, high = np.percentile(small.astype(np.float64), [2.0, 98.0])
            small = ((np.clip(small, low, high) - low) / (high - low) * 4.0).astype(np.float32)
            patch = np.repeat(small[None, None], 3, 1)
            logits = self.run("token_segmenter", image=patch, **feed)["logits"][0, 0]
            fine = F.interpolate(torch.from_numpy(logits)[None, None], size=volume.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
        else:
            low, high = np.percentile(volume.astype(np.float64), [1.0, 95.0])
            small = np.clip(volume, low, high)
            small = (small - small.mean()) / max(small.std(), 1e-8)
            text = self.run("text_encoder", **feed)["text_embedding"][None]
            missing = [max(0, p - n) for p, n in zip(PATCH, small.shape)]
            padded = np.pad(small, [(m // 2, m // 2 + m % 2) for m in missing])
            total, share, g = np.zeros(padded.shape), np.zeros(padded.shape), voxtell.weights()
            for z in voxtell.steps(padded.shape[0], PATCH[0]):
                for y in voxtell.steps(padded.shape[1], PATCH[1]):
                    for x in voxtell.steps(padded.shape[2], PATCH[2]):
                        box = np.s_[z:z + PATCH[0], y:y + PATCH[1], x:x + PATCH[2]]
                        patch = np.ascontiguousarray(padded[box], np.float32)[None, None]
                        logits = self.run("segmenter", image=patch, text_embedding=text)["logits"][0, 0]
                        total[box] += g / (1 + np.exp(-logits.astype(np.float64)))
                        share[box] += g
            inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, small.shape))
            probability = (total / share)[inner]
            fine = np.log(probability / (1 - probability))
        back = ornt_transform(io_orientation(near.affine), io_orientation(image.affine))
        return apply_orientation((fine > 0.25).transpose(2, 1, 0), back).astype(bool)


def cases():
    oblique = [case for case in voxtell.cases() if "sagittal" in case["name"]][0]["columns"]
    flat = [case for case in voxtell.cases() if "smaller" in case["name"]][0]["columns"]
    yield dict(family="sam3", name="slices of a sagittal scan", modality="MR", shape=(9, 23, 17), margin=2, offset=5, columns=oblique)
    yield dict(family="sam3", name="slices of an axial scan", modality="MR", shape=(7, 31, 40), margin=0, offset=5, columns=flat)
    yield dict(family="volume-text", name="tiles, mean probability", fit="tile", modality="MR", shape=(21, 33, 25), margin=0,
               offset=5, columns=oblique)
    yield dict(family="volume-text", name="one resized patch, tokens", fit="resize", modality="CT", shape=(12, 30, 41), margin=0,
               offset=-900, columns=flat)


def main():
    make_graphs()
    host, described, packed = Host(), [], b""
    for case in cases():
        modality = {"CT": 1, "MR": 2}[case["modality"]]
        run = (lambda p: host.sam3(case, p)) if case["family"] == "sam3" else (lambda p: host.volume_text(case, p, modality))
        masks = [run(p) for p in PROMPTS]
        shares = [float(m.mean()) for m in masks]
        print(case["name"], shares)
        assert all(s < 0.97 for s in shares) and sum(s > 0.03 for s in shares) >= 2, shares
        assert all((masks[i] != masks[j]).mean() > 0.02 for i in range(3) for j in range(i)), "prompts do not matter"
        case["columns"] = [[float(v) for v in column] for column in case["columns"]]
        described.append({**case, "shares": shares, "first_byte": len(packed)})
        packed += b"".join(np.packbits(m, axis=None, bitorder="little").tobytes() for m in masks)
    (HERE / "expected.json").write_text(json.dumps({"prompts": PROMPTS, "cases": described}, indent=1) + "\n")
    (HERE / "expected.bin").write_bytes(packed)


if __name__ == "__main__":
    main()
