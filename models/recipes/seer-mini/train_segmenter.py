"""Trains the segmenter on brain MR (synthesised), head-and-neck CT, torso CT and chest CT together.

usage: python train_segmenter.py --cache CACHE --text DIR --out DIR --stage coarse --minutes 36
       python train_segmenter.py --cache CACHE --text DIR --out DIR --stage fine --minutes 35

`coarse` is 4 mm, `fine` is 3 mm and starts from the coarse checkpoint. A run that was cut off goes on from its last
checkpoint. Loss: soft Dice + cross-entropy of the prompted masks at full and half resolution, and a dense
cross-entropy over all labels of the data set at half resolution (auxiliary, not shipped).
"""

import argparse
import copy
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from concepts import ABSENT
from make_vocabulary import concepts
from network import CHANNELS, MaskDecoder, Segmenter
from precision import autocast
from prompts import PromptTable, auxiliary_classes
from sampling import Sampler
from text_encoder import EMBEDDING_SIZE, TextEncoder, embed

RECALL, EMPTY, EMPTY_VOXELS = 0.03, 0.6, 60.0
KINDS = ("brain", "headneck", "torso", "chest", "lesion")
MIX, TRUNK_MIX = (0.46, 0.15, 0.25, 0.09, 0.05), (0.25, 0.12, 0.38, 0.13, 0.12)
WIDE_MIX, WIDER_MIX = (0.27, 0.30, 0.27, 0.13, 0.03), (0.25, 0.28, 0.32, 0.13, 0.02)
PROMPTS, SEED, WEIGHT_DECAY, AVERAGE = 16, 0, 1e-4, 0.997


@dataclass
class Stage:
    size: tuple
    spacing_mm: float
    learning_rate: float
    last_rate: float
    start: str = None
    mix: tuple = MIX  # shares of KINDS


STAGES = {"coarse": Stage((48, 64, 48), 4.0, 1.5e-3, 2e-4), "fine": Stage((48, 64, 48), 3.0, 1.1e-3, 1e-5, "coarse"),
          "last": Stage((48, 64, 48), 3.0, 9e-4, 1e-5, "fine"),
          "trunk": Stage((48, 64, 48), 3.0, 9e-4, 1e-5, "last", TRUNK_MIX),
          "wide": Stage((48, 64, 48), 3.0, 1e-3, 1e-5, "trunk", WIDE_MIX),
          "long": Stage((48, 64, 48), 3.0, 1e-3, 1e-5, "wide", WIDE_MIX),
          "longer": Stage((48, 64, 48), 3.0, 8e-4, 1e-5, "long", WIDER_MIX)}


class Auxiliary(nn.Module):
    """Dense class scores at half resolution from features_2 and features_4."""

    def __init__(self, classes):
        super().__init__()
        self.fine, self.coarse = nn.Conv3d(CHANNELS[1], classes, 1), nn.Conv3d(CHANNELS[2], classes, 1)

    def forward(self, features_2, features_4):
        return self.fine(features_2) + F.interpolate(self.coarse(features_4), scale_factor=2.0, mode="trilinear")


def masks_at_two_scales(features, embeddings):
    """Logits at half and full resolution, both from MaskDecoder's sum."""
    project, up = MaskDecoder.project, lambda x: F.interpolate(x, scale_factor=2.0, mode="trilinear")
    quarter = project(features[2], embeddings[2])
    half = project(features[1], embeddings[1]) + up(quarter)
    return half, project(features[0], embeddings[0]) + up(half)


def mask_loss(logits, masks):
    """Dice over non-empty masks + binary cross-entropy over all; (1, N, Z, Y, X).

    `recall`, the cross-entropy over a mask's own voxels, keeps small structures from being left out for good:
    where nothing is found, the other two hardly pull. A mask that should be empty costs by the share
    v / (v + EMPTY_VOXELS) of its soft volume v, so that a small false spot costs nearly as much as a large one.
    """
    logits, dims = logits.float(), (2, 3, 4)
    shares, volumes = logits.sigmoid(), masks.sum(dims)
    dice = 1 - (2 * (shares * masks).sum(dims) + 1) / (shares.sum(dims) + volumes + 1)
    recall = (F.softplus(-logits) * masks).sum(dims) / volumes.clamp(min=1)
    filled = (volumes > 0).float()
    found = shares.sum(dims)
    spurious = (found / (found + EMPTY_VOXELS) * (1 - filled)).sum() / (1 - filled).sum().clamp(min=1)
    return EMPTY * spurious + ((dice + RECALL * recall) * filled).sum() / filled.sum().clamp(min=1) + (
        2 * F.binary_cross_entropy_with_logits(logits, masks))


