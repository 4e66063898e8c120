"""Where the results of a class are, and how they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def folder_of(out: Path, key: str) -> Path:
    """Return the folder of a student's result; its name is UTF-8 under every locale."""
    return out / "students" / os.fsdecode(key.encode())


def report_file(folder: Path, task: str) -> Path:
    """Return the page about the model of a task in a student's folder."""
    return folder / f"{task}_report.html"


def read_result(folder: Path) -> dict[str, Any]:
    """Return the stored result of a student's folder; {} if there is none that can be read."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_results(out: Path) -> list[dict[str, Any]]:
    """Return the stored results of a class, in the order of the students' names in them."""
    found = [read_result(folder) for folder in sorted((out / "students").glob("*"))]
    return sorted((one for one in found if one), key=lambda one: one["student"])
