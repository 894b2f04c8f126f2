"""Turns a VoxTell model folder into a bundle with a backbone of family voxtell.

    python export_voxtell.py --model FOLDER --out BUNDLE --licence SPDX
                             [--text-encoder FOLDER] [--bank FILE.npz] [--bank-prompts FILE.txt]
                             [--precision fp32|fp16|fp16-stored] [--sums fp32|fp16] [--text-precision fp32|fp16|fp16-stored|int4|int4-fp16|int4-int8]

FOLDER of --model holds plans.json and fold_0/checkpoint_final.pth, as the package `voxtell` reads it.
--text-encoder is a Qwen3-Embedding folder in Hugging Face layout. A bank of ready embeddings (npz with
`labels` and `embeddings`, as VoxTell publishes one) can stand beside it or in its place; --bank-prompts
makes one from a list of prompts, a line each, with the exported text encoder.

image_encoder   image (1, 1, Z, Y, X) -> features_0 … features_5
prompt_decoder  features_4, text_embedding (1, N, W) -> mask_embedding_0 … mask_embedding_4
mask_decoder    features_*, mask_embedding_* of one prompt -> logits (1, 1, Z, Y, X)
text_encoder    input_ids, attention_mask (N, T) -> text_embedding (N, W)

The self-attention that VoxTell's transformer carries but never uses is not in the graphs. What no prompt
can change in VoxTell's decoder is the image encoder's, and so computed once a patch however many prompts
there are: the first stage, and the half of every other stage's first convolution that looks at the image. The mask
decoder takes prompts one by one: each makes convolution weights of its own.
"""
import argparse
import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

import bundle
import qwen3_graphs
import winograd
from checkpoint import Checkpoint
from compare import compare, report, session
from onnx_writer import EMBED_MAX, PRECISIONS, checked_half
from polyphase import Grow
from qwen3_reference import text_embedding
from tracing import trace

TEMPLATE = ("Instruct: Given an anatomical term query, retrieve the precise anatomical entity and location it represents\n"
            "Query: {text}")
END = "<|endoftext|>"
LIMITS = {"fp32": 1e-4, "fp16": 5e-2, "fp16-stored": 2e-2}
TEXT_LIMITS = {"fp32": 1e-4, "fp16": 3e-2, "fp16-stored": 1e-2, "int4": 0.6, "int4-fp16": 0.6, "int4-int8": 0.6}


def load_model(folder):
    """The package's own network with the folder's weights; sizes that the package fixes in code are read
    from the weights, so that smaller networks of the same class load as well."""
    import pydoc
    from voxtell.model.voxtell_model import VoxTellModel
    plans = json.loads((folder / "plans.json").read_text())["configurations"]["3d_fullres"]
    patch = plans["patch_size"]
    kwargs = dict(plans["architecture"]["arch_kwargs"])
    for key in plans["architecture"]["_kw_requires_import"]:
        kwargs[key] = kwargs[key] and pydoc.locate(kwargs[key])
    state = torch.load(folder / "fold_0/checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    features = kwargs["features_per_stage"]
    first = state["project_to_decoder_channels.1.2.weight"].shape[0]
    layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("transformer_decoder.layers."))

    class Network(VoxTellModel):
        DECODER_CONFIGS = decoder_configs(features, patch, kwargs["strides"])
        TRANSFORMER_NUM_LAYERS = layers

    network = Network(
        input_channels=1, **kwargs, decoder_layer=4,
        text_embedding_dim=state["project_text_embed.0.weight"].shape[1], num_maskformer_stages=5,
        num_heads=first // features[1], query_dim=state["project_text_embed.2.weight"].shape[0],
        project_to_decoder_hidden_dim=state["project_to_decoder_channels.0.0.weight"].shape[0], deep_supervision=False)
    network.load_state_dict(state)
    return network.eval(), patch


def decoder_configs(features, patch, strides):
    """Channels and size of every stage. The package lists a shape as (height, width, depth)."""
    sizes, size = [], np.array(patch)
    for stride in strides:
        size = size // np.array(stride)
        sizes.append(tuple(int(n) for n in size))
    return {i: {"channels": c, "shape": (h, w, d)} for i, (c, (d, h, w)) in enumerate(zip(features, sizes))}


