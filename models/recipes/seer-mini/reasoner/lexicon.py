"""Words of orders: what people call each structure, how they abbreviate it, and how they mistype.

Names and synonyms come from `concepts.py`, shared with the backbone; the lists here add the wording
of requests. Entries of `HELD_OUT_*` never occur in training, only in the evaluation.
"""
import random
import re

from concepts import ABSENT, STRUCTURES

STRUCTURE = {s.name: s for s in STRUCTURES}

#: Abbreviations beyond the vocabulary; a side letter may stand in front ("L HC"). None is the beginning of a word of
#: another concept or one letter away from one: "hip" for the hip bone drew mistyped hippocampi to it.
ABBREVIATIONS = {
    "cerebral white matter": ("WM", "cer WM"), "cerebral cortex": ("GM", "ctx", "cer ctx"),
    "lateral ventricle": ("lat vent", "LatV", "LVent"), "cerebellar white matter": ("cbl WM",),
    "cerebellar cortex": ("cbl ctx", "cbl GM"), "thalamus": ("thal", "THA"), "caudate nucleus": ("caud", "CN", "NC"),
    "putamen": ("put", "PUT"), "globus pallidus": ("GP", "pall"), "hippocampus": ("HC", "hippo", "HPC"),
    "amygdala": ("amy", "AMG"), "nucleus accumbens": ("NAc", "NAcc"), "ventral diencephalon": ("VDC", "v DC"),
    "basal ganglia": ("BG",), "cerebral hemisphere": ("cer hemi", "crbr hemi"), "cerebellar hemisphere": ("cbl hemi",),
    "brainstem": ("BS", "bstem"), "third ventricle": ("3V", "V3", "3rd vent"), "fourth ventricle": ("4V", "V4", "4th vent"),
    "brain": ("WB", "brn"), "cerebellum": ("cbl", "CBL"), "ventricles": ("vents",),
    "spinal cord": ("SC", "sp cord"), "parotid gland": ("PG", "par gl", "parotid"), "mandible": ("mand", "mandib"),
    "larynx": ("lx",), "oesophagus": ("oes", "eso", "oesoph"), "liver": ("liv",), "spleen": ("spl",),
    "kidney": ("kid", "kidn"), "stomach": ("stom", "gastr"), "aorta": ("Ao", "AO"),
    "vertebrae": ("verts", "vert bodies"), "sacrum": ("sacr", "S1-5"), "hip bone": ("innom", "os cox", "hipbone", "hip bn"),
    "femur": ("fem", "prox fem"), "urinary bladder": ("UB", "blad"), "lung": ("lg",), "heart": ("hrt", "cardiac"),
    "brain tumour": ("BT", "GBM"), "brain metastases": ("BM", "mets"), "brain lesion": ("WML", "lesn"), "brain oedema": ("PTO",),
}
#: Words that mean these in a head alone; elsewhere they are another thing or none that is known.
IN_HEAD = {
    "lateral ventricle": ("LV", "LV", "LVs"),
    "brain tumour": ("tumour", "tumor", "mass", "neoplasm", "tumour", "tumor", "GTV", "enhancing mass", "cancer", "whole tumour", "enhancing part"),
    "brain metastases": ("metastases", "metastasis", "mets", "metastatic lesions", "met", "secondaries", "metastatic disease"),
    "brain lesion": ("lesion", "lesions", "plaques", "WM lesions", "hyperintense lesion", "stroke lesion", "T2 lesions"),
    "brain oedema": ("oedema", "edema", "swelling", "oedema around the tumour", "surrounding edema", "perifocal oedema"),
}
#: Terms outside the bundle by what they are called where the chest is in the scan.
IN_CHEST = {"left ventricle of the heart": ("LV", "LV", "left ventricle", "LV myocardium"), "right ventricle of the heart": ("RV", "right ventricle"),
            "left atrium": ("LA",), "right atrium": ("RA",)}
