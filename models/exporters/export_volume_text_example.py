"""A worked example of the family volume-text: a network of one's own, exported so that the server runs it.

    python export_volume_text_example.py --out BUNDLE

The network is a toy with random weights; replace `Segmenter` and `TextEncoder` by the modules of a model that
you may use (SAT, Text3DSAM, BiomedParse and the like) and keep the names and axes of the ports. Everything that
the host does around them is data in the manifest below: orientation, spacing, clipping, patches, averaging.
"""
import argparse
import sys

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

import bundle
from compare import compare, report, session
from tracing import trace

PATCH, WIDTH, WORDS = (24, 32, 32), 16, ["[PAD]", "[UNK]", "[CLS]", "liver", "kidney", "left", "right", "spleen", "tumour"]


class TextEncoder(nn.Module):
    """Mean of word vectors, shifted by the modality: as SAT's knowledge encoder, in miniature."""

    def __init__(self):
        super().__init__()
        self.words, self.modalities = nn.Embedding(len(WORDS), WIDTH), nn.Embedding(4, WIDTH)

    def forward(self, input_ids, attention_mask, modality_id):
        seen = attention_mask[..., None].float()
        mean = (self.words(input_ids) * seen).sum(1) / seen.sum(1)
        return mean + self.modalities(modality_id)


class Segmenter(nn.Module):
    """Features of the patch, a dot product with each prompt."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU(),
                                      nn.Conv3d(8, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU())
        self.project = nn.Linear(WIDTH, 8)

    def forward(self, image, text_embedding):
        features = self.features(image)
        logits = torch.matmul(self.project(text_embedding), features.flatten(2))
        return logits.reshape(1, -1, *PATCH)


def write_tokenizer(path):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", WORDS.index("[CLS]"))])
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    tokenizer.save(str(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the bundle; its name is the bundle's")
    arguments = parser.parse_args(sys.argv[1:])
    torch.manual_seed(4)
    root = bundle.prepare(arguments.out, ["backbone"])
    out, text, network = root / "backbone", TextEncoder().eval(), Segmenter().eval()
    ids, mask, modality = torch.tensor([[2, 5, 4], [2, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([1])
    image, embedding = torch.randn(1, 1, *PATCH), torch.randn(1, 2, WIDTH)
    rows = {0: "prompts", 1: "tokens"}
    trace(text, (ids, mask, modality), out / "text_encoder.onnx", ["input_ids", "attention_mask", "modality_id"],
          ["text_embedding"], {"input_ids": rows, "attention_mask": rows, "text_embedding": {0: "prompts"}}, "fp32",
          {"input_ids": ["prompts", "tokens"], "attention_mask": ["prompts", "tokens"], "modality_id": [1],
           "text_embedding": ["prompts", WIDTH]}, [])
    trace(network, (image, embedding), out / "segmenter.onnx", ["image", "text_embedding"], ["logits"],
          {"text_embedding": {1: "prompts"}, "logits": {1: "prompts"}}, "fp32",
          {"image": [1, 1, *PATCH], "text_embedding": [1, "prompts", WIDTH], "logits": [1, "prompts", *PATCH]}, [])
    write_tokenizer(out / "tokenizer.json")
    with torch.no_grad():
        vectors = text(ids, mask, modality)
        expected = network(image, vectors[None])
    found = session(out / "text_encoder.onnx").run(
        None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "modality_id": modality.numpy()})[0]
    logits = session(out / "segmenter.onnx").run(None, {"image": image.numpy(), "text_embedding": found[None]})[0]
    alone = session(out / "segmenter.onnx").run(None, {"image": image.numpy(), "text_embedding": found[None, :1]})[0]
    checks = [compare("text embeddings", found, vectors.numpy(), 1e-4), compare("logits", logits, expected.numpy(), 1e-4),
              compare("logits of one prompt alone", alone, expected[:, :1].numpy(), 1e-4)]
    bundle.write_card(root, root.resolve().name, [("licence of the weights", "none: random numbers")], checks)
    zscore = bundle.Table(kind="percentile_zscore", low=0.5, high=99.5)
    backbone = {
        "family": "volume-text", "segmenter": "backbone/segmenter.onnx", "text_encoder": "backbone/text_encoder.onnx",
        "text_tokenizer": "backbone/tokenizer.json", "embedding_size": WIDTH, "channels": 1, "average": "probability",
        "modality_ids": bundle.Table(CT=0, MR=1, US=2, PT=3, default=0),
        "text": {"template": "{text}", "lowercase": True, "special_tokens": True, "pad_token": "[PAD]", "max_tokens": 64},
        "preprocessing": {
            "fit": "tile", "orientation": "RAS", "crop": "nonzero", "spacing_mm": [3.0, 1.0, 1.0], "patch_size": list(PATCH),
            "tile_step": 0.5, "gaussian_sigma_scale": 0.125, "threshold_logit": 0.0,
            "normalization": {"CT": bundle.Table(kind="clipped_zscore", clip_low=-500.0, clip_high=1000.0), "default": zscore}},
    }
    head = {"name": root.resolve().name, "version": "1", "licence": "Apache-2.0", "intended_use": "An example. Random weights.",
            "training_data": "None."}
    bundle.write_manifest(root, head, {"backbone": backbone})
    report(checks)


if __name__ == "__main__":
    main()
