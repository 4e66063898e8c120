"""Measure how time and memory grow with images, latent_dim, batch size, trials and submissions.

The exponent of a series is the slope of its last three points on logarithmic axes: 0 is constant,
1 is proportional. The time of the first points is mostly start-up.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.commands import json_from, timed
from data_utils import MNISTDataset
from lab import ROOT
from staff.idx import idx_bytes

IMAGES = (1_000, 10_000, 50_000, 500_000)
LATENT_DIMS = (2, 20, 200)
BATCHES = (64, 512, 4096)
SUBMISSIONS = (1, 2, 4)
TRIALS = (1, 3, 9)


def measure(folder: Path) -> dict[str, dict]:
    """Return x, seconds, peak memory of the largest process in MiB, and exponent of each series."""
    series = {
        "images": [(n, _train(folder, data=_repeated(folder, n))) for n in _bar("images", IMAGES)],
        "latent_dim": [
            (d, _train(folder, "--latent_dim", d)) for d in _bar("latent_dim", LATENT_DIMS)
        ],
        "batch_size": [(b, _train(folder, "--batch_size", b)) for b in _bar("batch_size", BATCHES)],
        "trials": [(n, _sweep(folder, n)) for n in _bar("trials", TRIALS)],
    }
    if shutil.which("bwrap"):
        series["submissions"] = [
            (n, _grade(folder, n)) for n in _bar("submissions graded", SUBMISSIONS)
        ]
    found: dict[str, dict[str, Any]] = {}
    for name, points in series.items():
        x, seconds = [x for x, _ in points], [one["seconds"] for _, one in points]
        found[name] = {
            "x": x,
            "seconds": seconds,
            "peak_mib": [one["peak_mib"] for _, one in points],
            "exponent": exponent(x, seconds),
        }
    return found


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the line through the last three points, on logarithmic axes."""
    return float(np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0])


def _bar(name: str, values: tuple[int, ...]) -> tqdm:
    return tqdm(values, desc=f"growth, {name}", unit="run")


def _train(folder: Path, *more: object, data: Path | None = None) -> dict:
    """Return the seconds of the second epoch of the MLP, and the peak memory."""
    words: list[object] = ["-m", "benchmarks.ours", "train", "--submission", "model.py"]
    words += ["--epochs", 2, "--save_dir", folder / "growth", "--overwrite", *more]
    words += ["--train_data", data] if data else []
    facts = json_from(*words)
    return {"seconds": facts["epochs"][-1], "peak_mib": facts["peak_mib"]}


def _repeated(folder: Path, count: int) -> Path:
    """Write a dataset of `count` images, the training images repeated."""
    train = MNISTDataset(ROOT / "dataset" / "train")
    data = folder / f"images-{count}"
    data.mkdir()
    index = np.arange(count) % len(train)
    for name, array in (("images-idx3", train.images), ("labels-idx1", train.labels)):
        (data / f"{name}-ubyte").write_bytes(idx_bytes(array[index]))
    return data


def _sweep(folder: Path, trials: int) -> dict:
    """Return the seconds and memory of a sweep over trials of one short epoch."""
    data = folder / "images-1000"
    out = folder / f"sweep-{trials}"
    words: list[object] = ["sweep.py", "--submission", "model.py", "--epochs", 1]
    # var and lr are given, as a single seed alone would mean the default grid.
    words += ["--train_data", data, "--var", 0.5, "--lr", 5e-3]
    words += ["--save_dir", out, "--no-keep_weights", "--seed"]
    facts = json_from("-m", "benchmarks.ours", "command", *words, *range(trials))
    assert len(list((out / "trials").iterdir())) == trials
    return facts


def _grade(folder: Path, count: int) -> dict:
    """Return the seconds and memory of grading `count` submissions of the demo model."""
    run = folder / "growth-VAEwolabel"
    if not run.exists():
        words = ["train.py", "--submission", "model.py", "--epochs", 1, "--var", 0.05]
        timed(sys.executable, *words, "--save_dir", run, quiet=True)
    students = folder / f"class-{count}"
    for number in range(count):
        (students / f"{number}").mkdir(parents=True)
        shutil.copyfile(ROOT / "model.py", students / f"{number}" / "submission.py")
        shutil.copyfile(run / "best.pth", students / f"{number}" / "VAEwolabel.pth")
    words = ["-m", "staff.grade_class", students, "--out", folder / f"graded-{count}"]
    return json_from("-m", "benchmarks.ours", "command", *words)
