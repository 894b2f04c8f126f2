"""Convolutions of 3 x 3 x 3 with half of the multiplications, in plain ONNX operators.

Winograd's F(4, 3) along Z: four slices of output come of six products, each a convolution within slices of a sum of six
slices of input, where the definition takes twelve. `INPUT`, `WEIGHT` and `OUTPUT` are the matrices of Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks" (2015), section 4.1. In float32 a convolution's rounding grows from
about 1e-6 to 1e-5 of its values; float16 does not bear it. The weights lie in the file as they are; ONNX Runtime
transforms them when it loads the graph.

On two cores (AVX2): 32 channels of 64³ 173 to 138 ms, 64 of 32³ 72 to 44 ms, 128 of 16³ 32 to 18 ms, and from 256
channels on no gain. The sums hold one and a half times their input, as do the products: where tensors are largest,
that is more memory than the gain is worth.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

INPUT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                  [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
WEIGHT = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
PRODUCTS, TILE = 6, 4
#: Slices that one matrix transforms at once.
BLOCKS = (16, 8)
#: Where it pays: fewest and most channels.
CHANNELS = (64, 128)


class Winograd(nn.Module):
    """A convolution over x (1, C, Z, Y, X); Z is a multiple of `block`."""

    def __init__(self, weight, bias, block):
        super().__init__()
        tiles = block // TILE
        gather, spread = np.zeros((PRODUCTS, tiles, block + 2)), np.zeros((tiles, TILE, PRODUCTS, tiles))
        for tile in range(tiles):
            gather[:, tile, TILE * tile:TILE * tile + PRODUCTS] = INPUT
            spread[tile, :, :, tile] = OUTPUT
        self.block, self.tiles, self.weight, self.bias = block, tiles, weight, bias
        for name, matrix in (("gather", gather.reshape(-1, block + 2)), ("spread", spread.reshape(block, -1)), ("transform", WEIGHT)):
            self.register_buffer(name, torch.tensor(matrix, dtype=torch.float32))

    def forward(self, x):
        channels, (z, h, w) = x.shape[1], x.shape[2:]
        blocks = x.reshape(channels, z // self.block, self.block, h * w)
        none = torch.zeros_like(blocks[:, :1, :1])
        before, after = torch.cat((none, blocks[:, :-1, -1:]), 1), torch.cat((blocks[:, 1:, :1], none), 1)
        sums = torch.matmul(self.gather, torch.cat((before, blocks, after), 2))
        weights = torch.matmul(self.transform, self.weight.flatten(3).flatten(0, 1)).reshape(*self.weight.shape[:2], PRODUCTS, 3, 3)
        products = []
        for index in range(PRODUCTS):
            part = sums[:, :, index * self.tiles:(index + 1) * self.tiles].reshape(1, channels, z // TILE, h, w)
            found = F.conv3d(part, weights[:, :, index:index + 1], padding=(0, 1, 1))
            products.append(found.reshape(-1, z // self.block, self.tiles, h * w))
        found = torch.matmul(self.spread, torch.cat(products, 2)).reshape(1, -1, z, h, w)
        return found if self.bias is None else found + self.bias.reshape(1, -1, 1, 1, 1)


def takes(conv, channels):
    """Whether a convolution is of the kind, with channels in and out between the two numbers."""
    return (isinstance(conv, nn.Conv3d) and set(conv.kernel_size) == {3} and set(conv.stride) == set(conv.dilation) == {1}
            and set(conv.padding) == {1} and conv.padding_mode == "zeros" and conv.groups == 1
            and all(channels[0] <= n <= channels[1] for n in (conv.in_channels, conv.out_channels)))


def block_of(*sizes):
    """The largest block that divides all sizes, or None."""
    return next((block for block in BLOCKS if all(size % block == 0 for size in sizes)), None)


def replace(module, example, growth, channels=CHANNELS):
    """Replaces convolutions inside `module`, whose inputs are `growth` times as long as with `example`."""
    depths = {}

    def note(conv, given):
        depths[conv] = given[0].shape[2]
    hooks = [conv.register_forward_pre_hook(note) for conv in module.modules() if takes(conv, channels)]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    for parent in list(module.modules()):
        for name, conv in list(parent.named_children()):
            block = block_of(depths[conv], round(depths[conv] * growth)) if conv in depths else None
            if block:
                setattr(parent, name, Winograd(conv.weight, conv.bias, block))
