"""All settings of a training run; `train.py` makes its options and its help from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


class SettingsError(ValueError):
    """A setting is outside its range; the message names it, its value and the range."""


def knob(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """Return a dataclass field with its default, its help and, if not all are allowed, choices."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """The settings of a training run; each help text says when to change it."""

    epochs: int = knob(10, "passes over the training images; raise it while validation improves")
    batch_size: int = knob(1024, "images per step; smaller learns more per epoch but runs slower")
    lr: float = knob(5e-3, "peak learning rate; halve it if steps are skipped or the loss jumps")
    lr_schedule: str = knob(
        "cosine",
        "warm-up and cosine decay, or constant; the paper of a model may ask for constant",
        choices=("cosine", "constant"),
    )
    var: float = knob(
        0.5, "variance of the decoder; smaller favours reconstruction, larger the prior"
    )
    grad_clip: float = knob(
        2.0, "clip gradients at this multiple of their running mean norm; 0 to never clip"
    )
    pred_step: int = knob(
        0, "also validate every N steps, to see more of long epochs; 0: at epoch ends only"
    )
    eval_num: int = knob(5000, "validation images to use; fewer are faster and noisier")
    seed: int = knob(42, "seed of weights, batches and noise; change it to measure the spread")
    precision: str = knob(
        "auto",
        "auto: bf16 if the processor supports it natively, else fp32; fp32 is more exact",
        choices=("auto", "fp32", "bf16"),
    )
    compile: str = knob(
        "no",
        "use torch.compile: takes minutes at first, then runs faster on a GPU",
        choices=("no", "yes"),
    )
    device: str = knob(
        "auto",
        "auto: cuda if available, else mps, else cpu; name one to force it",
        choices=("auto", "cuda", "mps", "cpu"),
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
