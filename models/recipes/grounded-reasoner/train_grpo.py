"""Stage 2: GRPO with the composite reward, the backbone frozen, from the model of stage 1.

usage: python train_grpo.py SETTINGS.toml        (GPUs: accelerate launch train_grpo.py SETTINGS.toml)

Advantages are those of the rollouts of one prompt (their group); `beta` weighs the KL term to the stage-1 model.
One step holds as many wordings of one request as gradient_accumulation_steps, so that stability can be told.
Reads <out>/sft (or model.path where stage 1 was not run) and writes <out>/grpo.
"""

import argparse
import dataclasses

from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

import reasoners
import settings as settings_file
import traces_data
from execution import Executor
from rewards import Rewards
from train_sft import save


def train(settings):
    """Trains and returns (trainer, rewards); the model lies in <out>/grpo."""
    first, out = settings.out / "sft", settings.out / "grpo"
    start = dataclasses.replace(settings.model, path=str(first)) if (first / "config.json").exists() else settings.model
    vl, processor = reasoners.load(start)
    arguments = GRPOConfig(output_dir=str(out), seed=settings.seed, shuffle_dataset=False, report_to="none",
                           remove_unused_columns=False, **settings.grpo)
    rewards = Rewards(Executor(settings.bundle, settings.suite, settings.out / "masks"), settings.reward)
    arguments.reward_weights = rewards.weights
    rows = [r for r in traces_data.read(settings.traces) if r.get("split") != "heldout"]
    prompts = traces_data.for_grpo(rows, arguments.generation_batch_size // arguments.num_generations, settings.seed)
    trainer = GRPOTrainer(vl, rewards.functions, args=arguments, train_dataset=prompts, processing_class=processor,
                          peft_config=reasoners.adapter(settings.model))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(out) if out.exists() else None)
    save(trainer, processor, out)
    return trainer, rewards


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings")
    train(settings_file.read(parser.parse_args().settings))


if __name__ == "__main__":
    main()
