"""Turns a SAM3 checkpoint into a bundle with a backbone of family sam3: 2-D concept prompts, slice by slice.

    python export_sam3.py --checkpoint FOLDER --out BUNDLE --licence SPDX [--adapter FOLDER ...]
                          [--precision fp32|fp16|fp16-stored] [--score-threshold 0.5] [--mask-threshold 0.5]

FOLDER is in Hugging Face layout (model_type sam3), as `transformers` reads and writes it. Adapters are LoRA
in peft's layout over the same names; those of other code bases must be renamed first.

text_encoder    input_ids, attention_mask (1, T) -> text_features (1, T, W)
image_encoder   pixel_values (1, 3, S, S) -> features_0 … features_2
mask_decoder    features_*, text_features, attention_mask -> pred_masks (1, Q, H, W), pred_logits (1, Q), presence_logits (1, 1)

The positions of the features do not depend on the image and are constants of the mask decoder. The geometry
encoder, for boxes drawn by hand, is not exported.
"""
import argparse
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from transformers import Sam3Model

import bundle
from checkpoint import Adapter
from compare import compare, report, session
from tracing import trace

TOKENS = 32
LIMITS = {"fp32": 1e-4, "fp16": 5e-2, "fp16-stored": 2e-2}


class TextEncoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output


class ImageEncoder(nn.Module):
    """The feature levels that the decoder reads; the last and coarsest one it never does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return tuple(self.model.vision_encoder(pixel_values).fpn_hidden_states[:-1])


class MaskDecoder(nn.Module):
    def __init__(self, model, positions):
        super().__init__()
        self.model, self.count = model, len(positions)
        for index, position in enumerate(positions):
            self.register_buffer(f"position_{index}", position)

    def forward(self, *tensors):
        features, (text, mask) = tensors[:self.count], tensors[self.count:]
        positions = [getattr(self, f"position_{index}") for index in range(self.count)]
        # The model drops the last level of both lists; it may be anything.
        vision = SimpleNamespace(fpn_hidden_states=(*features, None), fpn_position_encoding=(*positions, None),
                                 hidden_states=None, attentions=None)
        out = self.model(vision_embeds=vision, text_embeds=SimpleNamespace(pooler_output=text), attention_mask=mask)
        return out.pred_masks, out.pred_logits, out.presence_logits


class Tensors:
    """A model's tensors as an adapter looks for them."""

    def __init__(self, state):
        self.state = state

    def __contains__(self, name):
        return name in self.state

    def key(self, name):
        return name


def load(folder, adapters):
    model = Sam3Model.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for path in adapters:
        adapter, state = Adapter(path), model.state_dict()
        adapter.resolve(Tensors(state))
        with torch.no_grad():
            for name, tensor in state.items():
                if tensor.is_floating_point() and tensor.dim():
                    tensor.copy_(adapter.merge(name, tensor, 0))
        if left := adapter.unmerged():
            raise SystemExit(f"{path}: {len(left)} tensors were not merged, {left[0]} among them")
    return model


def processor_settings(folder, model):
    """Edge, mean and deviation of the pictures."""
    settings = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).exists():
            content = json.loads((folder / name).read_text())
            settings = content.get("image_processor", content)
    size = settings.get("size") or {}
    edge = size.get("height") or model.config.vision_config.backbone_config.image_size
    return edge, settings.get("image_mean", [0.5] * 3), settings.get("image_std", [0.5] * 3)


def export_graphs(model, edge, precision, out, external):
    pixels, width = torch.randn(1, 3, edge, edge), model.config.detr_encoder_config.hidden_size
    ids, mask = torch.zeros(1, TOKENS, dtype=torch.long), torch.ones(1, TOKENS, dtype=torch.long)
    text_names = ["input_ids", "attention_mask"]
    with torch.no_grad():
        vision = model.vision_encoder(pixels)
        features, positions = vision.fpn_hidden_states[:-1], vision.fpn_position_encoding[:-1]
        text = TextEncoder(model)(ids, mask)
        decoder = MaskDecoder(model, positions)
        answers = decoder(*features, text, mask)
    names = [f"features_{index}" for index in range(len(features))]
    shapes = {"input_ids": [1, TOKENS], "attention_mask": [1, TOKENS], "text_features": [1, TOKENS, width],
              "pixel_values": [1, 3, edge, edge], **{n: list(f.shape) for n, f in zip(names, features)},
              **{n: list(a.shape) for n, a in zip(("pred_masks", "pred_logits", "presence_logits"), answers)}}
    trace(TextEncoder(model), (ids, mask), out / "text_encoder.onnx", text_names, ["text_features"], {}, precision, shapes,
          ["text_features"], external)
    trace(ImageEncoder(model), (pixels,), out / "image_encoder.onnx", ["pixel_values"], names, {}, precision, shapes,
          ["pixel_values"], external)
    trace(decoder, (*features, text, mask), out / "mask_decoder.onnx", [*names, "text_features", "attention_mask"],
          ["pred_masks", "pred_logits", "presence_logits"], {}, precision, shapes,
          ["text_features", "pred_masks", "pred_logits", "presence_logits"], external)


