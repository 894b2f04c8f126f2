"""Writes what stands around the graphs: manifest with hashes, and the card with the measured differences."""
import hashlib
import importlib.metadata
import json
import platform
import resource
import shutil
from pathlib import Path

NOT_LISTED = {"manifest.toml", "CARD.md"}


class Table(dict):
    """A TOML table written on one line."""


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    return repr(value)


def toml(table, path=()):
    """TOML of nested dicts: plain keys first, then sub-tables, then arrays of tables."""
    lines, later = [], []
    for key, value in table.items():
        if isinstance(value, dict) and not isinstance(value, Table):
            later.append(("table", key, value))
        elif isinstance(value, list) and value and isinstance(value[0], dict) and not isinstance(value[0], Table):
            later.append(("array", key, value))
        elif value is not None:
            lines.append(f"{key} = {toml_value(value)}")
    for kind, key, value in later:
        name = ".".join((*path, key))
        for item in value if kind == "array" else [value]:
            lines += ["", f"[[{name}]]" if kind == "array" else f"[{name}]", toml(item, (*path, key))]
    return "\n".join(lines).strip("\n")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def prepare(folder, parts):
    """Makes the bundle's folder; refuses one that holds something else."""
    folder = Path(folder)
    ours = {"reasoner", "backbone", "manifest.toml", "CARD.md"}
    strange = sorted(p.name for p in folder.iterdir() if p.name not in ours) if folder.exists() else []
    if strange:
        raise SystemExit(f"{folder} holds {strange[0]}, which is no part of a bundle that this would replace")
    for part in parts:
        if (folder / part).exists():
            shutil.rmtree(folder / part)
        (folder / part).mkdir(parents=True)
    return folder


def write_manifest(folder, head, parts):
    """Writes manifest.toml with the hash and size of every file of the bundle."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in NOT_LISTED)
    listed = [{"path": p.relative_to(folder).as_posix(), "sha256": sha256(p), "size_bytes": p.stat().st_size}
              for p in files]
    text = toml({**head, "files": listed, **parts}) + "\n"
    (folder / "manifest.toml").write_text(text)
    return sum(f["size_bytes"] for f in listed)


def versions(*packages):
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}}


def peak_rss_gib():
    """Most memory this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def write_card(folder, title, facts, checks, notes=()):
    """`facts` and `checks` are lists of rows; a check is (what, difference, scale, limit)."""
    lines = [f"# Model card: {title}", "", "Written by the exporter; the weights are the publisher's, under the licence below.",
             "**For research and demonstration. Not for diagnosis or treatment.**", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    lines += ["", "## The export against the PyTorch original", ""]
    if checks:
        lines += ["Both ran on the CPU on the same random input; the original in float32.", "",
                  "| compared | largest difference | standard deviation of the original | relative (L2) | limit (L2) |",
                  "|---|---|---|---|---|"]
        lines += [f"| {c.what} | {c.largest:.2e} | {c.scale:.3g} | {c.relative:.2e} | {c.limit:.0e} |" for c in checks]
    else:
        lines += ["**Not checked**: the exporter was told to skip it."]
    lines += ["", *notes]
    (Path(folder) / "CARD.md").write_text("\n".join(lines).rstrip() + "\n")