#: The adjective, for "left hippocampal volumetry".
ADJECTIVES = {
    "thalamus": "thalamic", "caudate nucleus": "caudate", "putamen": "putaminal", "globus pallidus": "pallidal",
    "hippocampus": "hippocampal", "amygdala": "amygdalar", "cerebellum": "cerebellar", "brainstem": "brainstem",
    "parotid gland": "parotid", "mandible": "mandibular", "larynx": "laryngeal", "oesophagus": "oesophageal",
    "liver": "hepatic", "spleen": "splenic", "kidney": "renal", "stomach": "gastric", "aorta": "aortic",
    "sacrum": "sacral", "femur": "femoral", "urinary bladder": "vesical", "lung": "pulmonary",
    "vertebrae": "vertebral", "brain": "cerebral", "cerebral cortex": "cortical",
    "lateral ventricle": "lateral ventricular", "ventricles": "ventricular", "heart": "cardiac",
}
#: Reasons for an exam of each structure, without a side.
INDICATIONS = {
    "hippocampus": ("memory loss", "?MTS", "suspected Alzheimer disease", "TLE work-up", "progressive dementia"),
    "amygdala": ("temporal lobe epilepsy", "PTSD study"), "thalamus": ("DBS planning", "lacunar stroke", "essential tremor"),
    "caudate nucleus": ("Huntington disease", "chorea, ?HD"), "putamen": ("hypertensive bleed follow-up", "Wilson disease"),
    "globus pallidus": ("CO poisoning", "dystonia"), "basal ganglia": ("parkinsonism", "calcifications known"),
    "lateral ventricle": ("hydrocephalus", "NPH query", "shunt check"), "ventricles": ("hydrocephalus", "shunt check"),
    "cerebellum": ("ataxia", "cerebellar atrophy"), "cerebellar hemisphere": ("dysmetria", "PICA infarct"),
    "brainstem": ("PSP query", "RT planning"), "brain": ("brain volume for MS trial", "skull stripping"),
    "cerebral cortex": ("cortical atrophy", "FTD query"), "cerebral white matter": ("MS follow-up", "leukoaraiosis"),
    "parotid gland": ("xerostomia risk, RT planning", "oropharynx ca"), "mandible": ("osteoradionecrosis risk", "RT planning"),
    "larynx": ("hoarseness", "OAR for RT"), "oesophagus": ("dysphagia", "OAR for RT"), "spinal cord": ("OAR for RT", "cord dose"),
    "liver": ("volumetry before hepatectomy", "cirrhosis"), "spleen": ("splenomegaly", "lymphoma"),
    "kidney": ("donor work-up", "ADPKD, total kidney volume"), "stomach": ("bariatric follow-up",),
    "aorta": ("aneurysm screening", "EVAR planning"), "vertebrae": ("osteoporosis", "back pain"),
    "sacrum": ("sacroiliitis", "fall"), "hip bone": ("acetabular fracture", "pre-op planning"),
    "femur": ("hip replacement planning", "fall"), "urinary bladder": ("bladder wall study", "retention"),
    "lung": ("emphysema", "COVID follow-up", "lung volume"), "heart": ("heart failure", "cardiac dose, breast RT"),
    "brain tumour": ("known glioma", "GBM after resection", "SRS planning"), "brain metastases": ("melanoma", "lung cancer staging"),
    "brain lesion": ("RRMS", "stroke day 3"), "brain oedema": ("on dexamethasone", "glioma, mass effect"),
}
COMMON_INDICATIONS = ("headache", "weight loss", "fever", "MVA", "fall from height", "dizziness", "pre transplant", "baseline study", "protocol A",
                      "known disease", "surveillance", "pain for 3 weeks", "post treatment", "screening", "?progression", "case 4 of the list",
                      "routine", "research subject", "dose planning", "before biopsy", "control group", "tumor board", "2 week follow up",
                      "follow-up", "pre-op", "trial baseline", "second opinion", "RT planning", "tumour board tomorrow")

