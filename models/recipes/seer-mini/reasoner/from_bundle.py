"""Gives the weights of a shipped bundle back as a checkpoint that training goes on from.

    python from_bundle.py --bundle ../../seer-mini/reasoner --out WORK/joint.pt

The weights are those of the graphs, rounded to float16; the heads of the dense labels are not shipped and start anew.
"""
import argparse

import torch
from tokenizers import Tokenizer

import export
import model as tiny
import pool as pools
from recover import recover

GRAPHS = ("vision_encoder", "embed_tokens", "decoder")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "out"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(f"{arguments.bundle}/tokenizer.json")
    vl = tiny.build(tiny.MINI | {"vocabulary": tokenizer.get_vocab_size()})
    recover(vl, export.export, arguments.bundle, GRAPHS)
    heads = pools.Heads(vl.config.text_config.hidden_size)
    torch.save({"model": vl.state_dict(), "heads": heads.state_dict()}, arguments.out)


if __name__ == "__main__":
    main()
