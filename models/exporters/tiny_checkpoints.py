"""Writes checkpoints of the real classes at toy size, with random weights, for tests and fixtures.

    python tiny_checkpoints.py qwen3-vl|qwen3-embedding|lora|voxtell|sam3 FOLDER

Weights are scaled so that outputs differ between tokens, prompts and pictures: with PyTorch's own
initialisation a deep network of this size says nearly the same to everything.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen3Config, Qwen3Model, Qwen3VLConfig,
                          Qwen3VLForConditionalGeneration)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
WORDS = 640
#: Qwen2's own splitting rule.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = [
    "segment the left kidney and the right kidney please", "pls outline the R hip bone, iliac part",
    "l hippocampus volumetry", "<evidence>axial CT of the abdomen with contrast</evidence>",
    "<rationale>the request names the liver</rationale><answer>Segment the liver.</answer>",
    "Reject: out_of_region. Reject: not_visible. Reject: unsupported_modality.", "T2 hyperintense lesion > 5 mm in the pons",
    "Instruct: Given an anatomical term query, retrieve the precise anatomical entity and location it represents\nQuery: spleen",
    "You turn a clinician's free-text request into one instruction for a segmentation model", "gallbladder, pancreas, aorta",
    "both lungs; trachea; oesophagus", "cerebellum brainstem white matter ventricle tumour oedema metastasis",
]


def byte_bpe(special, words=WORDS):
    """A byte-level BPE with Qwen2's normaliser and splitting rule; special tokens take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=words - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def spread(model, seed, gain=1.5):
    """Random weights with unit-sized responses and lively norms, rounded to what float16 holds."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda weight: torch.randn(weight.shape, generator=random)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and not any(table in name for table in ("embed", "position")):
                weight.copy_(draw(weight) * gain * 1.3 / weight[0].numel() ** 0.5)
            elif weight.dim() > 1:
                weight.copy_(draw(weight) * 0.35)
            elif "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.2 * draw(weight))
            else:
                weight.copy_(0.1 * draw(weight))
            weight.copy_(weight.half().float())
    return model.eval()


def qwen3_vl(folder, seed=3, template=None, layers=4):
    """A Qwen3-VL with three DeepStack levels and everything a published folder has; returns the model."""
    folder = Path(folder)
    tokenizer = byte_bpe(SPECIAL)
    ids = {t: tokenizer.token_to_id(t) for t in SPECIAL}
    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=WORDS + 16, hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, max_position_embeddings=4096,
            rope_parameters=dict(rope_type="default", rope_theta=5e6, mrope_section=[4, 2, 2], mrope_interleaved=True)),
        vision_config=dict(depth=4, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=64,
                           num_position_embeddings=64, deepstack_visual_indexes=[0, 1, 2]),
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=True)
    model = spread(Qwen3VLForConditionalGeneration(config), seed)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    fast = Qwen2TokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.save_pretrained(folder / "processor")
    # Small bounds, so that pictures of every size stay cheap and both bounds are met.
    processor = Qwen2VLImageProcessor(size={"shortest_edge": 4096, "longest_edge": 65536}, patch_size=16,
                                      temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(
        {"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "pad_token_id": ids["<|endoftext|>"]}))
    (folder / "chat_template.jinja").write_text(template or TEMPLATE)
    return model


#: Qwen's turn format for text and images, in few words.
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- part.text }}{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def lora(folder, checkpoint, seed=5, rank=3, root_scale=False):
    """A LoRA adapter in peft's layout over attention, MLP and vision of the tiny Qwen3-VL; returns its changes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    tensors, changes = {}, {}
    alpha, patterns = 2 * rank, {"down_proj": 5}
    modules = [name.removesuffix(".weight") for name in checkpoint.names() if name.endswith(
        ("q_proj.weight", "v_proj.weight", "down_proj.weight", "attn.qkv.weight", "linear_fc1.weight"))]
    for module in modules:
        rows, width = checkpoint.shape(module + ".weight")
        own_alpha = patterns.get(module.rsplit(".", 1)[1], alpha)
        a, b = torch.randn(rank, width, generator=random) * 0.2, torch.randn(rows, rank, generator=random) * 0.2
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
        changes[module + ".weight"] = b @ a * own_alpha / (rank ** 0.5 if root_scale else rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "alpha_pattern": patterns, "rank_pattern": {},
         "use_rslora": root_scale, "use_dora": False, "fan_in_fan_out": False, "bias": "none",
         "target_modules": sorted({m.rsplit(".", 1)[1] for m in modules})}))
    return changes


