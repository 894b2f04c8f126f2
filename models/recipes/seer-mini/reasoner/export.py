"""Writes vision_encoder.onnx, embed_tokens.onnx and decoder.onnx of any Qwen3-VL.

    python export.py --out FOLDER [--checkpoint FILE]

vision_encoder: pixel_values (P, 1536), position_ids (P, 2), interp_indices (P, 4),
    interp_weights (P, 4), segment_ids (P) -> image_embeds (P/4, H), deepstack_embeds (L, P/4, H)
embed_tokens: input_ids (B, T) -> inputs_embeds (B, T, H)
decoder: inputs_embeds (B, T, H), attention_mask (B, S), position_ids (3, B, T),
    deepstack_embeds (L, B, T, H), past_key_values.{i}.key|value (B, KV, past, D)
    -> logits (B, 1, V) of the last token, present.{i}.key|value (B, KV, S, D)

Hugging Face's own vision tower and DeepStack injection do not export with free grids; both are
written again here from the same modules. Weights are stored as float16 behind a Cast, so that
ONNX Runtime computes in float32 and the file is half the size.
"""
import argparse
import inspect
import os

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import model as tiny
from model import rotate_half

OPSET = 18


class VisionEncoder(nn.Module):
    """The vision tower over packed images; patches attend within their own segment only."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values, position_ids, interp_indices, interp_weights, segment_ids):
        tower = self.tower
        kernel = tower.patch_embed.proj
        x = nn.functional.linear(pixel_values, kernel.weight.flatten(1), kernel.bias)
        x = x + (tower.pos_embed(interp_indices) * interp_weights[:, :, None]).sum(1)
        cos, sin = (t[:, None] for t in tower.rotary_pos_emb(x, position_ids))
        apart = torch.where(segment_ids[:, None] == segment_ids[None, :], 0.0, -1e9)[None]
        levels = []
        for index, block in enumerate(tower.blocks):
            attention = block.attn
            qkv = attention.qkv(block.norm1(x)).reshape(-1, 3, attention.num_heads, attention.head_dim)
            q, k, v = qkv.permute(1, 0, 2, 3).unbind(0)
            q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
            q, k, v = (t.transpose(0, 1) for t in (q, k, v))
            weights = torch.softmax(q @ k.transpose(1, 2) * attention.scaling + apart, -1)
            seen = (weights @ v).transpose(0, 1).reshape(-1, attention.num_heads * attention.head_dim)
            x = x + attention.proj(seen)
            x = x + block.mlp(block.norm2(x))
            if index in tower.deepstack_visual_indexes:
                level = list(tower.deepstack_visual_indexes).index(index)
                levels.append(tower.deepstack_merger_list[level](x))
        return tower.merger(x), torch.stack(levels)


class EmbedTokens(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, input_ids):
        return self.table(input_ids)


class Decoder(nn.Module):
    """Prefill and cached decoding in one graph: the past may be empty."""

    def __init__(self, vl):
        super().__init__()
        self.text, self.head = vl.model.language_model, vl.lm_head

    def forward(self, inputs_embeds, attention_mask, position_ids, deepstack_embeds, *past):
        config = self.text.config
        x = inputs_embeds
        batch, length = x.shape[0], x.shape[1]
        heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        cos, sin = (t[:, None] for t in mrope_angles(self.text.rotary_emb, position_ids))
        query_at = torch.arange(length, device=x.device)[:, None] + past[0].shape[2]
        key_at = torch.arange(attention_mask.shape[1], device=x.device)[None]
        allowed = (key_at <= query_at)[None, None] & (attention_mask[:, None, None, :] > 0)
        mask = torch.where(allowed, 0.0, -1e9)
        present = []
        for index, layer in enumerate(self.text.layers):
            attention = layer.self_attn
            h = layer.input_layernorm(x)
            q = attention.q_norm(attention.q_proj(h).view(batch, length, heads, dim)).transpose(1, 2)
            k = attention.k_norm(attention.k_proj(h).view(batch, length, kv_heads, dim)).transpose(1, 2)
            v = attention.v_proj(h).view(batch, length, kv_heads, dim).transpose(1, 2)
            q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
            k, v = torch.cat((past[2 * index], k), 2), torch.cat((past[2 * index + 1], v), 2)
            present += [k, v]
            # Grouped queries share keys by broadcasting instead of copying them.
            q = q.reshape(batch, kv_heads, heads // kv_heads, length, dim)
            scores = torch.matmul(q, k[:, :, None].transpose(-1, -2)) * dim ** -0.5 + mask[:, :, None]
            out = torch.matmul(torch.softmax(scores, -1), v[:, :, None])
            out = out.reshape(batch, heads, length, dim).transpose(1, 2).reshape(batch, length, heads * dim)
            x = x + attention.o_proj(out)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            if index < deepstack_embeds.shape[0]:
                x = x + deepstack_embeds[index]
        return (self.head(self.text.norm(x[:, -1:])), *present)


def mrope_angles(rotary, positions):
    """Cosines and sines (B, T, D): each frequency follows time, row or column, interleaved."""
    angles = positions[..., None].float() * rotary.inv_freq
    follows = torch.zeros(rotary.inv_freq.shape[0], dtype=torch.long)
    for axis in (1, 2):
        follows[axis:rotary.mrope_section[axis] * 3:3] = axis
    choose = nn.functional.one_hot(follows, 3).T.float()[:, None, None, :]
    angles = (angles * choose).sum(0)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def graphs(vl):
    """Yields (name, module, example inputs, input names, output names, free axes by name)."""
    text = vl.config.text_config
    levels = len(vl.config.vision_config.deepstack_visual_indexes)
    # No example axis is 1: torch.export would fix it.
    patches, batch, length, past = 48, 2, 7, 5
    long = lambda *shape: torch.zeros(*shape, dtype=torch.long)
    vision_in = ["pixel_values", "position_ids", "interp_indices", "interp_weights", "segment_ids"]
    yield ("vision_encoder", VisionEncoder(vl.model.visual),
           (torch.randn(patches, 1536), long(patches, 2), long(patches, 4), torch.rand(patches, 4), long(patches)),
           vision_in, ["image_embeds", "deepstack_embeds"],
           {name: {0: "patches"} for name in vision_in}
           | {"image_embeds": {0: "tokens"}, "deepstack_embeds": {1: "tokens"}})
    yield ("embed_tokens", EmbedTokens(vl.model.language_model.embed_tokens), (long(2, 3),),
           ["input_ids"], ["inputs_embeds"],
           {name: {0: "batch", 1: "length"} for name in ("input_ids", "inputs_embeds")})
    pairs = [f"{i}.{kind}" for i in range(text.num_hidden_layers) for kind in ("key", "value")]
    past_names, present_names = [f"past_key_values.{p}" for p in pairs], [f"present.{p}" for p in pairs]
    yield ("decoder", Decoder(vl),
           (torch.randn(batch, length, text.hidden_size), torch.ones(batch, length + past, dtype=torch.long),
            long(3, batch, length), torch.zeros(levels, batch, length, text.hidden_size),
            *[torch.randn(batch, text.num_key_value_heads, past, text.head_dim) for _ in pairs]),
           ["inputs_embeds", "attention_mask", "position_ids", "deepstack_embeds"] + past_names,
           ["logits"] + present_names,
           {"inputs_embeds": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "total"},
            "position_ids": {1: "batch", 2: "length"}, "deepstack_embeds": {1: "batch", 2: "length"},
            "logits": {0: "batch"}}
           | {name: {0: "batch", 2: "past"} for name in past_names}
           | {name: {0: "batch", 2: "total"} for name in present_names})


def export_graph(path, module, example, inputs, outputs, free):
    """Exports one graph with dynamo and names its free axes."""
    axes = [{axis: torch.export.Dim.DYNAMIC for axis in free.get(name, {})} for name in inputs]
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        named = len(parameters) - 1
        shapes = {p.name: a for p, a in zip(parameters[:named], axes)} | {parameters[-1].name: tuple(axes[named:])}
    else:
        shapes = tuple(axes)
    with torch.no_grad():
        program = torch.onnx.export(module, example, input_names=inputs, output_names=outputs,
                                    dynamic_shapes=shapes, opset_version=OPSET, dynamo=True,
                                    optimize=True, verbose=False)
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        shape = list(value.shape)
        for axis, name in free.get(value.name, {}).items():
            shape[axis] = name
        value.shape = onnx_ir.Shape(shape)
    program.save(path, external_data=False)


def store_as_float16(path, smallest=256):
    """Stores every float tensor of at least `smallest` elements as float16 followed by a Cast."""
    graph_model = onnx.load(path)
    graph = graph_model.graph
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < smallest:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + "_f16")
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], name=half.name + "_cast", to=TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    # Names of Python functions and files are of no use to a host and tell of the machine.
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    onnx.save(graph_model, path)


def export(vl, folder):
    os.makedirs(folder, exist_ok=True)
    vl.eval()
    for name, module, example, inputs, outputs, free in graphs(vl):
        path = f"{folder}/{name}.onnx"
        export_graph(path, module, example, inputs, outputs, free)
        store_as_float16(path)
        print(f"{name}: {os.path.getsize(path) / 1e6:.2f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--checkpoint", help="state written by train.py; random weights without it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    vl = tiny.build()
    if arguments.checkpoint:
        vl.load_state_dict(torch.load(arguments.checkpoint)["model"])
    export(vl, arguments.out)


if __name__ == "__main__":
    main()