VERBS = ("trace", "circle", "render", "mark out", "autocontour", "contour out", "define", "draw around", "mark up", "return a mask for", "make a label for", "get me", "give me", "do", "process",
         "run segmentation on", "crop out", "do a segmentation of", "mask out", "pull out", "single out", "segement", "autosegment", "roi for",
         "segment", "contour", "delineate", "outline", "label", "mask", "mark", "annotate", "seg", "auto-contour",
         "extract", "map out", "draw", "identify and segment", "measure", "get the volume of", "give me a mask of",
         "provide a segmentation of", "create a mask for", "produce a 3D mask of", "do volumetry of", "auto-segment",
         "separate out", "highlight", "compute the volume of", "trace around", "isolate", "carve out", "generate a label map for",
         "quantify the volume of", "show", "show me", "find and segment", "locate and outline", "cut out", "paint")
HELD_OUT_VERBS = ("demarcate", "pick out", "prepare a contour of", "give the outline of")
#: Words that may stand around a request or in place of its verb; they teach that the carrier matters little.
FILLERS = ("give", "want", "have", "do", "take", "see", "get", "bring", "fetch", "work on", "deliver", "return", "make", "add", "include",
           "hi", "team", "for", "us", "me", "quick", "one", "again", "also", "just", "case", "today", "morning", "ward", "clinic", "study",
           "series", "here", "now", "as", "soon", "possible", "important", "the", "a", "to", "with", "and", "so", "that", "we", "need",
           "would", "like", "him", "her", "patient", "next", "step", "plan", "review", "check", "output", "result", "object", "region")
POLITE = ("please", "pls", "kindly", "plz", "could you", "can you", "would you", "I need you to", "we would like you to",
          "", "", "", "")
CLOSINGS = ("", "", "", "", " thx", " thanks", " asap", " for research", " before surgery", " for RT planning",
            " and report the volume", " compare w/ prior", " today", ", thank you", " pls", " urgently", " (3D)",
            " at your earliest convenience", " for the study database", " for teaching")
HELD_OUT_CLOSINGS = (" when you have time", " for the registry", " cheers")

#: Exam headers by (modality, region); the header may contradict the scan, the images decide.
EXAMS = {
    ("MR", "head"): ("MRI brain", "MR head w/o contrast", "T1 brain", "3D T1 MPRAGE", "Brain MRI", "cMRI"),
    ("CT", "head"): ("CT head", "NCCT brain", "cranial CT"), ("CT", "neck"): ("CT neck", "planning CT H&N", "CT head and neck"),
    ("CT", "chest"): ("CT chest", "CT thorax", "HRCT", "CTA chest"), ("CT", "abdomen"): ("CT abdomen", "CT A/P", "abdo CT portal venous"),
    ("CT", "pelvis"): ("CT pelvis", "pelvic CT"), ("MR", "abdomen"): ("MRI abdomen", "MR liver"),
    ("CT", "limb"): ("CT thigh", "CT extremity"), ("MR", "limb"): ("MRI thigh", "MR soft tissue"),
}
#: Sentences with a side that says nothing about the target.
SIDE_NOISE = ("right-handed", "left-handed", "{o} sided weakness", "{o} arm pain", "fell on the {o} side",
              "port in the {o} chest wall", "{o} hip replacement 2015", "{o} facial droop")
#: Remarks on the other side of the same structure.
OTHER_SIDE = ("not {o}", "no {o} please", "the {o} one is fine", "the {o} {n} is for next week", "never mind the {o}", "I have the {o} {n} already",
              "but not the {o} {n}", "the {o} {n} was resected", "not the {o} one", "not the {o}", "{o} side not needed", "ignore the {o} {n}", "do not segment the {o} {n}",
              "the {o} {n} is already done", "{o} {n} was normal on the prior", "leave out the {o} side", "{o} {n} known, skip it",
              "only this side, {o} is fine")
