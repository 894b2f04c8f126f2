"""A transposed convolution and the convolution after it, as one convolution of the coarse voxels.

A decoder stage makes its voxels `stride` times finer along each axis and convolves them. Both steps are linear, so
each of the fine voxels that share a coarse one, a phase, is a convolution of the coarse voxels with weights of its
own (polyphase decomposition): for a stride of 2 and a kernel of 3, 8 phases of 2 x 2 x 2 taps. That takes half of
the multiplications or less, and no tensor of fine voxels with the coarse channels is ever made.

Fine voxels lie here either as they lie in space, (1, C, Z, Y, X), or by phases, (1, C, P * z, y, x): P coarse volumes
stacked along Z, the phase of the last axis changing fastest. Norms and activations see no difference.
"""
import itertools

import torch
from torch.nn import functional as F

END = torch.iinfo(torch.int64).max


class Axis:
    """How the fine voxels of one axis read the coarse ones.

    `uses` (phase, tap, place in the kernel, place in the stride) is 1 where a phase's tap meets both weights.
    """

    def __init__(self, stride, kernel):
        half = kernel // 2
        first = [(phase - half) // stride for phase in range(stride)]
        last = [(phase + half) // stride for phase in range(stride)]
        self.stride, self.taps = stride, max(b - a for a, b in zip(first, last)) + 1
        self.padding = max(-first[0], max(first) + self.taps - 1)
        self.starts = [a + self.padding for a in first]
        self.spare = 2 * self.padding + 1 - self.taps
        self.uses = torch.zeros(stride, self.taps, kernel, stride)
        for phase, place in itertools.product(range(stride), range(kernel)):
            coarse, within = divmod(phase + place - half, stride)
            self.uses[phase, coarse - first[phase], place, within] = 1


class Cut(torch.autograd.Function):
    """Slices the last four axes in one operator; the tracer writes one for each axis."""

    @staticmethod
    def forward(ctx, y, starts, ends):
        return y[(..., *map(slice, starts, ends))].clone()

    @staticmethod
    def symbolic(graph, y, starts, ends):
        whole = [torch.tensor(numbers, dtype=torch.int64) for numbers in (starts, ends, [2, 3, 4, 5])]
        return graph.op("Slice", y, *(graph.op("Constant", value_t=numbers) for numbers in whole))


class Grow:
    """The two steps of one stage. Both must be plain: kernel as stride, then an odd kernel that keeps the size."""

    def __init__(self, transposed, convolution):
        steps, kernel = transposed.stride, convolution.kernel_size
        plain = (tuple(transposed.kernel_size) == tuple(steps) and set(transposed.padding) == set(transposed.output_padding) == {0}
                 and all(n % 2 for n in kernel) and tuple(convolution.padding) == tuple(n // 2 for n in kernel)
                 and set(convolution.stride) == set(convolution.dilation) == set(transposed.dilation) == {1}
                 and convolution.groups == transposed.groups == 1)
        if not plain:
            raise SystemExit(f"a decoder stage of {transposed} and {convolution} can not be made one convolution")
        self.transposed, self.convolution = transposed, convolution
        self.axes = [Axis(stride, n) for stride, n in zip(steps, kernel)]
        self.phases = list(itertools.product(*(range(n) for n in steps)))
        self.width, self.padding = convolution.out_channels, convolution.padding

    def weights(self):
        """(width * phases, coarse channels, taps z, y, x)."""
        z, y, x = (axis.uses for axis in self.axes)
        given = self.transposed.weight.shape[1]
        # o width, m middle, i coarse; capitals count a stage's kernel, u v w the stride; p q r phases; a b c taps.
        found = torch.einsum("omZYX,paZu,qbYv,rcXw,imuvw->opqriabc", self.convolution.weight[:, :given], z, y, x,
                             self.transposed.weight)
        return found.flatten(0, 3)

    def bias_weights(self):
        """(width, 1, kernel): convolved with ones of the fine size they give what the transposed convolution's bias adds,
        which is less near the faces."""
        given = self.transposed.weight.shape[1]
        bias = torch.zeros(given) if self.transposed.bias is None else self.transposed.bias
        return torch.einsum("omzyx,m->ozyx", self.convolution.weight[:, :given], bias)[:, None]

    def __call__(self, x, weights):
        """Coarse (1, C, z, y, x) to fine by phases, without any bias."""
        y = F.conv3d(x, weights, padding=[axis.padding for axis in self.axes])
        y = y.reshape(1, self.width, len(self.phases), *y.shape[2:])
        # A phase begins at its own first coarse voxel.
        parts = []
        for number, phase in enumerate(self.phases):
            starts = [axis.starts[step] for axis, step in zip(self.axes, phase)]
            ends = [start - axis.spare or END for axis, start in zip(self.axes, starts)]
            parts.append(Cut.apply(y, [number, *starts], [number + 1, *ends]))
        return torch.cat(parts, 2).flatten(2, 3)

    def in_space(self, y):
        """By phases to as they lie in space. In two turns, which copy faster than one does."""
        (a, b, c), (n, z, h, w) = (axis.stride for axis in self.axes), y.shape[1:]
        z = z // (a * b * c)
        y = y.reshape(n * a * b, c, z * h * w).transpose(1, 2).reshape(n, a, b, z, h, c * w)
        return y.permute(0, 3, 1, 4, 2, 5).reshape(1, n, a * z, b * h, c * w)

    def by_phases(self, y):
        """The way back."""
        (a, b, c), (n, z, h, w) = (axis.stride for axis in self.axes), y.shape[1:]
        z, h, w = z // a, h // b, w // c
        y = y.reshape(n, z, a, h, b, c * w).permute(0, 2, 4, 1, 3, 5)
        return y.reshape(n * a * b, z * h * w, c).transpose(1, 2).reshape(1, n, a * b * c * z, h, w)

    def shape_by_phases(self, shape):
        """z, y, x of a tensor that has `shape` in space."""
        (a, b, c), (z, h, w) = (axis.stride for axis in self.axes), shape
        return [z * b * c, h // b, w // c]
