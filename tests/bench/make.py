"""Writes what the benchmarks run on: checkpoints with random weights, and the bundles that the exporters make of them.

usage: python make.py FOLDER mini|half|voxtell        (the exporters' environment; what is there already is kept)

mini     a Qwen3-VL of seer-mini's size          half     one of about 0.5 billion parameters
voxtell  a VoxTell with the published widths, fewer blocks and a patch of 64 x 64 x 64
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

REPOSITORY = Path(__file__).parents[2]
EXPORTERS = REPOSITORY / "models" / "exporters"
sys.path.insert(0, str(EXPORTERS))
import random_checkpoint  # noqa: E402
import tiny_checkpoints  # noqa: E402

PROMPTS = 8


def mini(folder):
    """Sizes of models/recipes/seer-mini; everything but the network is the toy checkpoint's."""
    tiny_checkpoints.qwen3_vl(folder)
    config = Qwen3VLConfig.from_pretrained(folder)
    ids = {name: getattr(config, name) for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")}
    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=2048, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1,
            head_dim=64, rms_norm_eps=1e-6, max_position_embeddings=8192,
            rope_parameters=dict(rope_type="default", rope_theta=5e5, mrope_section=[12, 10, 10], mrope_interleaved=True)),
        vision_config=dict(depth=4, hidden_size=128, intermediate_size=512, num_heads=4, out_hidden_size=192,
                           num_position_embeddings=256, deepstack_visual_indexes=[1, 2]), tie_word_embeddings=True, **ids)
    tiny_checkpoints.spread(Qwen3VLForConditionalGeneration(config), 1).save_pretrained(folder)


def voxtell(folder):
    tiny_checkpoints.voxtell(folder, patch=(64, 64, 64), width=256, features=(32, 64, 128, 256, 320, 320),
                             blocks=(1, 2, 2, 2, 2, 2), heads=32, query=512, layers=6)
    vectors = np.random.default_rng(0).standard_normal((PROMPTS, 256)).astype(np.float16)
    np.savez(folder / "bank.npz", labels=np.array([f"structure {i}" for i in range(PROMPTS)]), embeddings=vectors)


def exported(script, out, *arguments):
    if not (out / "manifest.toml").exists():
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, str(EXPORTERS / script), "--out", str(out), "--licence", "Apache-2.0", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def reasoner(folder, size, write):
    if not (folder / size / "config.json").exists():
        write(folder / size)
    for precision in ("fp32", "int4", "int4-int8"):
        exported("export_qwen3_vl.py", folder / f"{size}-{precision}", "--checkpoint", folder / size, "--precision", precision,
                 "--skip-check")


def main():
    folder, part = Path(sys.argv[1]).absolute(), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    if part == "mini":
        reasoner(folder, part, mini)
    elif part == "half":
        reasoner(folder, part, lambda path: random_checkpoint.write("0.5B", path))
    else:
        if not (folder / part / "bank.npz").exists():
            (folder / part).mkdir(exist_ok=True)
            voxtell(folder / part)
        exported("export_voxtell.py", folder / f"{part}-fp32", "--model", folder / part, "--bank", folder / part / "bank.npz",
                 "--precision", "fp32", "--sums", "fp16", "--skip-check")


if __name__ == "__main__":
    main()