#: Remarks on another structure.
OTHER_STRUCTURE = ("known {x} cyst, stable", "do not segment the {x}", "{x} already done", "not the {x}", "no need for the {x}", "ignore {x}", "skip the {x}",
                   "{x} was segmented last week", "except the {x}", "but not the {x}", "the {x} is next to it, leave it", "prior report: {x} normal",
                   "leave the {x} out", "the {x} is not needed", "hx of {x} surgery", "without the {x}")

NOT_REQUESTS = (
    "is there a bleed?", "any acute findings?", "what is the diagnosis", "please summarise the report", "thanks",
    "hello", "when was this scan done?", "who is the referring doctor", "schedule a follow-up in 6 months",
    "send the images to PACS", "is this normal?", "explain the findings to the patient", "rotate the image",
    "call me when ready", "delete this study", "what sequence is this", "print the report", "ok", "test",
    "is the {x} enlarged?", "what does the {x} do?", "any lesion in the {x}?", "is the {x} normal?",
    "how big is a normal {x}?", "does the patient need surgery", "compare with last year and write a report",
    "describe the {x}", "what is the weather", "book the patient for MRI", "write a discharge letter",
    "has the {x} grown?", "tell me about the {x}", "which side is the stroke?", "cancel the order", "anonymise this scan",
    "do you see a fracture?", "is anything wrong with the {x}?", "what is the slice thickness", "dictate a report", "good evening")
HELD_OUT_NOT_REQUESTS = ("good morning", "please phone the ward", "does the {x} look fine?", "who reported this?",
                         "translate the report", "was contrast given?")
AMBIGUOUS = (
    "{v} it", "{v} this", "{v} the structure", "{v} the organ", "{p} {v} the left one", "{p} {v} the right one", "{v} everything",
    "{v} the same as last time", "{v} the usual", "need a mask", "segmentation please", "{v} the left or the right {n}",
    "{v} the {n} on the affected side", "{v} one {n}, either side", "{v} the abnormal side", "seg pls", "{v} the area of interest",
    "{p} {v} the ROI", "{v} that thing", "{v} the nucleus", "{v} the gland", "{v} the bone", "volumetry", "contours needed",
    "{v} left", "{v} right", "{p} {v} the side with pain", "{v} the {n}, side as discussed", "{v} whichever {n} is bigger",
    "{v} something useful", "{v} the part we talked about", "{p} {v} the larger {n}", "{v} L or R {n}", "{v} the structure of interest",
    "{p} {v} the relevant anatomy", "{v} the worse {n}", "{v} the one we discussed")
HELD_OUT_AMBIGUOUS = ("{v} the one from yesterday", "{v} the rest", "{p} {v} what matters", "{v} the better {n}")

_KEYS = {a: b for a, b in zip("qwertyuiopasdfghjklzxcvbnm", "wqreytuoipsadgfhkjlxzvcnbm")}
#: Names that orders use most, drawn more often.
COMMON = ("brain", "hippocampus", "thalamus", "putamen", "caudate nucleus", "amygdala", "cerebellum", "lateral ventricle", "ventricles",
          "brainstem", "parotid gland", "liver", "kidney", "spleen", "lung", "urinary bladder", "hip bone", "heart", "vertebrae",
          "brain tumour", "brain metastases", "brain lesion", "brain oedema", "cerebral white matter", "cerebral cortex")
#: Words of all names: a slip must not turn one into another.
KNOWN = {word for s in STRUCTURES for n in (s.name, s.plural, *s.synonyms) for word in n.lower().split()} | {
    word for name, synonyms, _ in ABSENT for n in (name, *synonyms) for word in n.lower().split()}
