"""Options as fields of a dataclass, and the settings of a training run.

A command's options are the fields of a dataclass, so that names, defaults and help texts are in one
place. `add_options` adds them to the command's parser.
"""

from __future__ import annotations

import argparse
import math
import reprlib
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

DEVICES = ("auto", "cuda", "mps", "cpu")
CONVOLUTIONS = ("fast", "torch")


class SettingsError(ValueError):
    """An option is out of its range, or contradicts another one."""


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    kind: type | None = None,
) -> Any:
    """Return a dataclass field with its help text, choices and type as metadata.

    kind: the type of a value; needed if the default is None.
    """
    facts = {"help": help, "choices": choices, "kind": kind or type(default)}
    return field(default=default, metadata=facts)


def add_options(
    parser: argparse._ActionsContainer,
    options: Iterable[Field[Any]],
    nargs: str | None = None,
) -> None:
    """Add the fields of a dataclass to a parser or a group of it.

    nargs: "+" allows several values per option, as in a sweep.
    """
    for each in options:
        named: dict[str, Any] = {"default": each.default, "help": each.metadata["help"]}
        if each.metadata["kind"] is bool:
            # --NAME, --NAME True, --NAME False, and --no-NAME, which means False.
            named |= {"nargs": "?", "const": True, "type": _truth, "metavar": "True|False"}
            parser.add_argument(
                f"--no-{each.name}",
                action="store_false",
                dest=each.name,
                default=each.default,
                help=argparse.SUPPRESS,
            )
        else:
            named |= {"type": each.metadata["kind"], "choices": each.metadata["choices"]}
            named["nargs"] = nargs
        parser.add_argument(f"--{each.name}", **named)


def _truth(text: str) -> bool:
    """Return the value of an option that is True or False."""
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected True or False, not {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training run; each help text says when to change it."""

    epochs: int = option(10, "passes over the training images; raise it while validation improves")
    batch_size: int = option(1024, "images per step; smaller learns more per epoch but runs slower")
    lr: float = option(5e-3, "peak learning rate; halve it if steps are skipped or the loss jumps")
    lr_schedule: str = option(
        "cosine",
        "warm-up and cosine decay, or constant; the paper of a model may ask for constant",
        ("cosine", "constant"),
    )
    var: float = option(
        0.5, "variance of the decoder; smaller favours reconstruction, larger the prior"
    )
    grad_clip: float = option(
        2.0, "clip gradients at this multiple of their running mean norm; 0 to never clip"
    )
    pred_step: int = option(
        0, "also validate every N steps, to see more of long epochs; 0: at epoch ends only"
    )
    eval_num: int = option(5000, "validation images to use; fewer are faster and noisier")
    seed: int = option(42, "seed of weights, batches and noise; change it to measure the spread")
    precision: str = option(
        "auto",
        "auto: bf16 if the processor supports it natively, else fp32; fp32 is more exact",
        ("auto", "fp32", "bf16"),
    )
    convolutions: str = option(
        "fast",
        "the lab's faster convolutions on x86 CPUs, or PyTorch's own; equal up to rounding",
        CONVOLUTIONS,
    )
    compile: str = option(
        "no",
        "use torch.compile: takes minutes at first, then runs faster on a GPU",
        ("no", "yes"),
    )
    device: str = option(
        "auto", "auto: cuda if available, else mps, else cpu; name one to force it", DEVICES
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
                raise SettingsError(
                    f"{name} is {getattr(self, name)}; expected a finite number > 0."
                )
        for field_ in fields(self):
            choices, value = field_.metadata["choices"], getattr(self, field_.name)
            if choices and value not in choices:
                came = reprlib.repr(value)  # shortened: a damaged checkpoint may hold any text
                raise SettingsError(f"{field_.name} is {came}; expected {', '.join(choices)}.")
