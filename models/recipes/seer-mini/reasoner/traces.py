"""What the reasoner writes: facts about a scan and targets of an order become the tagged trace.

    <evidence>MR of the head. left hippocampus in views 2, 3.</evidence>
    <rationale>the order means the left hippocampus, in the head.</rationale>
    <answer>Segment the left hippocampus.</answer>

The rationale does not quote the order: a model of this size copies unseen spellings badly, and a wrong
quotation in a record is worse than none.
"""
from dataclasses import dataclass, field

from concepts import ABSENT, FINDING, STRUCTURES
from make_vocabulary import concepts

CONCEPTS = {c.name: c for c in concepts()}
NAMES = list(CONCEPTS)
INDEX = {name: i for i, name in enumerate(NAMES)}
FINDINGS = {s.name for s in STRUCTURES if s.category == FINDING}
#: A bare word for a finding means this bundle's own finding in a head.
FINDING_TERM = "tumour"
ABSENT_REGIONS = {name: regions for name, _, regions in ABSENT}

#: Spoken region of a scan -> body regions it covers.
REGIONS = {
    "head": ("head",), "head and neck": ("head", "neck"), "neck": ("neck",), "chest": ("chest",),
    "chest and abdomen": ("chest", "abdomen"), "abdomen": ("abdomen",),
    "abdomen and pelvis": ("abdomen", "pelvis"), "pelvis": ("pelvis",), "limb": ("limb",),
}
REGION_NAMES = list(REGIONS)
#: Body regions next to a scan's own: an organ there may reach into the scan, so no order is drawn for it.
NEIGHBOURS = {
    "head": ("neck",), "head and neck": ("chest",), "neck": ("head", "chest"), "chest": ("neck", "abdomen"),
    "chest and abdomen": ("neck", "pelvis"), "abdomen": ("chest", "pelvis"), "abdomen and pelvis": ("chest",),
    "pelvis": ("abdomen", "limb"), "limb": ("pelvis", "chest"),
}
OUT_OF_REGION, UNSUPPORTED, NOT_VISIBLE, AMBIGUOUS, NO_REQUEST = REASONS = (
    "out_of_region", "unsupported_modality", "not_visible", "ambiguous", "not_a_segmentation_request")


@dataclass
class Facts:
    """What is true of one scan.

    `where` maps each concept known to be in the scan to (view numbers counted from 1, centre), centre
    being a fractional view number. `complete` says that a concept of the scan's region and modality that
    is missing there is truly outside the scan, but for those `unsure`, of which the scan cuts off a part.
    """

    modality: str
    region: str
    where: dict = field(default_factory=dict)
    complete: bool = False
    unsure: frozenset = frozenset()

    @property
    def parts(self):
        return REGIONS[self.region]

    def verdict(self, name):
        """"segment", a refusal reason, or None where the truth is not known."""
        concept = CONCEPTS[name]
        if name in self.where:
            return "segment"
        if not set(concept.body_regions) & set(self.parts):
            return None if set(concept.body_regions) & set(NEIGHBOURS[self.region]) else OUT_OF_REGION
        if self.modality not in concept.modalities:
            return UNSUPPORTED
        return NOT_VISIBLE if self.complete and name not in self.unsure else None

    def absent_verdict(self, term):
        """Terms outside the vocabulary: elsewhere in the body, or here but unknown to the model."""
        regions = set(ABSENT_REGIONS[term])
        if term == FINDING_TERM and self.region == "head":
            return None
        if regions & set(self.parts):
            return AMBIGUOUS
        return None if regions & set(NEIGHBOURS[self.region]) else OUT_OF_REGION


def listed(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def the(name):
    return name if name.startswith("both ") else f"the {name}"


def place(views, centre):
    if len(views) == 1:
        return f"in view {views[0]}"
    if views:
        return "in views " + ", ".join(map(str, views))
    if centre < 1:
        return "below view 1"
    if centre > 4:
        return "above view 4"
    return f"between views {int(centre)} and {int(centre) + 1}"


def tagged(evidence, rationale, answer):
    return f"<evidence>{evidence}</evidence><rationale>{rationale}</rationale><answer>{answer}</answer>"


def reject(facts, rationale, reason, extra="", skill=None):
    return tagged(opening(facts) + extra, named(skill) + rationale, f"Reject: {reason}.")


def opening(facts):
    return f"{facts.modality} of the {facts.region}."


def named(skill):
    """Names the skill that was used by its rank in the prompt."""
    return f"Skill {skill}: " if skill else ""


def trace(facts, names, skill=None):
    """The trace of an order for the concepts `names`; several must all be in the scan, one may be refused."""
    name, meant = names[0], "the order means " + listed([the(n) for n in names])
    verdict = facts.verdict(name)
    if verdict == "segment":
        seen = "; ".join(f"{n} " + ("to be looked for" if n in FINDINGS else place(*facts.where[n])) for n in names)
        where = f", in the {listed(CONCEPTS[name].body_regions)}" if len(names) == 1 else ""
        answer = "; ".join(map(the, names))  # as the server's grammar has it: "both kidneys", not "the both kidneys"
        return tagged(f"{opening(facts)} {seen}.", f"{named(skill)}{meant}{where}.", f"Segment {answer}.")
    if verdict == OUT_OF_REGION:
        why = f"{meant}, in the {listed(CONCEPTS[name].body_regions)}, not in the {facts.region}."
    elif verdict == UNSUPPORTED:
        why = f"{meant}, which needs {listed(CONCEPTS[name].modalities)}, not {facts.modality}."
    else:
        why = f"{meant}, outside this scan."
    return reject(facts, why, verdict, f" {name} not seen.", skill)


def absent_trace(facts, term):
    if facts.absent_verdict(term) == OUT_OF_REGION:
        why = f"the order means the {term}, in the {listed(ABSENT_REGIONS[term])}, not in the {facts.region}."
        return reject(facts, why, OUT_OF_REGION, f" {term} not seen.")
    return reject(facts, f"the order means the {term}, which is not a known target.", AMBIGUOUS)


def ambiguous_trace(facts):
    return reject(facts, "the order names no single structure.", AMBIGUOUS)


def no_request_trace(facts):
    return reject(facts, "the order asks for no segmentation.", NO_REQUEST)
