"""The learning-rate schedule."""

from __future__ import annotations

import math

WARMUP_SHARE = 0.05  # of all steps


def learning_rate_factor(step: int, total_steps: int, schedule: str) -> float:
    """Return the factor on the peak learning rate at a step, 0 to 1.

    "cosine" rises linearly over the first 5 % of the steps and then follows half a cosine down
    to 0 (Loshchilov and Hutter 2017, SGDR, without restarts). "constant" is 1 at every step.
    """
    if schedule == "constant":
        return 1.0
    warmup = max(1, round(WARMUP_SHARE * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
