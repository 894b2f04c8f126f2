"""The composite reward R = w_d Dice + w_s stability + w_f format, as three functions for trl.GRPOTrainer.

Dice      the answer is executed on the frozen backbone and compared with the reference; a request that should be
          refused earns 1 for the right reason and a share for another.
Stability mean Dice between this answer's mask and the masks of the other wordings of the same request (Omega(q)):
          those of this batch, and the last one remembered for each wording that is not in it. Refusals agree with
          refusals. None, which leaves the term out, while no other wording has been answered.
Format    1 for exactly the three tagged parts with an answer of the grammar, 0.3 for the parts alone.
"""

import re

from execution import dice

TRACE = re.compile(r"\s*<evidence>(?:(?!</?(?:evidence|rationale|answer)>).)+</evidence>\s*<rationale>(?:(?!</?(?:evidence|rationale|answer)>).)+"
                   r"</rationale>\s*<answer>((?:(?!</?(?:evidence|rationale|answer)>).)+)</answer>\s*", re.S)
SEGMENT = re.compile(r"Segment (?:the )?[^;.]+(?:; (?:the )?[^;.]+)*\.")
REJECT = re.compile(r"Reject: (out_of_region|unsupported_modality|not_visible|ambiguous|not_a_segmentation_request)\.")


def read_answer(text):
    """("segment", targets), ("reject", reason) or ("invalid", None), and the format score of a completion."""
    found = TRACE.fullmatch(text)
    if not found:
        return "invalid", None, 0.0
    answer = found.group(1).strip()
    if reject := REJECT.fullmatch(answer):
        return "reject", reject.group(1), 1.0
    if SEGMENT.fullmatch(answer):
        return "segment", tuple(t.removeprefix("the ") for t in answer[len("Segment "):-1].split("; ")), 1.0
    return "invalid", None, 0.3


def words_of(completion):
    """The text of a completion, which trl gives as a string or as a list of messages."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


class Rewards:
    """Keeps the executor and the last answer to every wording; `functions` and `weights` go to the trainer."""

    def __init__(self, executor, settings):
        self.executor, self.settings = executor, settings
        self.answers = {}  # group -> wording -> what its last answer gave
        self.functions = [self.dice_reward, self.stability_reward, self.format_reward]
        self.weights = [settings.dice, settings.stability, settings.format]

    def outcome(self, completion, case):
        """"refused", a mask, or None for an answer that cannot be executed."""
        kind, value, _ = read_answer(words_of(completion))
        if kind == "reject":
            return "refused"
        return self.executor.answer_mask(case, value) if kind == "segment" else None

    def dice_reward(self, completions, case, labels, expect, **_):
        rewards = []
        for completion, of, values, wanted in zip(completions, case, labels, expect):
            kind, value, _ = read_answer(words_of(completion))
            if wanted != "segment":
                rewards.append(0.0 if kind != "reject" else 1.0 if wanted in ("reject", value) else self.settings.other_reason)
                continue
            mask = self.executor.answer_mask(of, value) if kind == "segment" else None
            rewards.append(0.0 if mask is None else dice(mask, self.executor.reference(of, tuple(values))))
        return rewards

    def stability_reward(self, completions, case, group, text, **_):
        outcomes = [self.outcome(c, of) for c, of in zip(completions, case)]
        rewards = []
        for i, mine in enumerate(outcomes):
            here = {text[j] for j in range(len(text)) if group[j] == group[i]}
            others = [outcomes[j] for j in range(len(text)) if group[j] == group[i] and text[j] != text[i]]
            others += [seen for wording, seen in self.answers.get(group[i], {}).items() if wording not in here]
            rewards.append(sum(agreement(mine, other) for other in others) / len(others) if others else None)
        for i, mine in enumerate(outcomes):
            self.answers.setdefault(group[i], {})[text[i]] = mine
        return rewards

    def format_reward(self, completions, **_):
        return [read_answer(words_of(c))[2] for c in completions]


def agreement(a, b):
    if a is None or b is None:
        return 0.0
    if isinstance(a, str) or isinstance(b, str):
        return float(isinstance(a, str) and isinstance(b, str))
    return dice(a, b)