class Trainer:
    def __init__(self, args, stage):
        self.args, self.stage = args, stage
        self.sampler = Sampler(args.cache, stage.size, stage.spacing_mm, SEED + 1)
        self.table = PromptTable(self.sampler.brain_ids)
        self.bank = self.embedding_bank(args.text)
        self.segmenter = Segmenter(EMBEDDING_SIZE)
        self.classes, counts = {}, {}
        for kind in KINDS:
            self.classes[kind], counts[kind] = auxiliary_classes(kind, self.sampler.brain_ids)
        self.auxiliary = nn.ModuleDict({k: Auxiliary(n) for k, n in counts.items()})
        self.weights = {k: self.class_weights(k, n) for k, n in counts.items()}
        self.parameters = [*self.segmenter.parameters(), *self.auxiliary.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, stage.learning_rate, weight_decay=WEIGHT_DECAY)
        self.averaged = copy.deepcopy(self.segmenter).eval()
        self.random, self.step, self.minutes, self.cpu_seconds = random.Random(SEED), 0, 0.0, 0.0
        self.resume()

    def embedding_bank(self, folder):
        bank = folder / "bank.pt"  # fixed vectors, where an encoder has been taught to keep to them
        if bank.exists():
            return torch.load(bank)
        encoder = TextEncoder().eval()
        encoder.load_state_dict(torch.load(folder / "text_encoder.pt"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = [c.name for c in concepts()] + [name for name, _, _ in ABSENT]
        return dict(zip(names, embed(encoder, tokenizer, names)))

    def class_weights(self, kind, count):
        """Rare labels weigh more: (share of voxels)^-0.4, mean 1."""
        shares = torch.zeros(count)
        for volume in self.sampler.volumes[kind][:6]:
            voxels = self.classes[kind][volume.labels.reshape(-1)[::37].long()]
            shares += torch.bincount(voxels, minlength=count).float()
        weights = (shares / shares.sum() + 1e-4) ** -0.4
        return weights / weights.mean()

    def path(self, name):
        return self.args.out / f"{name}.pt"

    def resume(self):
        own, start = self.path(self.args.stage), self.stage.start and self.path(self.stage.start)
        if own.exists():
            state = torch.load(own)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.minutes, self.cpu_seconds = state["step"], state["minutes"], state["cpu_seconds"]
            self.sampler.random.manual_seed(SEED + 1 + self.step)
            self.random.seed(SEED + self.step)
        elif start:
            state = torch.load(start)
        else:
            return
        self.segmenter.load_state_dict(state["segmenter"])
        self.averaged.load_state_dict(state["averaged"])
        shapes = self.auxiliary.state_dict()
        self.auxiliary.load_state_dict({k: v for k, v in state["auxiliary"].items() if shapes[k].shape == v.shape}, strict=False)

    def save(self):
        state = {"segmenter": self.segmenter.state_dict(), "averaged": self.averaged.state_dict(),
                 "auxiliary": self.auxiliary.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
                 "minutes": self.minutes, "cpu_seconds": self.cpu_seconds}
        temporary = self.path(self.args.stage + "_partial")
        torch.save(state, temporary)
        temporary.rename(self.path(self.args.stage))

    def loss(self, patch):
        names, masks = self.table.choose(patch, PROMPTS, self.random)
        masks, text = masks[None].float(), torch.stack([self.bank[n] for n in names])[None]
        with autocast():
            features = self.segmenter.image_encoder(patch.image[None, None])
            half, full = masks_at_two_scales(features, self.segmenter.prompt_decoder(features[3], text))
            scores = self.auxiliary[patch.kind](features[1], features[2])
        prompted = mask_loss(full, masks) + 0.5 * mask_loss(half, F.avg_pool3d(masks, 2))
        return prompted, self.dense_loss(scores.float(), patch)

    def dense_loss(self, scores, patch):
        """Cross-entropy over the labels that were looked for; others take no part."""
        if patch.kind == "lesion":  # no image of these has all its labels
            return scores.sum() * 0.0
        z, y, x = (self.random.randrange(2) for _ in range(3))
        target = self.classes[patch.kind][patch.labels][None, z::2, y::2, x::2]
        if patch.kind in ("headneck", "chest"):
            missing = [c for c in range(1, scores.shape[1]) if c not in patch.contoured]
            scores[:, missing] = -1e4
        return F.cross_entropy(scores, target, weight=self.weights[patch.kind])

    def train_step(self):
        done = self.minutes / self.args.minutes
        rate = self.stage.last_rate + (self.stage.learning_rate - self.stage.last_rate) * 0.5 * (
            1 + math.cos(math.pi * min(1, done)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1, (self.step + 1) / 40)
        kind = self.random.choices(KINDS, self.stage.mix)[0]
        prompted, dense = self.loss(self.sampler.draw(kind))
        self.optimizer.zero_grad()
        (prompted + dense).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 20)) if not self.stage.start else AVERAGE
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.segmenter.parameters()), 1 - keep)
        return kind, prompted.item(), dense.item()

    def run(self, report):
        recent, next_report, next_save = {k: [] for k in KINDS}, self.minutes, self.minutes + 3
        while self.minutes < self.args.minutes:
            wall, cpu = time.time(), time.process_time()
            kind, prompted, dense = self.train_step()
            recent[kind] = [*recent[kind][-99:], (prompted, dense)]
            self.minutes += (time.time() - wall) / 60
            self.cpu_seconds += time.process_time() - cpu
            if self.minutes >= next_report:
                next_report += 4
                means = " ".join(f"{k} {sum(p for p, _ in v) / len(v):.3f}/{sum(d for _, d in v) / len(v):.3f}"
                                 for k, v in recent.items() if v)
                print(f"{self.args.stage} step {self.step} min {self.minutes:.1f} cpu {self.cpu_seconds:.0f} s | "
                      f"prompted/dense {means} | {report(self)}", flush=True)
            if self.minutes >= next_save:
                next_save += 3
                self.save()
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="wall clock, over all runs of the stage")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    trainer = Trainer(args, STAGES[args.stage])
    from monitor import Monitor
    trainer.run(Monitor(trainer))


if __name__ == "__main__":
    main()
