"""The graphs of Qwen3-VL, node by node: vision tower with every DeepStack level, token table, decoder.

The decoder's layers also serve Qwen3-Embedding, VoxTell's text encoder. Hidden states between layers
stay in float32 whatever the precision, because Qwen's residual stream grows beyond float16; matrix
products and the key-value cache follow `Precision.compute`.
"""
import numpy as np

from onnx_writer import FLOAT, INT, NEVER, Graph, Weights


def rope_settings(text):
    """theta and MRoPE sections, from the keys of transformers 4.57 or 5."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) not in ("default", "mrope"):
        raise SystemExit(f"rope type {rope.get('rope_type')} is not exported, only the default one")
    return rope.get("rope_theta", text.get("rope_theta", 5e6)), rope.get("mrope_section")


class Vision:
    """pixel_values (P, 1536), position_ids (P, 2), interp_indices and interp_weights (P, 4) to
    image_embeds (P/4, H) and deepstack_embeds (L, P/4, H). One picture: every patch sees all others."""

    def __init__(self, path, checkpoint, config, precision, external):
        self.config, self.g = config, Graph(path, external)
        self.w = Weights(self.g, checkpoint, precision)
        self.heads, self.width = config["num_heads"], config["hidden_size"]
        self.dim = self.width // self.heads

    def build(self):
        g, w, config = self.g, self.w, self.config
        values = config["in_channels"] * config["temporal_patch_size"] * config["patch_size"] ** 2
        pixels = g.input("pixel_values", FLOAT, ["patches", values])
        positions = g.input("position_ids", INT, ["patches", 2])
        indices = g.input("interp_indices", INT, ["patches", 4])
        weights = g.input("interp_weights", FLOAT, ["patches", 4])
        x = w.to_float(w.linear(w.to_compute(pixels), "visual.patch_embed.proj", bias=True))
        x = g.op("Add", x, self._learned_positions(indices, weights))
        angles = self._angles(positions)
        levels = []
        for index in range(config["depth"]):
            x = self._block(x, f"visual.blocks.{index}", angles)
            if index in config["deepstack_visual_indexes"]:
                level = config["deepstack_visual_indexes"].index(index)
                levels.append((level, self._merge(x, f"visual.deepstack_merger_list.{level}", norm_last=True)))
        hidden = config["out_hidden_size"]
        g.output(self._merge(x, "visual.merger", norm_last=False), "image_embeds", FLOAT, ["tokens", hidden])
        stacked = g.op("Concat", *[g.op("Unsqueeze", x, [0]) for _, x in sorted(levels)], axis=0)
        g.output(stacked, "deepstack_embeds", FLOAT, [len(levels), "tokens", hidden])
        return g.save()

    def _learned_positions(self, indices, weights):
        g = self.g
        cells = self.w.table("visual.pos_embed.weight", indices)
        return g.op("ReduceSum", g.op("Mul", cells, g.op("Unsqueeze", weights, [2])), [1], keepdims=0)

    def _angles(self, positions):
        """Cosine and sine (1, P, dim/2): a quarter of each head follows rows, a quarter columns."""
        g, quarter = self.g, self.dim // 4
        theta = (self.config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
        inverse = inverse_frequencies(theta, self.dim // 2)
        angles = g.op("Mul", g.op("Unsqueeze", g.cast(positions, FLOAT), [2]), inverse)
        angles = g.op("Reshape", angles, [1, -1, 2 * quarter])
        return [self.w.to_compute(g.op(kind, angles)) for kind in ("Cos", "Sin")]

    def _block(self, x, name, angles):
        g, w = self.g, self.w
        qkv = w.linear(w.layer_norm(x, name + ".norm1"), name + ".attn.qkv", bias=True)
        qkv = g.op("Transpose", g.op("Reshape", qkv, [1, -1, 3 * self.heads, self.dim]), perm=[0, 2, 1, 3])
        q, k, v = g.op("Split", qkv, count=3, axis=1, num_outputs=3)
        q, k = (g.op("RotaryEmbedding", t, *angles) for t in (q, k))
        scores = g.op("MatMul", g.op("Mul", q, np.asarray(self.dim ** -0.5, np_type(w))),
                      g.op("Transpose", k, perm=[0, 1, 3, 2]))
        seen = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
        seen = g.op("Reshape", g.op("Transpose", seen, perm=[0, 2, 1, 3]), [-1, self.width])
        x = g.op("Add", x, w.to_float(w.linear(seen, name + ".attn.proj", bias=True)))
        y = w.linear(w.layer_norm(x, name + ".norm2"), name + ".mlp.linear_fc1", bias=True)
        y = w.linear(g.op("Gelu", y, approximate="tanh"), name + ".mlp.linear_fc2", bias=True)
        return g.op("Add", x, w.to_float(y))

    def _merge(self, x, name, norm_last):
        g, w = self.g, self.w
        wide = [-1, self.width * self.config["spatial_merge_size"] ** 2]
        if norm_last:
            y = w.layer_norm(g.op("Reshape", x, wide), name + ".norm")
        else:
            y = g.op("Reshape", w.layer_norm(x, name + ".norm"), wide)
        y = g.op("Gelu", w.linear(y, name + ".linear_fc1", bias=True), approximate="none")
        return w.to_float(w.linear(y, name + ".linear_fc2", bias=True))


def np_type(weights):
    return np.float32 if weights.precision.compute == FLOAT else np.float16


def inverse_frequencies(theta, dim):
    """theta^(-2i/dim) in float32, computed as PyTorch does."""
    import torch
    return (1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float) / dim)).numpy()


def embed_tokens(path, checkpoint, name, precision, external):
    """input_ids (1, T) to inputs_embeds (1, T, H)."""
    g = Graph(path, external)
    rows = Weights(g, checkpoint, precision).table(name, g.input("input_ids", INT, [1, "length"]))
    g.output(rows, "inputs_embeds", FLOAT, [1, "length", checkpoint.shape(name)[1]])
    return g.save()


class Layers:
    """The decoder layers of Qwen3: grouped queries with normed heads, gated MLP."""

    def __init__(self, graph, weights, config, prefix):
        self.g, self.w, self.config, self.prefix = graph, weights, config, prefix
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim = config.get("head_dim") or config["hidden_size"] // self.heads
        if config.get("attention_bias"):
            raise SystemExit("attention biases are not exported: Qwen3 has none")

    def layer(self, x, index, angles, attend):
        """`attend(q, k, v, index)`: heads (B, heads, T, dim) in, (B, T, heads·dim) out."""
        g, w, name = self.g, self.w, f"{self.prefix}layers.{index}."
        epsilon = self.config.get("rms_norm_eps", 1e-6)
        projections = [f"{name}self_attn.{p}_proj" for p in "qkv"]
        qkv = w.linear(w.rms_norm(x, name + "input_layernorm", epsilon), projections)
        sizes = [self.heads * self.dim] + [self.kv_heads * self.dim] * 2
        q, k, v = g.op("Split", qkv, np.array(sizes), count=3, axis=-1)
        q, k, v = (g.op("Reshape", t, [0, 0, -1, self.dim]) for t in (q, k, v))
        q, k = (w.rms_norm(w.to_float(t), f"{name}self_attn.{n}_norm", epsilon) for t, n in ((q, "q"), (k, "k")))
        q, k, v = (g.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, k, v))
        q, k = (g.op("RotaryEmbedding", t, *angles) for t in (q, k))
        x = g.op("Add", x, w.to_float(w.linear(attend(q, k, v, index), name + "self_attn.o_proj")))
        h = w.rms_norm(x, name + "post_attention_layernorm", epsilon)
        gate, up = g.op("Split", w.linear(h, [name + "mlp.gate_proj", name + "mlp.up_proj"]), count=2, axis=-1,
                        num_outputs=2)
        gated = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), up)
        return g.op("Add", x, w.to_float(w.linear(gated, name + "mlp.down_proj")))

    def products(self, q, k, v, mask):
        """softmax(q·k / sqrt(dim) + mask)·v in plain products; queries that share keys are one matrix."""
        g, groups = self.g, self.heads // self.kv_heads
        scaled = g.op("Mul", q, np.asarray(self.dim ** -0.5, np_type(self.w)))
        grouped = g.op("Reshape", scaled, [0, self.kv_heads, -1, self.dim])
        scores = g.op("MatMul", grouped, g.op("Transpose", k, perm=[0, 1, 3, 2]))
        apart = g.op("Concat", g.op("Shape", q, start=0, end=1), [self.kv_heads, groups], g.op("Shape", q, start=2, end=3),
                     g.op("Shape", k, start=2, end=3), axis=0)
        weights = g.op("Softmax", g.op("Add", g.op("Reshape", scores, apart), g.op("Unsqueeze", mask, [1])), axis=-1)
        together = g.op("Concat", g.op("Shape", q, start=0, end=1), [self.kv_heads, -1], g.op("Shape", k, start=2, end=3),
                        axis=0)
        seen = g.op("MatMul", g.op("Reshape", weights, together), v)
        back = g.op("Concat", g.op("Shape", q, start=0, end=1), [self.heads], g.op("Shape", q, start=2, end=3),
                    [self.dim], axis=0)
        seen = g.op("Transpose", g.op("Reshape", seen, back), perm=[0, 2, 1, 3])
        return g.op("Reshape", seen, [0, 0, self.heads * self.dim])


class Decoder:
    """inputs_embeds (1, T, H), attention_mask (1, S), position_ids (3, 1, T), deepstack_embeds
    (L, 1, T, H) and the past to logits (1, 1, V) of the last token and the present."""

    def __init__(self, path, checkpoint, config, levels, head, precision, external, attention):
        self.config, self.levels, self.head, self.attention = config, levels, head, attention
        self.g = Graph(path, external)
        self.w = Weights(self.g, checkpoint, precision)
        self.layers = Layers(self.g, self.w, config, "language_model.")
        self.present = []

    def build(self):
        g, config, hidden = self.g, self.config, self.config["hidden_size"]
        x = g.input("inputs_embeds", FLOAT, [1, "length", hidden])
        mask_input = g.input("attention_mask", INT, [1, "total"])
        positions = g.input("position_ids", INT, [3, 1, "length"])
        deepstack = g.input("deepstack_embeds", FLOAT, [self.levels, 1, "length", hidden])
        past = [g.input(f"past_key_values.{i}.{kind}", self.w.precision.compute,
                        [1, self.layers.kv_heads, "past", self.layers.dim])
                for i in range(config["num_hidden_layers"]) for kind in ("key", "value")]
        self.past, angles = past, self._angles(positions)
        self._prepare_mask(x, mask_input)
        added = g.op("Split", deepstack, count=self.levels, axis=0, num_outputs=self.levels)
        added = [added] if self.levels == 1 else added
        for index in range(config["num_hidden_layers"]):
            x = self.layers.layer(x, index, angles, self._attend)
            if index < self.levels:
                x = g.op("Add", x, g.op("Squeeze", added[index], [0]))
        last = g.op("Slice", x, [-1], [np.iinfo(np.int64).max], [1])
        last = self.w.rms_norm(last, "language_model.norm", config.get("rms_norm_eps", 1e-6))
        logits = self.w.to_float(self.w.linear(last, self.head.removesuffix(".weight")))
        g.output(logits, "logits", FLOAT, [1, 1, config["vocab_size"]])
        for name, value in self.present:
            g.output(value, name, self.w.precision.compute, [1, self.layers.kv_heads, "total", self.layers.dim])
        return g.save()

    def _angles(self, positions):
        """Cosine and sine (1, T, dim/2); each frequency follows time, row or column, interleaved."""
        g, dim = self.g, self.layers.dim
        theta, sections = rope_settings(self.config)
        follows = np.zeros(dim // 2, np.int64)
        for axis in (1, 2):
            follows[axis:sections[axis] * 3:3] = axis
        choose = np.eye(3, dtype=np.float32)[follows].T[:, None, None, :]
        angles = g.op("Mul", g.op("Unsqueeze", g.cast(positions, FLOAT), [3]), inverse_frequencies(theta, dim))
        angles = g.op("ReduceSum", g.op("Mul", angles, choose), [0], keepdims=0)
        return [self.w.to_compute(g.op(kind, angles)) for kind in ("Cos", "Sin")]

    def _prepare_mask(self, x, mask_input):
        g = self.g
        length, total = g.op("Shape", x, start=1, end=2), g.op("Shape", mask_input, start=1, end=2)
        if self.attention == "gqa":
            seen = g.op("ReduceSum", mask_input, [1], keepdims=0)
            self.last_key = g.cast(g.op("Sub", seen, [1]), 6)
            self.total = g.cast(g.op("Squeeze", total, [0]), 6)
            return
        length0, total0 = g.op("Squeeze", length, [0]), g.op("Squeeze", total, [0])
        query_at = g.op("Add", g.op("Range", np.int64(0), length0, np.int64(1)), g.op("Sub", total0, length0))
        key_at = g.op("Range", np.int64(0), total0, np.int64(1))
        causal = g.op("LessOrEqual", g.op("Unsqueeze", key_at, [0]), g.op("Unsqueeze", query_at, [1]))
        shown = g.op("Unsqueeze", g.op("Greater", mask_input, [0]), [1, 2])
        allowed = g.op("And", shown, g.op("Unsqueeze", causal, [0, 1]))
        kind = np_type(self.w)
        self.mask = g.op("Where", allowed, np.asarray(0, kind), np.asarray(NEVER, kind))

    def _attend(self, q, k, v, index):
        g, layers = self.g, self.layers
        past_k, past_v = self.past[2 * index:2 * index + 2]
        if self.attention == "gqa":
            flat = [g.op("Reshape", g.op("Transpose", t, perm=[0, 2, 1, 3]), [0, 0, n * layers.dim])
                    for t, n in ((q, layers.heads), (k, layers.kv_heads), (v, layers.kv_heads))]
            out, k, v = g.op("GroupQueryAttention", *flat, past_k, past_v, self.last_key, self.total, count=3,
                             domain="com.microsoft", num_heads=layers.heads, kv_num_heads=layers.kv_heads)
        else:
            # Named as the graph's outputs: a copy of the cache would be a fifth of a step.
            k = g.op("Concat", past_k, k, axis=2, name=f"present.{index}.key")
            v = g.op("Concat", past_v, v, axis=2, name=f"present.{index}.value")
            out = layers.products(q, k, v, self.mask)
        self.present += [(f"present.{index}.key", k), (f"present.{index}.value", v)]
        return out


class Embedder:
    """input_ids and attention_mask (N, T), padded on the right, to text_embedding (N, H): the normed
    hidden state of each row's last token, as Qwen3-Embedding pools it."""

    def __init__(self, path, checkpoint, config, precision, external):
        self.config, self.g = config, Graph(path, external)
        self.w = Weights(self.g, checkpoint, precision)
        self.layers = Layers(self.g, self.w, config, "")

    def build(self):
        g, w, config = self.g, self.w, self.config
        ids = g.input("input_ids", INT, ["prompts", "tokens"])
        mask_input = g.input("attention_mask", INT, ["prompts", "tokens"])
        x = w.table("embed_tokens.weight", ids)
        tokens = g.op("Squeeze", g.op("Shape", ids, start=1, end=2), [0])
        at = g.op("Range", np.int64(0), tokens, np.int64(1))
        theta, _ = rope_settings({"rope_theta": 1e6, **config})
        angles = g.op("Mul", g.op("Unsqueeze", g.cast(at, FLOAT), [0, 2]), inverse_frequencies(theta, self.layers.dim))
        shape = g.op("Concat", g.op("Shape", ids), [self.layers.dim // 2], axis=0)
        angles = [g.op("Expand", w.to_compute(g.op(kind, angles)), shape) for kind in ("Cos", "Sin")]
        causal = g.op("LessOrEqual", g.op("Unsqueeze", at, [0]), g.op("Unsqueeze", at, [1]))
        shown = g.op("Unsqueeze", g.op("Greater", mask_input, [0]), [1, 2])
        kind = np_type(w)
        mask = g.op("Where", g.op("And", shown, g.op("Unsqueeze", causal, [0, 1])), np.asarray(0, kind), np.asarray(NEVER, kind))
        attend = lambda q, k, v, index: self.layers.products(q, k, v, mask)
        for index in range(config["num_hidden_layers"]):
            x = self.layers.layer(x, index, angles, attend)
        last = g.op("Sub", g.op("ReduceSum", mask_input, [1], keepdims=1), [1])
        x = g.op("GatherND", x, last, batch_dims=1)
        x = w.to_float(w.rms_norm(x, "norm", config.get("rms_norm_eps", 1e-6)))
        g.output(x, "text_embedding", FLOAT, ["prompts", config["hidden_size"]])
        return g.save()
