"""Rewrites the [[files]] tables of a bundle's manifest: path, SHA-256 and size of every file except manifest and card.

usage: python hash_files.py ../../seer-mini
"""

import argparse
import hashlib
import re
from pathlib import Path

NOT_LISTED = {"manifest.toml", "CARD.md"}
TABLE = re.compile(r'\[\[files\]\]\n(?:(?:path|sha256|size_bytes) *=.*\n)+\n*')


def tables(bundle):
    paths = sorted(p for p in bundle.rglob("*") if p.is_file() and p.name not in NOT_LISTED and p.name[0] != ".")
    for path in paths:
        content = path.read_bytes()
        yield (f'[[files]]\npath = "{path.relative_to(bundle).as_posix()}"\n'
               f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nsize_bytes = {len(content)}\n\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    args = parser.parse_args()
    manifest = args.bundle / "manifest.toml"
    text = manifest.read_text()
    place = TABLE.search(text)
    if not place:
        raise SystemExit(f"{manifest} has no [[files]] table to replace")
    found = list(tables(args.bundle))
    before, after = text[:place.start()], TABLE.sub("", text[place.start():])
    manifest.write_text(before + "".join(found) + after)
    print(f"{len(found)} files")


if __name__ == "__main__":
    main()
