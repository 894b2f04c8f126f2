"""Trains tokenizer and text encoder on the vocabulary: names, synonyms, typing errors.

usage: python train_text_encoder.py --out DIR [--cpu-seconds 200]
       python train_text_encoder.py --out DIR --start DIR [--cpu-seconds 60]

Two losses: which name was written (cross-entropy over concepts and absent terms), and which label values it covers
(so that "left x", "x" and their unions lie linearly in the embedding). Afterwards the encoder is frozen.

With --start, the encoder of that folder learns names that joined the vocabulary later, while every name keeps the
vector of DIR/bank.pt (made where it is missing): a segmenter trained on the bank need not change.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from concepts import ABSENT
from make_vocabulary import concepts, normalise
from text_encoder import EMBEDDING_SIZE, TextEncoder, embed, tokenize, train_tokenizer

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


#: Findings are mixed from what the encoder knows already: (name, known name, share of a direction of its own).
NEW = (("brain tumour", "tumour", 0.0), ("brain metastases", "tumour", 0.66), ("brain lesion", "tumour", 0.66), ("brain oedema", "oedema", 0.0))


def fixed_vectors(encoder, tokenizer, names):
    """{name: vector}: what the encoder gives now, but for the findings, which it cannot tell apart by name."""
    bank = dict(zip(names, embed(encoder, tokenizer, names)))
    generator, length = torch.Generator().manual_seed(5), EMBEDDING_SIZE ** 0.5
    for name, known, own in NEW:
        vector, direction = embed(encoder, tokenizer, [known])[0], torch.randn(EMBEDDING_SIZE, generator=generator)
        mixed = vector * (1 - own ** 2) ** 0.5 + own * length * direction / direction.norm()
        bank[name] = mixed / mixed.norm() * length
    return bank


def keep_to(encoder, tokenizer, bank, texts, cpu_seconds):
    """Teaches all wordings of each name its vector of the bank; returns the encoder."""
    names = [n for n in texts if n in bank]
    wanted = torch.stack([bank[n] for n in names])
    fresh = {n for n, _, _ in NEW} | {"heart"}
    chances = [4.0 if n in fresh else 1.0 for n in names]
    optimizer = torch.optim.AdamW(encoder.parameters(), 6e-4, weight_decay=0.0)
    random_, started, step = random.Random(SEED), time.process_time(), 0
    encoder.train()
    while (used := time.process_time() - started) < cpu_seconds:
        for group in optimizer.param_groups:
            group["lr"] = 6e-4 * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * used / cpu_seconds)) + 1e-6
        drawn = random_.choices(range(len(names)), chances, k=BATCH)
        written = [write(texts[names[i]][0] if random_.random() < 0.5 else random_.choice(texts[names[i]]), random_, 0.15) for i in drawn]
        vectors = encoder(*tokenize(tokenizer, written))
        target = torch.tensor(drawn)
        loss = 3 * F.mse_loss(vectors, wanted[target]) + F.cross_entropy(vectors @ wanted.T / 8, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            got = embed(encoder, tokenizer, names)
            cosines = (got * wanted).sum(1) / EMBEDDING_SIZE
            print(f"step {step} cpu {used:.0f} s loss {loss.item():.3f} lowest cosine of a name {cosines.min():.4f} ({names[int(cosines.argmin())]})", flush=True)
    return encoder.eval()


def go_on(args, texts):
    tokenizer, encoder = Tokenizer.from_file(str(args.start / "tokenizer.json")), TextEncoder().eval()
    encoder.load_state_dict(torch.load(args.start / "text_encoder.pt"))
    bank = args.out / "bank.pt"
    if not bank.exists():
        torch.save(fixed_vectors(encoder, tokenizer, list(texts)), bank)
    tokenizer.save(str(args.out / "tokenizer.json"))
    torch.save(keep_to(encoder, tokenizer, torch.load(bank), texts, args.cpu_seconds).state_dict(), args.out / "text_encoder.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--cpu-seconds", type=float, default=200)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    texts, random_ = wordings(), random.Random(SEED)
    if args.start:
        return go_on(args, texts)
    corpus = [write(random_.choice(texts[random_.choice(list(texts))]), random_, 0.1) for _ in range(20000)]
    tokenizer = train_tokenizer(corpus)
    tokenizer.save(str(args.out / "tokenizer.json"))
    torch.save(train(tokenizer, texts, args.cpu_seconds).state_dict(), args.out / "text_encoder.pt")


if __name__ == "__main__":
    main()
