"""Exports PyTorch modules by tracing, at a small example's size, and stores the weights as asked."""
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from onnx_writer import EMBED_MAX, checked_half

OPSET = 18


def trace(module, example, path, inputs, outputs, free, precision, shapes, kept, external=False):
    """Exports one graph. `free` names the axes that the example's size must not fix; `shapes` then gives
    the ports their true shapes; the ports in `kept` stay float32 in float16 graphs."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        raw = Path(folder) / "graph.onnx"
        torch.onnx.export(module.eval(), example, str(raw), input_names=inputs, output_names=outputs,
                          dynamic_axes=free, opset_version=OPSET, dynamo=False)
        model = onnx.load(raw)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    if precision == "fp16":
        model = to_half(model, kept)
    elif precision == "fp16-stored":
        store_as_half(model)
    model.producer_name, model.producer_version = "SEER exporters", ""
    save(model, path, external)


def to_half(model, kept):
    """float16 arithmetic; the ports in `kept` stay float32, features pass as float16."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            checked_half(numpy_helper.to_array(tensor), tensor.name)
    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=kept, disable_shape_infer=True))
    converted.topological_sort()
    return converted.model


def store_as_half(model, smallest=256):
    """Keeps float32 arithmetic; stores every larger weight as float16 behind a Cast."""
    graph, casts = model.graph, []
    inner = names_in_subgraphs(graph)
    for tensor in list(graph.initializer):
        # ONNX Runtime 1.32 fails to fuse a Cast whose result is read inside the branch of an If.
        if tensor.name in inner or tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < smallest:
            continue
        half = numpy_helper.from_array(checked_half(numpy_helper.to_array(tensor), tensor.name), tensor.name + "_half")
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def names_in_subgraphs(graph):
    """Inputs of nodes inside branches and loops."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return {name for sub in inner for node in sub.node for name in node.input} | set().union(*map(names_in_subgraphs, inner))


def save(model, path, external):
    """One file, or weights beside it when they are many or when asked."""
    path, data = Path(path), Path(str(path) + ".data")
    data.unlink(missing_ok=True)
    if external or model.ByteSize() > EMBED_MAX:
        onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=1024)
        onnx.checker.check_model(str(path))
    else:
        onnx.checker.check_model(model)
        onnx.save(model, path)
