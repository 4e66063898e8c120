"""Folders that students hand in, and classes graded by the command."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image

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


def tiles_of(page: str) -> np.ndarray:
    """Return the images that a report shows closely, rows of inputs and outputs: (2, n, 28, 28)."""
    (data,) = re.findall(r'background-image: url\("data:image/png;base64,([^"]*)"\)', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))  # (3 * 28, n * 28)
    return pixels.reshape(3, 28, -1, 28).transpose(0, 2, 1, 3)[:2]