class ImageEncoder(nn.Module):
    """The encoder, and all of the decoder that no prompt can change: its first stage, and what the image and the biases
    add to the first convolution of every other stage. Those sums are as large as the features they replace, and lie by
    phases (polyphase.py)."""

    def __init__(self, network):
        super().__init__()
        decoder = network.decoder
        # Its own, so that winograd.py may change them.
        self.encoder, self.first = copy.deepcopy(network.encoder), copy.deepcopy(decoder.stages[0])
        self.grow, self.skips, self.first_step = stages_grow(network), nn.ModuleList(), decoder.transpconvs[0]
        self.register_buffer("weights", self.grow[0].weights()[:, :self.first.output_channels].contiguous())
        for index, grow in enumerate(self.grow):
            self.skips.append(of_skip(decoder.stages[index + 1].convs[0].conv, self.encoder.output_channels[-(index + 3)]))
            self.register_buffer(f"bias_{index}", grow.bias_weights())

    def forward(self, image):
        skips = self.encoder(image)
        x = self.first(torch.cat((self.first_step(skips[-1]), skips[-2]), 1))
        features = list(skips)
        features[-1] = x
        for index, (grow, conv) in enumerate(zip(self.grow, self.skips)):
            place = -(index + 3)
            skip = skips[place]
            biases = F.conv3d(torch.ones_like(skip[:, :1]), getattr(self, f"bias_{index}"), padding=grow.padding)
            features[place] = grow.by_phases(conv(skip) + biases)
        features[-3] = features[-3] + self.grow[0](x, self.weights)
        return tuple(features)


def of_skip(conv, channels):
    """A stage's first convolution of its skip, which comes after the voxels from below, only."""
    alone = nn.Conv3d(channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None)
    alone.weight, alone.bias = nn.Parameter(conv.weight[:, -channels:].detach().clone()), conv.bias
    return alone


def stages_grow(network):
    """How each stage of the decoder but its first makes coarse voxels fine."""
    decoder = network.decoder
    return [Grow(decoder.transpconvs[i], decoder.stages[i].convs[0].conv) for i in range(1, len(decoder.stages))]


