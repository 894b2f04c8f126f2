"""Draws orders: free text in eight styles, with the trace that answers it for a given scan.

The marks FROM and TO stand around the words that name a target until the text is finished, so that
skills can be written for exactly these words.
"""
import random
import re
from dataclasses import dataclass

import lexicon as words
import traces
from traces import CONCEPTS, NAMES, Facts

FROM, TO = "\x01", "\x02"
STYLES = ("formal_task", "clinical_request", "report_style", "verbose_request", "messy_or_misspelled",
          "ambiguous_abbreviation", "abbr_or_short", "out_of_region_reference")

#: {p} politeness, {v} verb, {t} target, {c} closing, {i} indication, {e} exam, {a} age, {s} sex.
TEMPLATES = {
    "formal_task": ("Region of interest: {t}", "Perform {t} delineation", "ROI: {t}", "{v} the {t}", "{v} {t}", "{v} the {t} in this scan", "Segmentation of the {t}", "{t} segmentation", "{t}",
                    "Target: {t}", "Task: {v} the {t}", "{p} {v} the {t}{c}", "Provide the mask of the {t}", "Structure: {t}",
                    "segment the {t}", "Segment {t}.", "please segment the {t}", "{v} the {t} on this volume{c}"),
    "clinical_request": ("{a} year old {s}. {i}. {t} needed{c}", "query {i}, show me the {t}", "{i}: {p} {v} the {t}{c}", "{p} {v} the {t}, {i}{c}", "{a} yo {s}, {i}. {p} {v} {t}{c}", "Ind: {i}. {v} the {t}",
                         "{a}{s} {i}, need {t} volume", "pt with {i}, {v} {t}{c}", "{i} - {t} contour needed{c}",
                         "For {i} we need the {t} outlined", "{v} the {t} because of {i}", "clinical question {i}; {p} {v} the {t}"),
    "report_style": ("{e}, history {i}. Kindly {v} the {t}.", "{e}. Please delineate {t}{c}.", "{e}. Findings: {i}. Request: {v} the {t}.", "{e}: {t} to be segmented.", "{e} - {i}. The {t} should be delineated{c}.",
                     "TECHNIQUE: {e}. TASK: {t} segmentation.", "{e}. Volumetric assessment of the {t} is requested.",
                     "IMPRESSION: {i}. RECOMMENDATION: {v} the {t}.", "{e}. {a}{s}. Contours of the {t} requested{c}."),
    "verbose_request": ("Dear colleagues, thank you for your help last time; may I ask you to {v} the {t} as well{c}", "Hello, I was wondering whether you {p} {v} the {t} on this study, as the team would like to see it before the meeting{c}",
                        "We have a patient ({a}{s}) here with {i} and for the planning we would be happy if somebody could {v} the {t}{c}",
                        "Good afternoon, as discussed on the phone this is about {i}; what we need is only the {t}, nothing else{c}",
                        "I know that it is late, but the surgeon has asked again for the {t}, so {p} {v} it{c}",
                        "The study was done last week for {i}. I looked at it already. Now {p} {v} the {t} so that we can compare{c}",
                        "Since the follow-up of this patient depends on the volume, {p} {v} the {t} carefully{c}"),
    "messy_or_misspelled": ("{p} quickly {v} {t}{c}", "{v} {t} now {p}", "{p} {v} {t}{c}", "{p} {v} the {t}{c}", "{v} teh {t}", "{t} {v} {p}{c}", "need {t} {v} {i}", "{t} volumetry {p}{c}",
                            "{i} {v} {t} thx", "{t} mask {p}", "cn u {v} {t}{c}", "{v} {t} {v} {t}"),
    "ambiguous_abbreviation": ("show {t}", "{t} ROI", "ROI {t}", "{v} {t}", "{p} {v} {t}{c}", "{t} vol", "{t} pls", "{t} mask", "{i}. {v} {t}", "{v} the {t}", "{t} seg"),
    "abbr_or_short": ("ROI {t}", "{t} now", "{t} ROI", "show {t}", "{t}", "{t}", "{t} {p}", "seg {t}", "{t} seg", "{t} vol", "{t}?", "mask {t}", "{t} only", "just the {t}", "{t} contour", "{t} !!"),
    "out_of_region_reference": ("find and {v} the {t}", "where is the {t}? {v} it", "show me the {t}", "{v} the {t}", "{p} {v} the {t}{c}", "{i}: {v} the {t}", "{e}. {p} {v} the {t}", "{t}", "{t} segmentation",
                                "I need the {t} on this study", "need a mask of the {t}{c}", "{v} {t} here"),
}
HELD_OUT_TEMPLATES = {
    "formal_task": ("Obtain the {t}", "Structure to segment: {t}"),
    "clinical_request": ("{i}, {a}{s}. Kindly do the {t}{c}", "history of {i}, {t} please"),
    "report_style": ("EXAM {e}. The {t} is to be contoured{c}.", "{e}, indication {i}. Please add the {t}."),
    "verbose_request": ("This one is for teaching. Students should see where the {t} lies, hence {p} {v} it{c}",
                        "My colleague has forgotten to ask for the {t}, which is why I write again, {p} {v} it{c}"),
    "messy_or_misspelled": ("gimme {t} {v}", "{t} {t} {v} {p}"),
    "ambiguous_abbreviation": ("{t} volume wanted", "want {t}"),
    "abbr_or_short": ("{t} needed", "{t}, nothing else"),
    "out_of_region_reference": ("let me have the {t}", "{p} {v} the {t}, it is urgent"),
}
ADJECTIVE_FORMS = ("{s} {a} volumetry", "{s} {a} volume", "{s} {a} segmentation", "{s} {a} contour", "{s} {a} mask")


