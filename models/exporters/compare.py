"""Compares what a graph gives with what PyTorch gives, and runs graphs the frugal way."""
from dataclasses import dataclass

import numpy as np
import onnxruntime


@dataclass
class Comparison:
    what: str
    largest: float
    scale: float
    relative: float
    limit: float

    @property
    def ok(self):
        return self.relative <= self.limit


def compare(what, found, expected, limit):
    """Relative is the Euclidean norm of the difference over that of `expected`."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise SystemExit(f"{what}: the graph gives {found.shape}, PyTorch {expected.shape}")
    apart = found - expected
    norm = np.linalg.norm(expected)
    if not np.isfinite(apart).all() or norm == 0 or expected.std() == 0:
        raise SystemExit(f"{what}: nothing to compare, the values are constant or not finite")
    return Comparison(what, float(np.abs(apart).max()), float(expected.std()), float(np.linalg.norm(apart) / norm), limit)


def report(checks):
    """Prints every comparison and stops when one is beyond its limit."""
    for c in checks:
        print(f"  {c.what}: largest difference {c.largest:.2e} at a standard deviation of {c.scale:.3g}, "
              f"relative {c.relative:.1e} (limit {c.limit:.0e}){'' if c.ok else '  TOO FAR'}", flush=True)
    far = [c.what for c in checks if not c.ok]
    if far:
        raise SystemExit(f"the export differs from the original: {', '.join(far)}")


def session(path, threads=0, frugal=False):
    """`frugal` keeps one copy of the weights: nothing folded, nothing packed again."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if frugal:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.enable_cpu_mem_arena = False
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"],
                                            disabled_optimizers=["ConstantFolding"])
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
