"""What a host must compute around the three graphs, in numpy: the reference for the Rust code.

Patches, interpolation taps, MRoPE positions, the DeepStack scatter, and a greedy loop.
"""
import numpy as np
import onnxruntime as ort

from model import IM_END, IMAGE_PAD, MERGE, PATCH, FRAMES, POSITION_GRID_SIDE


def patchify(image):
    """Cuts an image (rows, columns, 3), normalised to -1..1, sides multiples of 32.

    Returns pixel_values (P, 1536) and the grid (1, rows/16, columns/16). Patches stand in
    merge-block order; inside a patch the axes are (channel, frame, row, column), both frames equal.
    """
    rows, columns, _ = image.shape
    gh, gw = rows // PATCH, columns // PATCH
    x = np.repeat(image.transpose(2, 0, 1)[None], FRAMES, 0)
    x = x.reshape(1, FRAMES, 3, gh // MERGE, MERGE, PATCH, gw // MERGE, MERGE, PATCH)
    x = x.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.reshape(gh * gw, 3 * FRAMES * PATCH * PATCH).astype(np.float32), (1, gh, gw)


def merge_order(grid):
    """(P, 2) row and column of each patch, 2 x 2 blocks together."""
    _, gh, gw = grid
    rows, columns = np.meshgrid(np.arange(gh), np.arange(gw), indexing="ij")
    block = lambda a: a.reshape(gh // MERGE, MERGE, gw // MERGE, MERGE).transpose(0, 2, 1, 3).ravel()
    return np.stack([block(rows), block(columns)], 1)


def _axis_taps(index, size, side):
    """Two taps and weights along one axis, corners aligned: index 0..size-1 onto 0..side-1."""
    at = index.astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    low = np.floor(at)
    first = low.astype(np.int64)
    high_weight = at - low
    return (np.stack([np.clip(first, 0, side - 1), np.clip(first + 1, 0, side - 1)], 1),
            np.stack([1 - high_weight, high_weight], 1))


def vision_inputs(grids, side=POSITION_GRID_SIDE):
    """Position ids (P, 2), interpolation indices and weights (P, 4), segment ids (P)."""
    position, index, weight, segment = [], [], [], []
    for number, (t, gh, gw) in enumerate(grids):
        where = merge_order((t, gh, gw))
        row_index, row_weight = _axis_taps(where[:, 0], gh, side)
        column_index, column_weight = _axis_taps(where[:, 1], gw, side)
        position.append(where)
        index.append((row_index[:, :, None] * side + column_index[:, None, :]).reshape(-1, 4))
        weight.append((row_weight[:, :, None] * column_weight[:, None, :]).reshape(-1, 4))
        segment.append(np.full(gh * gw, number))
    return (np.concatenate(position).astype(np.int64), np.concatenate(index).astype(np.int64),
            np.concatenate(weight).astype(np.float32), np.concatenate(segment).astype(np.int64))


def mrope(ids, grids):
    """MRoPE positions (3, T) and the position of the next token.

    An image's tokens share one time; its rows and columns count from there; the text after it goes
    on at start + max(rows, columns) of merged tokens, not after as many positions as tokens.
    """
    parts, position, at = [], 0, 0
    waiting = iter(grids)
    while at < len(ids):
        if ids[at] != IMAGE_PAD:
            parts.append(np.full((3, 1), position))
            position, at = position + 1, at + 1
            continue
        _, gh, gw = next(waiting)
        gh, gw = gh // MERGE, gw // MERGE
        rows, columns = np.meshgrid(np.arange(gh), np.arange(gw), indexing="ij")
        parts.append(np.stack([np.full(gh * gw, 0), rows.ravel(), columns.ravel()]) + position)
        at += gh * gw
        position += max(gh, gw)
    return np.concatenate(parts, 1).astype(np.int64), position


class Host:
    """Greedy decoding over the graphs in `folder`, as the server does it."""

    def __init__(self, folder, side=POSITION_GRID_SIDE, threads=1):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        load = lambda name: ort.InferenceSession(f"{folder}/{name}.onnx", options,
                                                 providers=["CPUExecutionProvider"])
        self.vision, self.embed, self.decoder = load("vision_encoder"), load("embed_tokens"), load("decoder")
        self.side = side
        shapes = {i.name: i.shape for i in self.decoder.get_inputs()}
        self.past_names = [name for name in shapes if name.startswith("past")]
        _, self.kv_heads, _, self.head_dim = shapes[self.past_names[0]]
        self.levels, self.hidden = shapes["deepstack_embeds"][0], shapes["inputs_embeds"][2]

    def see(self, images):
        """Image embeddings (tokens, H), DeepStack (L, tokens, H) and grids of a list of images."""
        pixels, grids = zip(*[patchify(image) for image in images])
        position, index, weight, segment = vision_inputs(grids, self.side)
        embeds, levels = self.vision.run(None, dict(
            pixel_values=np.concatenate(pixels), position_ids=position, interp_indices=index,
            interp_weights=weight, segment_ids=segment))
        return embeds, levels, grids

    def generate(self, ids, images=(), max_tokens=160, stop=(IM_END,), seen=None, choose=None):
        """Tokens and the logits (steps, V) they were chosen from.

        `seen` reuses `see`; `choose(tokens, logits)` picks the next token, the likeliest by default.
        """
        choose = choose or (lambda tokens, logits: int(logits.argmax()))
        ids = np.asarray(ids)
        is_image = ids == IMAGE_PAD
        embeds = self.embed.run(None, {"input_ids": ids[None]})[0].copy()
        deepstack = np.zeros((self.levels, 1, len(ids), self.hidden), np.float32)
        grids = ()
        if seen is None and len(images):
            seen = self.see(images)
        if seen is not None:
            embeds[0, is_image], deepstack[:, 0, is_image], grids = seen
        positions, following = mrope(ids, grids)
        positions = positions[:, None]
        past = {name: np.zeros((1, self.kv_heads, 0, self.head_dim), np.float32) for name in self.past_names}
        total, tokens, logits = len(ids), [], []
        while True:
            out = self.decoder.run(None, dict(
                inputs_embeds=embeds, attention_mask=np.ones((1, total), np.int64),
                position_ids=positions, deepstack_embeds=deepstack, **past))
            logits.append(out[0][0, -1])
            tokens.append(choose(tokens, out[0][0, -1]))
            if tokens[-1] in stop or len(tokens) >= max_tokens:
                return tokens, np.stack(logits)
            past = dict(zip(self.past_names, out[1:]))
            embeds = self.embed.run(None, {"input_ids": np.array([[tokens[-1]]])})[0]
            deepstack = np.zeros((self.levels, 1, 1, self.hidden), np.float32)
            positions = np.full((3, 1, 1), following)
            following, total = following + 1, total + 1
