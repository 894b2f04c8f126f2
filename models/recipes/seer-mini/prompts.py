"""Which prompts a training patch can be asked, and the mask each should give.

A prompt is usable on a patch when its structure was labelled in that data set, or when it cannot be there at all
(negative). Structures that may be present but were not contoured are never asked.
"""

import numpy as np
import torch

from concepts import ABSENT, STRUCTURES
from make_vocabulary import concepts
from sampling import KNOWN_FINDINGS

# Structures that cannot be inside the scans of a data set, by their body regions; the rest is left open.
NEGATIVE_REGIONS = {"brain": {"chest", "abdomen", "pelvis"}, "headneck": {"abdomen", "pelvis"},
                    "torso": {"head"}, "chest": {"head", "pelvis"}, "lesion": {"chest", "abdomen", "pelvis"}}
# Present in the scans although their regions say otherwise, or reaching into them.
NEVER_NEGATIVE = {"brain": {"spinal cord", "vertebrae", "oesophagus"},
                  "headneck": {"spinal cord", "vertebrae", "aorta", "oesophagus", "liver", "spleen", "stomach",
                               "left lung", "right lung", "both lungs"},
                  "torso": {"heart"}, "chest": set(), "lesion": {"spinal cord", "vertebrae", "oesophagus"}}
# Large structures, the first to be seen where they are not; one of them is always asked.
LARGE = {"brain", "both cerebral hemispheres", "both cerebral cortices", "cerebellum", "liver", "both hip bones",
         "both kidneys", "urinary bladder", "spleen", "both lungs", "ventricles"}
ANYWHERE = {"tumour", "haemorrhage", "lymph nodes", "shoulder"}


class PromptTable:
    """`positive[kind][name]` is a (256,) bool table over label values; `negative[kind]` lists names."""

    def __init__(self, brain_ids):
        compact = {int(v): i for i, v in enumerate(brain_ids)}
        self.positive, self.negative, self.needs = {}, {}, {}
        for kind in NEGATIVE_REGIONS:
            self.positive[kind], self.needs[kind] = {}, {}
            for concept in concepts():
                values = concept.sources.get(kind, ())
                if kind == "brain":
                    values = [compact[v] for v in values if v in compact]
                if len(values):
                    table = torch.zeros(256, dtype=torch.bool)
                    table[list(values)] = True
                    self.positive[kind][concept.name] = table
                    self.needs[kind][concept.name] = set(values)
            self.negative[kind] = self.negatives(kind)
        self.needs["lesion"]["brain"] = {3}  # with or without its lesions being known

    def negatives(self, kind):
        allowed, open_ = NEGATIVE_REGIONS[kind], NEVER_NEGATIVE[kind]
        names = [c.name for c in concepts() if set(c.body_regions) <= allowed]
        names += [name for name, _, regions in ABSENT if set(regions) <= allowed and name not in ANYWHERE]
        return [n for n in names if n not in open_ and n not in self.positive[kind]]

    def usable(self, patch):
        """Names whose labels are all there in this case."""
        if patch.kind == "brain":
            return list(self.positive["brain"])
        contoured = set(patch.contoured)
        if patch.kind in ("headneck", "chest", "lesion"):
            return [n for n, values in self.needs[patch.kind].items() if values <= contoured]
        return list(self.positive[patch.kind])

    def choose(self, patch, count, random):
        """(names, masks (N, Z, Y, X) bool): structures in the patch, and four that are not.

        What was inserted into a painted brain comes first; a brain without it is asked for one finding as well.
        """
        present = torch.bincount(patch.labels.flatten(), minlength=256) > 0
        usable = self.usable(patch)
        inside = [n for n in usable if (self.positive[patch.kind][n] & present).any()]
        outside = [n for n in usable if n not in inside] + self.negative[patch.kind]
        findings = list(patch.findings) if patch.findings else (
            random.sample(KNOWN_FINDINGS, 1) if patch.kind == "brain" and random.random() < 0.5 else [])
        names = random.sample(inside, min(len(inside), count - 4 - len(findings)))
        large = [n for n in self.negative[patch.kind] if n in LARGE]
        names += random.sample(large, 1) + random.sample(outside, min(len(outside), 3))
        tables = [self.positive[patch.kind].get(n) for n in names]
        empty = torch.zeros(patch.labels.shape, dtype=torch.bool)
        masks = [empty if t is None else t[patch.labels] for t in tables]
        return names + findings, torch.stack(masks + [patch.findings.get(n, empty) for n in findings])


def auxiliary_classes(kind, brain_ids):
    """(table (256,) label value -> class, number of classes): every label, both sides apart, for the dense loss."""
    merged = {136: 4, 137: 5, 163: 43, 164: 44, 25: 2, 57: 41, 5: 4, 44: 43, 72: 14, 30: 2, 62: 41}
    table = torch.zeros(256, dtype=torch.long)
    if kind == "brain":
        values = [merged.get(int(v), int(v)) if v < 500 else 500 for v in brain_ids]
        order = sorted(set(values))
        table[:len(values)] = torch.tensor([order.index(v) for v in values])
        return table, len(order)
    if kind == "torso":
        labels = [0, *range(1, 9), 9, 10, 14, *range(18, 23), *range(25, 34), 52, *range(63, 69), *range(75, 90), 98,
                  110, 117]
        merged = {11: 10, **{i: 98 for i in range(98, 104)}, **{i: 110 for i in range(110, 116)}}
        for value in range(256):
            value_ = merged.get(value, value)
            table[value] = labels.index(value_) if value_ in labels else 0
        return table, len(labels)
    count = {"headneck": 8, "chest": 5, "lesion": 4}[kind]
    table[:count] = torch.arange(count)
    return table, count
