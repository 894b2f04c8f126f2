"""Skill blocks as the bank offers them, and the made-up words that only a skill explains.

    [1]
    Tag: ABBR_DISAMBIGUATE
    Content: hpx->left hippocampus; trig={RAW:ABBR(hpx)}; act={EXPAND_TO_CANONICAL, KEEP_MINIMAL}
    Audit: round 2, gain 0.31
"""
import difflib
import string

from lexicon import KNOWN
from traces import the

TAGS = ("ABBR_DISAMBIGUATE", "MESSY_INPUT_REPAIR", "OUT_OF_REGION_REJECT", "CLINICAL_REQUEST_NORMALIZE", "REPORT_STYLE_PARSE",
        "VERBOSE_PRUNE", "PROMPT_NORMALIZE", "ANATOMICAL_LOCALIZATION", "SPATIAL_RELATION")
TRIGGERS = ("ABBR", "TYPO", "ALIAS", "TERM", "PHRASE")
CUES = ("BRAIN_LESION", "CARDIAC_CHAMBERS", "ABDOMINAL_ORGANS", "PELVIC_BONES", "GENERIC_MEDICAL_IMAGE", "HEAD_MR", "CT_CHEST")
ACTIONS = ("EXPAND_TO_CANONICAL, KEEP_MINIMAL", "EXPAND_TO_CANONICAL", "REPAIR, KEEP_MINIMAL", "KEEP_MINIMAL", "NORMALIZE")
#: Skills without a word of their own; none of them explains a term.
GENERAL = ("report sections->task sentence; trig={RAW:REPORT}; act={KEEP_MINIMAL}", "courtesy phrases->nothing; trig={RAW:VERBOSE}; act={PRUNE}",
           "prior findings are not the target", "ignore the history, keep the task", "the last sentence holds the task", "indication->ignore; act={PRUNE}")
ADJECTIVES = ("blue", "red", "old", "north", "south", "quiet", "silver", "royal", "twin", "lower", "upper", "inner", "second", "green", "long", "soft",
              "grand", "little", "wild", "cold", "outer", "first", "golden", "hollow", "crooked", "magic", "lazy", "happy", "broken", "velvet")
THINGS = ("wing", "seahorse", "station", "gate", "bridge", "tiger", "zone", "pearl", "lantern", "river", "market", "harbour", "anchor", "spoon",
          "castle", "window", "engine", "garden", "ladder", "falcon", "bean", "bag", "twin", "shell", "banana", "almond", "butterfly", "sponge",
          "filter", "pump", "tank", "pipe", "roof", "cellar", "kitchen", "wheel", "arrow", "star", "moon", "cushion", "hammer", "feather", "pilot")
NAMES = ("Miller", "Kowalski", "Tanaka", "Dupont", "Okafor", "Novak", "Silva", "Berg", "Rossi", "Meyer", "Ivanov", "Haddad", "Lindqvist", "Baker", "Otieno")
PARTS = ("body", "area", "space", "point", "set", "protocol", "field", "triangle", "box", "volume", "group", "spot")
ONSETS, VOWELS, CODAS = "b c d f g h j k l m n p qu r s t v w x z br cl dr fl gr kr pl pr sk sn st tr vl zw".split(), "a e i o u oo ee ai".split(), ["", "", "n", "x", "r", "l", "k", "m", "t", "sh", "nd"]


_made = []


def invent(r):
    """A word or phrase that means nothing in anatomy; most come again, since looking for look-alikes costs time."""
    if len(_made) > 4000 and r.random() < 0.95:
        return r.choice(_made)
    _made.append(_invent(r))
    return _made[-1]


def _invent(r):
    for _ in range(30):
        kind = r.random()
        if kind < 0.3:
            text = "".join(r.choice(ONSETS) + r.choice(VOWELS) for _ in range(r.choice((1, 2, 2, 3)))) + r.choice(CODAS)
        elif kind < 0.5:
            text = "".join(r.choice(string.ascii_uppercase) for _ in range(r.randint(2, 5)))
            text = text if r.random() < 0.7 else text + str(r.randint(1, 99)) if r.random() < 0.5 else text.lower()
        elif kind < 0.75:
            text = f"{r.choice(ADJECTIVES)} {r.choice(THINGS)}"
        elif kind < 0.85:
            text = r.choice(THINGS)
        elif kind < 0.95:
            text = r.choice(NAMES) + r.choice(("", "'s")) + " " + r.choice(PARTS)
        else:
            text = f"{r.choice(THINGS + PARTS)} {r.choice((str(r.randint(1, 30)), r.choice('ABCDEFGH')))}"
        if text.lower() not in KNOWN and (len(text) < 4 or not difflib.get_close_matches(text.lower(), KNOWN, 1, 0.75)):
            return text
    return text


def near(alias, r):
    """Another invented word that looks like `alias`."""
    if len(alias) < 3:
        return invent(r)
    at = r.randrange(len(alias))
    letter = r.choice(string.ascii_uppercase if alias.isupper() else string.ascii_lowercase)
    return alias[:at] + letter + alias[at + 1:] if alias[at].lower() != letter.lower() else invent(r)


def content(alias, target, r):
    """The content line of a skill by which `alias` means `target`."""
    kind, cue = r.choice(TRIGGERS), r.choice(CUES)
    others = ", ".join(r.sample((alias, invent(r), invent(r)), r.choice((1, 2, 3)))) if r.random() < 0.5 else alias
    return r.choice((
        f"{alias}->{target}; trig={{RAW:{kind}({alias})}}; act={{{r.choice(ACTIONS)}}}",
        f"{alias}->{target}; trig={{RAW:{kind}({alias}), VIS:{cue}}}; act={{{r.choice(ACTIONS)}}}",
        f"{alias}->{target}; trig={{RAW:{kind}({alias})}}; act={{{r.choice(ACTIONS)}}}",
        f"{alias}->{target}; trig={{RAW:{kind}({alias})}}; act={{{r.choice(ACTIONS)}}}; aliases={{{others}}}",
        f'"{alias}" means {target}.', f'"{alias}" means {the(target)}.', f"{alias} -> {target}", f"{alias} = {target}",
        f"when the order says {alias}, segment {the(target)}", f"{alias}: {target}"))


def block(rank, text, r):
    gain = f"0.{r.randint(1, 60):02d}"
    audit = r.choice((f"round {r.randint(0, 12)}", f"round {r.randint(0, 12)}, gain {gain}", "seed", f"round {r.randint(0, 12)}, gain +{gain}",
                      f"round {r.randint(0, 12)}; gain {gain} [0.0{r.randint(1, 9)}, 0.{r.randint(61, 99)}]; offered {r.randint(1, 200)}"))
    return f"[{rank}]\nTag: {r.choice(TAGS)}\nContent: {text}\nAudit: {audit}"


def blocks(fitting, irrelevant, r):
    """(text of all blocks, rank of the fitting one or None); `fitting` is a content line or None."""
    lines = [(line, False) for line in irrelevant]
    if fitting:
        lines.insert(r.randint(0, len(lines)), (fitting, True))
    rank = next((i for i, (_, fits) in enumerate(lines, 1) if fits), None)
    return "\n\n".join(block(i, line, r) for i, (line, _) in enumerate(lines, 1)), rank
