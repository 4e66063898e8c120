"""Signs that a person should look at a submission: none of them changes a score.

What counts as near, alike or far is calibrated on real digits, which are the same for everyone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_utils import NUM_CLASSES
from lab.diagnostics import load_judge, look, mean_distance, nearest_distances, pixel_rows

MAX_CHECKPOINT_BYTES = 100 * 1024**2  # three times what the reference takes with its optimizer
MAX_CODE_BYTES = 100_000
MAX_WHOLE_NUMBER_BYTES = 1_000_000  # images are whole numbers; a model has little use for them
LOOKED_AT = 20  # samples of each label
COPIES = 0.25  # share of samples nearer to a training image than hardly any real image is
HARDLY_ANY = 0.01
ALIKE = 0.15  # distance between samples of a label, as a share of that between real images
MISREAD = 0.5  # share of samples in which the judge reads the label asked for
GAP = {"ssim": 0.04, "mse": 0.004}  # between the test split and the private one


@dataclass(frozen=True)
class Calibration:
    """What real images are like.

    Attributes:
        train: training images, float32 (M, 784) in [0, 1]; squares: of each, its sum of squares.
        near: distance to the nearest training image that 1 % of real images have at most.
        spread: mean distance between two real images of one label, over the labels.
    """

    train: np.ndarray
    squares: np.ndarray
    near: float
    spread: float


def calibrate(train_images: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Calibration:
    """Measure real images: uint8 (M, 28, 28) to train on, (N, 28, 28) and (N,) to test on."""
    train = pixel_rows(train_images)  # (M, 784)
    squares = np.square(train).sum(axis=1)  # (M,)
    chosen = np.linspace(0, len(images) - 1, min(1000, len(images))).astype(int)
    distances = nearest_distances(pixel_rows(images[chosen]), train, squares)
    spread = np.mean(
        [mean_distance(pixel_rows(images[labels == label][:100])) for label in np.unique(labels)]
    )
    return Calibration(train, squares, float(np.quantile(distances, HARDLY_ANY)), float(spread))


def of_files(facts: dict[str, Any], checkpoint_bytes: int, code_bytes: int) -> list[str]:
    """Return the flags of what was handed in; facts are `stage.facts_of` a checkpoint."""
    flags = []
    if checkpoint_bytes > MAX_CHECKPOINT_BYTES:
        flags.append(f"the checkpoint has {checkpoint_bytes / 1e6:,.0f} MB: does it hold images?")
    if code_bytes > MAX_CODE_BYTES:
        flags.append(f"submission.py has {code_bytes / 1e3:,.0f} kB: does it hold images?")
    whole = facts.get("whole_number_bytes", 0)
    if isinstance(whole, int) and whole > MAX_WHOLE_NUMBER_BYTES:
        flags.append(f"the weights hold {whole / 1e6:,.1f} MB of whole numbers: are they images?")
    return flags


def of_samples(samples: np.ndarray, real: Calibration) -> list[str]:
    """Return the flags of samples uint8 (10, n, 28, 28)."""
    flags = []
    chosen = samples[:, _places(samples)]  # (10, n, 28, 28)
    distances = nearest_distances(pixel_rows(chosen.reshape(-1, 28, 28)), real.train, real.squares)
    copies = float((distances <= real.near).mean())
    if copies > COPIES:
        flags.append(f"{100 * copies:.0f} % of the samples look like copies of training images")
    spread = np.mean([mean_distance(pixel_rows(own)) for own in chosen])
    if spread < ALIKE * real.spread:
        flags.append("samples of a label are all alike: does the model look at z?")
    _, read = look(load_judge(), chosen.reshape(-1, 28, 28))
    asked = np.repeat(np.arange(NUM_CLASSES), chosen.shape[1])
    right = float((read == asked).mean())
    if right < MISREAD:
        flags.append(
            f"only {100 * right:.0f} % of the samples read as their label: does the model use it?"
        )
    return flags


def _places(samples: np.ndarray) -> np.ndarray:
    """Choose samples to look at: always the same ones, and nobody knows which beforehand."""
    seed = hashlib.sha256(samples.tobytes()).digest()
    order = np.random.default_rng(list(seed)).permutation(samples.shape[1])
    return np.sort(order[:LOOKED_AT])


def of_gap(test: dict[str, Any], private: dict[str, Any]) -> list[str]:
    """Return the flags of scores on the test split that fall on images nobody has seen."""
    flags = []
    for name, bound in GAP.items():
        if test.get(name) is None or private.get(name) is None:
            continue
        fall = test[name] - private[name] if name == "ssim" else private[name] - test[name]
        if fall > bound:
            flags.append(
                f"{name} is {test[name]:.4f} on the test split and {private[name]:.4f} on the "
                "private one: was the test split learnt by heart?"
            )
    return flags
