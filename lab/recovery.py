"""Recovery from numbers that are not finite: the last good state, with half the learning rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lab.training_state import TrainingState

BAD_STEPS_IN_A_ROW = 5  # then back to the last good state
MAX_ROLLBACKS = 3  # without a good epoch between them


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why, and what to try."""


class Recovery:
    """Keeps the last good state of a model and its optimizers, and returns to it.

    Args:
        model, optimizers: what is kept and restored.
        state: the run's counters; rollbacks and lr_scale are counted there.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        state: TrainingState,
    ) -> None:
        self.model, self.optimizers, self.state = model, optimizers, state
        self.last_good = self._snapshot()

    @property
    def needed(self) -> bool:
        """Whether too many steps in a row were not finite."""
        return self.state.bad_in_a_row >= BAD_STEPS_IN_A_ROW

    def is_finite(self, row: dict[str, Any]) -> bool:
        """Whether all trained weights, and the scores in a row of history, are finite."""
        scores = [value for name, value in row.items() if name.startswith("valid_")]
        trained = (p for p in self.model.parameters() if p.requires_grad)
        weights = all(bool(torch.isfinite(p).all()) for p in trained)
        return weights and all(map(math.isfinite, scores))

    def keep(self) -> None:
        """Store the present state as the last good state."""
        self.last_good = self._snapshot()
        self.state.rollbacks = self.state.new_steps = 0

    def restore_buffers(self) -> None:
        """Restore buffers that are not finite, such as BatchNorm's statistics after a bad batch."""
        for name, buffer in self.model.named_buffers():
            good = self.last_good["model"].get(name)  # None for a buffer that is not persistent
            if good is not None and not torch.isfinite(buffer).all():
                buffer.copy_(good)

    def roll_back(self, why: str) -> None:
        """Return to the last good state with half the learning rate.

        Raises TrainingError, in the last good state, after MAX_ROLLBACKS without a good epoch.
        """
        self._restore()
        self.state.bad_in_a_row = self.state.new_steps = 0
        if self.state.rollbacks == MAX_ROLLBACKS:
            raise TrainingError(
                f"training gave up at step {self.state.step}: {why}, also after {MAX_ROLLBACKS} "
                "returns to the last good state, each with half the learning rate. Look for the "
                "logarithm of zero or a division by zero in your loss, or try a lower --lr."
            )
        self.state.rollbacks += 1
        self.state.lr_scale /= 2

    def state_dict(self) -> dict[str, Any] | None:
        """Return the last good state; None if it is the present state.

        At the end of most epochs it is, which halves the size of the checkpoint.
        """
        return self.last_good if self.last_good["step"] != self.state.step else None

    def load_state_dict(self, last_good: dict[str, Any] | None) -> None:
        """Load what state_dict returned, once model, optimizers and state are loaded.

        Raises ValueError if it is not a state of this model.
        """
        now = self._snapshot()
        if last_good is not None and _layout(last_good) != _layout(now):
            raise ValueError("its last good state is of another model")
        for optimizer, saved in zip(self.optimizers, last_good["optimizers"] if last_good else ()):
            expect_fitting(optimizer, saved)
        self.last_good = last_good or now

    def _snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "mean_norm": self.state.mean_norm,
                "step": self.state.step,
            }
        )

    def _restore(self) -> None:
        # Optimizers keep the tensors that they are given, so they get a copy.
        snapshot = copy.deepcopy(self.last_good)
        self.model.load_state_dict(snapshot["model"])
        for optimizer, state in zip(self.optimizers, snapshot["optimizers"]):
            optimizer.load_state_dict(state)
        self.state.mean_norm = snapshot["mean_norm"]


def expect_fitting(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raise ValueError if a fused optimizer would read or write outside its state's memory.

    Its kernels trust that every tensor of the state has the shape of the parameter, and a file may
    hold any shape. Other optimizers check the shapes themselves.
    """
    groups = [*optimizer.param_groups, *saved["param_groups"]]
    if not any(group.get("fused") for group in groups):
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in saved["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                shape = torch.Size() if name == "step" else parameters[index].shape
                stored = value.untyped_storage().nbytes() // value.element_size()
                held = stored - value.storage_offset()
                if value.shape != shape or held < value.numel():
                    raise ValueError("the optimizer's state has another shape than the weights")


def _layout(snapshot: Any) -> object:
    """Return the names and shapes in a snapshot; None if it is not a snapshot."""
    try:
        weights = {name: value.shape for name, value in snapshot["model"].items()}
        mean_norm, step = snapshot["mean_norm"], snapshot["step"]
        optimizers = [sorted(optimizer) for optimizer in snapshot["optimizers"]]
    except (AttributeError, KeyError, TypeError, IndexError):
        return None
    good = type(step) is int and (mean_norm is None or type(mean_norm) is float)
    return (weights, optimizers) if good else None
