"""Measures the exported reasoner through ONNX Runtime on scans and wordings it has not seen.

    python evaluate.py --bundle FOLDER --data DATA --pool TEST_POOL --out REPORT.json

Greedy decoding, free, or with `--closed` inside the answer held to the grammar and the vocabulary as the
server does it.
Scans: painted MR of two held-out heads, whole real volumes of data sets that training never saw, and
held-out cases of the others. Wordings: `Drawer(held_out=True)`, half of the verbs and templates new; with `--usual` those of the training,
in new combinations.
"""
import argparse
import collections
import json
import re
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import batches
import host
import orders
import pool as pools
import prompt
import prepare_data
import sources
import traces
import views
from model import IM_END
from traces import CONCEPTS, Facts

TRACE = re.compile(r"<evidence>(MR|CT) of the ([a-z ]+)\.(.*)</evidence><rationale>(.+)</rationale><answer>(.+)</answer>", re.S)
SEGMENT = re.compile(r"Segment ((?:the|both) [^;.]+(?:; (?:the|both) [^;.]+)*)\.")
REJECT = re.compile(r"Reject: (" + "|".join(traces.REASONS) + r")\.")


def whole(volume, spacing, modality, region):
    """Views and facts of a whole volume whose labels are not read: all that the region holds counts as present."""
    facts = Facts(modality, region)
    for name, concept in CONCEPTS.items():
        if set(concept.body_regions) & set(facts.parts) and modality in concept.modalities:
            facts.where[name] = ([2], 2.0)
    return views.scan_views(volume, spacing, modality), facts


def real_scans(data):
    """(name, views, facts) of volumes from data sets or cases outside the training."""
    for name in ("brain-t1/colin27_t1", "brain-t1/fs_subject_t1", "brain-lesions/pgbm_001_t1_t1post", "brain-lesions/pgbm_001_t2_t1post",
                 "brain-lesions/pgbm_003_t1_t1post", "brain-lesions/pgbm_003_t2_t1post", "brain-lesions/pgbm_006_t1_t1post"):
        yield Path(name).name, *whole(*sources.read(data / f"{name}.nii.gz"), "MR", "head")
    for case in prepare_data.headneck_test_cases(data):
        volume, spacing = sources.read(data / f"headneck-ct/{case}_ct.nii.gz")
        yield case, *whole(volume, spacing, "CT", "head and neck")
    yield "lung2", *whole(*sources.read(data / "chest-ct/pyradiomics_lung2_ct.nii.gz"), "CT", "chest")
    yield "mr-liver-adc-toshiba", *whole(*sources.dicom_volume(data / "dicom" / "mr-liver-adc-toshiba"), "MR", "abdomen")


def pool_scans(path, per_kind):
    test = pools.Pool(path)
    for kind, index in test.of_kind.items():
        for i in index[np.linspace(0, len(index) - 1, min(per_kind, len(index))).astype(int)]:
            yield f"{test.names[i]}#{i}", test.views[i], test.facts(i)


def read_answer(text):
    """("segment", names) or ("reject", reason) or ("invalid", text); names as written."""
    if found := SEGMENT.fullmatch(text):
        return "segment", tuple(n.removeprefix("the ") for n in found.group(1).split("; "))
    if found := REJECT.fullmatch(text):
        return "reject", found.group(1)
    return "invalid", text


def compare(order, kind, value):
    """One word for how an answer differs from what was wanted."""
    if kind == "invalid":
        return "invalid"
    if order.expect != "segment":
        return "right" if (kind, value) == ("reject", order.expect) else "other reason" if kind == "reject" else "accepted"
    if kind == "reject":
        return "refused"
    if set(value) == set(order.targets):
        return "right"
    bare = lambda names: {orders.split_name(n)[0] if n in CONCEPTS else n for n in names}
    if bare(value) != bare(order.targets):
        return "other structure"
    side = lambda names: {orders.split_name(n)[1] for n in names}
    return "both for one" if "both" in side(value) ^ side(order.targets) else "wrong side"


