"""Gives the segmenter of a shipped bundle back as a checkpoint that training goes on from.

usage: python from_bundle.py --bundle BUNDLE/backbone --out DIR --text TEXT [--stage trunk]

Writes DIR/<stage>.pt without the auxiliary heads, which are not shipped, and TEXT/bank.pt, the text embeddings of all
names by the bundle's own text encoder, which stays as it is.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from concepts import ABSENT
from export_bundle import export_segmenter, session
from make_vocabulary import concepts
from network import Segmenter
from recover import recover
from text_encoder import EMBEDDING_SIZE, tokenize

GRAPHS = ("image_encoder", "prompt_decoder")
PATCH = (48, 64, 48)


def embeddings(bundle):
    """{name: embedding (E,)} of every concept and absent term."""
    tokenizer, graph = Tokenizer.from_file(str(bundle / "tokenizer.json")), session(bundle / "text_encoder.onnx")
    names = [c.name for c in concepts()] + [name for name, _, _ in ABSENT]
    ids, mask = tokenize(tokenizer, names)
    vectors = graph.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    return dict(zip(names, torch.from_numpy(vectors)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "out", "text"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--stage", default="trunk", help="the stage that the next one goes on from")
    args = parser.parse_args()
    for folder in (args.out, args.text):
        folder.mkdir(parents=True, exist_ok=True)
    export = lambda segmenter, folder: export_segmenter(segmenter, PATCH, folder)
    segmenter = recover(Segmenter(EMBEDDING_SIZE).eval(), export, args.bundle, GRAPHS)
    state = segmenter.state_dict()
    torch.save({"segmenter": state, "averaged": state, "auxiliary": {}}, args.out / f"{args.stage}.pt")
    torch.save(embeddings(args.bundle), args.text / "bank.pt")


if __name__ == "__main__":
    main()
