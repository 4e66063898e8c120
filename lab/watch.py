"""Watch a run for faults that stop no training: they end in a model that is of no use."""

from __future__ import annotations

import math
from typing import Any

import torch

from data_utils import NUM_CLASSES, to_uint8
from lab.callbacks import Callback, Training

COLLAPSED = 0.1  # nats per image; to say which of ten digits it is takes log(10) = 2.3
NEGATIVE = "negative loss"
TODO = {  # of encode and decode, by task
    "VAEwolabel": ("2.2.2", "2.2.3"),
    "Genwithlabel": ("3.2", "3.3"),
}


class Watch(Callback):
    """Says what is wrong with a model, each fault once, and at the end its validation scores.

    Attributes:
        found: the faults after the latest epoch, by name; one sentence each.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._said: set[str] = set()

    def on_epoch_end(self, trainer: Training) -> None:
        """Look for faults, and say those that are new."""
        steps = len(trainer.batches)
        rows = [row for row in trainer.state.history if row["step"] > trainer.state.step - steps]
        dead = _dead_output(trainer)
        checks = {
            # Once seen it stays: after a return to the last good state, the loss is positive again.
            NEGATIVE: self.found.get(NEGATIVE) or _negative_loss(trainer, rows[-1]),
            "dead output": dead,
            # Codes that no picture depends on collapse as well.
            "posterior collapse": None if dead else _posterior_collapse(trainer, rows),
        }
        self.found = {name: text for name, text in checks.items() if text}
        for name, text in self.found.items():
            if name not in self._said:
                self._said.add(name)
                trainer.say(f"epoch {trainer.state.epoch}: {text}")

    def on_failure(self, trainer: Training) -> None:
        """Say whether the loss was negative in an epoch that did not come to its end."""
        sums = trainer.state.sums
        row = {"train_loss": sums.get("loss", 0.0) / sums.get("steps", 1)}
        text = _negative_loss(trainer, row)
        if text and NEGATIVE not in self._said:
            trainer.say(f"before that, {text}")

    def on_finish(self, trainer: Training) -> None:
        """Say the scores of the best epoch, whose weights are in best.pth."""
        state = trainer.state
        # Rows inside an epoch have the number of the epoch before it, and come after its end.
        row = next(row for row in state.history if row["epoch"] == state.best_epoch)
        formats = {"loss": ".6g", "ssim": ".4f", "mse": ".5f"}
        scores = [
            f"{name} {row[f'valid_{name}']:{digits}}"
            for name, digits in formats.items()
            if f"valid_{name}" in row
        ]
        if scores:
            best = f"epoch {state.best_epoch} of {state.epoch}"
            trainer.say(f"best validation, {best}: {', '.join(scores)}")


def _negative_loss(trainer: Training, row: dict[str, Any]) -> str | None:
    losses = [row.get(name, 0.0) for name in ("valid_loss", "train_loss")]
    loss = next((loss for loss in losses if loss < 0), None)  # nan, after a failure, is not < 0
    if not trainer.submission.uses_vae_loss or loss is None:
        return None
    return (
        f"the loss is negative ({loss:.3g}), but a squared error and a KL divergence never are: "
        "look at the signs in vae_loss (TODO 2.3), first at that of the KL term"
    )


def _posterior_collapse(trainer: Training, rows: list[dict[str, Any]]) -> str | None:
    """Return the fault if the KL divergence is near zero in training and validation."""
    names = ("train_kl_divergence", "valid_kl_divergence")
    highest = max(row.get(name, math.inf) for row in rows for name in names)
    if not trainer.submission.uses_vae_loss or not highest < COLLAPSED:
        return None
    encode, _ = TODO[trainer.submission.task]
    return (
        f"posterior collapse: the KL divergence was below {COLLAPSED} for a whole epoch, so the "
        "codes say nothing about the images; lower --var, check that vae_loss (TODO 2.3) sums the "
        f"squared error over the pixels, and that encode (TODO {encode}) uses x"
    )


def _dead_output(trainer: Training) -> str | None:
    """Return the fault if each of a few samples is of a single grey."""
    labels = torch.arange(NUM_CLASSES).repeat(4)
    samples = to_uint8(trainer.submission.generate(labels, trainer.settings.seed))
    flat = samples.reshape(len(labels), -1)  # (40, 784)
    if (flat != flat[:, :1]).any():
        return None
    _, decode = TODO[trainer.submission.task]
    return (
        f"dead output: every picture is of a single grey; look at the last layers of decode (TODO "
        f"{decode}) for a ReLU or a sigmoid that gets too large or too small values, or lower --lr"
    )
