"""Turns a Qwen3-VL checkpoint into a bundle with a reasoner of family qwen3-vl.

    python export_qwen3_vl.py --checkpoint FOLDER --out BUNDLE --licence SPDX [--adapter FOLDER ...]
                              [--precision fp32|fp16|fp16-stored|int4|int4-fp16|int4-int8]

Weights stream from the checkpoint's shards to the bundle one tensor at a time. Afterwards the graphs
run against transformers' own layers on random pictures and tokens: a prompt, then 64 cached steps.

precision: fp32; fp16 (arithmetic too, for GPUs); fp16-stored (float32 arithmetic, for CPUs);
int4 (decoder's matrices in 4 bits, float32 arithmetic; tables and vision in fp16-stored);
int4-fp16 (the same with float16 arithmetic); int4-int8 (the same with activations in 8 bits, for fast CPUs).
"""
import argparse
import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

import bundle
import qwen3_graphs as graphs
from checkpoint import Checkpoint
from compare import compare, report, session
from onnx_writer import EMBED_MAX, HALF, PRECISIONS
from qwen3_reference import FourBits, Reference, head_name

#: Relative L2 differences beyond which an export is broken rather than rounded.
#: Unrelated logits would be 1.4 apart. Four bits alone cost random weights 0.64 at the 4B size; trained ones less.
LIMITS = {"fp32": 1e-4, "fp16": 3e-2, "fp16-stored": 1e-2, "int4": 0.9, "int4-fp16": 0.9, "int4-int8": 0.9}
#: The same for activations rounded to 8 bits, against the same four bits with exact ones; 0.03 at most was measured.
INT8_LIMIT = 0.1

SYSTEM = (
    "You turn a clinician's free-text request into one instruction for a segmentation model. You see slices of one scan. "
    "Write three parts and nothing else: <evidence>what the slices show that bears on the request: modality, region, "
    "structures, side</evidence><rationale>how evidence and request lead to the target</rationale>"
    "<answer>Segment the TARGET.</answer> Name several targets as: Segment the TARGET; the TARGET. Expand abbreviations, "
    "mend spelling, keep the side that was asked for. When the request cannot be met write <answer>Reject: REASON.</answer> "
    "with one of out_of_region, unsupported_modality, not_visible, ambiguous, not_a_segmentation_request."
)
USER = "The slices of the scan are above. The request stands between the raw_prompt tags."
USER_WITH_SKILLS = (
    "The slices of the scan are above. The skills between the skill_bank tags were learnt from earlier requests; name the "
    "one that fits in the rationale, or none. The request stands between the raw_prompt tags."
)

#: Eight axial slices at 10 to 90 % of the scan, as the published SEER adapters were trained.
AXIAL_8 = {
    "name": "axial-8", "size": 448, "fit": "stretch", "gamma": 1.4, "letters": False,
    "planes": [{"plane": "axial", "count": 8, "from": 0.1, "to": 0.9}],
    "window": {"default": bundle.Table(kind="percentile", low=0.5, high=99.5)},
}


def prompt_texts(arguments):
    """system, user and user_with_skills: ours, a prompt.toml's, or constants of the user's copy of published code."""
    if arguments.prompt_file:
        return Path(arguments.prompt_file).read_text(), "given as a file"
    if arguments.prompt_code:
        found = string_constants(Path(arguments.prompt_code))
        texts = {}
        for key, name in zip(("system", "user", "user_with_skills"), arguments.prompt_names.split(",")):
            if name not in found:
                raise SystemExit(f"{arguments.prompt_code} has no constant {name}; it has: {', '.join(sorted(found))}")
            texts[key] = found[name]
        return bundle.toml(texts) + "\n", f"constants of {Path(arguments.prompt_code).name}"
    texts = {"system": SYSTEM, "user": USER, "user_with_skills": USER_WITH_SKILLS}
    return bundle.toml(texts) + "\n", "the exporter's own wording"


def string_constants(path):
    """Module-level string constants of a Python file, read without running it."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            if isinstance(value, str):
                found[node.targets[0].id] = value
    return found


def chat_template(folder):
    """The Jinja text, wherever this release of the layout keeps it."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text()
    for name in ("chat_template.json", "tokenizer_config.json", "processor_config.json"):
        path = folder / name
        if path.exists() and isinstance(template := json.loads(path.read_text()).get("chat_template"), str):
            return template
    raise SystemExit(f"{folder} has no chat template (chat_template.jinja, .json, or in tokenizer_config.json)")


