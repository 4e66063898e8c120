"""Pairs of students whose models are alike: by their weights, or by their errors on each image."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from lab.arrays import npy_bytes
from lab.checkpoint import write_whole
from lab.evaluation.distances import pixel_rows
from staff.statuses import TASKS
from staff.stored import folder_of

# Two models are similar above these correlations: of their weights' signatures, and of their errors
# on each image, beyond those of the mean picture. A hardly trained model draws little else, so the
# errors themselves are alike: ten honest pairs of a class of 60 were above 0.99. Beyond the mean
# picture the largest of independent models there was 0.972.
SAME_WEIGHTS, SAME_ERRORS = 0.9999, 0.99
MEAN_ERRORS = "mean_picture_errors.npy"  # in the folder of results
MAX_PAIRS = 200  # listed at most


def keep_mean_errors(out: Path, images: np.ndarray) -> None:
    """Write the error of the mean picture on each image, uint8 (N, 28, 28), of the test split."""
    pixels = pixel_rows(images)  # (N, 784)
    errors = np.square(pixels - pixels.mean(axis=0)).mean(axis=1)  # (N,)
    with write_whole(out / MEAN_ERRORS) as file:
        file.write(npy_bytes(errors))


def similar_pairs(out: Path, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return pairs of students whose models have similar weights or similar errors per image.

    out: the folder of results, with the errors of the mean picture and of each student.

    Each has names, task, why, and by, the two correlations. The most similar come first.
    """
    pairs: list[dict[str, Any]] = []
    mean = _read(out / MEAN_ERRORS)
    for task in TASKS:
        ran = [result for result in results if result["tasks"].get(task, {}).get("raw") is not None]
        signatures = [np.array(result["tasks"][task]["signature"]) for result in ran]
        files = [folder_of(out, result["student"]) / f"{task}_errors.npy" for result in ran]
        errors = [_beyond(_read(file), mean) for file in files]
        for a, b in itertools.combinations(range(len(ran)), 2):
            by_weights = _correlation(signatures[a], signatures[b])
            by_errors = _correlation(errors[a], errors[b])
            why = []
            if by_weights > SAME_WEIGHTS:
                why.append(f"the weights (correlation {by_weights:.5f})")
            if by_errors > SAME_ERRORS:
                why.append(f"the errors on each image (correlation {by_errors:.4f})")
            if why:
                pair = {"names": [ran[a]["name"], ran[b]["name"]], "task": task}
                pairs.append({**pair, "why": " and ".join(why), "by": (by_weights, by_errors)})
    return sorted(pairs, key=_by, reverse=True)[:MAX_PAIRS]


def _by(pair: dict[str, Any]) -> tuple[float, float]:
    return pair["by"]


def _read(file: Path) -> np.ndarray:
    return np.load(file, allow_pickle=False) if file.is_file() else np.zeros(0)


def _beyond(errors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what the mean picture's errors do not explain, by a straight line (N,)."""
    if len(errors) != len(mean) or len(errors) < 2:
        return errors
    slope, offset = np.polyfit(mean, errors, 1)
    return errors - (slope * mean + offset)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of two vectors; 0 if it is undefined."""
    if len(a) != len(b) or len(a) < 2 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