def qwen3_embedding(folder, width=48, seed=4):
    """A Qwen3-Embedding: a Qwen3Model and a tokenizer that ends every text with <|endoftext|>."""
    from tokenizers import processors
    folder = Path(folder)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_bpe(special)
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)])
    config = Qwen3Config(vocab_size=WORDS, hidden_size=width, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6,
                         rope_parameters=dict(rope_type="default", rope_theta=1e6))
    model = spread(Qwen3Model(config), seed)
    model.save_pretrained(folder)
    Qwen2TokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def voxtell(folder, patch=(32, 64, 96), width=48, seed=6, features=(4, 8, 8, 16, 16, 16), blocks=(1,) * 6, heads=4,
            query=32, layers=2):
    """A VoxTell model folder (plans.json, fold_0/checkpoint_final.pth) that is not a cube; returns the network."""
    from voxtell.model.voxtell_model import VoxTellModel

    from export_voxtell import decoder_configs, load_model
    folder = Path(folder)
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    features, strides = list(features), [[1, 1, 1]] + [[2, 2, 2]] * 5
    arch = dict(n_stages=6, features_per_stage=features, conv_op="torch.nn.modules.conv.Conv3d", kernel_sizes=[[3, 3, 3]] * 6,
                strides=strides, n_blocks_per_stage=list(blocks), n_conv_per_stage_decoder=[1] * 5, conv_bias=True,
                norm_op="torch.nn.modules.instancenorm.InstanceNorm3d", norm_op_kwargs={"eps": 1e-5, "affine": True},
                dropout_op=None, dropout_op_kwargs=None, nonlin="torch.nn.LeakyReLU", nonlin_kwargs={"inplace": True})
    requires = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    (folder / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": {
        "patch_size": list(patch), "architecture": {"arch_kwargs": arch, "_kw_requires_import": requires}}}}))

    class Network(VoxTellModel):
        DECODER_CONFIGS = decoder_configs(features, patch, strides)
        TRANSFORMER_NUM_LAYERS = layers

    import pydoc
    located = {k: pydoc.locate(v) if k in requires and v else v for k, v in arch.items()}
    network = Network(input_channels=1, **located, decoder_layer=4, text_embedding_dim=width, num_maskformer_stages=5, num_heads=heads,
                      query_dim=query, project_to_decoder_hidden_dim=query, deep_supervision=False)
    state = spread(network, seed, gain=1.0).state_dict()
    torch.save({"network_weights": state}, folder / "fold_0/checkpoint_final.pth")
    return load_model(folder)[0]


def sam3(folder, seed=8):
    """A SAM3 with 12 queries on pictures of 112 x 112, and a CLIP tokenizer; returns the model."""
    from transformers import CLIPTokenizer, Sam3Config, Sam3ImageProcessor, Sam3Model
    folder = Path(folder)
    vit = dict(model_type="sam3_vit_model", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
               image_size=112, patch_size=14, window_size=4, global_attn_indexes=[1], pretrain_image_size=56)
    small = dict(hidden_size=32, num_attention_heads=2, intermediate_size=64)
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    letters = sorted(set("".join(CORPUS).lower()) - {" ", "\n"})
    trained.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=260, end_of_word_suffix="</w>", initial_alphabet=letters,
                                                                special_tokens=[], show_progress=False))
    bpe = json.loads(trained.to_str())["model"]
    words = list(bpe["vocab"])
    words += [w + "</w>" for w in letters if w + "</w>" not in bpe["vocab"]] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[tuple(m) for m in bpe["merges"]])
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    config = Sam3Config(
        vision_config=dict(backbone_config=vit, fpn_hidden_size=32, backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]]),
        text_config=dict(vocab_size=len(words), hidden_size=32, intermediate_size=64, projection_dim=32, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=32, bos_token_id=start, eos_token_id=end, pad_token_id=end),
        geometry_encoder_config=dict(num_layers=1, **small), detr_encoder_config=dict(num_layers=1, **small),
        detr_decoder_config=dict(num_layers=2, num_queries=12, **small), mask_decoder_config=dict(hidden_size=32, num_attention_heads=2))
    model = spread(Sam3Model(config), seed, gain=1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Sam3ImageProcessor(size={"height": 112, "width": 112}).save_pretrained(folder)
    return model


def main():
    kind, folder = sys.argv[1:]
    if kind == "lora":
        from checkpoint import Checkpoint
        lora(folder, Checkpoint(Path(folder).parent))
        return
    {"qwen3-vl": qwen3_vl, "qwen3-embedding": qwen3_embedding, "voxtell": voxtell, "sam3": sam3}[kind](folder)


if __name__ == "__main__":
    main()
