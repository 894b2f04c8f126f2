"""Qwen3-VL in PyTorch, one decoder layer in memory at a time: the original that an export is held to.

The layers are transformers' own classes; only the loop over them is written here, because the whole
model in float32 would not fit beside its export.
"""

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3VLConfig
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from onnx_writer import dequantise_int4, quantise_int4


def load(module, checkpoint, prefix):
    """Fills a module with the checkpoint's tensors, in float32."""
    module = module.to_empty(device="cpu").float()
    state = {name: checkpoint.tensor(prefix + name) for name in module.state_dict()}
    module.load_state_dict(state)
    # Buffers that no checkpoint holds.
    for part in module.modules():
        if hasattr(part, "inv_freq"):
            part.__init__(part.config)
    return module.eval()


class Reference:
    """`weights` gives the decoder's matrices when they are not the checkpoint's own."""

    def __init__(self, checkpoint, weights=None):
        self.checkpoint, self.weights = checkpoint, weights or checkpoint
        self.config = Qwen3VLConfig(**checkpoint.config())
        for part in (self.config, self.config.text_config, self.config.vision_config):
            part._attn_implementation = "eager"
        with torch.device("meta"):
            self.skeleton = qwen.Qwen3VLModel(self.config)

    def vision_inputs(self, grids):
        config = self.config.vision_config
        grid = torch.tensor(grids)
        side = int(config.num_position_embeddings ** 0.5)
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid, num_grid_per_side=side, mode="bilinear", align_corners=True,
            spatial_merge_size=config.spatial_merge_size)
        return get_vision_position_ids(grid, config.spatial_merge_size), indices, weights

    @torch.no_grad()
    def see(self, pixels, grids):
        """Image features and the list of DeepStack levels over all pictures."""
        with torch.device("meta"):
            tower = qwen.Qwen3VLVisionModel(self.config.vision_config)
        tower = load(tower, self.checkpoint, "visual.")
        out = tower(torch.tensor(pixels), grid_thw=torch.tensor(grids), return_dict=True)
        return out.pooler_output, torch.stack(out.deepstack_features)

    def positions(self, ids, grids):
        """MRoPE positions (3, 1, T) and the next one."""
        ids = torch.tensor(ids)[None]
        types = (ids == self.config.image_token_id).int()
        positions, delta = self.skeleton.get_rope_index(ids, types, image_grid_thw=torch.tensor(grids) if grids else None)
        return positions, int(delta) + ids.shape[1]

    @torch.no_grad()
    def logits(self, embeds, positions, deepstack, last):
        """Logits (last, V) of the last tokens; embeds (1, T, H), deepstack (L, 1, T, H)."""
        config = self.config.text_config
        length = embeds.shape[1]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        angles = qwen.Qwen3VLTextRotaryEmbedding(config)(embeds, positions)
        x = embeds
        for index in range(config.num_hidden_layers):
            with torch.device("meta"):
                layer = qwen.Qwen3VLTextDecoderLayer(config, index)
            layer = load(layer, self.weights, f"language_model.layers.{index}.")
            x = layer(x, position_embeddings=angles, attention_mask=mask)
            if index < len(deepstack):
                x = x + deepstack[index]
        norm = load(qwen.Qwen3VLTextRMSNorm(config.hidden_size, config.rms_norm_eps), self.checkpoint, "language_model.norm.")
        x = norm(x[0, -last:])
        pieces = self.weights.row_pieces(head_name(self.checkpoint))
        return torch.cat([x @ torch.from_numpy(piece).T for piece in pieces], 1)

    def embed(self, ids):
        """Rows of the token table, (1, T, H)."""
        return rows(self.checkpoint, "language_model.embed_tokens.weight", ids)[None]


class FourBits:
    """A checkpoint whose matrices are what an int4 export stores: the difference that is left is the graph's own."""

    def __init__(self, checkpoint, block):
        self.checkpoint, self.block = checkpoint, block

    def row_pieces(self, name):
        for piece in self.checkpoint.row_pieces(name):
            yield dequantise_int4(*quantise_int4(piece, self.block), piece.shape[1]) if piece.ndim == 2 else piece

    def tensor(self, name):
        return torch.from_numpy(np.concatenate(list(self.row_pieces(name))))


def rows(checkpoint, name, ids):
    wanted = np.asarray(ids)
    out, first = None, 0
    for piece in checkpoint.row_pieces(name):
        here = (wanted >= first) & (wanted < first + len(piece))
        if out is None:
            out = np.zeros((len(wanted), piece.shape[1]), np.float32)
        out[here] = piece[wanted[here] - first]
        first += len(piece)
    return torch.from_numpy(out)


def head_name(checkpoint):
    """The output matrix: its own, or the token table when both are tied."""
    return "lm_head.weight" if "lm_head.weight" in checkpoint else "language_model.embed_tokens.weight"


@torch.no_grad()
def text_embedding(checkpoint, ids):
    """Normed hidden state of the last token of one Qwen3 prompt, layer by layer; ids without padding."""
    config = Qwen3Config(**checkpoint.config())
    config._attn_implementation = "eager"
    x = rows(checkpoint, "embed_tokens.weight", ids)[None]
    at = torch.arange(len(ids))[None]
    angles = modeling_qwen3.Qwen3RotaryEmbedding(config)(x, at)
    mask = torch.full((len(ids), len(ids)), torch.finfo(torch.float32).min).triu(1)[None, None]
    for index in range(config.num_hidden_layers):
        with torch.device("meta"):
            layer = modeling_qwen3.Qwen3DecoderLayer(config, index)
        x = load(layer, checkpoint, f"layers.{index}.")(x, position_embeddings=angles, attention_mask=mask)
    norm = load(modeling_qwen3.Qwen3RMSNorm(config.hidden_size, config.rms_norm_eps), checkpoint, "norm.")
    return norm(x[0, -1])
