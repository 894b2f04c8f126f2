"""Builds ONNX graphs node by node and streams their weights to disk, one tensor at a time.

A graph of several gigabytes never stands in memory: `Graph.weight` writes a tensor to the external
data file when it is handed over, and only its place in the file is kept. Below `EMBED_MAX` bytes the
weights go into the `.onnx` file itself.
"""
import os
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Protocol buffers end at 2 GiB; the rest is room for the graph.
EMBED_MAX = 1_900_000_000
#: ONNX Runtime maps external tensors into memory when they start at a page.
PAGE = 4096
OPSET = 23
#: An additive mask that no sum of scores overcomes and that 16-bit floats can hold.
NEVER = -30000.0
FLOAT, HALF, INT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
NUMPY = {FLOAT: np.float32, HALF: np.float16, INT: np.int64, TensorProto.UINT8: np.uint8}


@dataclass(frozen=True)
class Precision:
    """How weights are stored and what the arithmetic between them is done in."""
    name: str
    stored: str      # fp32 | fp16 | int4
    compute: int     # TensorProto.FLOAT or FLOAT16
    block: int = 32  # weights that share one scale, for int4
    int8_activations: bool = False

    @property
    def bytes_per_weight(self):
        return {"fp32": 4.0, "fp16": 2.0, "int4": 0.5 + 4.5 / self.block}[self.stored]


PRECISIONS = {
    "fp32": Precision("fp32", "fp32", FLOAT),
    "fp16": Precision("fp16", "fp16", HALF),
    "fp16-stored": Precision("fp16-stored", "fp16", FLOAT),
    "int4": Precision("int4", "int4", FLOAT),
    "int4-fp16": Precision("int4-fp16", "int4", HALF),
    "int4-int8": Precision("int4-int8", "int4", FLOAT, int8_activations=True),
}


