"""Measures of a model beside its grade; docs/metrics.md defines each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATIOS = ("diversity", "nearest_train")  # to the value of real images


def rows_of(measured: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Return a row per measure of `evaluate`: its name, the model's value, that of real images.

    The interval of raw and the KL of each dimension are not in it.
    """
    return [
        (name, value, 1.0 if name in RATIOS else measured.get(f"{name}_real"))
        for name, value in measured.items()
        if not name.startswith("raw_") and not name.endswith("_real") and name != "kl"
    ]
