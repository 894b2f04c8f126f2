"""The peer's side of the benchmarks; prints one line of JSON.

usage: python peer.py reasoner CHECKPOINT PROMPT_TOKENS NEW_TOKENS PICTURE_SIZE
       python peer.py backbone MODEL Z Y X PROMPTS
       python peer.py patch PROMPTS EMBEDDING Z Y X IMAGE_ENCODER PROMPT_DECODER MASK_DECODER
       python peer.py resample
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def best(work, repeats=5):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def reasoner(checkpoint, prompt_tokens, new_tokens, picture_size):
    """transformers: the prompt in one forward pass, then one token at a time on its cache, as `generate` does."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration
    model = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = torch.tensor([[5 + (i * 37) % 500 for i in range(prompt_tokens)]])
    with torch.inference_mode():
        read = lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1)
        read()
        prefill = best(read, 3)
        lengths = {}
        for count in (1, 1 + new_tokens):
            write = lambda: model.generate(input_ids=ids, max_new_tokens=count, min_new_tokens=count, do_sample=False,
                                           pad_token_id=0)
            write()
            lengths[count] = best(write, 2)
        edge = picture_size // 16
        pixels, grid = torch.randn(edge * edge, 1536), torch.tensor([[1, edge, edge]])
        see = lambda: model.model.visual(pixels, grid_thw=grid)
        see()
        vision = best(see, 3)
    return {"prefill": prefill, "decode": (lengths[1 + new_tokens] - lengths[1]) / new_tokens, "vision": vision}


def backbone(model, shape, prompt_count):
    """voxtell's own predictor; its constructor fixes the published sizes in code, so its attributes are set here."""
    import torch
    sys.path.insert(0, str(Path(__file__).parents[2] / "models" / "exporters"))
    from export_voxtell import load_model
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
    from voxtell.inference.predictor import VoxTellPredictor
    network, patch = load_model(Path(model))
    with np.load(Path(model) / "bank.npz") as data:
        bank = {str(label): vector for label, vector in zip(data["labels"], data["embeddings"])}
    made = VoxTellPredictor.__new__(VoxTellPredictor)
    made.device, made.network, made.patch_size, made.embedding_bank = torch.device("cpu"), network, list(patch), bank
    made.normalization, made.tile_step_size, made.perform_everything_on_device = ZScoreNormalization(intensityproperties={}), 0.5, True
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    image = (1 + (z * 7 + y * 13 + x * 29) % 97).astype(np.float32)[None]
    prompts, counts = list(bank)[:prompt_count], []

    def run():
        masks = made.predict_single_image(image, prompts)
        counts[:] = [int(np.count_nonzero(mask)) for mask in masks]
    seconds = best(run, 2)
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "counts": counts}


def patch(prompts, embedding, shape, paths):
    import onnxruntime
    image, prompt, mask = map(onnxruntime.InferenceSession, paths)
    names = lambda ports: [p.name for p in ports]
    pixels = np.random.rand(1, 1, *shape).astype(np.float32)
    text = np.random.rand(1, prompts, embedding).astype(np.float32)

    def run():
        known = dict(zip(names(image.get_outputs()), image.run(None, {"image": pixels})))
        known["text_embedding"] = text
        feed = lambda graph: {n: known[n] for n in names(graph.get_inputs())}
        known.update(zip(names(prompt.get_outputs()), prompt.run(None, feed(prompt))))
        mask.run(None, feed(mask))

    run()
    return {"seconds": best(run)}


def resample():
    from scipy import ndimage
    volume = np.random.rand(120, 256, 256).astype(np.float32)
    at = np.meshgrid(np.arange(150) * 0.8, np.arange(200) * 1.25, np.arange(200) * 1.25, indexing="ij")
    return {"seconds": best(lambda: ndimage.map_coordinates(volume, at, order=1, output=np.float32), 3)}


def main():
    kind, rest = sys.argv[1], sys.argv[2:]
    numbers = lambda texts: [int(text) for text in texts]
    if kind == "reasoner":
        found = reasoner(rest[0], *numbers(rest[1:]))
    elif kind == "backbone":
        found = backbone(rest[0], numbers(rest[1:4]), int(rest[4]))
    elif kind == "patch":
        found = patch(int(rest[0]), int(rest[1]), numbers(rest[2:5]), rest[5:])
    else:
        found = resample()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
