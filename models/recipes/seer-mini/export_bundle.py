"""Exports text encoder and segmenter as four ONNX graphs with fp16-stored weights, and checks each against torch.

usage: python export_bundle.py [--text DIR] --out BUNDLE/backbone [--segmenter CHECKPOINT] [--patch 48 64 48]

text_encoder    input_ids (N, T) i64, attention_mask (N, T) i64 -> text_embedding (N, E)
image_encoder   image (1, 1, Z, Y, X) -> features_1, features_2, features_4, features_8
prompt_decoder  features_8, text_embedding (1, N, E) -> mask_embedding_1, mask_embedding_2, mask_embedding_4
mask_decoder    features_1, _2, _4, mask_embedding_1, _2, _4 -> logits (1, N, Z, Y, X)

Weights are stored as fp16 and cast to fp32 in the graph, which ONNX Runtime folds at load: half the size, fp32
arithmetic. Without --segmenter the weights are untrained (for development); without --text the text encoder of the
bundle stays as it is.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from network import Segmenter
from text_encoder import EMBEDDING_SIZE, TextEncoder, tokenize
from tokenizers import Tokenizer

FEATURES = ["features_1", "features_2", "features_4", "features_8"]
EMBEDDINGS = ["mask_embedding_1", "mask_embedding_2", "mask_embedding_4"]
OPSET = 18
CHECK_PROMPTS = ["left hippocampus", "liver", "both parotid glands", "brainstem", "right femur", "brain", "spinal cord"]


def store_as_fp16(model, smallest=256):
    """Replaces large fp32 initialisers by fp16 ones followed by a Cast."""
    graph, casts = model.graph, []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < smallest:
            continue
        stored = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + "_fp16")
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], name=tensor.name + "_cast",
                                      to=TensorProto.FLOAT))
        graph.initializer.remove(tensor)
        graph.initializer.append(stored)
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def export(module, inputs, path, input_names, output_names, dynamic_axes):
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        raw = Path(folder) / "graph.onnx"
        torch.onnx.export(module.eval(), inputs, str(raw), input_names=input_names, output_names=output_names,
                          dynamic_axes=dynamic_axes, opset_version=OPSET, dynamo=False)
        model = store_as_fp16(onnx.load(raw))
    model.producer_name, model.producer_version = "seer-mini recipe", ""
    onnx.checker.check_model(model)
    onnx.save(model, path)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options)


def export_text(encoder, tokenizer, out):
    ids, mask = tokenize(tokenizer, CHECK_PROMPTS[:2])
    export(encoder, (ids, mask), out / "text_encoder.onnx", ["input_ids", "attention_mask"], ["text_embedding"],
           {"input_ids": {0: "prompts", 1: "tokens"}, "attention_mask": {0: "prompts", 1: "tokens"},
            "text_embedding": {0: "prompts"}})


def export_segmenter(segmenter, patch, out):
    with torch.no_grad():
        image, text = torch.randn(1, 1, *patch), torch.randn(1, 2, EMBEDDING_SIZE)
        features = segmenter.image_encoder(image)
        embeddings = segmenter.prompt_decoder(features[3], text)
    prompts = {1: "prompts"}
    export(segmenter.image_encoder, (image,), out / "image_encoder.onnx", ["image"], FEATURES, {})
    export(segmenter.prompt_decoder, (features[3], text), out / "prompt_decoder.onnx",
           ["features_8", "text_embedding"], EMBEDDINGS, {"text_embedding": prompts, **{n: prompts for n in EMBEDDINGS}})
    export(segmenter.mask_decoder, (*features[:3], *embeddings), out / "mask_decoder.onnx", FEATURES[:3] + EMBEDDINGS,
           ["logits"], {**{n: prompts for n in EMBEDDINGS}, "logits": prompts})


def run_graphs(folder):
    """A function (image, text_embedding) -> logits that wires the three graphs by tensor name."""
    graphs = [session(folder / f"{n}.onnx") for n in ("image_encoder", "prompt_decoder", "mask_decoder")]

    def run(image, text_embedding):
        tensors = {"image": image, "text_embedding": text_embedding}
        for graph in graphs:
            feed = {i.name: tensors[i.name] for i in graph.get_inputs()}
            tensors.update(zip((o.name for o in graph.get_outputs()), graph.run(None, feed)))
        return tensors["logits"]
    return run


def check(encoder, segmenter, tokenizer, patch, out):
    """Compares the graphs with torch; without an `encoder` the prompts are the text graph's own."""
    run, text_graph = run_graphs(out), session(out / "text_encoder.onnx")
    generator = torch.Generator().manual_seed(3)
    for count in (1, 3, 7):
        ids, mask = tokenize(tokenizer, CHECK_PROMPTS[:count])
        image = torch.randn(1, 1, *patch, generator=generator)
        got_text = text_graph.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
        with torch.no_grad():
            text = encoder(ids, mask) if encoder else torch.from_numpy(got_text)
            logits = segmenter(image, text[None]).numpy()
        got = run(image.numpy(), got_text[None])
        print(f"{count} prompts: text difference {abs(got_text - text.numpy()).max():.1e}, "
              f"logit difference {abs(got - logits).max():.1e} (standard deviation {logits.std():.2f}), "
              f"shape {got.shape}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--segmenter", type=Path)
    parser.add_argument("--patch", type=int, nargs=3, default=[48, 64, 48], help="z y x voxels")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder, segmenter = None, Segmenter(EMBEDDING_SIZE).eval()
    if args.text:
        shutil.copy(args.text / "tokenizer.json", args.out / "tokenizer.json")
        encoder = TextEncoder().eval()
        encoder.load_state_dict(torch.load(args.text / "text_encoder.pt"))
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    if args.segmenter:
        segmenter.load_state_dict(torch.load(args.segmenter)["averaged"])
    if encoder:
        export_text(encoder, tokenizer, args.out)
    export_segmenter(segmenter, args.patch, args.out)
    check(encoder, segmenter, tokenizer, args.patch, args.out)
    print(f"{sum(p.stat().st_size for p in args.out.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
