"""Writes a parity fixture: small or full random-weight graphs, and what Hugging Face makes of them.

    python fixture.py --size micro|mini --tokenizer FILE --out FOLDER

`parity.json` holds, per case, the messages, the rendered prompt, ids, grids, MRoPE positions,
interpolation taps, samples of the tensors on the way, the first logits and the greedy tokens of
`generate`. Weights are scaled so that a wrong position embedding, MRoPE or DeepStack changes the
tokens; the script refuses to write a fixture that would not notice.
"""
import argparse
import hashlib
import json
import os

import jinja2
import numpy as np
import torch
from tokenizers import Tokenizer

import export
import host
import model as tiny
import prompt

GREEDY_TOKENS = 24
#: Image sizes (rows, columns) of each case.
CASES = {
    "one square view": [(128, 128)],
    "four equal views": [(128, 128)] * 4,
    "two grids, one tall": [(96, 160), (192, 64)],
    "three grids": [(64, 64), (32, 224), (160, 96)],
    "smallest view": [(32, 32)],
}
ORDER = "pls segment the LEFT hippocampus, not the right one"
SKILLS = "[1]\nTag: ABBR_DISAMBIGUATE\nContent: HC means hippocampus.\nAudit: round 1"


def test_image(rows, columns, number):
    """(rows, columns, 3) uint8 from a formula, so that no image has to be stored."""
    r, c, channel = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(3), indexing="ij")
    return ((r * 7 + c * 13 + channel * 29 + number * 53 + (r * c) % 17 * 5) % 256).astype(np.uint8)


def normalise(image):
    return (image.astype(np.float32) / 255 - 0.5) / 0.5


def scale_weights(vl, seed):
    """Makes a random model sharp: larger weights, a dominant position table, strong DeepStack."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in vl.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.6 / weight[0].numel() ** 0.5)
        vl.model.language_model.embed_tokens.weight.normal_(0, 0.5, generator=generator)
        vl.model.visual.pos_embed.weight.normal_(0, 1.0, generator=generator)
        for merger in vl.model.visual.deepstack_merger_list:
            merger.linear_fc2.weight.mul_(2.0)
        for weight in vl.parameters():
            weight.copy_(weight.half().float())
    return vl.eval()


def reference(vl, ids, pixels, grids):
    """First logits and greedy tokens of Hugging Face's generate."""
    ids = torch.tensor(ids)[None]
    with torch.no_grad():
        out = vl.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=torch.tensor(pixels),
                          image_grid_thw=torch.tensor(grids), mm_token_type_ids=(ids == tiny.IMAGE_PAD).int(),
                          max_new_tokens=GREEDY_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0,
                          output_logits=True, return_dict_in_generate=True)
    return torch.stack(out.logits)[:, 0].numpy(), out.sequences[0, ids.shape[1]:].tolist()


def controls(graphs, ids, images, logits):
    """How far the first logits move under each classic mistake; all must be far."""
    moved = {}
    embeds, levels, grids = graphs.see(images)
    first = lambda seen: graphs.generate(ids, max_tokens=1, seen=seen)[1][0]
    moved["deepstack left out"] = first((embeds, levels * 0, grids))
    right = host.mrope
    host.mrope = lambda ids, grids: (np.tile(np.arange(len(ids)), (3, 1)), len(ids))
    moved["plain positions"] = first((embeds, levels, grids))
    host.mrope = right
    right = host.vision_inputs

    def nearest(grids, side):
        position, index, weight, segment = right(grids, side)
        return position, index, np.eye(4, dtype=np.float32)[weight.argmax(1)], segment

    host.vision_inputs = nearest
    moved["nearest tap"] = first(graphs.see(images))
    host.vision_inputs = lambda grids, side: (*right(grids, side)[:3], np.zeros_like(right(grids, side)[3]))
    moved["images attend to each other"] = first(graphs.see(images))
    host.vision_inputs = right
    return {name: float(np.abs(x - logits).max()) for name, x in moved.items()}


