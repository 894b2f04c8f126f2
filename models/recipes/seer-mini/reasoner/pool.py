"""Reads rendered pools and turns a scan into facts, images and dense labels."""
import numpy as np
import torch

from sources import SINGLE
from traces import CONCEPTS, FINDINGS, NAMES, REGION_NAMES, Facts

#: Scans that are drawn more or less often than they stand in the pool, by kind.
SHARES = {"brain": 0.34, "brain-ct": 0.06, "brain-real": 0.15, "headneck": 0.14, "torso": 0.14, "trunk": 0.07, "chest": 0.08,
          "abdomen-mr": 0.025, "limb": 0.035}
#: Concepts taken to be in every chest scan, though only lungs are labelled there.
IN_EVERY_CHEST = ("spinal cord", "oesophagus", "aorta", "vertebrae", "heart")
#: Taken to be in every trunk scan; the rest of its region is unsure.
IN_EVERY_TRUNK = ("liver", "spleen", "stomach", "aorta", "vertebrae", "spinal cord")
#: Present from this share of its height on; sure to be absent below the second; unsure in between.
PRESENT, GONE = 0.3, 0.02
MODALITY_NAMES = ["CT", "MR"]


def widened(table, value):
    """`table` with as many columns as there are single concepts now."""
    missing = max(0, len(SINGLE) - table.shape[-1])
    filled = np.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, missing)], constant_values=value)
    return filled[..., :len(SINGLE)]


class Pool:
    """Scans of one or more pool files."""

    def __init__(self, *paths):
        files = [np.load(p) for p in paths]
        join = lambda key: np.concatenate([f[key] for f in files])
        self.views = join("views")
        # Concepts that joined the vocabulary after a pool was rendered have no label in it.
        self.seen, self.centre, self.share = (widened(join(k), v) for k, v in (("seen", False), ("centre", np.nan), ("share", np.nan)))
        self.dense = widened(np.unpackbits(join("dense"), axis=-1).astype(bool), False)
        self.names, self.regions, self.modalities = join("names"), join("regions"), join("modalities")
        self.kinds = np.array([n.split("/")[0] for n in self.names])
        self.region = np.array([REGION_NAMES.index(r) for r in self.regions])
        self.modality = np.array([MODALITY_NAMES.index(m) for m in self.modalities])
        self.of_kind = {k: np.flatnonzero(self.kinds == k) for k in SHARES}
        self.of_kind = {k: v for k, v in self.of_kind.items() if len(v)}
        self._facts = {}

    def __len__(self):
        return len(self.views)

    def draw(self, random, count):
        """Indices of `count` scans, kinds by their shares."""
        kinds = list(self.of_kind)
        share = np.array([SHARES[k] for k in kinds])
        chosen = random.choice(len(kinds), count, p=share / share.sum())
        return np.array([random.choice(self.of_kind[kinds[k]]) for k in chosen])

    def labelled(self, i):
        """Single concepts whose labels this scan has, as a mask, for the dense loss."""
        return LABELLED[self.kinds[i]]

    def facts(self, i):
        if i not in self._facts:
            self._facts[i] = self._read_facts(i)
        return self._facts[i]

    def _read_facts(self, i):
        kind, modality = self.kinds[i], str(self.modalities[i])
        facts = Facts(modality, str(self.regions[i]), {}, kind in ("brain", "torso"))
        allowed = lambda name: modality in CONCEPTS[name].modalities and set(CONCEPTS[name].body_regions) & set(facts.parts)
        where, unsure = {}, set()
        for j, name in enumerate(SINGLE):
            if not allowed(name):
                continue
            if name in FINDINGS:  # whether there is one is the backbone's to say
                where[name] = ([], 0.0)
            elif kind == "brain-real":
                where[name] = ([2, 3], 2.5)
            elif kind == "trunk" and (name in IN_EVERY_TRUNK or "kidney" in name and "contrast-ge" in self.names[i]):
                where[name] = ([2, 3], 2.5)
            elif kind == "chest" and (name in IN_EVERY_CHEST or "lung" in name):
                where[name] = (list(np.flatnonzero(self.seen[i, :, j]) + 1) or [1, 2, 3, 4], 2.5)
            elif self.share[i, j] >= PRESENT:
                where[name] = (list(np.flatnonzero(self.seen[i, :, j]) + 1), float(self.centre[i, j]))
            elif self.share[i, j] > GONE or kind not in ("brain", "torso") or np.isnan(self.centre[i, j]) and name not in FULLY_LABELLED[kind]:
                unsure.add(name)
        for name, concept in CONCEPTS.items():
            if concept.laterality != "both" or not allowed(name):
                continue
            left, right = concept.parts
            if left in where and right in where:
                views = sorted(set(where[left][0]) | set(where[right][0]))
                where[name] = (views, (where[left][1] + where[right][1]) / 2)
            elif {left, right} & (set(where) | unsure):
                unsure.add(name)
        facts.where, facts.unsure = where, frozenset(unsure)
        return facts

    def places_known(self, i):
        """Whether the views listed in the facts are measured."""
        return self.kinds[i] in ("brain", "brain-ct", "headneck", "torso")


