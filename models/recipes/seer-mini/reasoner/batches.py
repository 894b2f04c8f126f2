"""Orders to tensors: prompt and trace as ids, MRoPE positions, and a loss weight per token."""
import copy
import re

import numpy as np
import torch

import host
import prompt
from model import IM_END, MERGE, PATCH

#: Loss weight by what a token says; the first pattern that covers it counts. Sides weigh most: a mask
#: of the wrong side harms.
WEIGHTS = (
    ("opening", r"(?<=<evidence>)\w+ of the [a-z ]+"),
    ("place", r"in views? [\d, ]+|between views \d and \d|below view \d|above view \d"),
    ("side", r"\b(left|right|both)\b"),
    ("answer", r"<answer>.*</answer>"),
)


#: Lengths are padded to a multiple of this, so that kernels are prepared for few shapes.
ROUND_TO = 16


class Encoder:
    """Encodes prompts, with BPE dropout on request so that mistyped words look familiar."""

    def __init__(self, tokenizer, dropout=0.08):
        self.plain = tokenizer
        self.noisy = copy.deepcopy(tokenizer)
        self.noisy.model.dropout = dropout

    def prompt(self, order, image_tokens, skills=None, noisy=False):
        """Ids of the prompt; `image_tokens` lists the tokens of each view, empty for text alone."""
        return (self.noisy if noisy else self.plain).encode(prompt.render(order, image_tokens, skills)).ids

    def answer(self, trace, weights):
        """Ids of the trace with its end token, and a loss weight for each."""
        encoded = self.plain.encode(trace)
        by_letter = np.full(len(trace), weights["rest"], np.float32)
        for name, pattern in reversed(WEIGHTS):
            for found in re.finditer(pattern, trace):
                by_letter[found.start():found.end()] = weights[name]
        return encoded.ids + [IM_END], [float(by_letter[a:b].max()) for a, b in encoded.offsets] + [1.0]


def collate(rows, grids):
    """Pads (prompt ids, answer ids, weights) rows to one batch.

    Returns ids, mask (B, T), positions (3, B, T), weights (B, T): the weight of predicting each token.
    """
    longest = -(-max(len(p) + len(a) for p, a, _ in rows) // ROUND_TO) * ROUND_TO
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, weights = torch.zeros_like(ids), torch.zeros(len(rows), longest)
    positions = torch.zeros(3, len(rows), longest, dtype=torch.long)
    for i, (asked, answered, weight) in enumerate(rows):
        end = len(asked) + len(answered)
        ids[i, :end] = torch.tensor(asked + answered)
        mask[i, :end] = 1
        weights[i, len(asked):end] = torch.tensor(weight)
        positions[:, i, :end] = torch.from_numpy(host.mrope(asked + answered, grids)[0])
    return ids, mask, positions, weights


def square_grids(size, count):
    return [(1, size // PATCH, size // PATCH)] * count


def tokens_per_image(size):
    return (size // PATCH // MERGE) ** 2
