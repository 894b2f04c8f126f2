"""Measures the full-size networks, with random weights, through the server's binary and through PyTorch.

    python measure_gpu.py --seer target/release/seer --work FOLDER          on a machine with an NVIDIA GPU
    python measure_gpu.py --seer target/debug/seer --work FOLDER --tiny     the same steps, toy sizes, on the CPU

One command: writes a random Qwen3-VL-4B and a random VoxTell (440 M parameters), exports both with this folder's
exporters (float16; their check against PyTorch included), lets the binary verify them, runs them through `seer
models run` and through transformers and `voxtell`'s network on the same device, and writes FOLDER/figures.json and
FOLDER/figures.md: tokens per second beside the bound that the memory's bandwidth sets, seconds per patch and per
prompt, how far the outputs are apart, and the machine's name. About 30 GB of disk, 24 GB of memory.

The server's decoding speed is the difference between several long and as many short traces, so that loading, the
pictures and the prompts cancel out; transformers is measured in the same way. At toy size that difference drowns in
the start of the program, and no figure is given when it does. Nothing here needs the internet.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

import bundle
import export_qwen3_vl
import export_voxtell
import random_checkpoint
import tiny_checkpoints

#: Tokens of the short and the long trace, and prompts of the segmentation.
SHORT, LONG, PROMPTS = 16, 144, 8
#: Traces of one run of the binary.
TRACES = 6
ORDER = "outline the left kidney and every metastasis of the liver, please"
#: VoxTell's published sizes.
FULL = dict(patch=(192, 192, 192), width=2560, features=(32, 64, 128, 256, 320, 320), blocks=(1, 3, 4, 6, 6, 6), heads=32,
            query=2048, layers=6)


def machine(device):
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return {"device": name, "platform": platform.platform(), **bundle.versions("torch", "transformers", "onnxruntime")}


def seconds_of(device, work, repeats=5):
    """Median seconds after one run to warm up."""
    work()
    found = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return float(np.median(found))


def bytes_per_second(device, size):
    """The memory's bandwidth, measured by a copy: every byte is read and written."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(device, lambda: target.copy_(source), 9)


