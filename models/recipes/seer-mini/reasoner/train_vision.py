"""Second phase: the vision tower alone, on dense labels, region and modality.

    python train_vision.py --pool POOL... --test POOL --out CHECKPOINT --cpu-seconds 600
"""
import argparse

import numpy as np
import torch

import loop
import model as tiny
import pool as pools
from precision import autocast

SCANS = 8


@torch.no_grad()
def check(tower, heads, test, count=160):
    index = np.linspace(0, len(test) - 1, min(count, len(test))).astype(int)
    hits = {"region": [], "modality": []}
    both = wanted = guessed = 0
    for start in range(0, len(index), SCANS):
        part = index[start:start + SCANS]
        embeds, _ = tiny.see(tower, tiny.patches(pools.images(test, part)))
        *_, region, modality = heads.losses(embeds, test, part)
        hits["region"] += (region.argmax(1).numpy() == test.region[part]).tolist()
        hits["modality"] += (modality.argmax(1).numpy() == test.modality[part]).tolist()
        known = np.stack([test.labelled(i) for i in part]).repeat(4, 0)[:, None]
        truth = test.dense[part].reshape(len(part) * 4, 16, -1) & known
        guess = (heads.structures(embeds.float()) > 0).numpy() & known
        both, wanted, guessed = both + (truth & guess).sum(), wanted + truth.sum(), guessed + guess.sum()
    return f"| held out: F1 {2 * both / max(wanted + guessed, 1):.3f} region {np.mean(hits['region']):.3f} modality {np.mean(hits['modality']):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", nargs="+", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cpu-seconds", type=float, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, test = pools.Pool(*arguments.pool), pools.Pool(arguments.test)
    vl = tiny.build(seed=1)
    tower, heads = vl.model.visual, pools.Heads(vl.config.text_config.hidden_size)
    run = loop.Loop(arguments.out, {"vision": tower, "heads": heads}, 1.5e-3, arguments.cpu_seconds)
    random = np.random.default_rng(100 + run.step)
    while run.running():
        index = train.draw(random, SCANS)
        with autocast():
            embeds, levels = tiny.see(tower, tiny.patches(pools.images(train, index, random)))
        dense, region, modality, *_ = heads.losses(embeds, train, index)
        run.update(10 * dense + region + modality, dense=dense, region=region, modality=modality)
        if run.step % 50 == 0:
            run.report(check(tower, heads, test) if run.step % 200 == 0 else "")
    run.save()
    run.report(check(tower, heads, test, 600))


if __name__ == "__main__":
    main()
