"""Measures a packaged reasoner on hand-written orders, on unseen made-up words with and without their skill, and on sides.

    python development.py --bundle FOLDER --data DATA [--taught 100] [--sides 500] [--names] [--out REPORT.json]

The orders stand in development_wordings.txt; each is asked on every scan of its kind below. They guide the choice of
checkpoints, so their figures are kinder than those on wordings that nobody has looked at.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import batches
import evaluate
import host
import lexicon as words
import orders
import prompt
import skills
import sources
import traces
import views
from traces import CONCEPTS

SCANS = {
    "S": (("MR", "head"), ("brain-t1/fs_subject_t1", "brain-lesions/pgbm_003_t1_t1post")),
    "N": (("CT", "head and neck"), ("headneck-ct/okbp_060_ct", "headneck-ct/okbp_172_ct")),
    "C": (("CT", "chest"), ("chest-ct/pyradiomics_lung2_ct",)),
    "A": (("CT", "abdomen and pelvis"), ("torso-ct/abdomen_pelvis_ct",)),  # the only one there is, in training too
}


class Reasoner:
    """Answers orders about one scan at a time, as the server does: greedy, the answer held to grammar and vocabulary."""

    def __init__(self, bundle):
        self.graphs, self.tokenizer = host.Host(bundle), Tokenizer.from_file(f"{bundle}/tokenizer.json")
        self.choose = evaluate.ClosedAnswer(self.tokenizer)

    def look(self, grey):
        self.count, self.size = len(grey), grey.shape[1]
        self.seen = self.graphs.see([np.repeat((x.astype(np.float32) / 127.5 - 1)[..., None], 3, -1) for x in grey])

    def __call__(self, text, offered=None):
        asked = prompt.render(text, [batches.tokens_per_image(self.size)] * self.count, offered)
        out, _ = self.graphs.generate(self.tokenizer.encode(asked).ids, max_tokens=224, seen=self.seen, choose=self.choose)
        written = self.tokenizer.decode(out)
        found = evaluate.TRACE.fullmatch(written)
        return (*(evaluate.read_answer(found.group(5)) if found else ("invalid", written)), written)


def wordings():
    """(scan kind, text, wanted) of the file; wanted is a set of names or a reason."""
    for line in Path(__file__).with_name("development_wordings.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, text, wanted = (part.strip() for part in line.split(" | "))
            yield kind, text, wanted if wanted in traces.REASONS else frozenset(wanted.split("; "))


def parts(names):
    """Both sides of a structure as its left and its right, so that each way of saying it counts."""
    return frozenset(p for n in names for p in (CONCEPTS[n].parts or (n,)) if n in CONCEPTS)


def judge(kind, value, wanted):
    if isinstance(wanted, str):
        return "right" if (kind, value) == ("reject", wanted) else "other reason" if kind == "reject" else "accepted"
    if kind != "segment":
        return "refused"
    got, wanted = parts(value), parts(wanted)
    if got == wanted:
        return "right"
    bare = lambda names: {orders.split_name(n)[0] for n in names}
    return "side" if bare(got) == bare(wanted) else "some missing" if got < wanted else "other structure"


def open_scan(data, name, kind):
    modality = SCANS[kind][0][0]
    return views.scan_views(*sources.read(data / f"{name}.nii.gz"), modality)


def written_orders(reasoner, data):
    rows = []
    for kind, (_, names) in SCANS.items():
        for name in names:
            reasoner.look(open_scan(data, name, kind))
            for of, text, wanted in wordings():
                if of == kind:
                    got = reasoner(text)
                    rows.append({"scan": name, "text": text, "wanted": wanted if isinstance(wanted, str) else sorted(wanted),
                                 "outcome": judge(got[0], got[1], wanted), "output": got[2]})
    return rows


def taught_words(reasoner, data, count, seed=4321):
    """Made-up words: with their skill among others, with others only, and clear orders with skills that do not fit."""
    rows, drawer = [], orders.Drawer(seed, held_out=True, skill_share=1.0)
    skills._made.clear()
    for kind, ((modality, region), names) in SCANS.items():
        facts = evaluate.whole(*sources.read(data / f"{names[0]}.nii.gz"), modality, region)[1]
        reasoner.look(open_scan(data, names[0], kind))
        inside, done = list(facts.where), {"its skill": 0, "no skill": 0, "irrelevant": 0}
        while min(done.values()) < count:
            order = drawer.taught(facts, drawer.r.choice(inside)) if min(done["its skill"], done["no skill"]) < count else \
                drawer.named(facts, drawer.usual(inside), drawer.r.choice(("formal_task", "clinical_request")))
            which = ("its skill" if order.targets else "no skill") if order.style == "taught" else "irrelevant"
            if done[which] >= count or which == "irrelevant" and (not order.skills or "Skill" in order.trace):
                continue
            done[which] += 1
            wanted = frozenset(order.targets) if order.targets else order.expect
            got = reasoner(order.text, order.skills)
            named = order.trace.partition("<rationale>")[2][:8] if which == "its skill" else ""
            rows.append({"scan": names[0], "which": which, "text": order.text, "skills": order.skills, "outcome": judge(got[0], got[1], wanted),
                         "wanted": order.trace, "output": got[2], "skill named": named in got[2], "skill claimed": "<rationale>Skill" in got[2]})
    return rows


def sides(reasoner, data, count, seed=987):
    """Orders for sided structures in all styles on held-out scans; only the side is judged."""
    rows, drawer = [], orders.Drawer(seed, held_out=True, skill_share=0.0)
    each = -(-count // 3)
    for kind in "SNC":
        (modality, region), names = SCANS[kind]
        facts = evaluate.whole(*sources.read(data / f"{names[0]}.nii.gz"), modality, region)[1]
        reasoner.look(open_scan(data, names[0], kind))
        sided = [n for n in facts.where if CONCEPTS[n].laterality in ("left", "right")]
        for _ in range(each):
            order = drawer.named(facts, drawer.r.choice(sided), drawer.r.choice(orders.STYLES[:7]))
            got = reasoner(order.text)
            rows.append({"text": order.text, "targets": order.targets, "outcome": judge(got[0], got[1], frozenset(order.targets)), "output": got[2]})
    return rows


def names(reasoner, data):
    """Every name of the vocabulary's structures by itself, with a side where there is one, on the first scan that holds it."""
    rows, done = [], set()
    for kind, ((modality, region), scans) in SCANS.items():
        facts = evaluate.whole(*sources.read(data / f"{scans[0]}.nii.gz"), modality, region)[1]
        reasoner.look(open_scan(data, scans[0], kind))
        for concept in facts.where:
            structure, side = orders.split_name(concept)
            if side == "right" or structure in traces.FINDINGS:
                continue
            for name in words.nouns(words.STRUCTURE[structure]):
                text = f"{side} {name}" if side in ("left", "both") else name
                if text not in done:
                    done.add(text)
                    got = reasoner(text)
                    rows.append({"scan": scans[0], "text": text, "outcome": judge(got[0], got[1], frozenset([concept])), "output": got[2]})
    return rows


