"""Orders about rendered scans as batches, and what the model makes of them."""
import torch

import batches
import model as tiny
import pool as pools

WEIGHTS = {"opening": 4.0, "place": 0.3, "side": 4.0, "answer": 2.0, "rest": 1.0}
PLACES_UNKNOWN = WEIGHTS | {"place": 0.0}
SCANS, ORDERS = 4, 3  # a batch: scans, and orders about each
VIEWS, VIEW_SIZE = 4, 128


class Task:
    """Turns scans of a pool into batches of orders."""

    def __init__(self, pool, encoder, drawers):
        self.pool, self.encoder, self.drawers = pool, encoder, drawers
        self.grids = batches.square_grids(VIEW_SIZE, VIEWS)
        self.image_tokens = [batches.tokens_per_image(VIEW_SIZE)] * VIEWS

    def rows(self, index, drawer, count, noisy):
        """For each scan `count` (order, row) pairs, the short before the long."""
        drawn = []
        for i in index:
            facts = self.pool.facts(i)
            weights = WEIGHTS if self.pool.places_known(i) else PLACES_UNKNOWN
            about = []
            for _ in range(count):
                order = drawer.draw(facts)
                noise = noisy and drawer.r.random() < 0.3
                about.append((order, (self.encoder.prompt(order.text, self.image_tokens, order.skills, noise),
                                      *self.encoder.answer(order.trace, weights))))
            drawn.append(sorted(about, key=lambda pair: len(pair[1][0]) + len(pair[1][1])))
        return drawn

    def draw(self, random):
        """Two batches about the same scans, of short and of long orders; one pair in four offers skills.

        Each is (scan indices, (order, row) pairs with the orders of a scan together).
        """
        index = self.pool.draw(random, SCANS)
        drawer = self.drawers[0] if random.random() < 0.75 else self.drawers[1]
        drawn = self.rows(index, drawer, 2 * ORDERS, True)
        return [(index, [pair for about in drawn for pair in about[part]]) for part in (slice(ORDERS), slice(ORDERS, None))]


def forward(vl, task, index, rows, random=None, frozen=False):
    """Hidden states (B, T, H), image embeddings (scans * 4, 16, H), ids and weights; `frozen` spares the tower's gradient."""
    ids, mask, positions, weights = batches.collate([row for _, row in rows], task.grids)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        embeds, levels = tiny.see(vl.model.visual, tiny.patches(pools.images(task.pool, index, random)))
    spread = lambda t: t.reshape(len(index), -1, t.shape[-1]).repeat_interleave(len(rows) // len(index), 0).flatten(0, 1)
    hidden = tiny.read(vl, ids, mask, positions, spread(embeds), [spread(level) for level in levels])
    return hidden, embeds, ids, weights
