"""Averages the weights of two checkpoints of which one went on from the other.

    python average.py --checkpoints FIRST SECOND --share 0.35 --out CHECKPOINT

SECOND went on from FIRST on other wordings; between them lie weights that know both (see the card for figures).
"""
import argparse

import torch


def average(first, second, share):
    """`share` of the first and the rest of the second; what is no number with a fraction is the second's."""
    mixed = lambda name, value: torch.lerp(value, first[name], share) if value.is_floating_point() else value
    return {name: mixed(name, value) for name, value in second.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs=2, required=True)
    parser.add_argument("--share", type=float, default=0.35, help="of the first")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    first, second = (torch.load(path) for path in arguments.checkpoints)
    weights = "model" if "model" in second else "averaged"  # of a reasoner, of a segmenter
    mean = average(first[weights], second[weights], arguments.share)
    torch.save({weights: mean} | ({"heads": second["heads"]} if "heads" in second else {}), arguments.out)


if __name__ == "__main__":
    main()
