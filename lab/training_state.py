"""The counters of a training run. A checkpoint contains all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

FIRST_STEPS = 20  # whose loss a checkpoint states, so that the beginning of a run can be repeated


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _is_row(value: object) -> bool:
    """Return whether this is a row of numbers by name; nan marks an epoch that failed."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and type(number) in (int, float) for name, number in value.items()
    )


# What a counter must be, by the type that its field states.
_KINDS: dict[Any, Callable[[Any], bool]] = {
    "int": _is_count,
    "bool": lambda value: type(value) is bool,
    "float": _is_number,
    "float | None": lambda value: value is None or _is_number(value),
    "dict[str, float]": _is_row,
    "list[float]": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "list[dict[str, Any]]": lambda value: isinstance(value, list) and all(map(_is_row, value)),
}


@dataclass
class TrainingState:
    """The counters of a run.

    Attributes:
        epoch: complete epochs.
        batch: complete steps of the current epoch.
        step: complete steps of the run.
        finished: whether the last epoch is complete and on_finish was called.
        seconds: time of training without validation, summed over resumed parts of the run.
        sums: each named part of the loss, summed over the steps since the last row of history,
            and their number, "steps".
        history: one row per validation.
        first_losses: the loss of each of the first FIRST_STEPS steps, or all parts together where
            no part is named loss; shorter if a step was skipped.
        lr_scale: factor on the learning rate; halved by each return to the last good state.
        skipped_steps: steps whose loss or gradients were not finite.
        bad_in_a_row: the number of such steps in a row up to now.
        new_steps: steps that changed the weights since the last good state.
        rollbacks: returns to the last good state without a good epoch between them.
        mean_norm: running mean of the gradient norm; None before the first step.
        best_loss, best_epoch: the lowest validation loss at the end of an epoch, and that epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    finished: bool = False
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    first_losses: list[float] = field(default_factory=list)
    lr_scale: float = 1.0
    skipped_steps: int = 0
    bad_in_a_row: int = 0
    new_steps: int = 0
    rollbacks: int = 0
    mean_norm: float | None = None
    best_loss: float = math.inf
    best_epoch: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError if a counter, which may come from a file, is not of its kind."""
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if not _KINDS[field_.type](value):
                raise ValueError(f"the counter {field_.name} has a wrong value")

    def count_step(self, parts: dict[str, float]) -> None:
        """Count a complete step and add its named parts; an empty dict is a skipped step."""
        self.step += 1
        self.batch += 1
        if not parts:
            self.skipped_steps += 1
            self.bad_in_a_row += 1
            return
        if self.step <= FIRST_STEPS and len(self.first_losses) == self.step - 1:
            self.first_losses.append(parts.get("loss", sum(parts.values())))
        self.bad_in_a_row = 0
        self.new_steps += 1
        self.sums["steps"] = self.sums.get("steps", 0) + 1
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take_means(self) -> dict[str, float]:
        """Return the mean of each named part since the last call, and start new sums."""
        sums, self.sums = self.sums, {}
        steps = sums.pop("steps", 0)
        return {name: total / steps for name, total in sums.items()}

    def note_best(self, row: dict[str, Any]) -> None:
        """Compare the completed epoch with the best one; without a loss, the latest is the best."""
        loss = row.get("valid_loss", -self.epoch)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
