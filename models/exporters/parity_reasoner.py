"""Writes tests/data/parity/qwen3-vl: a toy Qwen3-VL bundle, and what transformers makes of it.

    python parity_reasoner.py OUT

The bundle is an export of this folder's own exporter in fp16-stored, which loses nothing because the
toy's weights are rounded to float16. Prompts, ids and pixels come from `Qwen3VLProcessor` with the
published chat template, tokens and logits from `generate`. No picture is stored: Rust and Python share
a formula. The script refuses to write a fixture that would not notice the classic mistakes.
"""
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

import export_qwen3_vl
import tiny_checkpoints

STEPS = 64
SYSTEM, USER, USER_WITH_SKILLS = "Ground the order.", "Slices above.", "Slices above; skills may fit."
#: Orders as people write them: accents in both Unicode forms, scripts, digits, blanks, line ends.
TEXTS = [
    "liver", "pls segment the LEFT hippocampus, not the right one", "R hip bone, iliac part  (os ilium)",
    "I'd like what's left of the 2nd lesion > 5 mm & its oedema\n\n- T2\n- FLAIR", "Tumor in Segment VII, ca. 3,5 cm; Gefäße auch?",
    "Œdème péritumoral à gauche, s’il vous plaît", "re\u0301nal cortex e\u0301t me\u0301dulla", "左肾和右肾 分割", "печень и селезёнка",
    "🫁 both lungs\t\tand   trachea\r\n", "C5/6 \"disc\" [level?] {L>R}", "don't reject: it's THE PANCREAS'S tail!!!",
]
#: Rows and columns of the pictures of a prompt; many are resized, some at both bounds.
PICTURES = [
    [], [(64, 64)], [(64, 96), (96, 64)], [(37, 53)], [(200, 40), (33, 161), (64, 64)], [(128, 128)] * 4,
    [(300, 400)], [(96, 96)] * 8, [(70, 90), (64, 64), (512, 128), (20, 30)],
]
SKILLS = [
    {"tag": "ABBR_DISAMBIGUATE", "content": "HC means hippocampus.", "audit": "round 1"},
    {"tag": "MESSY_INPUT_REPAIR", "content": "mend the spelling", "audit": "round 2, gain 0.4"},
]
#: Further sizes for the preprocessing alone.
SIZES = [(64, 64), (65, 64), (63, 100), (31, 33), (16, 16), (1, 120), (150, 2), (448, 448), (255, 257), (320, 100), (17, 900),
         (96, 97), (97, 96), (48, 48), (80, 80), (512, 512), (40, 2000), (129, 383), (272, 400), (100, 37)]


def picture(rows, columns, number):
    """(rows, columns, 3) uint8 from a formula."""
    r, c, channel = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(3), indexing="ij")
    return ((r * 7 + c * 13 + channel * 29 + number * 53 + (r * c) % 17 * 5) % 256).astype(np.uint8)


def digest(array, kind):
    return hashlib.sha256(np.ascontiguousarray(array, dtype=kind).tobytes()).hexdigest()


def messages(text, pictures, skills):
    head = USER
    if skills:
        blocks = "\n\n".join(f"[{n}]\nTag: {s['tag']}\nContent: {s['content']}\nAudit: {s['audit']}" for n, s in enumerate(skills, 1))
        head = f"{USER_WITH_SKILLS}\n\n<skill_bank>\n{blocks}\n</skill_bank>"
    content = [{"type": "image", "image": Image.fromarray(p)} for p in pictures]
    content.append({"type": "text", "text": f"{head}\n\n<raw_prompt>{text}</raw_prompt>"})
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def generate(model, inputs, **changed):
    inputs = {**inputs, **changed}
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=STEPS + 1, do_sample=False, eos_token_id=None, pad_token_id=0,
                             output_logits=True, return_dict_in_generate=True)
    return torch.stack(out.logits)[:, 0].numpy(), out.sequences[0, inputs["input_ids"].shape[1]:].tolist()


def one_case(model, processor, text, sizes, skills):
    pictures = [picture(r, c, n) for n, (r, c) in enumerate(sizes)]
    turns = messages(text, pictures, skills)
    rendered = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    inputs = processor.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    inputs = dict(inputs)
    ids = inputs["input_ids"][0]
    grids = inputs.get("image_grid_thw")
    types = inputs.get("mm_token_type_ids", torch.zeros_like(ids[None]))
    positions, delta = model.model.get_rope_index(ids[None], types, image_grid_thw=grids)
    logits, tokens = generate(model, inputs)
    best = np.sort(logits, 1)
    case = {
        "text": text, "pictures": [list(s) for s in sizes], "skills": skills, "rendered": rendered, "ids": ids.tolist(),
        "positions_sha256": digest(positions[:, 0].numpy(), "<i8"), "next_position": int(delta) + len(ids), "tokens": tokens,
    }
    if sizes:
        side = int(model.config.vision_config.num_position_embeddings ** 0.5)
        taps, weights = get_vision_interpolation_indices_and_weights(
            grids, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=2)
        case |= {"grids": grids.tolist(), "pixels_sha256": digest(inputs["pixel_values"].numpy(), "<f4"),
                 "patch_positions_sha256": digest(get_vision_position_ids(grids, 2).numpy(), "<i8"),
                 "taps_sha256": digest(taps.numpy(), "<i8"), "tap_weights_sha256": digest(weights.numpy(), "<f4")}
    return case, logits[[0, -1]], float((best[:, -1] - best[:, -2]).min()), inputs


