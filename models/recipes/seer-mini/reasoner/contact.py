"""Lays views out on one sheet, a scan a row, for looking at by eye.

    python contact.py --pool FILE --out PNG [--every N]
"""
import argparse

import numpy as np
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--kind")
    arguments = parser.parse_args()
    pool = np.load(arguments.pool, allow_pickle=True)
    names = pool["names"]
    chosen = [i for i, n in enumerate(names) if not arguments.kind or arguments.kind in n]
    chosen = [chosen[int(i)] for i in np.linspace(0, len(chosen) - 1, min(len(chosen), arguments.rows * arguments.columns))]
    strips = [np.concatenate(list(pool["views"][i]), 1) for i in chosen]
    for i in chosen:
        print(i, names[i], pool["regions"][i])
    strips += [np.zeros_like(strips[0])] * (-len(strips) % arguments.columns)
    rows = [np.concatenate(strips[i:i + arguments.columns], 1) for i in range(0, len(strips), arguments.columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(arguments.out)


if __name__ == "__main__":
    main()
