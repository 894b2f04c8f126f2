"""Last phase: orders about rendered scans, vision and language together.

    python train_joint.py --tokenizer FILE --text CHECKPOINT --vision CHECKPOINT --pool POOL...
        --test POOL --out CHECKPOINT --cpu-seconds 1800

Several orders share the views of one scan, so that the vision tower runs once for them. Most steps are text
alone, which is cheap, so that rare wordings and skills keep coming. `--start` goes on from another run's weights
with a fresh optimizer.
"""
import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import batches
import loop
import model as tiny
import orders
import pool as pools
import train_text
from emphasis import Emphasis
from precision import autocast
from task import ORDERS, SCANS, Task, forward

#: What a step is about: text alone, text with skill blocks (longer, so fewer at once), or scans. Chances and batch sizes.
STEPS = {"text": (0.52, 24), "skills": (0.24, 12), "joint": (0.24, None)}
AUXILIARY = 0.5
MEASURE_EVERY = 250  # steps between two looks at which names are misread
#: The vision tower has learnt; at the full rate the language loss undoes what it knows of regions.
VISION_FACTOR = 0.15
LEARNING_RATE = 1.2e-3


def token_loss(vl, hidden, ids, weights):
    told = weights[:, 1:] > 0
    loss = F.cross_entropy(vl.lm_head(hidden[:, :-1][told]).float(), ids[:, 1:][told], reduction="none")
    return (loss * weights[:, 1:][told]).sum() / weights[:, 1:][told].sum()