def image_settings(folder, vision):
    """`[reasoner.image]` from the checkpoint's preprocessor settings."""
    settings = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).exists():
            content = json.loads((folder / name).read_text())
            settings = content.get("image_processor", content)
    size = settings.get("size") or {}
    return {
        "patch_size": settings.get("patch_size", vision["patch_size"]),
        "temporal_patch_size": settings.get("temporal_patch_size", vision["temporal_patch_size"]),
        "merge_size": settings.get("merge_size", vision["spatial_merge_size"]),
        "mean": settings.get("image_mean", [0.5] * 3), "std": settings.get("image_std", [0.5] * 3),
        "min_pixels": settings.get("min_pixels") or size.get("shortest_edge", 65536),
        "max_pixels": settings.get("max_pixels") or size.get("longest_edge", 16777216),
        "arithmetic": "pillow" if "Pil" in str(settings.get("image_processor_type")) else "torchvision",
    }


def special_tokens(folder, config):
    """Names of the image token and of what ends a text; the tokenizer must have them."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    names = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    if config["image_token_id"] not in names:
        raise SystemExit(f"{folder}/tokenizer.json has no token {config['image_token_id']}, the config's image token")
    ends = []
    if (folder / "generation_config.json").exists():
        ends = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id") or []
    ends = [names[i] for i in ([ends] if isinstance(ends, int) else ends) if i in names]
    ends = ends or [name for name in ("<|im_end|>", "<|endoftext|>") if name in names.values()]
    if not ends:
        raise SystemExit(f"{folder}/tokenizer.json has no token that ends a text")
    return {"image": names[config["image_token_id"]], "end_of_text": ends}


def external(arguments, parameters, bytes_per_weight):
    return arguments.external_data or parameters * bytes_per_weight > EMBED_MAX


def around_int4(precision):
    """The precision of what is not in four bits, tables and vision."""
    if precision.stored != "int4":
        return precision.name
    return "fp16" if precision.compute == HALF else "fp16-stored"


def export_graphs(checkpoint, config, precision, out, arguments):
    text, vision = config["text_config"], config["vision_config"]
    around = PRECISIONS[around_int4(precision)]
    count = lambda part: sum(int(np.prod(checkpoint.shape(n))) for n in checkpoint.names() if part in n)
    levels = len(vision["deepstack_visual_indexes"])
    table = "language_model.embed_tokens.weight"
    large = external(arguments, count("visual."), around.bytes_per_weight)
    graphs.Vision(out / "vision_encoder.onnx", checkpoint, vision, around, large).build()
    large = external(arguments, int(np.prod(checkpoint.shape(table))), around.bytes_per_weight)
    graphs.embed_tokens(out / "embed_tokens.onnx", checkpoint, table, around, large)
    large = external(arguments, count("language_model."), precision.bytes_per_weight)
    graphs.Decoder(out / "decoder.onnx", checkpoint, text, levels, head_name(checkpoint), precision, large,
                   arguments.attention).build()


def random_case(config, seed):
    """Two pictures of unlike shape inside some text: token ids, pixel rows and grids."""
    random = np.random.default_rng(seed)
    vision, merge = config["vision_config"], config["vision_config"]["spatial_merge_size"]
    grids = [[1, 2 * merge, 3 * merge], [1, 4 * merge, 2 * merge]]
    words = min(config["text_config"]["vocab_size"], config["image_token_id"])
    ids = []
    for _, rows, columns in grids:
        ids += [*random.integers(0, words, 5), *[config["image_token_id"]] * (rows * columns // merge ** 2)]
    ids = [int(i) for i in [*ids, *random.integers(0, words, 9)]]
    values = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    pixels = random.uniform(-1, 1, (sum(r * c for _, r, c in grids), values)).astype(np.float32)
    return ids, pixels, grids


def check(checkpoint, config, precision, out, steps, seed=7):
    """The three graphs against transformers: features, first logits, and logits after each cached step."""
    ids, pixels, grids = random_case(config, seed)
    text, reference = config["text_config"], Reference(checkpoint)
    limit, checks = LIMITS[precision.name], []
    run = session(out / "vision_encoder.onnx", frugal=True)
    features, levels, first = [], [], 0
    for grid in grids:
        count = grid[1] * grid[2]
        position, indices, weights = reference.vision_inputs([grid])
        found = run.run(None, {"pixel_values": pixels[first:first + count], "position_ids": position.numpy(),
                               "interp_indices": indices.numpy(), "interp_weights": weights.numpy()})
        features, levels, first = features + [found[0]], levels + [found[1]], first + count
    del run
    seen, deep = reference.see(pixels, grids)
    vision_limit = LIMITS[around_int4(precision)]
    checks.append(compare("image features", np.concatenate(features), seen, vision_limit))
    for level, expected in enumerate(deep):
        checks.append(compare(f"DeepStack level {level}", np.concatenate([f[level] for f in levels]), expected, vision_limit))
    logits, tokens = cached_run(out, config, precision, reference, ids, grids, features, levels, steps)
    whole = ids + tokens[:-1]
    embeds, (positions, _) = reference.embed(whole), reference.positions(ids, grids)
    following = positions.max() + 1 + torch.arange(len(tokens) - 1)
    positions = torch.cat([positions, following[None, None].expand(3, 1, -1)], 2)
    at = torch.tensor(whole) == config["image_token_id"]
    at[len(ids):] = False  # What was written is text, whatever its id.
    embeds[0, at] = seen
    deepstack = torch.zeros(len(deep), *embeds.shape)
    deepstack[:, 0, at] = deep
    if precision.stored == "int4":
        rounded = Reference(checkpoint, FourBits(checkpoint, precision.block))
        expected = rounded.logits(embeds, positions, deepstack, len(tokens))
        limit_of_same = INT8_LIMIT if precision.int8_activations else LIMITS[around_int4(precision)]
        checks.append(compare("logits of all steps, original with the same four bits", logits, expected, limit_of_same))
    expected = reference.logits(embeds, positions, deepstack, len(tokens))
    checks.append(compare("logits after the prompt", logits[0], expected[0], limit))
    checks.append(compare(f"logits after {steps} cached steps", logits[-1], expected[-1], limit))
    checks.append(compare("logits of all steps", logits, expected, limit))
    same = int((logits.argmax(1) == expected.argmax(1).numpy()).sum())
    return checks, f"The likeliest token is the same in {same} of {len(tokens)} steps."


def cached_run(out, config, precision, reference, ids, grids, features, levels, steps):
    """Logits (steps, V) and greedy tokens of the exported graphs."""
    text, half = config["text_config"], precision.compute == HALF
    # ONNX Runtime takes 8-bit activations only with weights that it has packed again.
    embed = session(out / "embed_tokens.onnx", frugal=True)
    decoder = session(out / "decoder.onnx", frugal=not precision.int8_activations)
    at = np.array(ids) == config["image_token_id"]
    embeds = embed.run(None, {"input_ids": np.array([ids])})[0].copy()
    embeds[0, at] = np.concatenate(features)
    deepstack = np.zeros((len(levels[0]), *embeds.shape), np.float32)
    deepstack[:, 0, at] = np.concatenate(levels, 1)
    positions, following = reference.positions(ids, grids)
    positions = positions.numpy()
    shape = (1, text["num_key_value_heads"], 0, text["head_dim"])
    names = [i.name for i in decoder.get_inputs() if i.name.startswith("past_key_values.")]
    past = {name: np.zeros(shape, np.float16 if half else np.float32) for name in names}
    logits, tokens = [], []
    for step in range(steps + 1):
        total = len(ids) + step
        found = decoder.run(None, {"inputs_embeds": embeds, "attention_mask": np.ones((1, total), np.int64),
                                   "position_ids": positions, "deepstack_embeds": deepstack, **past})
        logits.append(found[0][0, 0])
        tokens.append(int(logits[-1].argmax()))
        past = dict(zip(names, found[1:]))
        embeds = embed.run(None, {"input_ids": np.array([tokens[-1:]])})[0]
        deepstack = np.zeros((len(deepstack), 1, 1, embeds.shape[2]), np.float32)
        positions = np.full((3, 1, 1), following + step)
    return np.stack(logits), tokens


def part(config, folder, arguments):
    """`[reasoner]` of the manifest."""
    text, vision = config["text_config"], config["vision_config"]
    files = {name: f"reasoner/{name}.onnx" for name in ("vision_encoder", "embed_tokens", "decoder")}
    return {
        "family": "qwen3-vl", **files,
        "tokenizer": "reasoner/tokenizer.json", "chat_template": "reasoner/chat_template.jinja",
        "prompt": "reasoner/prompt.toml",
        "hidden_size": text["hidden_size"], "layers": text["num_hidden_layers"],
        "key_value_heads": text["num_key_value_heads"],
        "head_dim": text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
        "vocabulary_size": text["vocab_size"], "deepstack_levels": len(vision["deepstack_visual_indexes"]),
        "position_grid_side": int(vision["num_position_embeddings"] ** 0.5),
        "tokens": special_tokens(folder, config), "image": image_settings(folder, vision), "view_plan": AXIAL_8,
        "decoding": {"max_new_tokens": arguments.max_new_tokens, "temperature": 0.0, "constrained": True,
                     "closed_vocabulary": False},
    }


def export(arguments):
    folder, precision = Path(arguments.checkpoint), PRECISIONS[arguments.precision]
    # Published folders say "model.language_model…" and "model.visual…"; the head stands outside.
    checkpoint = Checkpoint(folder, arguments.adapter, prefixes=("model.", ""))
    config = checkpoint.config()
    if config.get("model_type") != "qwen3_vl":
        raise SystemExit(f"{folder} holds a {config.get('model_type')}, not a qwen3_vl")
    if not (folder / "tokenizer.json").exists():
        raise SystemExit(f"{folder}/tokenizer.json is missing")
    manifest_part, (prompt, prompt_origin) = part(config, folder, arguments), prompt_texts(arguments)
    template = chat_template(folder)
    config["text_config"].setdefault("head_dim", manifest_part["head_dim"])
    root = bundle.prepare(arguments.out, ["reasoner"])
    out = root / "reasoner"
    export_graphs(checkpoint, config, precision, out, arguments)
    for adapter in checkpoint.adapters:
        if left := adapter.unmerged():
            raise SystemExit(f"{adapter.folder}: {len(left)} tensors were not merged, {left[0]} among them")
    rss_export = bundle.peak_rss_gib()
    shutil.copy(folder / "tokenizer.json", out / "tokenizer.json")
    (out / "chat_template.jinja").write_text(template)
    (out / "prompt.toml").write_text(prompt)
    checks, said = ([], "") if arguments.skip_check else check(checkpoint, config, precision, out, arguments.check_steps)
    facts = [
        ("licence of the weights", arguments.licence), ("checkpoint", folder.resolve().name),
        ("sha256 of its config.json", bundle.sha256(folder / "config.json")),
        ("adapters merged", ", ".join(a.folder.resolve().name for a in checkpoint.adapters) or "none"),
        ("precision", f"{precision.name}, attention as {arguments.attention}"), ("prompt texts", prompt_origin),
        ("made with", ", ".join(f"{k} {v}" for k, v in
                                bundle.versions("torch", "transformers", "onnx", "onnxruntime").items())),
        ("peak memory", f"{rss_export:.2f} GiB exporting, {bundle.peak_rss_gib():.2f} GiB with the check"),
    ]
    bundle.write_card(root, root.resolve().name, facts, checks, [said])
    head = {"name": root.resolve().name, "version": arguments.version, "licence": arguments.licence,
            "intended_use": "Research. Not for diagnosis or treatment.", "training_data": "See the publisher's card."}
    size = bundle.write_manifest(root, head, {"reasoner": manifest_part})
    print(f"{root}: {size / 1e9:.3f} GB, peak memory {rss_export:.2f} GiB exporting, "
          f"{bundle.peak_rss_gib():.2f} GiB in all. {said}", flush=True)
    report(checks)


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True, help="folder in Hugging Face layout")
    p.add_argument("--adapter", action="append", default=[], help="folder of a LoRA adapter in peft's layout; may repeat")
    p.add_argument("--out", required=True, help="folder of the bundle; its name is the bundle's")
    p.add_argument("--licence", required=True, help="SPDX expression or name of the weights' licence")
    p.add_argument("--version", default="1")
    p.add_argument("--precision", choices=sorted(PRECISIONS), default="fp16-stored")
    p.add_argument("--attention", choices=["plain", "gqa"], default="plain",
                   help="plain runs everywhere; gqa is ONNX Runtime's fused operator (on GPUs with float16 arithmetic only)")
    p.add_argument("--external-data", action="store_true", help="weights beside the graphs even when they would fit inside")
    p.add_argument("--prompt-file", help="a prompt.toml with system, user and user_with_skills, and letter_case = \"lower\" where orders are shown in lower case")
    p.add_argument("--prompt-code", help="a Python file whose string constants are the texts; it is read, not run")
    p.add_argument("--prompt-names", help="names of the three constants, comma-separated",
                   default="DEFAULT_SYSTEM_PROMPT,DEFAULT_USER_PROMPT_NO_SKILL,DEFAULT_USER_PROMPT_WITH_SKILL")
    p.add_argument("--max-new-tokens", type=int, default=256)
    p.add_argument("--check-steps", type=int, default=64, help="cached steps that the check takes after the prompt")
    p.add_argument("--skip-check", action="store_true")
    return p


if __name__ == "__main__":
    export(parser().parse_args(sys.argv[1:]))
