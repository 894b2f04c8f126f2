"""Reads Hugging Face checkpoints tensor by tensor, with LoRA adapters merged on the way.

Only the tensor that is asked for is in memory. Shards are found through
`model.safetensors.index.json` or by listing `*.safetensors`.
"""
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

#: Rows of a large table that are read at once.
PIECE_BYTES = 256 << 20


class Checkpoint:
    """All tensors of a folder by name; `prefix` is taken off and put back silently."""

    def __init__(self, folder, adapters=(), prefixes=("",)):
        self.folder = Path(folder)
        self.shards = find_shards(self.folder)
        self.adapters = [Adapter(path) for path in adapters]
        self.prefixes = prefixes
        self.open_files = {}
        self.used = set()
        for adapter in self.adapters:
            adapter.resolve(self)

    def config(self, name="config.json"):
        path = self.folder / name
        if not path.exists():
            raise SystemExit(f"{path} is missing: the folder is not in Hugging Face layout")
        return json.loads(path.read_text())

    def key(self, name):
        """The stored name of a tensor, whatever prefix this version of the layout has."""
        for prefix in self.prefixes:
            if prefix + name in self.shards:
                return prefix + name
        raise SystemExit(f"{self.folder} has no tensor {name}")

    def __contains__(self, name):
        return any(prefix + name in self.shards for prefix in self.prefixes)

    def names(self):
        return list(self.shards)

    def shape(self, name):
        return list(self._slice(name).get_shape())

    def array(self, name):
        """The whole tensor in float32, adapters merged."""
        return np.concatenate(list(self.row_pieces(name)))

    def tensor(self, name):
        return torch.from_numpy(self.array(name))

    def row_pieces(self, name):
        """The tensor in float32 as consecutive pieces along its first axis, adapters merged."""
        key, view = self.key(name), self._slice(name)
        shape = view.get_shape()
        self.used.add(key)
        step = max(1, PIECE_BYTES // (4 * max(1, math.prod(shape[1:]))))
        for start in range(0, shape[0], step):
            piece = view[start:start + step].to(torch.float32)
            for adapter in self.adapters:
                piece = adapter.merge(key, piece, start)
            yield piece.numpy()

    def _slice(self, name):
        key = self.key(name)
        path = self.shards[key]
        if path not in self.open_files:
            # Shards are mapped into memory; one at a time bounds what stays there.
            self.open_files = {path: safe_open(path, framework="pt")}
        return self.open_files[path].get_slice(key)


def find_shards(folder):
    """Tensor name to file."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = json.loads(index.read_text())["weight_map"]
        missing = sorted({f for f in files.values() if not (folder / f).exists()})
        if missing:
            raise SystemExit(f"{folder} lacks {', '.join(missing)}")
        return {name: str(folder / file) for name, file in files.items()}
    shards = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name.startswith("adapter_"):
            continue
        with safe_open(path, framework="pt") as file:
            shards.update({name: str(path) for name in file.keys()})
    if not shards:
        raise SystemExit(f"{folder} holds no *.safetensors files")
    return shards


class Adapter:
    """A LoRA adapter in peft's layout: adapter_config.json and adapter_model.safetensors.

    The merged weight is W + B·A · scale, with scale = alpha / r (alpha / sqrt(r) with rsLoRA), computed
    in float32. Tensors that peft saved whole (modules_to_save, biases) replace the original.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        config = json.loads((self.folder / "adapter_config.json").read_text())
        if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora"):
            raise SystemExit(f"{folder} is not a plain LoRA adapter ({config.get('peft_type')}, "
                             f"DoRA {config.get('use_dora')}); merge it with peft first")
        self.rank, self.alpha = config["r"], config["lora_alpha"]
        self.rank_pattern, self.alpha_pattern = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        self.root_scale = bool(config.get("use_rslora"))
        self.transposed = bool(config.get("fan_in_fan_out"))
        path = self.folder / "adapter_model.safetensors"
        if not path.exists():
            raise SystemExit(f"{path} is missing; adapters saved as adapter_model.bin must be saved again")
        self.file = safe_open(path, framework="pt")
        self.pairs, self.whole, self.merged = {}, {}, set()

    def resolve(self, checkpoint):
        """Finds the checkpoint's tensor for each of the adapter's; refuses one that fits none."""
        for key in self.file.keys():
            name = key.removeprefix("base_model.model.")
            pair = re.fullmatch(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.\w+)?(?:\.weight)?", name)
            module = pair[1] if pair else re.sub(r"\.(weight|bias)$", "", name)
            module = module.replace(".modules_to_save", "").replace(".original_module", "").replace(".base_layer", "")
            part = "weight" if pair or name.endswith("weight") else "bias"
            target = self._target(checkpoint, module, part)
            if pair:
                self.pairs.setdefault(target, {"module": module})[pair[2].removeprefix("embedding_")] = key
                self.pairs[target]["table"] = "embedding" in pair[2]
            else:
                self.whole[target] = key
        broken = [t for t, pair in self.pairs.items() if not {"A", "B"} <= pair.keys()]
        if broken:
            raise SystemExit(f"{self.folder}: {broken[0]} has only half of its LoRA pair")

    def _target(self, checkpoint, module, part):
        # transformers 4.57 and 5 name the modules alike; the prefixes differ between releases.
        tries = [module, module.removeprefix("model."), "model." + module,
                 module.replace("model.", "model.language_model.", 1)]
        for candidate in tries:
            if f"{candidate}.{part}" in checkpoint:
                return checkpoint.key(f"{candidate}.{part}")
        raise SystemExit(f"{self.folder} changes {module}.{part}, which the checkpoint does not have")

    def scale(self, module):
        rank = matching(self.rank_pattern, module, self.rank)
        alpha = matching(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.root_scale else alpha / rank

    def merge(self, key, piece, first_row):
        rows = slice(first_row, first_row + len(piece))
        if key in self.whole:
            self.merged.add(key)
            return self.file.get_slice(self.whole[key])[rows].to(torch.float32)
        if key not in self.pairs:
            return piece
        pair = self.pairs[key]
        a, b = (self.file.get_tensor(pair[half]).to(torch.float32) for half in "AB")
        if pair["table"]:      # an embedding: (rank, vocabulary) and (width, rank)
            change = a.T[rows] @ b.T
        elif self.transposed:
            change = (b @ a).T[rows]
        else:
            change = b[rows] @ a
        self.merged.add(key)
        return piece + change.reshape(piece.shape) * self.scale(pair["module"])

    def unmerged(self):
        return sorted((set(self.pairs) | set(self.whole)) - self.merged)


def matching(pattern, module, default):
    """peft's patterns: a key matches a module whose name ends with it."""
    for key, value in pattern.items():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return value
    return default