def share(rows, test):
    hits, n = sum(map(test, rows)), max(1, len(rows))
    p, z = hits / n, 1.96
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z * ((p * (1 - p) + z * z / 4 / n) / n) ** 0.5 / (1 + z * z / n)
    return f"{p:.3f} ({hits}/{len(rows)}, 95 % {max(0.0, centre - half):.3f} to {min(1.0, centre + half):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--taught", type=int, default=25, help="made-up words of each sort for each kind of scan")
    parser.add_argument("--sides", type=int, default=0)
    parser.add_argument("--names", action="store_true", help="ask for every name of the vocabulary")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    reasoner, started = Reasoner(arguments.bundle), time.process_time()
    right = lambda r: r["outcome"] == "right"
    rows = written_orders(reasoner, arguments.data)
    wanted = [r for r in rows if isinstance(r["wanted"], list)]
    refused = [r for r in rows if isinstance(r["wanted"], str)]
    print("written targets right", share(wanted, right))
    print("  several targets right", share([r for r in wanted if len(r["wanted"]) > 1], right))
    print("  wrong side", share(wanted, lambda r: r["outcome"] == "side"))
    print("written refusals right", share(refused, right), "accepted", share(refused, lambda r: r["outcome"] == "accepted"))
    for row in rows:
        if not right(row):
            print("   ", row["scan"].split("/")[1][:10], "|", row["text"], "|", row["wanted"], "|", row["outcome"], "|", row["output"][10:170])
    report = {"written": rows}
    if arguments.taught:
        report["taught"] = taught = taught_words(reasoner, arguments.data, arguments.taught)
        for which in ("its skill", "no skill", "irrelevant"):
            some = [r for r in taught if r["which"] == which]
            print(which, "right", share(some, right), "skill named right", share(some, lambda r: r["skill named"]),
                  "a skill claimed", share(some, lambda r: r["skill claimed"]))
    if arguments.sides:
        report["sides"] = some = sides(reasoner, arguments.data, arguments.sides)
        print("sided orders right", share(some, right), "wrong side", share(some, lambda r: r["outcome"] == "side"))
    if arguments.names:
        report["names"] = some = names(reasoner, arguments.data)
        print("names of the vocabulary right", share(some, right))
        for row in some:
            if not right(row):
                print("   ", row["text"], "|", row["outcome"], "|", row["output"][10:120])
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1))
    print(f"{time.process_time() - started:.0f} CPU s")


if __name__ == "__main__":
    main()
