"""Measured figures: read and write JSON files, describe the machine, compute mean and spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole


def read(file: Path) -> Any:
    """Return the figures in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def stored(file: Path) -> dict[str, Any]:
    """Return the figures in a JSON file, none if it does not exist yet."""
    return read(file) if file.exists() else {}


def write(file: Path, figures: Any) -> None:
    """Write figures to a JSON file, whole or not at all."""
    with write_whole(file) as target:
        target.write((json.dumps(figures, indent=2) + "\n").encode())


def machine() -> dict[str, Any]:
    """Return what a figure depends on: cores, processor, versions, date."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def mean_and_spread(values: Sequence[float | None], digits: int) -> str:
    """Return "mean ± standard deviation", a single value alone, or "-" where one is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{statistics.mean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"