@dataclass
class Order:
    """A drawn order and its trace; `targets` are the concept names it should resolve to, empty if refused."""

    text: str
    style: str
    trace: str
    targets: tuple
    expect: str  # "segment" or a refusal reason
    skills: str | None = None


def split_name(name):
    """Concept name -> (structure name, side)."""
    concept = CONCEPTS[name]
    for side in ("left", "right"):
        if concept.laterality == side:
            return name.removeprefix(side + " "), side
    if concept.laterality == "both":
        return concept.parts[0].removeprefix("left "), "both"
    return name, None


def mark(text):
    return f"{FROM}{text}{TO}"


class Drawer:
    """Draws orders; `held_out` also uses wordings that training never sees.

    `skill_share` is the chance that an order comes with skill blocks; 0 and 1 make batches of like length.
    """

    def __init__(self, seed, held_out=False, skill_share=0.1):
        self.r = random.Random(seed)
        self.held_out = held_out
        self.skill_share = skill_share

    def pick(self, usual, held_out=()):
        if self.held_out and held_out and self.r.random() < 0.5:
            return self.r.choice(held_out)
        return self.r.choice(usual)

    def verb(self):
        if not self.held_out and self.r.random() < 0.08:
            return self.fillers(2)
        return self.pick(words.VERBS, words.HELD_OUT_VERBS)

    def fillers(self, most):
        return " ".join(self.r.choice(words.FILLERS) for _ in range(self.r.randint(1, most)))

    def indication(self, structure=None):
        own = words.INDICATIONS.get(structure, ())
        if self.r.random() < 0.15:
            return self.r.choice(words.SIDE_NOISE).format(o=self.r.choice(("left", "right", "L", "R")))
        return self.r.choice(own) if own and self.r.random() < 0.6 else self.r.choice(words.COMMON_INDICATIONS)

    def exam(self, facts, regions):
        """An exam header: the scan's own, or, half the time, that of the target's region."""
        fitting = [exams for (modality, region), exams in words.EXAMS.items()
                   if (region in facts.parts and modality == facts.modality if self.r.random() < 0.5 else region in regions)]
        return self.r.choice(self.r.choice(fitting)) if fitting else "scan"

    def fill(self, style, target, facts, structure=None, regions=()):
        """Puts a marked target into a template of the style, with remarks and slips."""
        r = self.r
        template = self.pick(TEMPLATES[style], HELD_OUT_TEMPLATES[style])
        text = template.format(
            p=r.choice(words.POLITE), v=self.verb(), t=target, c=self.pick(words.CLOSINGS, words.HELD_OUT_CLOSINGS),
            i=self.indication(structure), e=self.exam(facts, regions), a=r.randint(18, 92), s=r.choice("MF"))
        if style not in ("report_style",) and r.random() < 0.08:
            text = f"{self.exam(facts, regions)}{r.choice(('. ', ': ', ' - ', ', '))}{text}"
        return text

    def finish(self, text, style):
        """Distorts letters and case; returns the text and the quoted words of each mark."""
        r = self.r
        if not self.held_out and r.random() < 0.2:
            text = f"{self.fillers(4)} {text}" if r.random() < 0.5 else f"{text} {self.fillers(4)}"
        if style == "messy_or_misspelled" or r.random() < 0.06:
            text = re.sub(f"{FROM}.*?{TO}", lambda m: words.mistype(m.group(), r, 0.6), text)
        if style == "messy_or_misspelled":
            text = words.mistype(text, r, 0.2)
        elif r.random() < 0.15:
            text = words.mistype(text, r, 0.1)
        text = re.sub(r" +", " ", text).strip()
        case = r.random()
        if case < 0.08:
            text = text.upper()
        elif case < 0.45:
            text = text.lower()
        elif case < 0.6:
            text = re.sub(r"[a-z]", lambda m: m.group().upper(), text, count=1)
        if style == "messy_or_misspelled" and r.random() < 0.3:
            text = r.choice((text.replace(",", ""), text.replace(" the ", " "), text + "..", text + "!!", text.replace(" ", "  ", 1)))
        quotes = [q.strip() for q in re.findall(f"{FROM}(.*?){TO}", text)]
        return text.replace(FROM, "").replace(TO, "").strip(), quotes

    def remark(self, text, structure, side):
        """Adds a distractor: the other side of the same structure, another structure, or a side elsewhere."""
        r = self.r
        if side in ("left", "right") and r.random() < 0.18:
            other = {"left": "right", "right": "left"}[side]
            other = other if r.random() < 0.75 else other[0].upper()
            extra = r.choice(words.OTHER_SIDE).format(o=other, n=r.choice(words.nouns(words.STRUCTURE[structure])))
        elif r.random() < 0.09:
            name = r.choice([n for n in NAMES if split_name(n)[0] != structure])
            other, other_side = split_name(name)
            extra = r.choice(words.OTHER_STRUCTURE).format(x=words.mention(other, other_side, r))
        else:
            return text
        if "?" in text[-2:] or r.random() < 0.25:
            return f"{extra}. {text}"
        return f"{text}{r.choice((', ', '. ', ' - ', ' (', '; '))}{extra}" + (")" if text.count("(") > text.count(")") else "")

    def target(self, name, style):
        structure, side = split_name(name)
        short = {"ambiguous_abbreviation": 0.9, "abbr_or_short": 0.6, "messy_or_misspelled": 0.2}.get(style, 0.06)
        if style in ("clinical_request", "formal_task") and structure in words.ADJECTIVES and self.r.random() < 0.15:
            spoken = {"left": self.r.choice(("left", "left", "L", "lt")), "right": self.r.choice(("right", "right", "R", "rt")),
                      "both": self.r.choice(("bilateral", "both", "")), None: ""}[side]
            form = self.r.choice(ADJECTIVE_FORMS)
            return re.sub(" +", " ", form.format(s=spoken, a=words.ADJECTIVES[structure])).strip()
        return words.mention(structure, side, self.r, short)

    def named(self, facts, name, style=None):
        """An order for one concept; the scan decides between a segmentation and a refusal."""
        r = self.r
        verdict = facts.verdict(name)
        style = style or (r.choice(STYLES[:-1]) if verdict in ("segment", traces.NOT_VISIBLE, traces.UNSUPPORTED)
                          or r.random() < 0.4 else STYLES[-1])
        structure, side = split_name(name)
        text = self.fill(style, mark(self.target(name, style)), facts, structure, CONCEPTS[name].body_regions)
        text, quotes = self.finish(self.remark(text, structure, side), style)
        skills, rank = self.skills(quotes[0], name) if r.random() < self.skill_share else (None, None)
        return Order(text, style, traces.trace(facts, [name], rank),
                     (name,) if verdict == "segment" else (), verdict, skills)

    def several(self, facts, names):
        """An order for two or three concepts of the scan."""
        r = self.r
        style = r.choice(STYLES[:5] + ("abbr_or_short",))
        spoken = []
        for name in names:
            structure, side = split_name(name)
            spoken.append(mark(words.mention(structure, side, r, 0.15)))
        joined = r.choice((", ", " + ", " and ", "; ", " & ")).join(spoken) if len(names) == 2 else \
            ", ".join(spoken[:-1]) + r.choice((" and ", ", ", " + ", " and the ", ", and ")) + spoken[-1]
        text, _ = self.finish(self.fill(style, joined, facts, None, CONCEPTS[names[0]].body_regions), style)
        return Order(text, style, traces.trace(facts, names), tuple(names), "segment")

    def absent(self, facts, term):
        entry = next(e for e in words.ABSENT if e[0] == term)
        verdict = facts.absent_verdict(term)
        style = "out_of_region_reference" if verdict == traces.OUT_OF_REGION else self.r.choice(STYLES[:5])
        text = self.fill(style, mark(words.absent_mention(entry, self.r)), facts, None, entry[2])
        text, _ = self.finish(text, style)
        return Order(text, style, traces.absent_trace(facts, term), (), verdict)

    def ambiguous(self, facts):
        r = self.r
        paired = [s for s in words.STRUCTURES if s.sided]
        text = self.pick(words.AMBIGUOUS, words.HELD_OUT_AMBIGUOUS).format(
            v=self.verb(), p=r.choice(words.POLITE), n=r.choice(words.nouns(r.choice(paired))))
        if r.random() < 0.3:
            text = f"{self.indication()}. {text}"
        text, _ = self.finish(text + (self.pick(words.CLOSINGS) if r.random() < 0.3 else ""), "formal_task")
        return Order(text, "ambiguous", traces.ambiguous_trace(facts), (), traces.AMBIGUOUS)

    def no_request(self, facts):
        structure, side = split_name(self.r.choice(NAMES))
        text = self.pick(words.NOT_REQUESTS, words.HELD_OUT_NOT_REQUESTS).format(x=words.mention(structure, side, self.r))
        text, _ = self.finish(text, "formal_task")
        return Order(text, "not_a_request", traces.no_request_trace(facts), (), traces.NO_REQUEST)

    # Skills

    def skill_block(self, rank, alias, name):
        r = self.r
        tag = r.choice(("ABBR_DISAMBIGUATE", "MESSY_INPUT_REPAIR", "CLINICAL_REQUEST_NORMALIZE", "PROMPT_NORMALIZE"))
        content = r.choice((f"{alias}->{name}; trig={{RAW:ABBR({alias})}}; act={{EXPAND_TO_CANONICAL, KEEP_MINIMAL}}",
                            f'"{alias}" means {name}.', f"{alias} -> {name}"))
        audit = r.choice((f"round {r.randint(0, 9)}", f"round {r.randint(0, 9)}, gain 0.{r.randint(1, 60):02d}", "seed"))
        return f"[{rank}]\nTag: {tag}\nContent: {content}\nAudit: {audit}"

    def skills(self, quote, name, exact=False):
        """One to three blocks; returns them and the rank of the one that fits, or None if none does."""
        r = self.r
        count = r.choice((1, 1, 2, 3))
        fitting = r.randint(1, count) if r.random() < 0.6 else None
        blocks = []
        for rank in range(1, count + 1):
            if rank == fitting:
                structure, side = split_name(name)
                alias = quote if exact or r.random() < 0.6 else words.mention(structure, side, r, 0.3)
                blocks.append(self.skill_block(rank, alias, name))
                continue
            other = r.choice([n for n in NAMES if split_name(n)[0] != split_name(name)[0]])
            structure, side = split_name(other)
            blocks.append(self.skill_block(rank, words.mention(structure, side, r, 0.7), other))
        return "\n\n".join(blocks), fitting

    def taught(self, facts, name):
        """A made-up abbreviation that only a skill explains; without the skill it is ambiguous."""
        r = self.r
        alias = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(3, 4)))
        text, quotes = self.finish(self.fill("abbr_or_short", mark(alias), facts), "formal_task")
        if self.skill_share == 0 or self.skill_share < 1 and r.random() < 0.25:
            return Order(text, "abbr_or_short", traces.ambiguous_trace(facts), (), traces.AMBIGUOUS)
        while True:
            skills, rank = self.skills(quotes[0], name, exact=True)
            if rank:
                break
        return Order(text, "abbr_or_short", traces.trace(facts, [name], rank), (name,), "segment", skills)

    def usual(self, names):
        """One of the names; common structures and single sides more often."""
        weight = lambda structure, side: (2.5 if structure in words.COMMON else 1) * (1.5 if side in ("left", "right") else 1)
        return self.r.choices(names, [weight(*split_name(n)) for n in names])[0]

    # A mixture for training

    def draw(self, facts):
        """One order for a scan, in the training mixture."""
        r = self.r
        verdicts = {}
        for name in NAMES:
            verdicts.setdefault(facts.verdict(name), []).append(name)
        terms = {}
        for term in traces.ABSENT_REGIONS:
            terms.setdefault(facts.absent_verdict(term), []).append(term)
        inside = verdicts.get("segment", [])
        if not self.held_out and r.random() < 0.22:  # slips in common names, where they are and where they are not
            name = r.choice([n for n in NAMES if split_name(n)[0] == "hippocampus"] if r.random() < 0.45 else
                            [n for n in NAMES if split_name(n)[0] in words.COMMON])
            if facts.verdict(name):
                return self.named(facts, name, "messy_or_misspelled")
        u = r.random()
        if u < 0.05:
            return self.ambiguous(facts)
        if u < 0.09:
            return self.no_request(facts)
        if u < 0.12 and terms.get(traces.AMBIGUOUS):
            return self.absent(facts, r.choice(terms[traces.AMBIGUOUS]))
        if u < 0.28 and verdicts.get(traces.OUT_OF_REGION):
            return self.named(facts, r.choice(verdicts[traces.OUT_OF_REGION]))
        if u < 0.34 and terms.get(traces.OUT_OF_REGION):
            return self.absent(facts, r.choice(terms[traces.OUT_OF_REGION]))
        if u < 0.38 and verdicts.get(traces.UNSUPPORTED):
            return self.named(facts, r.choice(verdicts[traces.UNSUPPORTED]))
        if u < 0.41 and verdicts.get(traces.NOT_VISIBLE):
            return self.named(facts, r.choice(verdicts[traces.NOT_VISIBLE]))
        if not inside:
            fallback = verdicts.get(traces.OUT_OF_REGION) or verdicts[traces.UNSUPPORTED]
            return self.named(facts, r.choice(fallback))
        if u < (0.42 if self.skill_share < 1 else 0.70):
            return self.taught(facts, r.choice(inside))
        if u < 0.52 and len(inside) > 3:
            names = r.sample(inside, r.choice((2, 2, 3)))
            if len({split_name(n)[0] for n in names}) == len(names):
                return self.several(facts, names)
            pair = CONCEPTS[names[0]].parts
            if pair and all(n in facts.where for n in pair):  # "left kidney and right kidney", each named: two targets
                return self.several(facts, r.sample(pair, 2))
        return self.named(facts, self.usual(inside))