class ClosedAnswer:
    """Chooses the likeliest token that can still become a valid answer; free before `<answer>`."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.pieces = [tokenizer.decode([k], skip_special_tokens=False) for k in range(tokenizer.get_vocab_size())]
        self.ends = [traces.the(name) for name in CONCEPTS]
        self.refusals = [f"Reject: {reason}.</answer>" for reason in traces.REASONS]

    def possible(self, text):
        """Whether `text` begins some answer."""
        if any(r.startswith(text) for r in self.refusals) or "Segment ".startswith(text):
            return True
        if not text.startswith("Segment "):
            return False
        *done, last = text.removeprefix("Segment ").split("; ")
        return all(d in self.ends for d in done) and len(set(done)) == len(done) and any(
            e.startswith(last) or (e + ";").startswith(last) or (last.startswith(e) and (e + ".</answer>").startswith(last)) for e in self.ends if e not in done)

    def __call__(self, tokens, logits):
        text = self.tokenizer.decode(tokens)
        if "<answer>" not in text:
            return int(logits.argmax())
        answer = text.split("<answer>", 1)[1]
        if answer.endswith("</answer>"):
            return IM_END
        return next((int(k) for k in np.argsort(-logits)[:400] if self.pieces[k] and self.possible(answer + self.pieces[k])), IM_END)


def draw_orders(drawer, facts, count):
    """Orders for one scan: most for structures that are there, in all styles; the rest refusals of each kind."""
    by_verdict = collections.defaultdict(list)
    for name in CONCEPTS:
        by_verdict[facts.verdict(name)].append(name)
    terms = collections.defaultdict(list)
    for term in traces.ABSENT_REGIONS:
        terms[facts.absent_verdict(term)].append(term)
    r, drawn = drawer.r, []
    for k in range(count):
        inside, outside = by_verdict["segment"], by_verdict[traces.OUT_OF_REGION]
        if inside and k % 10 < 5:
            drawn.append(drawer.named(facts, r.choice(inside), orders.STYLES[(k + r.randrange(7)) % 7]))
        elif k % 10 == 5 and outside:
            drawn.append(drawer.named(facts, r.choice(outside), "out_of_region_reference"))
        elif k % 10 == 6 and terms[traces.OUT_OF_REGION]:
            drawn.append(drawer.absent(facts, r.choice(terms[traces.OUT_OF_REGION])))
        elif k % 10 == 7:
            drawn.append(r.choice((drawer.ambiguous, drawer.no_request))(facts))
        else:
            drawn.append(drawer.draw(facts))
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="folder with the graphs and tokenizer.json")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--orders", type=int, default=10, help="orders per scan")
    parser.add_argument("--per-kind", type=int, default=12)
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--usual", action="store_true")
    parser.add_argument("--seed", type=int, default=31)
    arguments = parser.parse_args()
    graphs = host.Host(arguments.bundle)
    tokenizer = Tokenizer.from_file(f"{arguments.bundle}/tokenizer.json")
    drawer = orders.Drawer(arguments.seed, held_out=not arguments.usual)
    choose = ClosedAnswer(tokenizer) if arguments.closed else None
    rows, started = [], time.process_time()
    for name, grey, facts in [*real_scans(arguments.data), *pool_scans(arguments.pool, arguments.per_kind)]:
        images = [np.repeat((x.astype(np.float32) / 127.5 - 1)[..., None], 3, -1) for x in grey]
        seen = graphs.see(images)
        for order in draw_orders(drawer, facts, arguments.orders):
            asked = prompt.render(order.text, [batches.tokens_per_image(grey.shape[1])] * len(grey), order.skills)
            out, _ = graphs.generate(tokenizer.encode(asked).ids, max_tokens=160, seen=seen, choose=choose)
            text = tokenizer.decode(out)
            found = TRACE.fullmatch(text)
            kind, value = read_answer(found.group(5)) if found else ("invalid", text)
            rows.append({
                "scan": name, "real": "/" not in name, "kind": name.split("/")[0], "style": order.style, "text": order.text,
                "expect": order.expect, "targets": order.targets, "skills": order.skills, "output": text, "valid": kind != "invalid",
                "modality": bool(found) and found.group(1) == facts.modality, "region": found.group(2) if found else None,
                "true_region": facts.region, "outcome": compare(order, kind, value), "wanted_trace": order.trace})
    report = {"rows": rows, "cpu_seconds": time.process_time() - started}
    Path(arguments.out).write_text(json.dumps(report, indent=1))
    print(summary(rows))
    print(f"{len(rows)} orders, {report['cpu_seconds'] / len(rows):.3f} CPU s each")


def summary(rows):
    """The tables of the card, as text."""
    lines = []
    share = lambda part, test: f"{sum(map(test, part)) / max(1, len(part)):.3f} (n={len(part)})"
    overlap = lambda r: bool(r["region"]) and bool(set(traces.REGIONS.get(r["region"], ())) & set(traces.REGIONS[r["true_region"]]))
    for title, part in (("all", rows), ("real scans", [r for r in rows if r["real"]]), ("rendered held-out scans", [r for r in rows if not r["real"]])):
        wanted, refused = [r for r in part if r["expect"] == "segment"], [r for r in part if r["expect"] != "segment"]
        sided = [r for r in wanted if any(CONCEPTS[t].laterality in ("left", "right") for t in r["targets"])]
        lines += [f"## {title}", f"valid {share(part, lambda r: r['valid'])}", f"modality {share(part, lambda r: r['modality'])}",
                  f"region exact {share(part, lambda r: r['region'] == r['true_region'])}", f"region overlaps {share(part, overlap)}",
                  f"target right {share(wanted, lambda r: r['outcome'] == 'right')}", f"wrong side {share(sided, lambda r: r['outcome'] == 'wrong side')}",
                  f"both for one side or the reverse {share(wanted, lambda r: r['outcome'] == 'both for one')}",
                  f"other structure {share(wanted, lambda r: r['outcome'] == 'other structure')}",
                  f"refused in error {share(wanted, lambda r: r['outcome'] == 'refused')}",
                  f"refusal with the right reason {share(refused, lambda r: r['outcome'] == 'right')}",
                  f"accepted in error {share(refused, lambda r: r['outcome'] == 'accepted')}"]
    lines.append("## target right by style")
    for style in sorted({r["style"] for r in rows}):
        lines.append(f"{style} {share([r for r in rows if r['style'] == style], lambda r: r['outcome'] == 'right')}")
    lines.append("## by expected reason")
    for reason in traces.REASONS:
        part = [r for r in rows if r["expect"] == reason]
        lines.append(f"{reason} {share(part, lambda r: r['outcome'] == 'right')}, accepted {share(part, lambda r: r['outcome'] == 'accepted')}")
    lines.append("## with skills")
    lines.append(f"skills offered {share([r for r in rows if r['skills']], lambda r: r['outcome'] == 'right')}")
    lines.append("## by scan")
    for name in dict.fromkeys(r["scan"] if r["real"] else r["kind"] for r in rows):
        part = [r for r in rows if (r["scan"] if r["real"] else r["kind"]) == name]
        said = collections.Counter(str(r["region"]) for r in part).most_common(2)
        lines.append(f"{name} ({part[0]['true_region']}): modality {share(part, lambda r: r['modality'])}, said {said}, "
                     f"right {share(part, lambda r: r['outcome'] == 'right')}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
