"""Writes the reasoner's folder of a bundle: graphs, tokenizer, chat template and prompt texts.

    python package.py --checkpoint FILE --tokenizer FILE --out FOLDER
"""
import argparse
import os

import torch
from tokenizers import Tokenizer

import export
import model as tiny
import prompt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    vl = tiny.build(tiny.MINI | {"vocabulary": tokenizer.get_vocab_size()})
    vl.load_state_dict(torch.load(arguments.checkpoint)["model"])
    export.export(vl, arguments.out)
    tokenizer.save(os.path.join(arguments.out, "tokenizer.json"), pretty=False)
    for name, text in (("chat_template.jinja", prompt.CHAT_TEMPLATE), ("prompt.toml", prompt.prompt_toml())):
        with open(os.path.join(arguments.out, name), "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