def imagined_facts(r):
    """Facts of a scan that does not exist, for training on text alone."""
    modality, region = r.choice((("MR", "head"),) * 6 + (("CT", "head"),) * 2 + (("CT", "head and neck"),) * 3 + (
        ("CT", "neck"), ("CT", "chest"), ("CT", "chest"), ("CT", "chest and abdomen"), ("CT", "abdomen"), ("CT", "abdomen"),
        ("CT", "abdomen and pelvis"), ("CT", "abdomen and pelvis"), ("CT", "abdomen and pelvis"), ("CT", "pelvis"), ("CT", "pelvis"),
        ("MR", "abdomen"), ("CT", "limb"), ("MR", "limb")))
    facts = Facts(modality, region, {}, r.random() < 0.5)
    for name, concept in CONCEPTS.items():
        if set(concept.body_regions) & set(facts.parts) and modality in concept.modalities and r.random() < 0.85:
            first = r.randint(1, 4)
            views = list(range(first, r.randint(first, 4) + 1)) if r.random() < 0.85 else []
            facts.where[name] = (views, r.uniform(0.5, 4.5))
    return facts


if __name__ == "__main__":
    drawer = Drawer(1)
    for _ in range(40):
        order = drawer.draw(imagined_facts(drawer.r))
        print(f"[{order.style}] {order.text}\n    {order.trace}" + (f"\n    SKILLS {order.skills!r}" if order.skills else ""))