class PromptDecoder(nn.Module):
    """Cross-attention of each prompt to the image; prompts do not see each other."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, features_4, text_embedding):
        n = self.network
        image = n.project_bottleneck_embed(features_4.permute(0, 3, 4, 2, 1)).flatten(1, 3).transpose(0, 1)
        text = n.project_text_embed(text_embedding.transpose(0, 1))
        found, _ = n.transformer_decoder(tgt=text, memory=image, pos=n.pos_embed, memory_key_padding_mask=None)
        found = found.transpose(0, 1)
        return tuple(project(found) for project in n.project_to_decoder_channels)


class MaskDecoder(nn.Module):
    """What of VoxTell's decoder a prompt can change, for one prompt.

    A stage reads the voxels below it, x, and their products with the prompt's heads, H x. Both enter one convolution
    (polyphase.py) whose input channels are then W_x x + W_h H x = (W_x + W_h H) x: the prompt makes its own weights,
    and the convolution reads x alone.
    """

    def __init__(self, network):
        super().__init__()
        self.stages, self.heads = network.decoder.stages, network.num_heads
        self.grow = stages_grow(network)
        for index, grow in enumerate(self.grow):
            weights, channels = grow.weights(), self.stages[index].output_channels
            self.register_buffer(f"image_{index}", weights[:, :channels].contiguous())
            self.register_buffer(f"heads_{index}", weights[:, channels:].contiguous())

    def forward(self, *tensors):
        features, embeddings = tensors[:len(self.stages) + 1], [e[0] for e in tensors[len(self.stages) + 1:]]
        x = features[-1]
        # The image encoder has added what x itself gives here.
        own = torch.matmul(embeddings[-1].reshape(self.heads, -1), x.flatten(2)).reshape(1, self.heads, *x.shape[2:])
        fine = self.grow[0](own, self.heads_0)
        for index in range(1, len(self.stages)):
            stage, grow = self.stages[index], self.grow[index - 1]
            fine = fine + features[-(index + 2)]
            for module in list(stage.convs[0].all_modules)[1:]:
                fine = module(fine)
            is_last, heads = index == len(self.stages) - 1, embeddings[-(index + 1)]
            if len(stage.convs) == 1 and is_last:
                return grow.in_space(torch.matmul(heads, fine.flatten(2)).reshape(1, 1, *fine.shape[2:]))
            x = stage.convs[1:](grow.in_space(fine))
            if is_last:
                return torch.matmul(heads, x.flatten(2)).reshape(1, 1, *x.shape[2:])
            own = torch.matmul(heads.reshape(self.heads, -1).transpose(0, 1), getattr(self, f"heads_{index}").flatten(2))
            image = getattr(self, f"image_{index}")
            fine = self.grow[index](x, image + own.reshape(image.shape))


def export_image_graphs(network, patch, precision, channels, out):
    # Tracing runs the network; the graphs are convolutions, so the smallest sensible size will do.
    small = [max(32, min(64, n)) for n in patch]
    features_count = len(network.encoder.output_channels)
    features = [f"features_{i}" for i in range(features_count)]
    embeddings = [f"mask_embedding_{i}" for i in range(len(network.project_to_decoder_channels))]
    width = network.text_embedding_dim
    shapes = {"image": [1, 1, *patch], "logits": [1, 1, *patch], "text_embedding": [1, "prompts", width]}
    for i, (name, config) in enumerate(zip(features, network.DECODER_CONFIGS.values())):
        h, w, d = config["shape"]
        shapes[name] = [1, config["channels"], d, h, w]
    text = torch.randn(1, 2, width)
    # The last features are those of the decoder's first stage, which lies where the last but one do.
    shapes[features[-1]] = shapes[features[-2]]
    for name, grow in zip(features[-3::-1], stages_grow(network)):
        shapes[name][2:] = grow.shape_by_phases(shapes[name][2:])
    with torch.no_grad():
        image_encoder, example = ImageEncoder(network).eval(), torch.randn(1, 1, *small)
        if precision != "fp16":
            winograd.replace(image_encoder, example, patch[0] / small[0], channels)
        seen = image_encoder(example)
        memory = torch.randn(shapes["features_4"])
        found = PromptDecoder(network)(memory, text)
    shapes |= {name: [1, "prompts", e.shape[2]] for name, e in zip(embeddings, found)}
    free = {name: {axis: f"{name}_{axis}" for axis in range(2, 5)} for name in ["image", "logits", *features]}
    prompts = {name: {1: "prompts"} for name in ["text_embedding", *embeddings]}
    trace(image_encoder, (example,), out / "image_encoder.onnx", ["image"], features,
          {name: free[name] for name in ["image", *features]}, precision, shapes, ["image"])
    # The positions of the image's features are a constant of the network: this one is traced at full size.
    trace(PromptDecoder(network), (memory, text), out / "prompt_decoder.onnx", ["features_4", "text_embedding"], embeddings,
          prompts, precision, shapes, ["text_embedding"])
    shapes |= {name: [1, 1, e.shape[2]] for name, e in zip(embeddings, found)}
    trace(MaskDecoder(network), (*seen, *(e[:, :1] for e in found)), out / "mask_decoder.onnx", features + embeddings,
          ["logits"], {name: free[name] for name in [*features, "logits"]}, precision, shapes, ["logits"])


def run_graphs(out):
    """A function (image, text_embedding) to logits, wiring the graphs by tensor name."""
    *first, last = [session(out / f"{n}.onnx", frugal=True) for n in ("image_encoder", "prompt_decoder", "mask_decoder")]

    def run(image, text):
        tensors = {"image": image, "text_embedding": text}
        for graph in first:
            feed = {i.name: tensors[i.name] for i in graph.get_inputs()}
            tensors.update(zip((o.name for o in graph.get_outputs()), graph.run(None, feed)))
        asked = [{i.name: tensors[i.name][:, n:n + 1] if i.name.startswith("mask_embedding") else tensors[i.name]
                  for i in last.get_inputs()} for n in range(text.shape[1])]
        return np.concatenate([last.run(None, feed)[0] for feed in asked], 1)
    return run


def check_image_graphs(network, patch, precision, out):
    random = np.random.default_rng(5)
    image = random.standard_normal((1, 1, *patch)).astype(np.float32)
    text = random.standard_normal((1, 3, network.text_embedding_dim)).astype(np.float32)
    run = run_graphs(out)
    found = run(image, text)
    with torch.no_grad():
        expected = network(torch.from_numpy(image), torch.from_numpy(text)).numpy()
    checks = [compare(f"logits of a patch, prompt {n + 1} of 3", found[0, n], expected[0, n], LIMITS[precision]) for n in range(3)]
    checks.append(compare("logits of prompt 2 asked alone", run(image, text[:, 1:2])[0, 0], expected[0, 1], LIMITS[precision]))
    same = (found > 0) == (expected > 0)
    return checks, f"{same.mean() * 100:.4f} % of the voxels are on the same side of the threshold."


def export_text_encoder(folder, precision, out, external):
    checkpoint = Checkpoint(folder, prefixes=("", "model."))
    config = checkpoint.config()
    parameters = sum(int(np.prod(checkpoint.shape(n))) for n in checkpoint.names())
    large = external or parameters * precision.bytes_per_weight > EMBED_MAX
    qwen3_graphs.Embedder(out / "text_encoder.onnx", checkpoint, config, precision, large).build()
    shutil.copy(Path(folder) / "tokenizer.json", out / "tokenizer.json")
    return checkpoint, config["hidden_size"]


def tokenize(out, prompts):
    """ids and mask (N, T), padded on the right, as the server makes them."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    end = tokenizer.token_to_id(END)
    if end is None:
        raise SystemExit(f"the text encoder's tokenizer has no {END}")
    rows = [tokenizer.encode(TEMPLATE.replace("{text}", p.lower()), add_special_tokens=False).ids + [end] for p in prompts]
    length = max(map(len, rows))
    ids = np.array([row + [end] * (length - len(row)) for row in rows])
    return ids, np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows]), rows


