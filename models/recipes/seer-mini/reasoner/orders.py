"""Draws orders: free text in eight styles, with the trace that answers it for a given scan.

The marks FROM and TO stand around the words that name a target until the text is finished, so that
skills can be written for exactly these words.
"""
import random
import re
from dataclasses import dataclass

import lexicon as words
import refusals
import skills
import traces
from letters import composed, sentence_remark
from traces import CONCEPTS, NAMES, Facts

FROM, TO = "\x01", "\x02"
STYLES = ("formal_task", "clinical_request", "report_style", "verbose_request", "messy_or_misspelled",
          "ambiguous_abbreviation", "abbr_or_short", "out_of_region_reference")

#: {p} politeness, {v} verb, {t} target, {c} closing, {i} indication, {e} exam, {a} age, {s} sex.
TEMPLATES = {
    "formal_task": ("Organ: {t}", "Label: {t}", "mask: {t}", "{v}: {t}", "target volume {t}", "the {t}", "Segmentation target = {t}", "Contour set: {t}", "Object of interest: {t}{c}",
                    "Automatic segmentation of the {t} is required", "We request a segmentation of the {t}", "Produce a binary mask for the {t}{c}", "{t}, full extent", "Region of interest: {t}", "Perform {t} delineation", "ROI: {t}", "{v} the {t}", "{v} {t}", "{v} the {t} in this scan", "Segmentation of the {t}", "{t} segmentation", "{t}",
                    "Target: {t}", "Task: {v} the {t}", "{p} {v} the {t}{c}", "Provide the mask of the {t}", "Structure: {t}",
                    "segment the {t}", "Segment {t}.", "please segment the {t}", "{v} the {t} on this volume{c}"),
    "clinical_request": ("Could somebody {v} the {t}?", "Could you {v} the {t} for us?", "can someone {v} the {t}?", "can we get the {t}?", "may I have the {t}?", "Would it be possible to {v} the {t}?", "would you mind to {v} the {t}{c}?", "is it possible to get a mask of the {t}?", "any chance of {t} contours?", 
                         "{t} for {i}", "{i}; {t}", "{i}. {t}.", "{i}, {v} {t}", "{a}{s}, {i}, {t}{c}", "{a}-year-old {s} with {i}; {v} the {t}", "Hx {i}. ROI {t}", "due to {i} {v} the {t}{c}",
                         "I need {t} for this {s} ({a}), {i}", "{s}, {a} y, {i}, please get the {t} done", "we are worried about {i}. {p} {v} the {t}", "{v} the {t} - {i}, {a}{s}",
                         "Referred for {i}. Require {t} volume{c}", "{a} year old {s}. {i}. {t} needed{c}", "query {i}, show me the {t}", "{i}: {p} {v} the {t}{c}", "{p} {v} the {t}, {i}{c}", "{a} yo {s}, {i}. {p} {v} {t}{c}", "Ind: {i}. {v} the {t}",
                         "{a}{s} {i}, need {t} volume", "pt with {i}, {v} {t}{c}", "{i} - {t} contour needed{c}",
                         "For {i} we need the {t} outlined", "{v} the {t} because of {i}", "clinical question {i}; {p} {v} the {t}"),
    "report_style": ("{e}. Clinical: {i}. Task: {t}.", "EXAM: {e}. HISTORY: {i}. REQUEST: {t}.", "{e}. {t} volumetry.", "{e}. Quantitative analysis of the {t}{c}.", "Study: {e}. Indication: {i}. Structure for contouring: {t}.",
                     "{e} of a {a}{s}. For {i}. The {t} is of interest; {v} it.", "PROCEDURE: {e}. COMPARISON: none. PLAN: segmentation of {t}.", "{e}, {a}{s}. {i}. Need: {t}.", "{e}, history {i}. Kindly {v} the {t}.", "{e}. Please delineate {t}{c}.", "{e}. Findings: {i}. Request: {v} the {t}.", "{e}: {t} to be segmented.", "{e} - {i}. The {t} should be delineated{c}.",
                     "TECHNIQUE: {e}. TASK: {t} segmentation.", "{e}. Volumetric assessment of the {t} is requested.",
                     "IMPRESSION: {i}. RECOMMENDATION: {v} the {t}.", "{e}. {a}{s}. Contours of the {t} requested{c}."),
    "verbose_request": ("Hi, sorry to bother you again, I know you are busy, but if it is not too much trouble could somebody {v} the {t}{c}? That would be great.",
                        "As part of the {i} work-up the team agreed this morning that we should {v} the {t}, everything else can wait{c}",
                        "I have looked through the whole series and I think the best thing is to {v} the {t} and nothing more{c}",
                        "So, about this {a} year old {s}: {i}, long story, in the end we only want you to {v} the {t}{c}",
                        "Could you please help me with the following: {v} the {t}. Background: {i}. Many thanks in advance",
                        "When you find a minute, {p} {v} the {t} for me, because {i} and the meeting is on Monday",
                        "What I would really like from this scan, if possible, is the {t}; {p} {v} it and let me know{c}",
                        "The student wants to learn how one would {v} the {t}, so {p} do that{c}", "Dear colleagues, thank you for your help last time; may I ask you to {v} the {t} as well{c}", "Hello, I was wondering whether you {p} {v} the {t} on this study, as the team would like to see it before the meeting{c}",
                        "We have a patient ({a}{s}) here with {i} and for the planning we would be happy if somebody could {v} the {t}{c}",
                        "Good afternoon, as discussed on the phone this is about {i}; what we need is only the {t}, nothing else{c}",
                        "I know that it is late, but the surgeon has asked again for the {t}, so {p} {v} it{c}",
                        "The study was done last week for {i}. I looked at it already. Now {p} {v} the {t} so that we can compare{c}",
                        "Since the follow-up of this patient depends on the volume, {p} {v} the {t} carefully{c}"),
    "messy_or_misspelled": ("{t} plz n thx", "hey {v} {t} ok", "{v}  {t}   {p}", "jsut {v} the {t}", "can u {v} teh {t} 4 me", "need {t} seg asap!!", "{t}{c} {v}", "{i} .. {t} .. {v}", "{v} {t} ty", "pls {t}", "{t} cntour",
                            "{p} quickly {v} {t}{c}", "{v} {t} now {p}", "{p} {v} {t}{c}", "{p} {v} the {t}{c}", "{v} teh {t}", "{t} {v} {p}{c}", "need {t} {v} {i}", "{t} volumetry {p}{c}",
                            "{i} {v} {t} thx", "{t} mask {p}", "cn u {v} {t}{c}", "{v} {t} {v} {t}"),
    "ambiguous_abbreviation": ("show {t}", "{t} ROI", "ROI {t}", "{v} {t}", "{p} {v} {t}{c}", "{t} vol", "{t} pls", "{t} mask", "{i}. {v} {t}", "{v} the {t}", "{t} seg"),
    "abbr_or_short": ("ROI {t}", "{t} now", "{t} ROI", "show {t}", "{t}", "{t}", "{t} {p}", "seg {t}", "{t} seg", "{t} vol", "mask {t}", "{t} only", "just the {t}", "{t} contour", "{t} !!", "{t}.", "-> {t}", "{t} plz", "{t} only pls", "do {t}", "get {t}", "{t} here", "{t} stat", "vol {t}", "{t} 3D"),
    "out_of_region_reference": ("find and {v} the {t}", "where is the {t}? {v} it", "show me the {t}", "{v} the {t}", "{p} {v} the {t}{c}", "{i}: {v} the {t}", "{e}. {p} {v} the {t}", "{t}", "{t} segmentation",
                                "I need the {t} on this study", "need a mask of the {t}{c}", "{v} {t} here"),
}
HELD_OUT_TEMPLATES = {
    "formal_task": ("Organ: {t}", "Label: {t}", "mask: {t}", "{v}: {t}", "target volume {t}", "the {t}", "Segmentation target = {t}", "Contour set: {t}", "Object of interest: {t}{c}",
                    "Automatic segmentation of the {t} is required", "We request a segmentation of the {t}", "Produce a binary mask for the {t}{c}", "{t}, full extent", "Obtain the {t}", "Structure to segment: {t}"),
    "clinical_request": ("{t} for {i}", "{i}; {t}", "{i}. {t}.", "{i}, {v} {t}", "{a}{s}, {i}, {t}{c}", "{a}-year-old {s} with {i}; {v} the {t}", "Hx {i}. ROI {t}", "due to {i} {v} the {t}{c}",
                         "I need {t} for this {s} ({a}), {i}", "{s}, {a} y, {i}, please get the {t} done", "we are worried about {i}. {p} {v} the {t}", "{v} the {t} - {i}, {a}{s}",
                         "Referred for {i}. Require {t} volume{c}", "{i}, {a}{s}. Kindly do the {t}{c}", "history of {i}, {t} please"),
    "report_style": ("{e}. Clinical: {i}. Task: {t}.", "EXAM: {e}. HISTORY: {i}. REQUEST: {t}.", "{e}. {t} volumetry.", "{e}. Quantitative analysis of the {t}{c}.", "Study: {e}. Indication: {i}. Structure for contouring: {t}.",
                     "{e} of a {a}{s}. For {i}. The {t} is of interest; {v} it.", "PROCEDURE: {e}. COMPARISON: none. PLAN: segmentation of {t}.", "{e}, {a}{s}. {i}. Need: {t}.", "EXAM {e}. The {t} is to be contoured{c}.", "{e}, indication {i}. Please add the {t}."),
    "verbose_request": ("Hi, sorry to bother you again, I know you are busy, but if it is not too much trouble could somebody {v} the {t}{c}? That would be great.",
                        "As part of the {i} work-up the team agreed this morning that we should {v} the {t}, everything else can wait{c}",
                        "I have looked through the whole series and I think the best thing is to {v} the {t} and nothing more{c}",
                        "So, about this {a} year old {s}: {i}, long story, in the end we only want you to {v} the {t}{c}",
                        "Could you please help me with the following: {v} the {t}. Background: {i}. Many thanks in advance",
                        "When you find a minute, {p} {v} the {t} for me, because {i} and the meeting is on Monday",
                        "What I would really like from this scan, if possible, is the {t}; {p} {v} it and let me know{c}",
                        "The student wants to learn how one would {v} the {t}, so {p} do that{c}", "This one is for teaching. Students should see where the {t} lies, hence {p} {v} it{c}",
                        "My colleague has forgotten to ask for the {t}, which is why I write again, {p} {v} it{c}"),
    "messy_or_misspelled": ("{t} plz n thx", "hey {v} {t} ok", "{v}  {t}   {p}", "jsut {v} the {t}", "can u {v} teh {t} 4 me", "need {t} seg asap!!", "{t}{c} {v}", "{i} .. {t} .. {v}", "{v} {t} ty", "pls {t}", "{t} cntour",
                            "gimme {t} {v}", "{t} {t} {v} {p}"),
    "ambiguous_abbreviation": ("{t} volume wanted", "want {t}"),
    "abbr_or_short": ("{t} needed", "{t}, nothing else"),
    "out_of_region_reference": ("let me have the {t}", "{p} {v} the {t}, it is urgent"),
}
#: How orders number the third and the fourth ventricle.
NUMERALS = (("third", "fourth"), ("3rd", "4th"), ("III", "IV"), ("3.", "4."), ("3", "4"))
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
    `emphasis` draws misread names more often.
    """

    def __init__(self, seed, held_out=False, skill_share=0.1, emphasis=None):
        self.r = random.Random(seed)
        self.held_out = held_out
        self.skill_share = skill_share
        self.emphasis = emphasis
        self.choose = emphasis.choose if emphasis else None

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
        if not self.held_out and r.random() < 0.45:
            text = composed(style, self, target, structure, self.exam(facts, regions))
            if text:
                return text
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
        if r.random() < 0.8:
            text = re.sub(f"[Tt]he ({FROM}?both )", r"\1", text)
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
        if case < 0.13:
            text = text.upper()
        elif case < 0.48:
            text = text.lower()
        elif case < 0.6:
            text = re.sub(r"[a-z]", lambda m: m.group().upper(), text, count=1)
        if style == "messy_or_misspelled" and r.random() < 0.3:
            text = r.choice((text.replace(",", ""), text.replace(" the ", " "), text + "..", text + "!!", text.replace(" ", "  ", 1)))
        quotes = [q.strip() for q in re.findall(f"{FROM}(.*?){TO}", text)]
        return text.replace(FROM, "").replace(TO, "").strip(), quotes

    def remark(self, text, structure, side, facts, style):
        """Adds a distractor: the other side of the same structure, another structure, or a side elsewhere.

        Most of the other structures are in the same scan: those are the ones that could be taken for the target.
        """
        r = self.r
        if side in ("left", "right") and r.random() < 0.18:
            other = {"left": "right", "right": "left"}[side]
            if r.random() < 0.4:
                return sentence_remark(text, f"{other} {r.choice(('one', 'side', *words.nouns(words.STRUCTURE[structure])))}", r)
            other = other if r.random() < 0.75 else other[0].upper()
            extra = r.choice(words.OTHER_SIDE).format(o=other, n=r.choice(words.nouns(words.STRUCTURE[structure])))
        elif r.random() < (0.5 if style == "verbose_request" else 0.16):
            near = [n for n in facts.where if split_name(n)[0] != structure] if r.random() < 0.75 else []
            name = r.choice(near or [n for n in NAMES if split_name(n)[0] != structure])
            other, other_side = split_name(name)
            spoken = name if r.random() < 0.4 else words.mention(other, other_side, r)
            if r.random() < 0.6:
                return sentence_remark(text, spoken, r)
            extra = r.choice(words.OTHER_STRUCTURE).format(x=spoken)
        else:
            return text
        if "?" in text[-2:] or r.random() < 0.25:
            return f"{extra}. {text}"
        return f"{text}{r.choice((', ', '. ', ' - ', ' (', '; '))}{extra}" + (")" if text.count("(") > text.count(")") else "")

    def target(self, name, style, region):
        structure, side = split_name(name)
        short = {"ambiguous_abbreviation": 0.9, "abbr_or_short": 0.6, "messy_or_misspelled": 0.2}.get(style, 0.06)
        if style in ("clinical_request", "formal_task") and structure in words.ADJECTIVES and self.r.random() < 0.15:
            spoken = {"left": self.r.choice(("left", "left", "L", "lt")), "right": self.r.choice(("right", "right", "R", "rt")),
                      "both": self.r.choice(("bilateral", "both", "")), None: ""}[side]
            form = self.r.choice(ADJECTIVE_FORMS)
            return re.sub(" +", " ", form.format(s=spoken, a=words.ADJECTIVES[structure])).strip()
        return words.mention(structure, side, self.r, short, region, self.choose)

    def named(self, facts, name, style=None):
        """An order for one concept; the scan decides between a segmentation and a refusal."""
        r = self.r
        verdict = facts.verdict(name)
        style = style or (r.choice(STYLES[:-1]) if verdict in ("segment", traces.NOT_VISIBLE, traces.UNSUPPORTED)
                          or r.random() < 0.4 else STYLES[-1])
        structure, side = split_name(name)
        text = self.fill(style, mark(self.target(name, style, facts.region)), facts, structure, CONCEPTS[name].body_regions)
        text, quotes = self.finish(self.remark(text, structure, side, facts, style), style)
        offered, rank = self.offered(quotes[0], name) if r.random() < self.skill_share else (None, None)
        return Order(text, style, traces.trace(facts, [name], rank),
                     (name,) if verdict == "segment" else (), verdict, offered)

    def several(self, facts, names):
        """An order for two to four concepts of the scan."""
        r = self.r
        style = r.choice(STYLES[:5] + ("abbr_or_short",))
        short = 0.5 if style == "abbr_or_short" else 0.15
        sides = [split_name(n)[1] for n in names]
        if set(names) == {"third ventricle", "fourth ventricle"} and r.random() < 0.4:
            joined = mark(self.numbered(r.choice(NUMERALS), [int(name == "fourth ventricle") for name in names]))
        elif len(set(sides)) == 1 and sides[0] and r.random() < 0.5:
            joined = self.under_one_side([split_name(n)[0] for n in names], sides[0], short)
        else:
            joined = self.joined([mark(words.mention(*split_name(n), r, short, facts.region, self.choose)) for n in names])
        text, _ = self.finish(self.fill(style, joined, facts, None, CONCEPTS[names[0]].body_regions), style)
        offered = self.irrelevant(names[0]) if r.random() < self.skill_share else None
        return Order(text, style, traces.trace(facts, names), tuple(names), "segment", offered)

    def numbered(self, numerals, turn):
        """ "third and fourth ventricles", "ventricles IV + III"."""
        pair = self.r.choice((" and ", " & ", "/", " + ", " and the ")).join(numerals[i] for i in turn)
        return self.r.choice((f"{pair} ventricles", f"{pair} ventricle", f"ventricles {pair}"))

    def joined(self, spoken):
        r = self.r
        if len(spoken) == 2:
            return r.choice((", ", " + ", " and ", " and ", " and the ", "; ", " & ", " plus ", "/", " as well as the ", " along with ", ", also ")).join(spoken)
        between = r.choice((", ", ", ", "; ", " + ", "/", " and "))
        return between.join(spoken[:-1]) + r.choice((" and ", ", ", " + ", " and the ", ", and ", " & ", " plus ")) + spoken[-1]

    def under_one_side(self, structures, side, short):
        """One word of side for all: "left thalamus and putamen", "bilateral thalami and putamina", "caudate + putamen, R"."""
        r = self.r
        noun = lambda s: r.choice(words.ABBREVIATIONS[s]) if r.random() < short else s if r.random() < 0.6 else r.choice(words.nouns(words.STRUCTURE[s]))
        if side == "both":
            plural = lambda s: words.STRUCTURE[s].plural if r.random() < 0.5 else noun(s)
            said = self.joined([mark(plural(s)) for s in structures])
            return r.choice(("{}", "{}", "both {}", "bilateral {}", "{} bilaterally", "{} on both sides", "left and right {}", "{} (both)", "{} b/l")).format(said)
        said = self.joined([mark(noun(s)) for s in structures])
        letter = side[0].upper()
        return r.choice((f"{side} {said}", f"{side} {said}", f"{side} {said}", f"{letter} {said}", f"{side[0]}t {said}", f"{said} on the {side}",
                         f"{said}, {side}", f"{side}-sided {said}", f"{said} of the {side} side", f"{said} ({letter})"))

    def absent(self, facts, term):
        entry = next(e for e in words.ABSENT if e[0] == term)
        verdict = facts.absent_verdict(term)
        style = "out_of_region_reference" if verdict == traces.OUT_OF_REGION else self.r.choice(STYLES[:5])
        text = self.fill(style, mark(words.absent_mention(entry, self.r, facts.parts)), facts, None, entry[2])
        text, _ = self.finish(text, style)
        return Order(text, style, traces.absent_trace(facts, term), (), verdict)

    def ambiguous(self, facts):
        r = self.r
        structure = r.choice([s for s in words.STRUCTURES if s.sided])
        if r.random() < 0.3 or self.held_out:
            text = self.pick(words.AMBIGUOUS, words.HELD_OUT_AMBIGUOUS).format(
                v=self.verb(), p=r.choice(words.POLITE), n=r.choice(words.nouns(structure)))
        else:
            text = refusals.vague(self, words.nouns(structure))
        if r.random() < 0.2:
            text = f"{self.indication()}. {text}"
        text, _ = self.finish(text + (self.pick(words.CLOSINGS) if r.random() < 0.3 else ""), "formal_task")
        offered = self.irrelevant() if r.random() < self.skill_share else None
        return Order(text, "ambiguous", traces.ambiguous_trace(facts), (), traces.AMBIGUOUS, offered)

    def no_request(self, facts):
        r = self.r
        structure, side = split_name(r.choice(NAMES))
        mention = words.mention(structure, side, r)
        if r.random() < 0.3 or self.held_out:
            text = self.pick(words.NOT_REQUESTS, words.HELD_OUT_NOT_REQUESTS).format(x=mention)
        else:
            text = refusals.no_request(self, mention)
        text, _ = self.finish(text, "formal_task")
        offered = self.irrelevant() if r.random() < self.skill_share else None
        return Order(text, "not_a_request", traces.no_request_trace(facts), (), traces.NO_REQUEST, offered)

    # Skills

    def irrelevant(self, name=None, alias=None):
        """Blocks of which none fits; `alias` adds words that merely look like it."""
        return skills.blocks(None, self.irrelevant_lines(self.r.choice((1, 1, 2, 2, 3)), name, alias), self.r)[0]

    def irrelevant_lines(self, count, name=None, alias=None):
        r, lines = self.r, []
        for _ in range(count):
            other = r.choice([n for n in NAMES if not name or split_name(n)[0] != split_name(name)[0]])
            structure, side = split_name(other)
            word = skills.near(alias, r) if alias and r.random() < 0.25 else \
                skills.invent(r) if r.random() < 0.55 else words.mention(structure, side, r, 0.7)
            lines.append(r.choice(skills.GENERAL) if r.random() < 0.08 else skills.content(word, self.said(other), r))
        return lines

    def said(self, name):
        """A target as a skill may spell it: the canonical name, or the structure without its side."""
        structure, side = split_name(name)
        return structure if side and self.r.random() < 0.2 else name

    def offered(self, quote, name):
        """Blocks for an order that is clear without them: some repeat what it says; returns them and the rank to name."""
        r = self.r
        count = r.choice((0, 1, 1, 2, 2, 3))
        fitting = skills.content(quote if r.random() < 0.75 else quote.lower(), name, r) if count == 0 or r.random() < 0.4 else None
        return skills.blocks(fitting, self.irrelevant_lines(count, name), r)

    def taught(self, facts, name):
        """A made-up word that only a skill explains; without the skill it is ambiguous."""
        r = self.r
        invented = self.skill_share < 1 or r.random() < 0.93  # else a known abbreviation with a meaning of the house
        alias = skills.invent(r) if invented else r.choice(r.choice(list(words.ABBREVIATIONS.values())))
        structure, side = split_name(name)
        spoken, meaning = alias, name
        if side and r.random() < 0.45:  # the order gives the side
            form = {"left": ("left {}", "L {}", "lt {}", "{} left", "{}, left", "{} on the left", "{} L"), "right": ("right {}", "R {}", "rt {}", "{} right", "{}, right", "{} on the right", "{} R"),
                    "both": ("both {}", "bilateral {}", "{} on both sides", "left and right {}", "{} bilat", "both {}s")}[side]
            spoken = r.choice(form).format(alias)
            plural = f"both {words.STRUCTURE[structure].plural}"
            twin = CONCEPTS[plural].parts[side == "left"]
            meaning = r.choice((structure, structure, plural, name, twin if side != "both" else structure))
        style = r.choice(("abbr_or_short", "formal_task", "messy_or_misspelled", "clinical_request", "ambiguous_abbreviation", "report_style"))
        text, quotes = self.finish(self.fill(style, mark(spoken), facts), "formal_task")
        if alias.lower() not in text.lower():  # a slip of the fingers would make it another word
            text = f"{self.verb()} {spoken}"
        if r.random() < 0.3:
            alias = alias.lower() if r.random() < 0.6 else alias.upper()
        if self.skill_share == 0 or invented and r.random() < 0.13:
            offered = self.irrelevant(alias=alias) if self.skill_share == 1 or r.random() < self.skill_share else None
            return Order(text, "taught", traces.ambiguous_trace(facts), (), traces.AMBIGUOUS, offered)
        lines = self.irrelevant_lines(r.choice((0, 0, 0, 1, 1, 2, 3)), name, alias)
        offered, rank = skills.blocks(skills.content(alias, meaning, r), lines, r)
        verdict = facts.verdict(name)
        return Order(text, "taught", traces.trace(facts, [name], rank), (name,) if verdict == "segment" else (), verdict, offered)

    def usual(self, names):
        """One of the names; common structures and single sides more often."""
        told = self.emphasis.of_structure if self.emphasis else lambda _: 1
        weight = lambda structure, side: (2.5 if structure in words.COMMON else 1) * (1.5 if side in ("left", "right") else 1) * told(structure)
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
        if not self.held_out and r.random() < 0.22:  # slips in names, where they are and where they are not
            name = self.usual(inside) if inside and r.random() < 0.5 else self.usual(NAMES)
            if facts.verdict(name):
                return self.named(facts, name, "messy_or_misspelled")
        if r.random() < 0.02:  # two letters that mean one thing in a head and another in a chest
            if "both lateral ventricles" in inside and facts.region == "head":
                return self.named(facts, "both lateral ventricles", "ambiguous_abbreviation")
            if "chest" in facts.parts:
                return self.absent(facts, "left ventricle of the heart")
        u = r.random()
        if self.skill_share == 1 and u < 0.55:
            pool = verdicts.get(traces.OUT_OF_REGION) if r.random() < 0.12 else None
            return self.taught(facts, r.choice(pool or inside or verdicts.get(traces.OUT_OF_REGION)))
        u = r.random()
        if u < 0.07:
            return self.ambiguous(facts)
        if u < 0.14:
            return self.no_request(facts)
        if u < 0.18 and terms.get(traces.AMBIGUOUS):
            return self.absent(facts, r.choice(terms[traces.AMBIGUOUS]))
        if u < 0.30 and verdicts.get(traces.OUT_OF_REGION):
            return self.named(facts, r.choice(verdicts[traces.OUT_OF_REGION]))
        if u < 0.37 and terms.get(traces.OUT_OF_REGION):
            return self.absent(facts, r.choice(terms[traces.OUT_OF_REGION]))
        if u < 0.41 and verdicts.get(traces.UNSUPPORTED):
            return self.named(facts, r.choice(verdicts[traces.UNSUPPORTED]))
        if u < 0.44 and verdicts.get(traces.NOT_VISIBLE):
            return self.named(facts, r.choice(verdicts[traces.NOT_VISIBLE]))
        if not inside:
            fallback = verdicts.get(traces.OUT_OF_REGION) or verdicts[traces.UNSUPPORTED]
            return self.named(facts, r.choice(fallback))
        if u < 0.47:
            return self.taught(facts, r.choice(inside))
        if u < 0.74 and len(inside) > 3:
            names = self.some(inside)
            if names:
                return self.several(facts, names)
        return self.named(facts, self.usual(inside))

    def some(self, inside):
        """Two to four concepts of different structures, half the time of one side; or a left and its right, each named."""
        r = self.r
        if r.random() < 0.15:
            pair = CONCEPTS[r.choice(inside)].parts
            return r.sample(pair, 2) if pair and all(n in inside for n in pair) else None
        side = r.choice(("left", "right", "both", "both", None, None, None))
        of_side = [n for n in inside if side is None or split_name(n)[1] == side]
        chosen = {}
        for _ in range(r.choice((2, 2, 2, 3, 3, 4)) if of_side else 0):
            name = self.usual(of_side)
            chosen.setdefault(split_name(name)[0], name)
        return list(chosen.values()) if len(chosen) > 1 else None


def imagined_facts(r):
    """Facts of a scan that does not exist, for training on text alone."""
    modality, region = r.choice((("MR", "head"),) * 6 + (("CT", "head"),) * 2 + (("CT", "head and neck"),) * 3 + (
        ("CT", "neck"), ("CT", "chest"), ("CT", "chest"), ("CT", "chest and abdomen"), ("CT", "abdomen"), ("CT", "abdomen"),
        ("CT", "abdomen and pelvis"), ("CT", "abdomen and pelvis"), ("CT", "abdomen and pelvis"), ("CT", "pelvis"), ("CT", "pelvis"),
        ("MR", "abdomen"), ("CT", "limb"), ("MR", "limb")))
    facts = Facts(modality, region, {}, r.random() < 0.5)
    for name, concept in CONCEPTS.items():
        if set(concept.body_regions) & set(facts.parts) and modality in concept.modalities and r.random() < 0.85:
            if name in traces.FINDINGS:
                facts.where[name] = ([], 0.0)
                continue
            first = r.randint(1, 4)
            views = list(range(first, r.randint(first, 4) + 1)) if r.random() < 0.85 else []
            facts.where[name] = (views, r.uniform(0.5, 4.5))
    return facts


if __name__ == "__main__":
    drawer = Drawer(1)
    for _ in range(40):
        order = drawer.draw(imagined_facts(drawer.r))
        print(f"[{order.style}] {order.text}\n    {order.trace}" + (f"\n    SKILLS {order.skills!r}" if order.skills else ""))
