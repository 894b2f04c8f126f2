"""Writes vocabulary.toml from concepts.py.

usage: python make_vocabulary.py --out ../../seer-mini/vocabulary.toml
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from concepts import ABSENT, CAUTIONS, STRUCTURES

MODIFIERS = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right"),
             "both": ("51440002", "SCT", "Right and left")}
SIDE_WORDS = {"left": ("left", "l", "lt", "left sided"), "right": ("right", "r", "rt", "right sided")}
SHADE = {"left": 0.25, "right": -0.35, "both": 0.0, "none": 0.0}  # towards white, towards black


@dataclass(frozen=True)
class Concept:
    name: str
    synonyms: tuple
    laterality: str
    code: tuple
    rgb: tuple
    body_regions: tuple
    modalities: tuple
    parts: tuple
    sources: dict  # data set -> tuple of label values
    category: tuple
    caution: str = None


def normalise(text):
    """Lower case, punctuation to spaces, single spaces: how strings are compared."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def shade(rgb, amount):
    target = 255 if amount > 0 else 0
    return tuple(round(c + abs(amount) * (target - c)) for c in rgb)


def sided_synonyms(structure, side):
    words = []
    for noun in structure.synonyms:
        words += [f"{word} {noun}" for word in SIDE_WORDS[side]] + [f"{noun} {side}", f"{side} side {noun}"]
    return words


def both_synonyms(structure):
    words = [structure.plural, f"bilateral {structure.plural}", f"left and right {structure.plural}"]
    words += list(structure.both_synonyms)
    for noun in structure.synonyms:
        words += [noun, f"bilateral {noun}", f"both {noun}", f"left and right {noun}", f"{noun} bilateral"]
    return words


def unique(words, name):
    """Normalised, in order, without repeats and without the name itself."""
    return tuple(w for w in dict.fromkeys(map(normalise, words)) if w != normalise(name))


def concepts():
    """All concepts, sided ones as left, right, both."""
    found = []
    for s in STRUCTURES:
        if not s.sided:
            found.append(Concept(s.name, unique(s.synonyms, s.name), "none", s.code, s.rgb, s.body_regions,
                                 s.modalities, (), s.sources, s.category, CAUTIONS.get(s.name)))
            continue
        for index, side in enumerate(("left", "right")):
            name = f"{side} {s.name}"
            sources = {data: pair[index] for data, pair in s.sources.items()}
            found.append(Concept(name, unique(sided_synonyms(s, side), name), side, s.code,
                                 shade(s.rgb, SHADE[side]), s.body_regions, s.modalities, (), sources,
                                 s.category, CAUTIONS.get(s.name)))
        name = f"both {s.plural}"
        sources = {data: pair[0] + pair[1] for data, pair in s.sources.items()}
        found.append(Concept(name, unique(both_synonyms(s), name), "both", s.code, s.rgb, s.body_regions,
                             s.modalities, (f"left {s.name}", f"right {s.name}"), sources, s.category,
                             CAUTIONS.get(s.name)))
    return found


def cielab(rgb):
    """RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1) of an sRGB colour, D50 as PS3.3 asks."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    # sRGB to XYZ, Bradford-adapted to D50.
    rows = ((0.4360747, 0.3850649, 0.1430804), (0.2225045, 0.7168786, 0.0606169), (0.0139322, 0.0971045, 0.7141733))
    white = (0.9642, 1.0, 0.8249)
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
         for t in (sum(m * c for m, c in zip(row, linear)) / w for row, w in zip(rows, white))]
    lightness, a, b = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    clip = lambda v: max(0, min(65535, round(v)))
    return [clip(lightness * 65535 / 100), clip((a + 128) * 65535 / 255), clip((b + 128) * 65535 / 255)]


def check(found):
    """No string may name two things; every colour is its own."""
    owner = {}
    entries = [(c.name, c.synonyms) for c in found] + [(n, s) for n, s, _ in ABSENT]
    for name, synonyms in entries:
        for text in {normalise(t) for t in (name, *synonyms)}:
            if owner.setdefault(text, name) != name:
                raise SystemExit(f"'{text}' names both {owner[text]} and {name}")
    colours = [tuple(cielab(c.rgb)) for c in found]
    if len(set(colours)) != len(colours):
        raise SystemExit("two concepts share a colour")


def quote(text):
    return '"' + text.replace('"', '\\"') + '"'


def strings(items):
    return "[" + ", ".join(map(quote, items)) + "]"


def code(triple):
    return "{{ value = {}, scheme = {}, meaning = {} }}".format(*map(quote, triple))


#: What the reasoner can name and the backbone of this bundle does not find: an order for it is refused as an unknown
#: target, because an empty mask would read as "no tumour".
NOT_FOUND = ("brain tumour", "brain metastases", "brain lesion", "brain oedema")


def render(found):
    lines = ["# Written by recipes/seer-mini/make_vocabulary.py from concepts.py; change it there.",
             "# Synonyms are compared in lower case with punctuation read as spaces.", ""]
    for c in found:
        if c.name in NOT_FOUND:
            continue
        lines += ["[[concept]]", f"name = {quote(c.name)}", f"synonyms = {strings(c.synonyms)}",
                  f"laterality = {quote(c.laterality)}", f"prompt = {quote(c.name)}",
                  f"category = {code(c.category)}", f"type = {code(c.code)}"]
        if c.laterality in MODIFIERS:
            lines.append(f"modifier = {code(MODIFIERS[c.laterality])}")
        lines += [f"cielab = {cielab(c.rgb)}", f"body_regions = {strings(c.body_regions)}",
                  f"modalities = {strings(c.modalities)}"]
        if c.parts:
            lines.append(f"parts = {strings(c.parts)}")
        if c.caution:
            lines.append(f"caution = {quote(c.caution)}")
        lines.append("")
    unfound = [(c.name, c.synonyms, c.body_regions) for c in found if c.name in NOT_FOUND]
    for name, synonyms, regions in [*unfound, *ABSENT]:
        lines += ["[[absent]]", f"name = {quote(name)}", f"synonyms = {strings(map(normalise, synonyms))}",
                  f"body_regions = {strings(regions)}", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = concepts()
    check(found)
    args.out.write_text(render(found))
    print(f"{len(found) - len(NOT_FOUND)} concepts, {len(ABSENT) + len(NOT_FOUND)} absent terms")


if __name__ == "__main__":
    main()