def check_text_encoder(checkpoint, precision, out):
    prompts = ["liver", "Left kidney, upper pole", "the metastasis next to the portal vein"]
    ids, mask, rows = tokenize(out, prompts)
    frugal = not precision.int8_activations  # as for Qwen3-VL
    found = session(out / "text_encoder.onnx", frugal=frugal).run(None, {"input_ids": ids, "attention_mask": mask})[0]
    limit = TEXT_LIMITS[precision.name]
    return [compare(f"text embedding of {len(row)} tokens, padded to {ids.shape[1]}", found[n], text_embedding(checkpoint, row), limit)
            for n, row in enumerate(rows)]


def write_bank(out, arguments):
    """text_bank.safetensors from a published npz, or from prompts through the exported text encoder."""
    prompts, vectors = [], []
    if arguments.bank:
        with np.load(arguments.bank, allow_pickle=False) as data:
            prompts += [str(label).lower() for label in data["labels"]]
            vectors.append(data["embeddings"].astype(np.float16))
    if arguments.bank_prompts:
        lines = [line.strip().lower() for line in Path(arguments.bank_prompts).read_text().splitlines()]
        lines = [line for line in dict.fromkeys(lines) if line and line not in set(prompts)]
        run = session(out / "text_encoder.onnx")
        for start in range(0, len(lines), 32):
            ids, mask, _ = tokenize(out, lines[start:start + 32])
            vectors.append(checked_half(run.run(None, {"input_ids": ids, "attention_mask": mask})[0], "text bank"))
        prompts += lines
    if len(set(prompts)) != len(prompts):
        raise SystemExit("the bank names a prompt twice")
    bank = np.concatenate(vectors)
    save_file({"embeddings": bank}, out / "text_bank.safetensors", metadata={"prompts": json.dumps(prompts, ensure_ascii=False)})
    return bank.shape


def part(patch, width, has_encoder, has_bank, sums="fp32"):
    """`[backbone]` of the manifest; the preprocessing is VoxTell's."""
    graphs = ["image_encoder", "prompt_decoder", "mask_decoder"] + (["text_encoder"] if has_encoder else [])
    return {
        "family": "voxtell", **{name: f"backbone/{name}.onnx" for name in graphs},
        "text_tokenizer": "backbone/tokenizer.json" if has_encoder else None,
        "text_bank": "backbone/text_bank.safetensors" if has_bank else None, "embedding_size": width,
        "text": {"template": TEMPLATE, "lowercase": True, "suffix_token": END if has_encoder else None, "max_tokens": 512},
        "preprocessing": {
            "orientation": "RAS", "crop": "nonzero", "patch_size": list(patch), "tile_step": 0.5, "gaussian_sigma_scale": 0.125,
            "sums": sums if sums != "fp32" else None, "threshold_logit": 0.0,
            "normalization": {"default": bundle.Table(kind="zscore")}},
    }


