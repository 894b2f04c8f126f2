"""Loads what is trained: a Qwen3-VL from a Hugging Face folder, or a checkpoint of the seer-mini recipe, with its processor."""

import sys
from pathlib import Path

import torch
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers import Qwen3VLVideoProcessor

sys.path[:0] = [str(Path(__file__).parent.parent / "seer-mini" / "reasoner"), str(Path(__file__).parent.parent / "seer-mini")]
import model as tiny  # noqa: E402
import prompt  # noqa: E402

VISION = ("visual", "vision_tower")


def mini_processor(tokenizer_file):
    """The processor of Hugging Face for seer-mini's tokenizer, chat template and image settings."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=tokenizer_file, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
                              "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"})
    size = {"shortest_edge": 1024, "longest_edge": 16777216}
    shared = dict(patch_size=tiny.PATCH, merge_size=tiny.MERGE, temporal_patch_size=tiny.FRAMES,
                  image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Qwen3VLProcessor(image_processor=Qwen2VLImageProcessor(size=size, **shared), tokenizer=tokenizer,
                            video_processor=Qwen3VLVideoProcessor(size=size, **shared), chat_template=prompt.CHAT_TEMPLATE)


def mini_model(checkpoint, vocabulary):
    settings = tiny.MINI | {"vocabulary": vocabulary, "attention": "sdpa"}
    vl = Qwen3VLForConditionalGeneration(tiny.config(**settings))
    if checkpoint:
        vl.load_state_dict(torch.load(checkpoint, map_location="cpu")["model"])
    vl.generation_config.update(eos_token_id=tiny.IM_END, pad_token_id=tiny.END_OF_TEXT)
    return vl


def load(settings):
    """(model, processor) of settings.Model, the vision tower frozen where it says so."""
    if settings.tokenizer:
        processor = mini_processor(settings.tokenizer)
        vl = mini_model(settings.path, len(processor.tokenizer)) if Path(settings.path).is_file() else \
            Qwen3VLForConditionalGeneration.from_pretrained(settings.path, attn_implementation="sdpa")
    else:
        processor = AutoProcessor.from_pretrained(settings.path, padding_side="left")
        vl = Qwen3VLForConditionalGeneration.from_pretrained(settings.path, dtype=getattr(torch, settings.dtype))
    if settings.freeze_vision:
        freeze_vision(vl)
    return vl, processor


def freeze_vision(vl):
    """Stops the gradient of the vision tower, mergers included."""
    frozen = [p for name, p in vl.named_parameters() if any(part in name.split(".") for part in VISION)]
    if not frozen:
        raise ValueError("the model has no parameters of a vision tower to freeze")
    for parameter in frozen:
        parameter.requires_grad_(False)


def adapter(settings):
    """LoRA on the language model's projections, or None to train all weights."""
    if not settings.lora_rank:
        return None
    from peft import LoraConfig
    return LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, lora_dropout=0.05, task_type="CAUSAL_LM",
                      target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)")
