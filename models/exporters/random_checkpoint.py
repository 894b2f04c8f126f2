"""Writes a Qwen3-VL folder of a published size with random weights, shard by shard.

    python random_checkpoint.py 2B|4B|8B|0.5B FOLDER

For measuring: exports, memory and speed do not depend on what the weights say. The tokenizer is the
toy one; the output matrix has its published width.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from tiny_checkpoints import SPECIAL, TEMPLATE, byte_bpe

SHARD_BYTES = 1 << 31
#: layers, hidden, intermediate, heads, tied, (vision depth, hidden, intermediate, heads, DeepStack)
SIZES = {
    "0.5B": (20, 1024, 3072, 16, True, (12, 512, 2048, 8, [2, 5, 8])),
    "2B": (28, 2048, 6144, 16, True, (24, 1024, 4096, 16, [5, 11, 17])),
    "4B": (36, 2560, 9728, 32, True, (24, 1024, 4096, 16, [5, 11, 17])),
    "8B": (36, 4096, 12288, 32, False, (27, 1152, 4304, 16, [8, 16, 24])),
}


def configuration(size, image_token):
    layers, hidden, intermediate, heads, tied, (depth, v_hidden, v_intermediate, v_heads, levels) = SIZES[size]
    return Qwen3VLConfig(
        text_config=dict(
            vocab_size=151936, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-6, max_position_embeddings=262144,
            rope_parameters=dict(rope_type="default", rope_theta=5e6, mrope_section=[24, 20, 20], mrope_interleaved=True)),
        vision_config=dict(depth=depth, hidden_size=v_hidden, intermediate_size=v_intermediate, num_heads=v_heads,
                           out_hidden_size=hidden, num_position_embeddings=2304, deepstack_visual_indexes=levels),
        image_token_id=image_token, tie_word_embeddings=tied, dtype="bfloat16")


def write(size, folder, seed=0):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_bpe(SPECIAL)
    config = configuration(size, tokenizer.token_to_id("<|image_pad|>"))
    with torch.device("meta"):
        skeleton = Qwen3VLForConditionalGeneration(config).state_dict()
    random = torch.Generator().manual_seed(seed)
    shard, used, files, number = {}, 0, {}, 1

    def flush():
        nonlocal shard, used, number
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name)
        files.update({key: name for key in shard})
        shard, used, number = {}, 0, number + 1

    for name, like in skeleton.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "norm" in name and name.endswith("weight"):
            tensor = torch.ones(like.shape, dtype=torch.bfloat16)
        else:
            tensor = torch.empty(like.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=random)
        shard[name], used = tensor, used + tensor.numel() * 2
        if used > SHARD_BYTES:
            flush()
    flush()
    index = {"metadata": {"total_size": sum(file.stat().st_size for file in folder.glob("model-*.safetensors"))}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    Qwen2VLImageProcessor(size={"shortest_edge": 65536, "longest_edge": 16777216}, patch_size=16, temporal_patch_size=2,
                          merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)


if __name__ == "__main__":
    write(*sys.argv[1:])
