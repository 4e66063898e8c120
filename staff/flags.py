"""Flags: signs that a person should look at a submission. None of them changes a score.

The bounds for distances are calibrated on real digits, which are the same for every submission.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_utils import NUM_CLASSES
from lab.diagnostics import (
    features_and_classes,
    load_judge,
    mean_distance,
    nearest_distances,
    pixel_rows,
)

MAX_CHECKPOINT_BYTES = 100 * 1024**2  # three times the reference with its optimizer
MAX_CODE_BYTES = 100_000
MAX_INTEGER_BYTES = 1_000_000  # images are integers; a model needs few of them
CHECKED = 20  # samples per label that are examined
NEAR_QUANTILE = 0.01  # of the distances of real images to their nearest training image
COPIES = 0.25  # flagged above: share of samples nearer to a training image than that quantile
ALIKE = 0.15  # flagged below: distance between samples of a label, relative to real images
MISREAD = 0.5  # flagged below: share of samples that the judge classifies as their label
GAP = {"ssim": 0.04, "mse": 0.004}  # flagged above: test split against private split


@dataclass(frozen=True)
class Calibration:
    """Distances of real images, with which those of samples are compared.

    Attributes:
        train: training images, float32 (M, 784) in [0, 1].
        squares: sum of squares of each training image, float32 (M,).
        near: the distance to the nearest training image that 1 % of real images fall below.
        spread: mean distance between two real images of the same label.
    """

    train: np.ndarray
    squares: np.ndarray
    near: float
    spread: float


def calibrate(train_images: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Calibration:
    """Measure the distances of real images.

    Args:
        train_images: uint8 (M, 28, 28).
        images, labels: of the test split, uint8 (N, 28, 28) and (N,).
    """
    train = pixel_rows(train_images)  # (M, 784)
    squares = np.square(train).sum(axis=1)  # (M,)
    chosen = np.linspace(0, len(images) - 1, min(1000, len(images))).astype(int)
    distances = nearest_distances(pixel_rows(images[chosen]), train, squares)
    spread = np.mean(
        [mean_distance(pixel_rows(images[labels == label][:100])) for label in np.unique(labels)]
    )
    return Calibration(train, squares, float(np.quantile(distances, NEAR_QUANTILE)), float(spread))


def of_files(facts: dict[str, Any], checkpoint_bytes: int, code_bytes: int) -> list[str]:
    """Return the flags of the files of a submission.

    facts: of the checkpoint; see `stage.facts_of`.
    """
    flags = []
    if checkpoint_bytes > MAX_CHECKPOINT_BYTES:
        flags.append(f"the checkpoint has {checkpoint_bytes / 1e6:,.0f} MB: does it hold images?")
    if code_bytes > MAX_CODE_BYTES:
        flags.append(f"submission.py has {code_bytes / 1e3:,.0f} kB: does it hold images?")
    integers = facts.get("whole_number_bytes", 0)
    if isinstance(integers, int) and integers > MAX_INTEGER_BYTES:
        size = f"{integers / 1e6:,.1f} MB"
        flags.append(f"the weights hold {size} of integers: are they images?")
    return flags


def of_samples(samples: np.ndarray, real: Calibration) -> list[str]:
    """Return the flags of samples, uint8 (10, n, 28, 28), one row per label."""
    flags = []
    chosen = samples[:, _chosen(samples)]  # (10, CHECKED, 28, 28)
    distances = nearest_distances(pixel_rows(chosen.reshape(-1, 28, 28)), real.train, real.squares)
    copies = float((distances <= real.near).mean())
    if copies > COPIES:
        flags.append(f"{100 * copies:.0f} % of the samples look like copies of training images")
    spread = np.mean([mean_distance(pixel_rows(own)) for own in chosen])
    if spread < ALIKE * real.spread:
        flags.append("the samples of each label are all alike: does the model use z?")
    _, classes = features_and_classes(load_judge(), chosen.reshape(-1, 28, 28))
    labels = np.repeat(np.arange(NUM_CLASSES), chosen.shape[1])
    share = float((classes == labels).mean())
    if share < MISREAD:
        flags.append(
            f"only {100 * share:.0f} % of the samples are classified as their label: "
            "does the model use the label?"
        )
    return flags


def _chosen(samples: np.ndarray) -> np.ndarray:
    """Return the indices of CHECKED samples per label, chosen by the samples' hash.

    The choice is reproducible, but a student cannot predict it.
    """
    seed = hashlib.sha256(samples.tobytes()).digest()
    order = np.random.default_rng(list(seed)).permutation(samples.shape[1])
    return np.sort(order[:CHECKED])


def of_gap(test: dict[str, Any], private: dict[str, Any]) -> list[str]:
    """Return the flags of scores that are worse on the private split than on the test split."""
    flags = []
    for name, bound in GAP.items():
        if test.get(name) is None or private.get(name) is None:
            continue
        gap = test[name] - private[name] if name == "ssim" else private[name] - test[name]
        if gap > bound:
            flags.append(
                f"{name} is {test[name]:.4f} on the test split and {private[name]:.4f} on the "
                "private one: did the model memorise the test split?"
            )
    return flags