class Graph:
    """One ONNX file in the making; every method that makes a value returns its name."""

    def __init__(self, path, external, producer="SEER exporters"):
        self.path, self.producer = str(path), producer
        self.data_name = os.path.basename(self.path) + ".data"
        data_path = self.path + ".data"
        if os.path.exists(data_path):
            os.remove(data_path)
        self.data = open(data_path, "wb") if external else None
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []
        self.names, self.constants, self.domains = set(), {}, set()

    def fresh(self, wish):
        name, number = wish, 1
        while name in self.names:
            number += 1
            name = f"{wish}_{number}"
        self.names.add(name)
        return name

    def input(self, name, element, shape):
        self.names.add(name)
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, value, name, element, shape):
        if value != name:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, element, shape))

    def op(self, kind, *inputs, count=1, domain="", name=None, **attributes):
        outputs = [self.fresh(name or kind.lower()) for _ in range(count)]
        if domain:
            self.domains.add(domain)
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0] if count == 1 else outputs

    def constant(self, value):
        """A small tensor; integers become int64. Equal constants are shared."""
        array = np.asarray(value)
        if array.dtype.kind in "iu" and array.dtype != np.uint8:
            array = array.astype(np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = self.fresh("constant")
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            self.constants[key] = name
        return self.constants[key]

    def weight(self, name, pieces, element, shape):
        """Stores a tensor given as an array or as an iterable of consecutive pieces of one."""
        name = self.fresh(name)
        pieces = [pieces] if isinstance(pieces, np.ndarray) else pieces
        kept, written = [], 0
        start = self._page() if self.data else 0
        for piece in pieces:
            raw = np.ascontiguousarray(piece, dtype=NUMPY[element])
            written += raw.nbytes
            self.data.write(raw.data) if self.data else kept.append(raw.tobytes())
        if written != int(np.prod(shape)) * np.dtype(NUMPY[element]).itemsize:
            raise ValueError(f"{name}: {written} bytes do not make a tensor {tuple(shape)}")
        tensor = TensorProto(name=name, data_type=element, dims=shape)
        if self.data:
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", self.data_name), ("offset", start), ("length", written)):
                tensor.external_data.add(key=key, value=str(value))
        else:
            tensor.raw_data = b"".join(kept)
        self.initializers.append(tensor)
        return name

    def _page(self):
        self.data.write(b"\0" * (-self.data.tell() % PAGE))
        return self.data.tell()

    def cast(self, value, element):
        return self.op("Cast", value, to=element)

    def save(self):
        if self.data:
            self.data.close()
        graph = helper.make_graph(self.nodes, os.path.basename(self.path).removesuffix(".onnx"),
                                  self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(d, 1) for d in sorted(self.domains)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=self.producer, ir_version=10)
        onnx.save(model, self.path)
        return [self.path] + ([self.path + ".data"] if self.data else [])


class Weights:
    """Linear layers, norms and tables of one graph, read by name from a checkpoint."""

    def __init__(self, graph, checkpoint, precision):
        self.graph, self.checkpoint, self.precision = graph, checkpoint, precision

    def vector(self, name, element=None):
        array = self.checkpoint.array(name)
        return self.graph.weight(name, array, element or self.precision.compute, array.shape)

    def rms_norm(self, x, name, epsilon):
        """Normalises float32 values in float32 and gives what the next layer computes in."""
        weight = self.vector(name + ".weight", FLOAT)
        y = self.graph.op("RMSNormalization", x, weight, axis=-1, epsilon=epsilon, stash_type=FLOAT)
        return self.to_compute(y)

    def layer_norm(self, x, name, epsilon=1e-6):
        weight, bias = self.vector(name + ".weight", FLOAT), self.vector(name + ".bias", FLOAT)
        y = self.graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon, stash_type=FLOAT)
        return self.to_compute(y)

    def to_compute(self, x):
        return x if self.precision.compute == FLOAT else self.graph.cast(x, self.precision.compute)

    def to_float(self, x):
        return x if self.precision.compute == FLOAT else self.graph.cast(x, FLOAT)

    def linear(self, x, names, bias=False):
        """`x` times the weights `names + ".weight"`, stacked along their outputs."""
        names = [names] if isinstance(names, str) else names
        shapes = [self.checkpoint.shape(name + ".weight") for name in names]
        rows, width = sum(s[0] for s in shapes), int(np.prod(shapes[0][1:]))
        label = names[0] if len(names) == 1 else "+".join([names[0], *[n.rsplit(".", 1)[1] for n in names[1:]]])
        if self.precision.stored == "int4":
            y = self._int4(x, names, label, rows, width)
        else:
            y = self._matmul(x, names, label, rows, width)
        if bias:
            biases = np.concatenate([self.checkpoint.array(name + ".bias") for name in names])
            y = self.graph.op("Add", y, self.graph.weight(label + ".bias", biases, self.precision.compute, [rows]))
        return y

    def _matmul(self, x, names, label, rows, width):
        # (out, in) as stored by PyTorch becomes (in, out): what MatMul takes without a Transpose.
        whole = [self.checkpoint.array(name + ".weight").reshape(-1, width) for name in names]
        stacked = np.concatenate(whole).T if len(whole) > 1 else whole[0].T
        del whole
        stored = FLOAT if self.precision.stored == "fp32" else HALF
        in_half = checked_half(stacked, label) if stored == HALF else stacked
        weight = self.graph.weight(label + ".weight", in_half, stored, [width, rows])
        if stored != self.precision.compute:
            weight = self.graph.cast(weight, self.precision.compute)
        return self.graph.op("MatMul", x, weight, name=label)

    def _int4(self, x, names, label, rows, width):
        packed, scales, zeros = [], [], []
        for name in names:
            for piece in self.checkpoint.row_pieces(name + ".weight"):
                for store, part in zip((packed, scales, zeros),
                                       quantise_int4(piece.reshape(len(piece), width), self.precision.block)):
                    store.append(part)
        blocks, half = packed[0].shape[1:]
        compute, graph = self.precision.compute, self.graph
        if compute == HALF:
            scales = [checked_half(s, label) for s in scales]
        weights = (
            graph.weight(label + ".int4", packed, TensorProto.UINT8, [rows, blocks, half]),
            graph.weight(label + ".scales", scales, compute, [rows, blocks]),
            graph.weight(label + ".zeros", zeros, TensorProto.UINT8, [rows, (blocks + 1) // 2]),
        )
        return graph.op("MatMulNBits", x, *weights, domain="com.microsoft", name=label, K=width, N=rows, bits=4,
                        block_size=self.precision.block, accuracy_level=4 if self.precision.int8_activations else 0)

    def table(self, name, ids):
        """Rows of an embedding table in float32; stored in float16 unless everything is float32."""
        shape = self.checkpoint.shape(name)
        stored = FLOAT if self.precision.stored == "fp32" else HALF
        pieces = (checked_half(p, name) if stored == HALF else p for p in self.checkpoint.row_pieces(name))
        rows = self.graph.op("Gather", self.graph.weight(name, pieces, stored, shape), ids, axis=0)
        return rows if stored == FLOAT else self.graph.cast(rows, FLOAT)


def checked_half(array, name):
    """float16 of `array`; refuses values that leave its range."""
    half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"{name} has weights beyond the range of float16 (up to {np.abs(array).max():.3g})")
    return half


def quantise_int4(weight, block):
    """Round-to-nearest with one scale and zero point per `block` inputs, packed as MatMulNBits reads it.

    weight: (out, in) float32. Gives packed (out, blocks, block/2) uint8 (first value in the low half),
    scales (out, blocks) float32 and zero points (out, ceil(blocks/2)) uint8.
    """
    rows, width = weight.shape
    blocks = -(-width // block)
    padded = np.zeros((rows, blocks * block), np.float32)
    padded[:, :width] = weight
    grouped = padded.reshape(rows, blocks, block)
    low, high = np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0)
    scales = np.maximum((high - low) / 15, 1e-8).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, 15).astype(np.uint8)
    values = np.clip(np.rint(grouped / scales[..., None]) + zeros[..., None], 0, 15).astype(np.uint8)
    packed = values[..., 0::2] | values[..., 1::2] << 4
    if blocks % 2:
        zeros = np.concatenate([zeros, np.zeros((rows, 1), np.uint8)], 1)
    return packed, scales, zeros[:, 0::2] | zeros[:, 1::2] << 4


def dequantise_int4(packed, scales, zeros, width):
    """What `quantise_int4` stands for, (out, width) float32; for checks."""
    rows, blocks, half = packed.shape
    values = np.empty((rows, blocks, half * 2), np.float32)
    values[..., 0::2], values[..., 1::2] = packed & 15, packed >> 4
    points = np.empty((rows, zeros.shape[1] * 2), np.float32)
    points[:, 0::2], points[:, 1::2] = zeros & 15, zeros >> 4
    return ((values - points[:, :blocks, None]) * scales[..., None]).reshape(rows, -1)[:, :width]
