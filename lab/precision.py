"""The precision in which a model computes: bf16 if the device supports it natively, else fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from lab.device import native_bf16


class Precision:
    """Runs a model in bf16 or fp32. The loss, and all scores, are always computed in fp32.

    Attributes:
        bf16: whether the model runs in bf16 now.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.bf16 = device, False

    @property
    def name(self) -> str:
        """The precision in words: "bf16" or "fp32"."""
        return "bf16" if self.bf16 else "fp32"

    def autocast(self) -> torch.autocast:
        """Return the context in which the model runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Run in fp32 for the duration of a `with` block."""
        before, self.bf16 = self.bf16, False
        try:
            yield
        finally:
            self.bf16 = before

    def choose(self, wanted: str, trial_loss: Callable[[], float] | None) -> str:
        """Choose bf16 if it is requested or native to the device, and a trial step succeeds in it.

        Args:
            wanted: "auto", "fp32" or "bf16".
            trial_loss: returns the loss of a trial step, which changes nothing; None for a model
                with its own training_step, because a trial would train it.

        Returns the reason why bf16 failed; "" if it was not tried or works.
        """
        if wanted == "fp32" or (wanted == "auto" and not native_bf16(self.device)):
            return ""
        if trial_loss is None:
            self.bf16 = wanted == "bf16"  # adversarial losses are left in fp32 unless asked
            return ""
        self.bf16 = True
        try:
            if math.isfinite(trial_loss()):
                return ""
            reason = "its loss is not finite there"
        except Exception as error:  # a student's code may raise anything; fp32 is tried next
            reason = (str(error) or type(error).__name__).splitlines()[0]
        self.bf16 = False
        return reason
