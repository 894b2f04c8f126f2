"""Stage 1: supervised fine-tuning on SEER-Trace.

usage: python train_sft.py SETTINGS.toml        (GPUs: accelerate launch train_sft.py SETTINGS.toml)

Writes <out>/sft: model, processor, and the log of the trainer. Goes on from its last checkpoint.
"""

import argparse

from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

import reasoners
import settings as settings_file
import traces_data


def train(settings):
    """Trains and returns the trainer; its model lies in <out>/sft."""
    vl, processor = reasoners.load(settings.model)
    rows = [r for r in traces_data.read(settings.traces) if r.get("split") != "heldout"]
    out = settings.out / "sft"
    arguments = SFTConfig(output_dir=str(out), seed=settings.seed, completion_only_loss=True, max_length=None, report_to="none",
                          remove_unused_columns=False, **settings.sft)
    trainer = SFTTrainer(vl, arguments, train_dataset=traces_data.for_sft(rows).shuffle(settings.seed), processing_class=processor,
                         peft_config=reasoners.adapter(settings.model))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(out) if out.exists() else None)
    save(trainer, processor, out)
    return trainer


def save(trainer, processor, out):
    """Model with its adapters merged, processor, and the trainer's log."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if trainer.accelerator.is_main_process:
        model.save_pretrained(out)
        processor.save_pretrained(out)
        trainer.state.save_to_json(str(out / "log.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings")
    train(settings_file.read(parser.parse_args().settings))


if __name__ == "__main__":
    main()
