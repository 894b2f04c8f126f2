"""Finds the weights of a module in the ONNX graphs that were exported from it.

Exporters rename tensors, and write the weight of a linear layer transposed. A module with drawn weights is exported
the same way; where its values went says which tensor of the graphs belongs to which parameter.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

TOLERANCE = 2e-3  # of drawn weights stored as float16


def tensors(folder, graphs):
    """{(graph, name): array} of the weights in `graphs`, under the names they have before float16 storage."""
    found = {}
    for graph in graphs:
        for tensor in onnx.load(Path(folder) / f"{graph}.onnx").graph.initializer:
            name = tensor.name.removesuffix("_fp16").removesuffix("_f16")
            found[graph, name] = numpy_helper.to_array(tensor).astype(np.float32)
    return found


def transposed(parameter, value):
    """Whether `value` holds the parameter transposed; None when it does not hold it."""
    if parameter.size != value.size:
        return None
    if np.allclose(parameter.ravel(), value.ravel(), atol=TOLERANCE):
        return False
    turned = parameter.ndim == 2 and parameter.T.shape == value.shape
    return True if turned and np.allclose(parameter.T, value, atol=TOLERANCE) else None


def recover(module, export, folder, graphs):
    """Gives `module` the weights of `folder`'s `graphs`; `export(module, folder)` writes graphs like these.

    Raises ValueError with the parameter's name when the graphs do not hold it.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    with tempfile.TemporaryDirectory() as drawn_folder:
        export(module, Path(drawn_folder))
        drawn = tensors(drawn_folder, graphs)
    shipped = tensors(folder, graphs)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = parameter.numpy()
            places = ((key, transposed(values, value)) for key, value in drawn.items())
            key, turned = next(((key, turned) for key, turned in places if turned is not None), (None, None))
            if key not in shipped or shipped[key].size != values.size:
                raise ValueError(f"{name}: not in the graphs of {folder} (looked for {key})")
            found = shipped[key].T if turned else shipped[key]
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(found)).reshape(parameter.shape))
    return module
