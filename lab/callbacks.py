"""The interface of callbacks, which write files, show progress or measure time during a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from data_utils import Batches
from lab.settings import Settings
from lab.split_model import Submission
from lab.training_state import TrainingState


class Training(Protocol):
    """What a callback may use of the Trainer."""

    submission: Submission
    settings: Settings
    model: nn.Module
    device: torch.device
    batches: Batches
    state: TrainingState
    say: Callable[[str], None]  # prints one line above the progress bar

    def state_dict(self) -> dict[str, Any]:
        """Return all that training needs to continue; see `Trainer.state_dict`."""

    def reconstruct(self, x: Tensor, labels: Tensor) -> Tensor:
        """Encode at the posterior mean and decode: (B, 1, 28, 28) to (B, 28, 28)."""


class Callback:
    """Base class of callbacks. The Trainer calls each method at its event."""

    def on_start(self, trainer: Training) -> None:
        """Training starts, or continues from a checkpoint."""

    def on_validation(self, trainer: Training, row: dict[str, Any]) -> None:
        """A validation is complete; `row`, the new row of history, has its numbers."""

    def on_epoch_end(self, trainer: Training) -> None:
        """An epoch is complete and validated."""

    def on_interrupt(self, trainer: Training) -> None:
        """The user or the system asked to stop; the state is that of a complete step."""

    def on_failure(self, trainer: Training) -> None:
        """Training gave up; the state is the last good state."""

    def on_finish(self, trainer: Training) -> None:
        """All epochs are done."""
