"""One TOML file says what is trained, on what, and how; the two scripts read nothing else."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Model:
    """`path` is a Hugging Face folder or name, or a checkpoint of the seer-mini recipe (then `tokenizer` is its file)."""

    path: str
    tokenizer: str | None = None
    freeze_vision: bool = False
    lora_rank: int = 0  # 0 trains all weights
    dtype: str = "float32"


@dataclass
class Reward:
    """Weights of R = w_d Dice + w_s stability + w_f format, and the share that a refusal for another reason earns."""

    dice: float = 0.7
    stability: float = 0.2
    format: float = 0.1
    other_reason: float = 0.3


@dataclass
class Settings:
    """`bundle` is a folder with the frozen backbone and its vocabulary; `suite` the folder with volumes and references."""

    model: Model
    traces: Path
    suite: Path
    bundle: Path
    out: Path
    seed: int = 0
    reward: Reward = field(default_factory=Reward)
    sft: dict = field(default_factory=dict)  # keyword arguments of trl.SFTConfig
    grpo: dict = field(default_factory=dict)  # keyword arguments of trl.GRPOConfig


def read(path):
    """Settings of a TOML file; relative paths in it count from its folder."""
    data = tomllib.loads(Path(path).read_text())
    base = Path(path).resolve().parent
    model = Model(**data.pop("model"))
    for name in ("path", "tokenizer"):
        value = getattr(model, name)
        if value and (base / value).exists():
            setattr(model, name, str(base / value))
    paths = {name: base / data.pop(name) for name in ("traces", "suite", "bundle", "out")}
    return Settings(model=model, reward=Reward(**data.pop("reward", {})), **paths, **data)