class Seer:
    """The binary, with its models in the working folder."""

    def __init__(self, arguments, work):
        self.binary = str(Path(arguments.seer).resolve())
        self.environment = {**os.environ, "SEER_MODELS__FOLDER": str(work / "bundles"), "SEER_RUNTIME__PROVIDER": arguments.provider}

    def __call__(self, *arguments, **settings):
        environment = {**self.environment, **{f"SEER_{key}": str(value) for key, value in settings.items()}}
        done = subprocess.run([self.binary, *map(str, arguments)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"seer {' '.join(map(str, arguments))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def run(self, name, part, inputs, texts, **settings):
        """What `seer models run` prints, and how long it took."""
        wanted = [flag for text in texts for flag in ("--text", text)]
        started = time.perf_counter()
        said = self("models", "run", name, part, *inputs, *wanted, **settings)
        return json.loads(said), time.perf_counter() - started


def make(arguments, work):
    """Checkpoints and bundles; what is there already is kept."""
    reasoner, backbone, out = work / "qwen3-vl", work / "voxtell", work / "bundles"
    precision = arguments.precision
    if not (reasoner / "config.json").exists():
        tiny_checkpoints.qwen3_vl(reasoner) if arguments.tiny else random_checkpoint.write("4B", reasoner)
    if not (backbone / "bank.npz").exists():
        sizes = dict(patch=(32, 64, 64), width=48) if arguments.tiny else FULL
        tiny_checkpoints.voxtell(backbone, **sizes)
        vectors = np.random.default_rng(0).standard_normal((PROMPTS, sizes["width"])).astype(np.float16)
        np.savez(backbone / "bank.npz", labels=np.array([f"structure {i}" for i in range(PROMPTS)]), embeddings=vectors)
    if not (out / "reasoner/manifest.toml").exists():
        export_qwen3_vl.export(export_qwen3_vl.parser().parse_args(
            ["--checkpoint", str(reasoner), "--out", str(out / "reasoner"), "--licence", "none", "--precision", precision,
             "--attention", arguments.attention, "--check-steps", "64" if arguments.tiny else "2"]))
    if not (out / "backbone/manifest.toml").exists():
        export_voxtell.export(export_voxtell.parser().parse_args(
            ["--model", str(backbone), "--bank", str(backbone / "bank.npz"), "--out", str(out / "backbone"), "--licence", "none",
             "--precision", precision]))
    return reasoner, backbone, out


def volume(path, shape):
    """A volume of exactly one patch, so that seconds per volume are seconds per patch."""
    random = np.random.default_rng(1)
    coarse = random.standard_normal([-(-n // 8) for n in shape])
    voxels = np.kron(coarse, np.ones((8, 8, 8)))[: shape[0], : shape[1], : shape[2]] * 300 + random.standard_normal(shape) * 20 + 500
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), np.diag([1.5, 1.5, 1.5, 1])), path)


def reason_with_seer(seer, scan):
    """Seconds per token and the two traces."""
    settings = dict(REASONER__CONSTRAINED="false", REASONER__TEMPERATURE="0")
    found = {}
    for tokens in (SHORT, LONG):
        seconds = []
        for _ in range(3):
            said, took = seer.run("reasoner", "reasoner", [scan], [ORDER] * TRACES, REASONER__MAX_NEW_TOKENS=tokens, **settings)
            seconds.append(took)
        found[tokens] = (float(np.median(seconds)), said["traces"][0])
    written = {tokens: trace["decoding"]["token_count"] for tokens, (_, trace) in found.items()}
    if written != {SHORT: SHORT, LONG: LONG}:
        raise SystemExit(f"the traces ended early: {written}; take another seed for the random weights")
    seconds = (found[LONG][0] - found[SHORT][0]) / (TRACES * (LONG - SHORT))
    return seconds if seconds > 0 else None, found[LONG][1], said["provider"]


def reason_with_transformers(device, folder, prompt_tokens, precision):
    """Seconds per token on the cache and for reading the prompt."""
    from transformers import Qwen3VLForConditionalGeneration
    kind = torch.float16 if precision == "fp16" and device == "cuda" else torch.float32
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=kind, attn_implementation="sdpa").eval().to(device)
    ids = torch.tensor([[5 + i * 37 % 500 for i in range(prompt_tokens)]], device=device)

    def write(count):
        with torch.inference_mode():
            model.generate(input_ids=ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)
    short, long = (seconds_of(device, lambda n=n: write(n), 3) for n in (SHORT, LONG))
    weights = sum(p.numel() * p.element_size() for p in model.model.language_model.layers.parameters())
    weights += model.lm_head.weight.numel() * model.lm_head.weight.element_size()
    with torch.inference_mode():
        prefill = seconds_of(device, lambda: model(input_ids=ids, logits_to_keep=1), 3)
    return (long - short) / (LONG - SHORT), prefill, weights


def segment_with_seer(seer, scan):
    """Seconds of the graphs for one prompt and for all, with their masks."""
    found = {}
    for count in (1, PROMPTS):
        runs = [seer.run("backbone", "backbone", [scan, "--modality", "MR"], [f"structure {i}" for i in range(count)])[0] for _ in range(3)]
        found[count] = min(runs, key=lambda said: said["seconds"]["infer"])
        if found[count]["patch_count"] != 1:
            raise SystemExit(f"the volume took {found[count]['patch_count']} patches, not one")
    return found


def segment_with_pytorch(device, folder, scan, precision):
    """Seconds of VoxTell's network for one prompt and for all, and its masks' sizes."""
    network, patch = export_voxtell.load_model(folder)
    network = network.to(device)
    voxels = nibabel.as_closest_canonical(nibabel.load(scan)).get_fdata().transpose(2, 1, 0).astype(np.float32)
    image = torch.from_numpy((voxels - voxels.mean()) / max(voxels.std(), 1e-8))[None, None].to(device)
    with np.load(folder / "bank.npz") as data:
        text = torch.from_numpy(data["embeddings"].astype(np.float32))[None].to(device)
    seconds, logits = {}, None
    # As VoxTell's predictor runs it: autocast on a GPU, float32 elsewhere.
    autocast = torch.autocast(device, enabled=device == "cuda" and precision == "fp16")
    with torch.inference_mode(), autocast:
        for count in (1, PROMPTS):
            seconds[count] = seconds_of(device, lambda n=count: network(image, text[:, :n]), 3)
        logits = network(image, text)[0].float()
    return seconds, (logits > 0).flatten(1).sum(1).tolist(), int(np.prod(patch))


def measure(arguments):
    device = "cpu" if arguments.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here; --tiny runs the same steps at toy size on the CPU")
    work = Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    reasoner, backbone, out = make(arguments, work)
    seer = Seer(arguments, work)
    print(seer("models", "verify", "reasoner", "backbone"), flush=True)
    scan = work / "patch.nii.gz"
    volume(scan, export_voxtell.load_model(backbone)[1])
    figures = {"machine": machine(device), "precision": arguments.precision, "attention": arguments.attention}
    ours, trace, provider = reason_with_seer(seer, scan)
    theirs, prefill, weights = reason_with_transformers(device, reasoner, trace["decoding"]["prompt_token_count"], arguments.precision)
    speed = bytes_per_second(device, 1 << (26 if arguments.tiny else 31))
    figures["reasoner"] = {
        "provider": provider, "prompt_tokens": trace["decoding"]["prompt_token_count"], "seer_tokens_per_s": ours and 1 / ours,
        "transformers_tokens_per_s": 1 / theirs, "transformers_prefill_s": prefill, "bandwidth_bytes_per_s": speed,
        "bytes_read_per_token": weights, "bound_tokens_per_s": speed / weights, "share_of_bound": ours and weights / speed / ours}
    found = segment_with_seer(seer, scan)
    seconds, sizes, voxels = segment_with_pytorch(device, backbone, scan, arguments.precision)
    own = [mask["voxel_count"] for mask in found[PROMPTS]["masks"]]
    figures["backbone"] = {
        "provider": found[1]["provider"], "seer_s_one_prompt": found[1]["seconds"]["infer"],
        "seer_s_all_prompts": found[PROMPTS]["seconds"]["infer"], "pytorch_s_one_prompt": seconds[1],
        "pytorch_s_all_prompts": seconds[PROMPTS], "prompts": PROMPTS, "mask_sizes_seer": own, "mask_sizes_pytorch": sizes,
        "largest_difference_of_voxels": max(abs(a - b) for a, b in zip(own, sizes)) / voxels}
    cards = {part: (out / part / "CARD.md").read_text() for part in ("reasoner", "backbone")}
    (work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (work / "figures.md").write_text(page(figures, cards))
    print(page(figures, {}), flush=True)
    if figures["backbone"]["largest_difference_of_voxels"] > 0.01:
        raise SystemExit("the masks of the server and of PyTorch differ by more than 1 % of the voxels")


def shown(number):
    return "too short to measure" if number is None else f"{number:.2f}"


def page(figures, cards):
    r, b = figures["reasoner"], figures["backbone"]
    lines = [f"# {figures['machine']['device']}", "", f"{figures['precision']}, attention as {figures['attention']}; "
             + ", ".join(f"{k} {v}" for k, v in figures["machine"].items() if k != "device"), "",
             "| | seer | PyTorch |", "|---|---|---|",
             f"| tokens/s after {r['prompt_tokens']} tokens | {shown(r['seer_tokens_per_s'])} | {r['transformers_tokens_per_s']:.1f} |",
             f"| share of the bound that {r['bandwidth_bytes_per_s'] / 1e9:.0f} GB/s set, {r['bound_tokens_per_s']:.1f} tokens/s | {shown(r['share_of_bound'])} | |",
             f"| s per patch, 1 prompt | {b['seer_s_one_prompt']:.3f} | {b['pytorch_s_one_prompt']:.3f} |",
             f"| s per patch, {b['prompts']} prompts | {b['seer_s_all_prompts']:.3f} | {b['pytorch_s_all_prompts']:.3f} |",
             f"| voxels of a mask that differ at most | {b['largest_difference_of_voxels'] * 100:.3f} % | |", ""]
    return "\n".join(lines + [text for card in cards.values() for text in (card, "")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seer", required=True, help="the server's binary")
    parser.add_argument("--work", required=True, help="folder for checkpoints, bundles and figures; what is there is kept")
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--precision", choices=["fp16", "fp32", "fp16-stored"], default=None, help="fp16; fp32 with --tiny")
    parser.add_argument("--attention", choices=["plain", "gqa"], default="plain")
    arguments = parser.parse_args(sys.argv[1:])
    arguments.precision = arguments.precision or ("fp32" if arguments.tiny else "fp16")
    arguments.provider = "cpu" if arguments.tiny else "cuda"
    measure(arguments)


if __name__ == "__main__":
    main()