def tokenize(out, prompts, pad):
    """ids and mask (N, T) with the tokenizer's special tokens, padded on the right."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.no_padding()
    rows = [tokenizer.encode(prompt).ids for prompt in prompts]
    if max(map(len, rows)) > TOKENS:
        raise SystemExit(f"a prompt has more than {TOKENS} tokens")
    ids = np.array([row + [tokenizer.token_to_id(pad)] * (TOKENS - len(row)) for row in rows])
    return ids, np.array([[1] * len(row) + [0] * (TOKENS - len(row)) for row in rows])


def check(model, edge, precision, out, pad):
    random, limit, checks = np.random.default_rng(3), LIMITS[precision], []
    pixels = random.uniform(-1, 1, (1, 3, edge, edge)).astype(np.float32)
    ids, masks = tokenize(out, ["liver", "left kidney with cyst"], pad)
    text_graph, image_graph, mask_graph = (session(out / f"{n}.onnx", frugal=True)
                                           for n in ("text_encoder", "image_encoder", "mask_decoder"))
    features = image_graph.run(None, {"pixel_values": pixels})
    names = [o.name for o in image_graph.get_outputs()]
    for number, (row, mask) in enumerate(zip(ids, masks), 1):
        text = text_graph.run(None, {"input_ids": row[None], "attention_mask": mask[None]})[0]
        fed = {i.name for i in mask_graph.get_inputs()}
        feed = {**dict(zip(names, features)), "text_features": text, "attention_mask": mask[None]}
        found = mask_graph.run(None, {k: v for k, v in feed.items() if k in fed})
        with torch.no_grad():
            out_model = model(pixel_values=torch.from_numpy(pixels), input_ids=torch.from_numpy(row[None]),
                              attention_mask=torch.from_numpy(mask[None]))
        for name, value in zip(("pred_masks", "pred_logits"), found):
            checks.append(compare(f"{name}, prompt {number}", value, getattr(out_model, name).numpy(), limit))
        both = np.concatenate([found[1], found[2]], 1)
        expected = np.concatenate([out_model.pred_logits.numpy(), out_model.presence_logits.numpy()], 1)
        checks.append(compare(f"pred_logits and presence_logits, prompt {number}", both, expected, limit))
    return checks


def part(edge, mean, std, width, pad, arguments):
    """`[backbone]` of the manifest."""
    window = {"CT": bundle.Table(kind="fixed", center_hu=50.0, width_hu=400.0),
              "default": bundle.Table(kind="percentile", low=0.5, high=99.5)}
    return {
        "family": "sam3", **{name: f"backbone/{name}.onnx" for name in ("text_encoder", "image_encoder", "mask_decoder")},
        "text_tokenizer": "backbone/tokenizer.json", "embedding_size": width,
        "text": {"template": "{text}", "lowercase": False, "pad_token": pad, "max_tokens": TOKENS},
        "slices": {"plane": arguments.plane, "image_size": edge, "mean": mean, "std": std,
                   "score_threshold": arguments.score_threshold, "mask_threshold": arguments.mask_threshold, "window": window},
    }


def export(arguments):
    folder, precision = Path(arguments.checkpoint), arguments.precision
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).exists():
            raise SystemExit(f"{folder}/{name} is missing: the folder is not in Hugging Face layout")
    model = load(folder, arguments.adapter)
    edge, mean, std = processor_settings(folder, model)
    root = bundle.prepare(arguments.out, ["backbone"])
    out = root / "backbone"
    shutil.copy(folder / "tokenizer.json", out / "tokenizer.json")
    export_graphs(model, edge, precision, out, arguments.external_data)
    rss_export = bundle.peak_rss_gib()
    checks = [] if arguments.skip_check else check(model, edge, precision, out, arguments.pad_token)
    facts = [
        ("licence of the weights", arguments.licence), ("checkpoint", folder.resolve().name),
        ("sha256 of its config.json", bundle.sha256(folder / "config.json")),
        ("adapters merged", ", ".join(Path(a).resolve().name for a in arguments.adapter) or "none"), ("precision", precision),
        ("made with", ", ".join(f"{k} {v}" for k, v in
                                bundle.versions("torch", "transformers", "onnx", "onnxruntime").items())),
        ("peak memory", f"{rss_export:.2f} GiB exporting, {bundle.peak_rss_gib():.2f} GiB with the check"),
    ]
    bundle.write_card(root, root.resolve().name, facts, checks)
    head = {"name": root.resolve().name, "version": arguments.version, "licence": arguments.licence,
            "intended_use": "Research. Not for diagnosis or treatment.", "training_data": "See the publisher's card."}
    width = model.config.detr_encoder_config.hidden_size
    size = bundle.write_manifest(root, head, {"backbone": part(edge, mean, std, width, arguments.pad_token, arguments)})
    print(f"{root}: {size / 1e9:.3f} GB, peak memory {rss_export:.2f} GiB exporting, {bundle.peak_rss_gib():.2f} GiB in all", flush=True)
    report(checks)


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True, help="folder in Hugging Face layout")
    p.add_argument("--adapter", action="append", default=[], help="folder of a LoRA adapter in peft's layout; may repeat")
    p.add_argument("--out", required=True, help="folder of the bundle; its name is the bundle's")
    p.add_argument("--licence", required=True, help="SPDX expression or name of the weights' licence")
    p.add_argument("--version", default="1")
    p.add_argument("--precision", choices=sorted(LIMITS), default="fp16-stored")
    p.add_argument("--plane", choices=["axial", "coronal", "sagittal"], default="axial")
    p.add_argument("--score-threshold", type=float, default=0.5)
    p.add_argument("--mask-threshold", type=float, default=0.5)
    p.add_argument("--pad-token", default="<|endoftext|>")
    p.add_argument("--external-data", action="store_true", help="weights beside the graphs even when they would fit inside")
    p.add_argument("--skip-check", action="store_true")
    return p


if __name__ == "__main__":
    export(parser().parse_args(sys.argv[1:]))
