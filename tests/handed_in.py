"""Folders that students hand in, and classes graded by the command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import ROOT, run

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"), reason="bubblewrap is not installed"
)
CLASS = "staff.grade_class"


def hand_in(folder: Path, trained: dict[str, Path], tasks=("VAEwolabel", "Genwithlabel")) -> Path:
    """Write an honest student's folder."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "model.py", folder / "submission.py")
    for task in tasks:
        shutil.copy(trained[task], folder / f"{task}.pth")
    return folder


def run_class(folder: Path, out: Path, tiny_data: Path, *more: object, **named):
    words = [folder, "--out", out, "--test_data", tiny_data, "--gen_num", 20, *more]
    named = {"timeout": 1500, **named}  # many attacks last until they are stopped
    return run(CLASS, *words, **named)


def result_of(out: Path, key: str) -> dict:
    return json.loads((out / "students" / key / "result.json").read_text(encoding="utf-8"))


def copied(files: Iterable[Path], folder: Path) -> Path:
    """Copy files of the lab into a folder, at the same places."""
    for file in files:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return folder
