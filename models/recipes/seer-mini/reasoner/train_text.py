"""First phase: the language model alone, on orders of imagined scans.

    python train_text.py --tokenizer FILE --out CHECKPOINT --cpu-seconds 600

The opening and the places of the evidence cannot be known without images, so they do not or hardly
count here (an opening learnt here would be guessed from the order ever after); the model learns to write the trace, to resolve targets, and to let the evidence decide a refusal.
Goes on from CHECKPOINT where it exists.
"""
import argparse
import random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import batches
import loop
import model as tiny
import orders
from precision import autocast

WEIGHTS = {"opening": 0.0, "place": 0.02, "side": 3.0, "answer": 2.0, "rest": 1.0}
BATCH, POOL = 48, 8
LEARNING_RATE = 2e-3
SHORT = 0.65  # share of traces cut off after the evidence


def rows(drawer, encoder, count, noisy=True):
    """(order, row) pairs sorted by length, so that batches pad little.

    In training, most traces that name their target in the evidence stop there: what follows repeats it.
    """
    drawn = []
    for _ in range(count):
        order = drawer.draw(orders.imagined_facts(drawer.r))
        noise = noisy and drawer.r.random() < 0.3
        told, after = order.trace, len(order.trace)
        if noisy and ". " in told.partition("</evidence>")[0] and drawer.r.random() < SHORT:
            after = told.index("</evidence>") + len("</evidence>")
        ids, weights = encoder.answer(told, WEIGHTS)
        if after < len(told):
            keep = sum(b <= after for _, b in encoder.plain.encode(told).offsets)
            ids, weights = ids[:keep], weights[:keep]
        drawn.append((order, (encoder.prompt(order.text, [], order.skills, noise), ids, weights)))
    return sorted(drawn, key=lambda pair: len(pair[1][0]) + len(pair[1][1]))


def loss_of(vl, batch):
    ids, mask, positions, weights = batch
    with autocast():
        hidden = tiny.read(vl, ids, mask, positions)
        told = weights[:, 1:] > 0
        logits = vl.lm_head(hidden[:, :-1][told])
    loss = F.cross_entropy(logits.float(), ids[:, 1:][told], reduction="none")
    return (loss * weights[:, 1:][told]).sum() / weights[:, 1:][told].sum()


@torch.no_grad()
def check(vl, encoder, count=240):
    """Share of held-out orders whose target in the evidence and whole answer are right, each token after true ones."""
    drawer = orders.Drawer(77, held_out=True)
    right, rationales = [], []
    for start in range(0, count, BATCH):
        drawn = rows(drawer, encoder, BATCH, noisy=False)
        ids, mask, positions, weights = batches.collate([row for _, row in drawn], [])
        guess = vl.lm_head(tiny.read(vl, ids, mask, positions)[:, :-1]).argmax(-1)
        for i, (order, (asked, answered, _)) in enumerate(drawn):
            hit = (guess[i, len(asked) - 1:len(asked) + len(answered) - 1] == torch.tensor(answered)).tolist()
            offsets = encoder.plain.encode(order.trace).offsets
            covers = lambda a, b: all(h for h, (x, y) in zip(hit, offsets) if x < b and y > a)
            named = order.trace.find(". ") + 2
            right.append(covers(order.trace.index("<answer>"), len(order.trace))
                         and (not order.targets or covers(named, named + len(order.targets[0]))))
            rationales.append(covers(order.trace.index("<rationale>"), order.trace.index("<answer>")))
    return f"| held out: answer {sum(right) / len(right):.3f} rationale {sum(rationales) / len(rationales):.3f} (n={len(right)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cpu-seconds", type=float, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    encoder = batches.Encoder(tokenizer)
    vl = tiny.build(tiny.MINI | {"vocabulary": tokenizer.get_vocab_size()})
    vl.model.visual.requires_grad_(False)
    run = loop.Loop(arguments.out, {"model": vl}, LEARNING_RATE, arguments.cpu_seconds)
    drawer, queue = orders.Drawer(3 + run.step), []
    while run.running():
        if not queue:
            drawn = [row for _, row in rows(drawer, encoder, BATCH * POOL)]
            queue = [drawn[i:i + BATCH] for i in range(0, len(drawn), BATCH)]
            random.Random(run.step).shuffle(queue)
        loss = loss_of(vl, batches.collate(queue.pop(), []))
        run.update(loss, loss=loss)
        if run.step % 100 == 0:
            run.report(check(vl, encoder) if run.step % 300 == 0 else "")
    run.save()
    run.report(check(vl, encoder, 480))


if __name__ == "__main__":
    main()
