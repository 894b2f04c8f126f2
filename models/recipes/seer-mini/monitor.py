"""Learning curve: Dice of the averaged weights on fixed patches that the training never sees.

Synthetic scans of label map 19, and one head-and-neck and torso patch of the training cases (fit only).
"""

import torch

from sampling import load_volume

NAMES = {"brain": ["left hippocampus", "right hippocampus", "left amygdala", "right thalamus", "left putamen",
                   "right caudate nucleus", "left lateral ventricle", "third ventricle", "brainstem", "cerebellum",
                   "left cerebral hemisphere", "right cerebral cortex", "brain"],
         "headneck": ["brainstem", "spinal cord", "left parotid gland", "right parotid gland", "mandible", "larynx"],
         "torso": ["liver", "spleen", "left kidney", "right kidney", "left hip bone", "aorta", "vertebrae"]}


class Monitor:
    def __init__(self, trainer):
        sampler, state = trainer.sampler, trainer.sampler.random.get_state()
        sampler.random.manual_seed(99)
        unseen = load_volume(trainer.args.cache / "brain_19.npz", "brain")
        self.patches = [sampler.draw_brain(unseen) for _ in range(3)]
        self.patches += [sampler.draw(kind) for kind in ("headneck", "headneck", "torso", "torso")]
        sampler.random.set_state(state)

    @torch.no_grad()
    def __call__(self, trainer):
        scores = {}
        for patch in self.patches:
            text = torch.stack([trainer.bank[n] for n in NAMES[patch.kind]])[None]
            found = trainer.averaged(patch.image[None, None], text)[0] > 0
            for name, mask in zip(NAMES[patch.kind], found):
                truth = trainer.table.positive[patch.kind][name][patch.labels]
                if truth.sum() > 20:
                    dice = float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
                    scores.setdefault(patch.kind, {}).setdefault(name, []).append(dice)
        means = {k: {n: sum(v) / len(v) for n, v in s.items()} for k, s in scores.items()}
        return " ".join(f"{k} {sum(m.values()) / len(m):.2f}" for k, m in means.items()) + " | " + " ".join(
            f"{n} {v:.2f}" for n, v in means["brain"].items())
