"""Every knob of a training run, in one place: `train.py --help` is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


class SettingsError(ValueError):
    """A setting is out of its range."""


def knob(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """Make a field of Settings that carries its own help and choices, for `train.py --help`."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Every knob of a training run, with a word on when to change it."""

    epochs: int = knob(10, "passes over the training images; more, while validation improves")
    batch_size: int = knob(1024, "images a step; smaller learns more an epoch, but runs slower")
    lr: float = knob(5e-3, "peak learning rate; halve it when steps are skipped or loss jumps")
    lr_schedule: str = knob(
        "cosine", "warm-up then cosine decay, or constant", choices=("cosine", "constant")
    )
    var: float = knob(0.5, "the decoder's variance; small favours reconstruction, large the prior")
    grad_clip: float = knob(
        2.0, "clip gradients at this multiple of their running mean norm; 0 never clips"
    )
    pred_step: int = knob(0, "validate every so many steps too; 0 is at each epoch's end only")
    eval_num: int = knob(5000, "validation images to use; fewer is faster and noisier")
    seed: int = knob(42, "seed of weights, batches and noise; change it to measure the spread")
    precision: str = knob(
        "auto",
        "bf16 where the processor computes it natively, else fp32",
        choices=("auto", "fp32", "bf16"),
    )
    compile: str = knob(
        "no", "torch.compile the model: minutes first, then faster on a GPU", choices=("no", "yes")
    )
    device: str = knob(
        "auto", "cuda, else mps, else cpu, unless named", choices=("auto", "cuda", "mps", "cpu")
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_num"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ("pred_step", "grad_clip", "seed"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        if self.seed >= 2**32:
            raise SettingsError(f"seed is {self.seed}; expected less than {2**32}.")
        for name in ("lr", "var"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected more than 0.")
        for field_ in fields(self):
            choices, value = field_.metadata["choices"], getattr(self, field_.name)
            if choices and value not in choices:
                raise SettingsError(f"{field_.name} is {value!r}; expected {', '.join(choices)}.")