def _labelled_by(data_set):
    return np.array([data_set in CONCEPTS[n].sources for n in SINGLE])


#: The lungs alone are labelled in the rendered chests.
CHEST_LABELS = np.array(["lung" in n for n in SINGLE])
LABELLED = {"brain": _labelled_by("brain"), "brain-ct": _labelled_by("brain"), "headneck": _labelled_by("headneck"),
            "torso": _labelled_by("torso"), "chest": CHEST_LABELS, "brain-real": np.zeros(len(SINGLE), bool),
            "trunk": np.zeros(len(SINGLE), bool), "abdomen-mr": np.zeros(len(SINGLE), bool), "limb": np.zeros(len(SINGLE), bool)}
FULLY_LABELLED = {"brain": [n for n in SINGLE if "brain" in CONCEPTS[n].sources],
                  "torso": [n for n in SINGLE if "torso" in CONCEPTS[n].sources]}


def images(pool, index, random=None):
    """(n * 4, 128, 128) float 0..1 of the scans; with `random`, gently varied."""
    x = pool.views[index].astype(np.float32) / 255
    if random is None:
        return x.reshape(-1, *x.shape[2:])
    n = len(index)
    x = x ** random.uniform(0.8, 1.25, (n, 1, 1, 1)).astype(np.float32)
    x = x * random.uniform(0.85, 1.1, (n, 1, 1, 1)).astype(np.float32)
    x += random.standard_normal(x.shape, np.float32) * random.uniform(0, 0.04, (n, 1, 1, 1)).astype(np.float32)
    for k in range(n):
        x[k] = np.roll(x[k], random.integers(-4, 5, 2), (1, 2))
    return np.clip(x, 0, 1).reshape(-1, *x.shape[2:])


class Heads(torch.nn.Module):
    """Auxiliary readings of the vision tower, for training alone: structures per token, region and modality per scan."""

    def __init__(self, hidden):
        super().__init__()
        self.structures = torch.nn.Linear(hidden, len(SINGLE))
        self.region = torch.nn.Linear(hidden, len(REGION_NAMES))
        self.modality = torch.nn.Linear(hidden, len(MODALITY_NAMES))
        self.each = torch.nn.Linear(hidden, len(MODALITY_NAMES))

    def load_wider(self, state):
        """Loads heads of a smaller vocabulary; the concepts that joined since start from nothing."""
        for key in ("structures.weight", "structures.bias"):
            own = self.state_dict()[key] * 0
            own[:len(state[key])] = state[key]
            state = state | {key: own}
        self.load_state_dict(state)

    def losses(self, embeds, pool, index):
        """embeds (n * 4, 16, H). Returns dense, region and modality losses and the region logits."""
        embeds = embeds.float()
        n = len(index)
        wanted = torch.from_numpy(pool.dense[index].reshape(n * 4, 16, -1).astype(np.float32))
        known = torch.from_numpy(np.stack([pool.labelled(i) for i in index]).repeat(4, 0)[:, None].astype(np.float32))
        dense = torch.nn.functional.binary_cross_entropy_with_logits(self.structures(embeds), wanted, reduction="none")
        dense = (dense * known).sum() / (known.sum() * 16).clamp(min=1)
        scan = embeds.reshape(n, -1, embeds.shape[-1]).mean(1)
        region_logits, modality_logits = self.region(scan), self.modality(scan)
        cross = torch.nn.functional.cross_entropy
        region = cross(region_logits, torch.from_numpy(pool.region[index]))
        modality = cross(modality_logits, torch.from_numpy(pool.modality[index]))
        return dense, region, modality, region_logits, modality_logits
