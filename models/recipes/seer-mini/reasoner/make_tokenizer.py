"""Trains tokenizer.json on drawn orders and their traces.

    python make_tokenizer.py --out FILE
"""
import argparse

import orders
import prompt
import tokens


def corpus(count, seed=11):
    drawer = orders.Drawer(seed)
    for _ in range(count):
        order = drawer.draw(orders.imagined_facts(drawer.r))
        yield prompt.render(order.text, [1], order.skills) if drawer.r.random() < 0.1 else order.text
        yield order.trace


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--orders", type=int, default=25000)
    arguments = parser.parse_args()
    tokens.train(corpus(arguments.orders), arguments.vocabulary).save(arguments.out, pretty=False)


if __name__ == "__main__":
    main()