#: Slips that people make more than others; "hipocampus" begins like the hip bone.
USUAL_SLIPS = {"hippocampus": ("hipocampus", "hipocampus", "hipocampus", "hypocampus", "hipocampas", "hipocampuss"),
               "hippocampi": ("hipocampi",), "hippocampal": ("hipocampal",), "thalamus": ("thalmus", "talamus"),
               "putamen": ("puatmen", "putaman", "putmen"), "caudate": ("caudat", "cuadate", "caudte"), "ventricle": ("ventrical", "venticle"),
               "ventricles": ("ventricals", "venticles"), "brainstem": ("brainstm", "brianstem"), "kidney": ("kindey", "kidny"),
               "parotid": ("parotis", "paratid"), "mandible": ("mandable", "mandibel"), "oesophagus": ("oesophagous", "esophagous"),
               "pallidus": ("palidus", "pallidum"), "accumbens": ("acumbens", "accumbans"), "spleen": ("splen", "spleeen"), "liver": ("livr", "lvier"), "amygdala": ("amigdala", "amygdla"), "cerebellum": ("cerebelum",)}
SIDE_TYPOS = {"left": ("lft", "letf", "leftt", "elft", "lefft"), "right": ("rigth", "rihgt", "rght", "righ", "rightt")}


def typo(word, r):
    """One slip of the fingers inside a word of four letters or more; side words get safe slips only."""
    if word.lower() in SIDE_TYPOS:
        return r.choice(SIDE_TYPOS[word.lower()])
    if word.lower() in USUAL_SLIPS and r.random() < 0.4:
        return r.choice(USUAL_SLIPS[word.lower()])
    if len(word) < 4 or not word.isalpha():
        return word
    slipped = slip(word, r)
    if len(word) > 6 and r.random() < 0.25:
        slipped = slip(slipped, r)
    return word if slipped.lower() in KNOWN else slipped


def slip(word, r):
    at = r.randrange(1, len(word) - 1)
    kind = r.randrange(6)
    if kind == 0:
        return word[:at] + word[at + 1:]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2:]
    if kind == 3:
        return word[:at] + _KEYS.get(word[at].lower(), word[at]) + word[at + 1:]
    vowels = [i for i, letter in enumerate(word) if i and letter in "aeiou"]
    if kind == 4 and vowels:
        at = r.choice(vowels)
        return word[:at] + r.choice("aeiou") + word[at + 1:]
    pairs = (("ph", "f"), ("ae", "e"), ("oe", "e"), ("ll", "l"), ("pp", "p"), ("mm", "m"), ("y", "i"), ("c", "k"), ("i", "e"), ("us", "as"))
    fitting = [pair for pair in pairs if pair[0] in word]
    return word.replace(*r.choice(fitting), 1) if fitting else word[:at] + word[at + 1:]


def mistype(text, r, chance):
    """Mistypes each longer word of a text with the given chance."""
    return re.sub(r"[A-Za-z]{4,}", lambda m: typo(m.group(), r) if r.random() < chance else m.group(), text)


def clipped(noun, r):
    """The first letters of a long word, where no other name begins with them: "hippoc", "amygd", "caudat"."""
    word = noun.split()[-1] if r.random() < 0.5 else noun.split()[0]
    if len(word) < 7:
        return noun
    short = word[:r.randint(max(5, len(word) - 4), len(word) - 1)].lower()
    if any(k.startswith(short) and k != word.lower() and not k.startswith(word.lower()[:-2]) for k in KNOWN):
        return noun
    return noun.replace(word, short)


#: Structures that two letters mean in these regions: "LP" in a neck, "RK" in an abdomen.
SIDE_LETTERS = {"hippocampus": ("head",), "parotid gland": ("head and neck", "neck"), "kidney": ("abdomen", "abdomen and pelvis", "chest and abdomen"),
                "lung": ("chest", "chest and abdomen"), "femur": ("pelvis", "abdomen and pelvis")}