def case(vl, graphs, tokenizer, template, name, sizes, skills):
    images = [normalise(test_image(rows, columns, n)) for n, (rows, columns) in enumerate(sizes)]
    pixels, grids = zip(*[host.patchify(image) for image in images])
    pixels = np.concatenate(pixels)
    tokens_per_image = [gh * gw // 4 for _, gh, gw in grids]
    turns = prompt.messages(ORDER, len(images), skills)
    rendered = template.render(messages=turns, add_generation_prompt=True)
    expanded = prompt.render(ORDER, tokens_per_image, skills)
    pad = "<|image_pad|>"
    assert expanded == "".join(part + (pad * tokens_per_image[n] if n < len(images) else "")
                               for n, part in enumerate(rendered.split(pad))), "template and render differ"
    ids = tokenizer.encode(expanded).ids
    position, index, weight, segment = host.vision_inputs(grids)
    positions, following = host.mrope(ids, grids)
    embeds, levels, _ = graphs.see(images)
    logits, tokens = reference(vl, ids, pixels, grids)
    ours, our_logits = graphs.generate(ids, images, GREEDY_TOKENS, stop=())
    gap = float(np.abs(our_logits - logits).max())
    moved = controls(graphs, ids, images, logits[0])
    if len(sizes) == 1:
        del moved["images attend to each other"]
    print(f"{name}: {len(ids)} ids, gap {gap:.1e}, logit range {np.ptp(logits):.1f}, mistakes move by",
          {k: round(v, 2) for k, v in moved.items()}, flush=True)
    assert ours == tokens and gap < 2e-3, name
    if max(sizes[0]) > 32:
        assert min(moved.values()) > 0.05, moved
    few = lambda a: [round(float(x), 5) for x in a]
    return {
        "name": name, "image_sizes": [list(s) for s in sizes], "order": ORDER, "skills": skills,
        "messages": turns, "rendered": rendered, "ids": ids, "grids": [list(g) for g in grids],
        "pixel_values_first_row_every_16th": few(pixels[0, ::16]),
        "pixel_values_last_row_every_16th": few(pixels[-1, ::16]),
        "vision_position_ids": position.tolist(), "interp_indices": index.tolist(),
        "interp_weights": [few(row) for row in weight], "segment_ids": segment.tolist(),
        "mrope": positions.tolist(), "next_position": int(following),
        "image_embeds_last_token": few(embeds[-1, :16]),
        "deepstack_embeds_last_token": [few(level[-1, :16]) for level in levels],
        "first_logits": few(logits[0]), "tokens": tokens, "text": tokenizer.decode(tokens),
        "mistakes_move_first_logits_by": moved,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["micro", "mini"], required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(arguments.out, exist_ok=True)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    size = {"micro": tiny.MICRO, "mini": tiny.MINI}[arguments.size]
    size = size | {"vocabulary": tokenizer.get_vocab_size(), "attention": "sdpa"}
    vl = scale_weights(tiny.build(size), arguments.seed)
    export.export(vl, arguments.out)
    write = lambda name, text: open(f"{arguments.out}/{name}", "w").write(text)
    write("chat_template.jinja", prompt.CHAT_TEMPLATE)
    write("prompt.toml", prompt.prompt_toml())
    tokenizer.save(f"{arguments.out}/tokenizer.json", pretty=False)
    graphs = host.Host(arguments.out)
    template = jinja2.Template(prompt.CHAT_TEMPLATE)
    cases = [case(vl, graphs, tokenizer, template, name, sizes, SKILLS if number == 2 else None)
             for number, (name, sizes) in enumerate(CASES.items())]
    write("parity.json", json.dumps({
        "about": "Random weights. Images: uint8 (r*7 + c*13 + channel*29 + image*53 + (r*c)%17*5) % 256, "
                 "rows r, columns c, RGB; normalised to (x/255-0.5)/0.5. Reference: transformers generate, greedy, "
                 "no stop token. Tolerance 2e-3 on logits.",
        "model": size, "position_grid_side": tiny.POSITION_GRID_SIDE,
        "image_sha256": {f"{rows}x{columns}": hashlib.sha256(test_image(rows, columns, 0).tobytes()).hexdigest()
                         for rows, columns in sorted({s for sizes in CASES.values() for s in sizes})},
        "cases": cases}, separators=(",", ":")))


if __name__ == "__main__":
    main()
