"""Which names of structures are still misread, so that training asks for them more often.

    python emphasis.py --checkpoint CHECKPOINT --tokenizer FILE --pool POOL...      # prints the names that are misread most
"""
import argparse

import numpy as np
import torch
from tokenizers import Tokenizer

import batches
import lexicon as words
import model as tiny
import orders
import pool as pools
import traces
from task import SCANS, VIEW_SIZE, VIEWS, WEIGHTS, Task, forward

#: {t} is the name with its side.
FORMS = ("{t}", "{t}", "{t} 3d", "{t} seg", "segment the {t}.", "pls mask {t}", "need {t} contour", "exam: {e}. request: {t}.", "{t} volume please",
         "we would like to have the {t} outlined.", "hi, sorry to bother you, today it is about the {t}. could you draw it? thanks a lot.")
SLIPS = 0.25  # share of the orders with a mistyped word
EACH = 12  # names asked about each scan
#: Weight of a name that is never read right, beside 1 for one that always is.
MOST = 5.0
KEEP = 0.5  # weight of what earlier measurements found


class Emphasis:
    """Weights of (structure, name): raised with the share of orders that misread the name."""

    def __init__(self):
        self.missed, self.asked = {}, {}

    def choose(self, structure, names, r):
        """One of `names` of `structure`."""
        return r.choices(names, [1 + (MOST - 1) * self.missed.get((structure, name), 0.0) for name in names])[0]

    def of_structure(self, structure):
        """Weight of a structure among structures: by the mean of its names."""
        shares = [self.missed.get((structure, name), 0.0) for name in spoken(words.STRUCTURE[structure])]
        return 1 + (MOST - 1) * sum(shares) / len(shares)

    def measure(self, vl, task, random, scans=48):
        """Asks about scans of the pool, every token after true ones, names in turn; returns the share read right."""
        drawer, hits = orders.Drawer(int(random.integers(1 << 30)), skill_share=0.0), {}
        for _ in range(scans // SCANS):
            index = task.pool.draw(random, SCANS)
            drawn = [ask for i in index for ask in self.rows(task, i, drawer)]
            for (structure, name, _, _), right in zip(drawn, read_right(vl, task, index, drawn)):
                hits.setdefault((structure, name), []).append(right)
        for key, right in hits.items():
            now = 1 - np.mean(right)
            self.missed[key] = now if key not in self.missed else KEEP * self.missed[key] + (1 - KEEP) * now
        return np.mean([right for each in hits.values() for right in each])

    def rows(self, task, scan, drawer):
        """(structure, name, row, answer tokens that name the target) of orders about a scan, for the names asked least."""
        facts, r = task.pool.facts(scan), drawer.r
        inside = {}
        for concept in facts.where:
            inside.setdefault(orders.split_name(concept)[0], []).append(concept)
        names = [(structure, name) for structure in inside for name in spoken(words.STRUCTURE[structure])]
        names.sort(key=lambda key: (self.asked.get(key, 0), r.random()))
        rows = []
        for structure, name in (names * EACH)[:EACH]:
            self.asked[structure, name] = self.asked.get((structure, name), 0) + 1
            rows.append((structure, name, *ask(task.encoder, facts, r.choice(inside[structure]), name, drawer)))
        return rows


def spoken(structure):
    """Names and abbreviations that stand for the structure wherever it occurs."""
    return tuple(dict.fromkeys((*words.nouns(structure), *words.ABBREVIATIONS.get(structure.name, ()))))


def ask(encoder, facts, concept, name, drawer):
    """(row, span) of an order that calls `concept` by `name`; the span are the answer's tokens of the target."""
    r, side = drawer.r, orders.split_name(concept)[1]
    target = {"left": r.choice((f"left {name}", f"L {name}", f"{name} left")), "right": r.choice((f"right {name}", f"R {name}", f"{name} right")),
              "both": r.choice((f"both {name}", f"{name} bilaterally", name)), None: name}[side]
    text = r.choice(FORMS).format(t=target, e=drawer.exam(facts, traces.CONCEPTS[concept].body_regions))
    text = words.mistype(text, r, 0.4) if r.random() < SLIPS else text
    trace = traces.trace(facts, [concept])
    start = trace.index(". ") + 2
    end = start + len(concept)
    span = [i for i, (a, b) in enumerate(encoder.plain.encode(trace).offsets) if a < end and b > start]
    return (encoder.prompt(text, [batches.tokens_per_image(VIEW_SIZE)] * VIEWS), *encoder.answer(trace, WEIGHTS)), span


@torch.no_grad()
def read_right(vl, task, index, drawn):
    """For each order whether all tokens of its span come out as told."""
    hidden, *_ = forward(vl, task, index, [(None, row) for _, _, row, _ in drawn])
    right = []
    for i, (_, _, (asked, answer, _), span) in enumerate(drawn):
        guess = vl.lm_head(hidden[i, [len(asked) - 1 + at for at in span]]).argmax(-1).tolist()
        right.append(guess == [answer[at] for at in span])
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "tokenizer"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pool", nargs="+", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    vl = tiny.build(tiny.MINI | {"vocabulary": tokenizer.get_vocab_size()})
    vl.load_state_dict(torch.load(arguments.checkpoint)["model"])
    emphasis, random = Emphasis(), np.random.default_rng(1)
    task = Task(pools.Pool(*arguments.pool), batches.Encoder(tokenizer), None)
    for _ in range(4):
        print(f"read right {emphasis.measure(vl, task, random):.3f}")
    for (structure, name), missed in sorted(emphasis.missed.items(), key=lambda item: -item[1]):
        if missed >= 0.3:
            print(f"{missed:.2f} {structure} | {name}")


if __name__ == "__main__":
    main()