def planning_name(structure, side, r):
    """As treatment planning writes it (AAPM TG-263): "Parotid_L", "SpinalCord", "Lungs"."""
    noun = structure.plural if side == "both" else r.choice((structure.name, *structure.synonyms[:2]))
    joined = r.choice(("", "_")).join(word.capitalize() for word in noun.split())
    return f"{joined}_{side[0].upper()}" if side in ("left", "right") else joined


def nouns(structure):
    return (structure.name, *structure.synonyms)


def mention(name, side, r, short=0.0, region=None, choose=None):
    """What a person writes for a structure and a side ("left", "right", "both" or None).

    `short` is the chance of an abbreviation; `choose(name, nouns, r)` picks one of several nouns.
    """
    structure, choose = STRUCTURE[name], choose or (lambda _, several, r: r.choice(several))
    local = IN_HEAD.get(name, ()) if region == "head" else ()
    if local and side == "both" and r.random() < 0.35:
        return r.choice(local)
    if r.random() < max(short, 0 if not local else 0.5 if name != "lateral ventricle" else 0.2):
        noun = r.choice(local) if local and r.random() < 0.6 else choose(name, ABBREVIATIONS[name], r)
        if r.random() < 0.25:
            noun = noun.lower()
        if side == "both":
            return r.choice((noun, noun, noun, f"bilat {noun}", f"{noun} b/l", f"B/L {noun}", f"{noun}s", f"{noun} L+R", f"both {noun}", f"{noun} bilat"))
        if side is None:
            return noun
        letter = side[0].upper()
        return r.choice((f"{letter} {noun}", f"{letter} {noun}", f"{side[:1]}t {noun}", f"{letter}{noun}", f"{letter}-{noun}", f"{side} {noun}", f"{noun} {letter}", f"({letter}) {noun}",
                         f"{letter}. {noun}", f"{side} {noun}", f"{noun} {side[:1]}t", f"{letter}-{noun}"))
    if r.random() < 0.03:
        return planning_name(structure, side, r)
    if side in ("left", "right") and region in SIDE_LETTERS.get(name, ()) and r.random() < max(0.02, short / 4):
        pair = side[0].upper() + name[0].upper()
        return r.choice((pair, pair, pair.lower(), f"{pair[0]}.{pair[1]}."))
    noun = name if r.random() < 0.25 else choose(name, nouns(structure), r)
    if r.random() < 0.12:
        noun = clipped(noun, r)
    if side is None:
        return noun
    if side == "both":
        plural = structure.plural
        return r.choice((plural, plural, f"both {plural}", f"both {plural}", f"bilateral {plural}", f"left and right {noun}", noun,
                         f"{plural} on both sides", f"{noun} bilaterally", f"left and right {plural}", f"{noun} both sides",
                         f"bilateral {noun}", f"{plural} (both)", f"{plural}, L and R", *structure.both_synonyms))
    short_side = side[0] + "t"
    return r.choice((f"{side} {noun}",) * 5 + (
        f"{short_side} {noun}", f"{short_side} {noun}", f"{side[0]} {noun}", f"{side[0].upper()} {noun}", f"{noun} on the {side}", f"{noun}, {side}",
        f"{side}-sided {noun}", f"{side} hand side {noun}", f"{noun} on the patient's {side}", f"{side[0].upper()}. {noun}", f"{noun} ({short_side})", f"{noun} {side}", f"{side} side {noun}", f"{noun} of the {side} side", f"{noun} ({side})",
        f"{noun} {short_side}", f"{noun} on the {side} side", f"{short_side}. {noun}"))


def absent_mention(entry, r, parts=()):
    name, synonyms, _ = entry
    if "chest" in parts and name in IN_CHEST and r.random() < 0.6:
        return r.choice(IN_CHEST[name])
    word = r.choice((name, *synonyms))
    if r.random() < 0.15 and not word.startswith(("left", "right")):
        word = r.choice(("left ", "right ", "whole ", "the patient's ")) + word
    return word


def absent_terms():
    return ABSENT


def seeded(seed):
    return random.Random(seed)