@torch.no_grad()
def check(vl, encoder, test, count=24):
    """Teacher-forced on held-out scans and wordings: opening, target in the evidence, answer, rationale."""
    drawer = orders.Drawer(5, held_out=True, skill_share=0.0)
    task = Task(test, encoder, None)
    spans = {"opening": [], "target": [], "answer": [], "rationale": [], "place": []}
    everything = np.linspace(0, len(test) - 1, count * SCANS // 2).astype(int)
    for start in range(0, len(everything) - SCANS + 1, SCANS):
        index = everything[start:start + SCANS]
        rows = [pair for about in task.rows(index, drawer, ORDERS, False) for pair in about]
        hidden, _, ids, _ = forward(vl, task, index, rows)
        guess = vl.lm_head(hidden[:, :-1]).argmax(-1)
        for n, (order, (asked, answered, _)) in enumerate(rows):
            hit = (guess[n, len(asked) - 1:len(asked) + len(answered) - 1] == torch.tensor(answered)).tolist()
            offsets = encoder.plain.encode(order.trace).offsets
            covers = lambda a, b: all(h for h, (x, y) in zip(hit, offsets) if x < b and y > a)
            text, dot = order.trace, order.trace.index(".")
            spans["opening"].append(covers(0, dot))
            spans["answer"].append(covers(text.index("<answer>"), len(text)))
            spans["rationale"].append(covers(text.index("<rationale>"), text.index("<answer>")))
            if order.targets:
                spans["target"].append(covers(dot + 2, dot + 2 + len(order.targets[0])))
                if test.places_known(index[n // ORDERS]):
                    spans["place"].append(covers(dot + 2 + len(order.targets[0]), text.index("</evidence>")))
    return "| held out: " + " ".join(f"{k} {np.mean(v):.3f}({len(v)})" for k, v in spans.items())


def report(run, vl, encoder, test):
    if run.step % 100 == 0:
        run.report(check(vl, encoder, test, 8) + taught(vl, encoder, 40) if run.step % 400 == 0 else "")


@torch.no_grad()
def taught(vl, encoder, count=60):
    """Share of made-up words resolved, each token after true ones, where a skill explains them."""
    drawer, right = orders.Drawer(88, held_out=True, skill_share=1.0), []
    while len(right) < count:
        order = drawer.draw(orders.imagined_facts(drawer.r))
        if order.style == "taught" and order.targets:
            row = (encoder.prompt(order.text, [], order.skills), *encoder.answer(order.trace, train_text.WEIGHTS))
            ids, mask, positions, weights = batches.collate([row], [])
            guess = vl.lm_head(tiny.read(vl, ids, mask, positions)[:, :-1]).argmax(-1)[0]
            asked, answered = len(row[0]), row[1]
            hit = (guess[asked - 1:asked + len(answered) - 1] == torch.tensor(answered)).tolist()
            start = order.trace.index(". ") + 2
            end = start + len(order.targets[0])
            right.append(all(h for h, (x, y) in zip(hit, encoder.plain.encode(order.trace).offsets) if x < end and y > start))
    return f" taught {np.mean(right):.3f}({len(right)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tokenizer", "test", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("text", "vision"):
        parser.add_argument(f"--{name}", help="checkpoint of that phase; not needed with --start")
    parser.add_argument("--pool", nargs="+", required=True)
    parser.add_argument("--start", help="checkpoint of an earlier joint run")
    parser.add_argument("--cpu-seconds", type=float, default=1800)
    parser.add_argument("--wall-minutes", type=float, help="in place of the budget, counted from this start")
    parser.add_argument("--vision-factor", type=float, default=VISION_FACTOR, help="rate of the vision tower; 0 freezes it")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--seed", type=int, default=0, help="another one for each round, else it draws the same orders again")
    arguments = parser.parse_args()
    if not arguments.start and not (arguments.text and arguments.vision):
        parser.error("give --start, or --text and --vision")
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    encoder = batches.Encoder(tokenizer)
    train, test = pools.Pool(*arguments.pool), pools.Pool(arguments.test)
    vl = tiny.build(tiny.MINI | {"vocabulary": tokenizer.get_vocab_size()})
    heads = pools.Heads(vl.config.text_config.hidden_size)
    if arguments.start and not os.path.exists(arguments.out):
        before = torch.load(arguments.start)
        vl.load_state_dict(before["model"])
        heads.load_wider(before["heads"])
    elif not os.path.exists(arguments.out):
        seeing = torch.load(arguments.vision)
        vl.load_state_dict(torch.load(arguments.text)["model"])
        vl.model.visual.load_state_dict(seeing["vision"])
        heads.load_state_dict(seeing["heads"])
    run = loop.Loop(arguments.out, {"model": vl, "heads": heads}, arguments.rate, arguments.cpu_seconds,
                    vl.model.visual, arguments.vision_factor, arguments.wall_minutes)
    seed = run.step + 100_000 * arguments.seed
    random = np.random.default_rng(1000 + seed)
    emphasis = Emphasis()
    drawer = lambda kind, share: orders.Drawer(kind + seed, skill_share=share, emphasis=emphasis)
    task = Task(train, encoder, [drawer(2000, 0.0), drawer(3000, 1.0)])
    readers = {"text": drawer(4000, 0.0), "skills": drawer(5000, 1.0)}
    queues, waiting = {kind: [] for kind in readers}, []
    while run.running():
        if run.step % MEASURE_EVERY == 0:
            run.report(f"| names read right {emphasis.measure(vl, task, random):.3f}")
        kind = random.choice(list(STEPS), p=[chance for chance, _ in STEPS.values()])
        if kind != "joint":
            queue, size = queues[kind], STEPS[kind][1]
            if not queue:
                drawn = [row for _, row in train_text.rows(readers[kind], encoder, size * 8)]
                queue.extend(drawn[i:i + size] for i in range(0, len(drawn), size))
                random.shuffle(queue)
            loss = train_text.loss_of(vl, batches.collate(queue.pop(), []))
            run.update(loss, **{kind: loss})
            report(run, vl, encoder, test)
            continue
        waiting = waiting or task.draw(random)
        index, rows = waiting.pop()
        with autocast():
            hidden, embeds, ids, weights = forward(vl, task, index, rows, random, arguments.vision_factor == 0)
            told = token_loss(vl, hidden, ids, weights)
        if arguments.vision_factor == 0:
            run.update(told, joint=told)
            report(run, vl, encoder, test)
            continue
        dense, region, modality, *_ = heads.losses(embeds, train, index)
        run.update(told + AUXILIARY * (10 * dense + region + modality), joint=told, dense=dense, region=region)
        report(run, vl, encoder, test)
    run.save()
    run.report(check(vl, encoder, test, 16) + taught(vl, encoder))


if __name__ == "__main__":
    main()
