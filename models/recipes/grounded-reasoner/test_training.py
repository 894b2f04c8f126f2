"""Both stages end to end on one CPU thread with tiny models: about a minute.

usage: python -m pytest test_training.py        (needs requirements.txt and pytest; no data, no GPU, no network)

The suite is one painted ball; the backbone that executes answers is the real one of models/seer-mini.
"""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import reasoners
import rewards
import settings as settings_file
import train_grpo
import train_sft
import traces_data
from execution import Executor, dice

HERE = Path(__file__).parent
BUNDLE = HERE.parent.parent / "seer-mini"
TRACE = "<evidence>MR of the head. {0} in view 2.</evidence><rationale>the order means the {0}.</rationale><answer>Segment the {0}.</answer>"
REFUSAL = "<evidence>MR of the head.</evidence><rationale>the liver is not here.</rationale><answer>Reject: out_of_region.</answer>"
SMALL = dict(max_steps=2, logging_steps=1, save_strategy="no", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A case with a ball of label 5, two requests in two wordings each, and one that must be refused."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("suite")
    case = folder / "cases" / "ball"
    case.mkdir(parents=True)
    z, y, x = np.mgrid[:48, :64, :48]
    ball = (z - 24) ** 2 + (y - 32) ** 2 + (x - 24) ** 2 < 18 ** 2
    image = np.where(ball, 200.0, 20.0) + np.random.default_rng(0).normal(0, 5, ball.shape)
    for name, array in (("image", image.astype(np.float32)), ("labels", (ball * 5).astype(np.int16))):
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([3.0, 3.0, 3.0, 1.0])), case / f"{name}.nii.gz")
    (case / "modality").write_text("MR")
    Image.fromarray(np.uint8(np.clip(image[24], 0, 255))[:, :]).resize((64, 64)).convert("RGB").save(folder / "view.png")
    lines = []
    for target, texts in (("brain", ("segment the brain", "whole brain pls")), ("left thalamus", ("left thalamus", "L thal")), (None, ("liver", "segment the liver"))):
        for text in texts:
            lines.append({"messages": [{"role": "system", "content": "Ground the order in the scan."}, {"role": "user", "content": f"<image>{text}"},
                                       {"role": "assistant", "content": TRACE.format(target) if target else REFUSAL}],
                          "images": ["view.png"], "case": "ball", "group": f"ball/{target}", "labels": [5] if target else [],
                          "expect": "segment" if target else "out_of_region", "split": "practice"})
    (folder / "traces.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def mini(suite, out, **changes):
    """The settings of seer-mini.toml on the suite of this test, with an untrained model."""
    settings = settings_file.read(HERE / "seer-mini.toml")
    settings.traces, settings.suite, settings.bundle, settings.out = suite / "traces.jsonl", suite, BUNDLE, out
    settings.model.path, settings.model.tokenizer = str(suite / "untrained.pt"), str(BUNDLE / "reasoner" / "tokenizer.json")
    if not Path(settings.model.path).exists():
        torch.manual_seed(0)
        torch.save({"model": reasoners.mini_model(None, 2048).state_dict()}, settings.model.path)
    for stage, values in changes.items():
        getattr(settings, stage).update(values)
    return settings


def weights(model, part):
    return torch.cat([p.detach().flatten() for n, p in model.named_parameters() if (".visual." in n) == (part == "vision")])


def test_both_stages_of_seer_mini(suite, tmp_path):
    learn = SMALL | dict(max_steps=60, learning_rate=3e-3, per_device_train_batch_size=6, logging_steps=5, warmup_steps=5)
    settings = mini(suite, tmp_path, sft=learn, grpo=SMALL | dict(num_generations=4, per_device_train_batch_size=4,
                                                                gradient_accumulation_steps=2, max_completion_length=60, learning_rate=1e-4,
                                                                temperature=1.4))  # so hot that rollouts differ
    before, _ = reasoners.load(settings.model)
    trainer = train_sft.train(settings)
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    assert losses[-1] < 0.3 * losses[0], f"the loss went from {losses[0]} to {losses[-1]} only"
    assert torch.equal(weights(before, "vision"), weights(trainer.model, "vision")), "the frozen vision tower has moved"
    assert not torch.equal(weights(before, "text"), weights(trainer.model, "text")), "the language model has not moved"

    after_sft = weights(trainer.model, "text").clone()
    trainer, given = train_grpo.train(settings)
    logs = [e for e in trainer.state.log_history if "reward" in e]
    assert len(logs) == 2 and all(np.isfinite(e["reward"]) and np.isfinite(e["kl"]) for e in logs)
    assert max(e["rewards/format_reward/mean"] for e in logs) > 0, "no rollout kept the format that stage 1 taught"
    assert given.answers, "no answer was executed"
    assert max(e["reward_std"] for e in logs) > 1e-3, "all rollouts of a prompt earned the same, so nothing was learnt"
    assert not torch.equal(after_sft, weights(trainer.model, "text")), "rewards differed, but the weights have not moved"
    assert torch.equal(weights(before, "vision"), weights(trainer.model, "vision")), "the frozen vision tower has moved"
    assert (tmp_path / "grpo" / "config.json").exists()


def test_the_gpu_recipe_on_a_random_qwen3_vl(suite, tmp_path):
    """qwen3-vl-4b.toml as it stands, but for the size of the model, its batches and what only a GPU has."""
    settings = settings_file.read(HERE / "qwen3-vl-4b.toml")
    small = mini(suite, tmp_path)
    vl, processor = reasoners.load(small.model)
    vl.save_pretrained(tmp_path / "random")
    processor.save_pretrained(tmp_path / "random")
    settings.traces, settings.suite, settings.bundle, settings.out = small.traces, small.suite, BUNDLE, tmp_path / "out"
    settings.model.path, settings.model.lora_rank, settings.model.dtype = str(tmp_path / "random"), 4, "float32"
    settings.sft |= SMALL | dict(bf16=False)
    settings.grpo |= SMALL | dict(bf16=False, use_vllm=False, num_generations=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
                                  max_completion_length=12, max_steps=1)
    settings.grpo.pop("vllm_mode"), settings.grpo.pop("vllm_gpu_memory_utilization")
    trainer = train_sft.train(settings)
    merged = reasoners.Qwen3VLForConditionalGeneration.from_pretrained(settings.out / "sft")
    assert not torch.equal(weights(vl, "text"), weights(merged, "text")), "the adapter was not trained or not merged"
    assert torch.equal(weights(vl, "vision"), weights(merged, "vision")), "the frozen vision tower has moved"
    trainer, _ = train_grpo.train(settings)
    assert np.isfinite([e["reward"] for e in trainer.state.log_history if "reward" in e]).all()


def test_rewards_are_dice_stability_and_format(suite, tmp_path):
    given = rewards.Rewards(Executor(BUNDLE, suite, tmp_path), settings_file.Reward())
    brain, thalamus = TRACE.format("brain"), TRACE.format("left thalamus")
    columns = dict(case=["ball"] * 4, labels=[[5]] * 3 + [[]], expect=["segment"] * 3 + ["out_of_region"], group=["b", "b", "t", "r"],
                   text=["whole brain", "brain", "thal", "liver"])
    completions = [brain, "<answer>Segment the brain.</answer>", thalamus, REFUSAL]
    executor = given.executor
    wanted = dice(executor.mask("ball", "brain"), executor.reference("ball", (5,)))
    got = given.dice_reward(completions, **columns)
    assert got == [wanted, 0.0, dice(executor.mask("ball", "left thalamus"), executor.reference("ball", (5,))), 1.0]
    assert given.format_reward(completions) == [1.0, 0.0, 1.0, 1.0]
    assert given.stability_reward(completions, **columns) == [0.0, 0.0, None, None]
    later = given.stability_reward([brain], case=["ball"], group=["b"], text=["brain"])
    assert later == [1.0], "the remembered answer to the other wording gives the same mask"
    assert given.dice_reward([TRACE.format("flux capacitor")], case=["ball"], labels=[[5]], expect=["segment"]) == [0.0]
    assert given.dice_reward([brain], case=["ball"], labels=[[]], expect=["ambiguous"]) == [0.0]
    assert given.dice_reward([REFUSAL], case=["ball"], labels=[[]], expect=["ambiguous"]) == [given.settings.other_reason]


def test_reference_and_mask_share_the_grid(suite, tmp_path):
    executor = Executor(BUNDLE, suite, tmp_path)
    assert executor.reference("ball", (5,)).shape == executor.mask("ball", "brain").shape
    assert executor.reference("ball", (5,)).sum() > 20000
    kept = executor.mask("ball", "brain")
    executor.mask.cache_clear()
    assert np.array_equal(kept, executor.mask("ball", "brain")), "the stored mask differs"


def test_wordings_of_a_group_stand_together(suite):
    data = traces_data.for_grpo(traces_data.read(suite / "traces.jsonl"), 4)
    groups = data["group"]
    assert all(len(set(groups[i:i + 4])) == 1 for i in range(0, len(groups), 4)) and len(groups) == 12


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
