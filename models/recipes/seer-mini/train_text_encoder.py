"""Trains tokenizer and text encoder on the vocabulary: names, synonyms, typing errors.

usage: python train_text_encoder.py --out DIR [--cpu-seconds 200]

Two losses: which name was written (cross-entropy over concepts and absent terms), and which label values it covers
(so that "left x", "x" and their unions lie linearly in the embedding). Afterwards the encoder is frozen.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from concepts import ABSENT
from make_vocabulary import concepts, normalise
from text_encoder import EMBEDDING_SIZE, TextEncoder, tokenize, train_tokenizer

LEARNING_RATE, BATCH, SEED = 2e-3, 64, 0


def wordings():
    """{name: all strings for it}, concepts first."""
    found = {c.name: (c.name, *c.synonyms) for c in concepts()}
    found.update({name: tuple(dict.fromkeys(map(normalise, (name, *s)))) for name, s, _ in ABSENT})
    return found


def misspell(text, random_):
    """Drops, doubles or swaps one letter inside the text."""
    if len(text) < 5:
        return text
    i = random_.randrange(1, len(text) - 2)
    return random_.choice((text[:i] + text[i + 1:], text[:i] + text[i] + text[i:],
                           text[:i] + text[i + 1] + text[i] + text[i + 2:]))


def write(text, random_, typo_rate):
    """A string as people type it: commas before the side, hyphens, typing errors."""
    if random_.random() < 0.3:
        text = text.replace("sided ", "-sided ").replace(" -sided", "-sided")
        for side in (" left", " right"):
            if text.endswith(side):
                text = text[:-len(side)] + "," + side
    return misspell(text, random_) if random_.random() < typo_rate else text


def coverage(names):
    """(names, atoms) 0/1: the label values that each name covers."""
    by_name = {c.name: c.sources for c in concepts()}
    atoms = sorted({(data, v) for s in by_name.values() for data, values in s.items() for v in values})
    table = torch.zeros(len(names), len(atoms))
    for row, name in enumerate(names):
        for data, values in by_name.get(name, {}).items():
            for value in values:
                table[row, atoms.index((data, value))] = 1
    return table


def accuracy(encoder, head, tokenizer, texts, typo_rate, names, count=400):
    random_ = random.Random(5)
    drawn = [(n, write(random_.choice(texts[n]), random_, typo_rate)) for n in random_.choices(names, k=count)]
    with torch.no_grad():
        guess = head(encoder(*tokenize(tokenizer, [t for _, t in drawn]))).argmax(1).tolist()
    wrong = [(t, names[g]) for (n, t), g in zip(drawn, guess) if names[g] != n]
    return 1 - len(wrong) / count, wrong


def train(tokenizer, texts, cpu_seconds):
    names = list(texts)
    table = coverage(names)
    encoder, name_head, atom_head = TextEncoder(), nn.Linear(EMBEDDING_SIZE, len(names)), nn.Linear(
        EMBEDDING_SIZE, table.shape[1])
    parameters = [p for m in (encoder, name_head, atom_head) for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.01)
    random_, started, step = random.Random(SEED), time.process_time(), 0
    while (used := time.process_time() - started) < cpu_seconds:
        rate = LEARNING_RATE * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * used / cpu_seconds)) + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = rate
        drawn = random_.choices(names, k=BATCH)
        written = [write(texts[n][0] if random_.random() < 0.25 else random_.choice(texts[n]), random_, 0.2)
                   for n in drawn]
        target = torch.tensor([names.index(n) for n in drawn])
        vectors = encoder(*tokenize(tokenizer, written))
        loss = F.cross_entropy(name_head(vectors), target)
        loss = loss + 5 * F.binary_cross_entropy_with_logits(atom_head(vectors), table[target])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            scores = [accuracy(encoder, name_head, tokenizer, texts, rate, names)[0] for rate in (0.0, 1.0)]
            print(f"step {step} cpu {used:.0f} s loss {loss.item():.3f} clean {scores[0]:.3f} typo {scores[1]:.3f}",
                  flush=True)
    print("wrong", accuracy(encoder, name_head, tokenizer, texts, 1.0, names)[1][:12])
    return encoder.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, default=200)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    texts, random_ = wordings(), random.Random(SEED)
    corpus = [write(random_.choice(texts[random_.choice(list(texts))]), random_, 0.1) for _ in range(20000)]
    tokenizer = train_tokenizer(corpus)
    tokenizer.save(str(args.out / "tokenizer.json"))
    torch.save(train(tokenizer, texts, args.cpu_seconds).state_dict(), args.out / "text_encoder.pt")


if __name__ == "__main__":
    main()
