"""Reads SEER-Trace: one JSON object a line, in the chat form that `seer trace build` writes and SFT tools take.

    {"messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "<image><image>…text"},
                  {"role": "assistant", "content": "<evidence>…"}],
     "images": ["views/c1_1.png", …], "case": "c1", "group": "c1/left hippocampus", "style": "formal_task",
     "target": "left hippocampus", "labels": [17], "expect": "segment", "split": "practice"}

Image paths count from the file's folder. `expect` is "segment" or a refusal reason; "reject" leaves the reason open.
"""

import json
import random
from pathlib import Path

from datasets import Dataset, Features, Image, List, Value

MESSAGES = List({"role": Value("string"), "content": Value("string")})
META = {"case": Value("string"), "group": Value("string"), "text": Value("string"), "expect": Value("string"), "labels": List(Value("int64"))}


def read(path):
    """The lines of a file, each with its images as absolute paths and its user text without image marks."""
    folder, rows = Path(path).parent, []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        row = row.get("meta", {}) | row
        messages = [{"role": m["role"], "content": text_of(m["content"])} for m in row["messages"]]
        if messages[-1]["role"] != "assistant":
            raise ValueError(f"line {number} of {path} ends with a turn of {messages[-1]['role']}, not of the assistant")
        rows.append(row | {"messages": messages, "images": [str(folder / i) for i in row["images"]]})
    return rows


def text_of(content):
    """The words of a message, whether it is a string with <image> marks or a list of parts."""
    if isinstance(content, str):
        return content.replace("<image>", "").lstrip("\n")
    return "".join(part.get("text", "") for part in content if part["type"] == "text")


def for_sft(rows):
    """Prompt, completion and images; the loss counts on the completion alone."""
    return Dataset.from_list([{"prompt": r["messages"][:-1], "completion": r["messages"][-1:], "images": r["images"]} for r in rows],
                             features=Features({"prompt": MESSAGES, "completion": MESSAGES, "images": List(Image())}))


def for_grpo(rows, wordings, seed=0):
    """Prompts with what the reward needs, `wordings` rephrasings of a request one after the other.

    Groups with fewer wordings are filled by repeating theirs, so that a batch of `wordings` prompts is one Omega(q).
    """
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    ordered = []
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    for name in names:
        some = groups[name]
        ordered += [some[i % len(some)] for i in range(-(-len(some) // wordings) * wordings)]
    return Dataset.from_list([{"prompt": r["messages"][:-1], "images": r["images"], "case": r["case"], "group": r["group"],
                               "text": r["messages"][-2]["content"], "expect": r["expect"], "labels": r.get("labels", [])} for r in ordered],
                             features=Features({"prompt": MESSAGES, "images": List(Image()), **META}))