def export(arguments):
    folder, precision, text_precision = Path(arguments.model), arguments.precision, PRECISIONS[arguments.text_precision]
    if not (arguments.text_encoder or arguments.bank):
        raise SystemExit("give --text-encoder, --bank or both: without them no prompt becomes an embedding")
    if arguments.bank_prompts and not arguments.text_encoder:
        raise SystemExit("--bank-prompts needs --text-encoder")
    network, patch = load_model(folder)
    root = bundle.prepare(arguments.out, ["backbone"])
    out, checks, said, checkpoint = root / "backbone", [], "", None
    export_image_graphs(network, patch, precision, arguments.winograd_channels, out)
    if arguments.text_encoder:
        checkpoint, width = export_text_encoder(arguments.text_encoder, text_precision, out, arguments.external_data)
        if width != network.text_embedding_dim:
            raise SystemExit(f"the text encoder gives {width} values, the network reads {network.text_embedding_dim}")
    if arguments.bank or arguments.bank_prompts:
        count, width = write_bank(out, arguments)
        if width != network.text_embedding_dim:
            raise SystemExit(f"the bank's embeddings have {width} values, the network reads {network.text_embedding_dim}")
    rss_export = bundle.peak_rss_gib()
    if not arguments.skip_check:
        checks, said = check_image_graphs(network, patch, precision, out)
        if checkpoint:
            checks += check_text_encoder(checkpoint, text_precision, out)
    facts = [
        ("licence of the weights", arguments.licence), ("model folder", folder.resolve().name),
        ("sha256 of its checkpoint", bundle.sha256(folder / "fold_0/checkpoint_final.pth")),
        ("text encoder", Path(arguments.text_encoder).resolve().name if arguments.text_encoder else "none, bank only"),
        ("bank", f"{count} prompts" if arguments.bank or arguments.bank_prompts else "none"),
        ("precision", f"{precision}, text encoder {text_precision.name}"),
        ("made with", ", ".join(f"{k} {v}" for k, v in bundle.versions("torch", "voxtell", "onnx", "onnxruntime").items())),
        ("peak memory", f"{rss_export:.2f} GiB exporting, {bundle.peak_rss_gib():.2f} GiB with the check"),
    ]
    bundle.write_card(root, root.resolve().name, facts, checks, [said])
    head = {"name": root.resolve().name, "version": arguments.version, "licence": arguments.licence,
            "intended_use": "Research. Not for diagnosis or treatment.", "training_data": "See the publisher's card."}
    parts = {"backbone": part(patch, network.text_embedding_dim, bool(arguments.text_encoder),
                              bool(arguments.bank or arguments.bank_prompts), arguments.sums)}
    size = bundle.write_manifest(root, head, parts)
    print(f"{root}: {size / 1e9:.3f} GB, peak memory {rss_export:.2f} GiB exporting, {bundle.peak_rss_gib():.2f} GiB in all. {said}",
          flush=True)
    report(checks)


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="folder with plans.json and fold_0/checkpoint_final.pth")
    p.add_argument("--text-encoder", help="folder of a Qwen3-Embedding in Hugging Face layout")
    p.add_argument("--bank", help="npz with labels and embeddings")
    p.add_argument("--bank-prompts", help="text file, one prompt a line, embedded into the bank")
    p.add_argument("--out", required=True, help="folder of the bundle; its name is the bundle's")
    p.add_argument("--licence", required=True, help="SPDX expression or name of the weights' licence")
    p.add_argument("--version", default="1")
    p.add_argument("--precision", choices=sorted(LIMITS), default="fp16-stored")
    p.add_argument("--sums", choices=("fp32", "fp16"), default="fp32", help="fp16 adds up patches as VoxTell's own host does")
    p.add_argument("--text-precision", choices=sorted(PRECISIONS), default="fp16-stored")
    p.add_argument("--winograd-channels", nargs=2, type=int, default=winograd.CHANNELS, metavar=("MIN", "MAX"),
                   help="convolutions of the image encoder that save multiplications; 0 0 for none, as with fp16")
    p.add_argument("--external-data", action="store_true", help="the text encoder's weights beside its graph in any case")
    p.add_argument("--skip-check", action="store_true")
    return p


if __name__ == "__main__":
    export(parser().parse_args(sys.argv[1:]))