def preprocessing(folder):
    """Grid and hash of the pixel values of every size, by both of transformers' processors."""
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    keep = {k: settings[k] for k in ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")}
    rows = []
    for number, (r, c) in enumerate(SIZES):
        row = {"rows": r, "columns": c, "number": number}
        for name, kind in (("torchvision", Qwen2VLImageProcessor), ("pillow", Qwen2VLImageProcessorPil)):
            out = kind(**keep)(images=Image.fromarray(picture(r, c, number)), return_tensors="np")
            row |= {"grid": np.asarray(out["image_grid_thw"])[0].tolist(), name: digest(out["pixel_values"], "<f4")}
        rows.append(row)
    return rows


def must_move(model, inputs, tokens, logits):
    """Every classic mistake must move the first logits of a case with pictures by 50 times the tests'
    tolerance of 1e-4, else the case proves nothing. Gives how many also change the tokens."""
    towers = model.model.visual
    right = towers.forward

    def changed(change):
        def forward(*args, **kwargs):
            out = right(*args, **kwargs)
            change(out)
            return out
        towers.forward = forward
        try:
            return generate(model, inputs)
        finally:
            towers.forward = right
    zero = lambda level: (lambda out: out.deepstack_features[level].zero_())
    found = {f"DeepStack level {level} left out": changed(zero(level)) for level in range(3)}
    ids = inputs["input_ids"]
    plain = torch.arange(ids.shape[1]).view(1, 1, -1).expand(3, 1, -1)
    # What a host without MRoPE would feed; generate takes it as it comes and counts on.
    whole = torch.cat([plain.max(0, keepdim=True).values, plain])
    found["plain positions"] = generate(model, inputs, position_ids=whole)
    if inputs["image_grid_thw"].shape[0] > 1:
        flipped = inputs["pixel_values"].flip(0)
        found["pictures upside down"] = generate(model, inputs, pixel_values=flipped)
    for name, (moved, _) in found.items():
        if np.abs(moved[0] - logits[0]).max() < 5e-3:
            raise SystemExit(f"the fixture would not notice: {name}")
    return sum(moved != tokens for _, moved in found.values()), len(found)


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    published = (out.parent.parent / "qwen3-vl-parity/published_chat_template.jinja").read_text()
    folder = Path(tempfile.mkdtemp())
    model = tiny_checkpoints.qwen3_vl(folder, template=published)
    prompt = folder / "prompt.toml"
    prompt.write_text(export_qwen3_vl.bundle.toml({"system": SYSTEM, "user": USER, "user_with_skills": USER_WITH_SKILLS}) + "\n")
    if out.exists():
        shutil.rmtree(out)
    arguments = ["--checkpoint", str(folder), "--out", str(out), "--licence", "Apache-2.0", "--precision", "fp16-stored",
                 "--prompt-file", str(prompt)]
    export_qwen3_vl.export(export_qwen3_vl.parser().parse_args(arguments))
    (out / "CARD.md").unlink()
    tokenizer = Qwen2TokenizerFast.from_pretrained(folder / "processor")
    processor = Qwen3VLProcessor(image_processor=Qwen2VLImageProcessor.from_pretrained(folder), tokenizer=tokenizer,
                                 video_processor=Qwen3VLVideoProcessor(), chat_template=published)
    wanted = [(text, PICTURES[(n + k) % len(PICTURES)], SKILLS[:(n + k) % 3] if k == 1 else [])
              for n, text in enumerate(TEXTS) for k in (0, 1, 3, 5)]
    cases, kept, tight = [], [], 0
    for text, sizes, skills in wanted:
        case, logits, margin, inputs = one_case(model, processor, text, sizes, skills)
        if margin < 2e-3:   # a near tie: another rounding may pick the other token, and rightly so
            tight += 1
            continue
        cases.append(case)
        kept.append(logits)
        if sizes and len(cases) % 4 == 0:
            changed, of = must_move(model, inputs, case["tokens"], logits)
            print(f"{changed} of {of} mistakes change the tokens of {text[:20]!r} with {len(sizes)} pictures", flush=True)
    variety = {tuple(c["tokens"]) for c in cases}
    print(f"{len(cases)} cases, {tight} left out for near ties, {len(variety)} different continuations, "
          f"{np.mean([len(set(c['tokens'])) for c in cases]):.0f} different tokens in each", flush=True)
    if len(cases) < 40 or len(variety) < 40:
        raise SystemExit("too few cases")
    np.stack(kept).astype("<f4").tofile(out / "logits.bin")
    (out / "cases.json").write_text(json.dumps({"cases": cases, "preprocessing": preprocessing(folder)},
                                               ensure_ascii=False, separators=(",", ":")))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
