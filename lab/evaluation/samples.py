"""Measures of samples beside real images. They do not affect the grade.

The features of the judge, a small classifier of digits, show whether samples have the requested
label, how far they are from real images, and how varied they are. Distances over pixels show
whether they are copies of training images.
"""

from __future__ import annotations

import numpy as np

from data_utils import NUM_CLASSES
from lab.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    mean_distance,
    nearest_distances,
    pixel_rows,
    precision_recall_density_coverage,
)
from lab.evaluation.judge import features_and_classes, load_judge

LEAST = 12  # half of them are compared with the others by their five nearest neighbours


def measure_samples(
    samples: np.ndarray, images: np.ndarray, labels: np.ndarray, train_images: np.ndarray
) -> dict[str, float | None]:
    """Return the measures of samples, by name; docs/metrics.md defines them.

    Args:
        samples: uint8 (10, n, 28, 28), n samples per label.
        images, labels: the real images that are graded against, uint8 (N, 28, 28) and (N,).
        train_images: the images that the model may have memorised, uint8 (M, 28, 28).

    There are at least LEAST real images per label. A name that ends in _real is the value of as
    many real images, measured in the same way: what to aim for.
    """
    judge = load_judge()
    n = samples.shape[1]
    features, classes = features_and_classes(judge, samples.reshape(-1, 28, 28))
    sample_labels = np.repeat(np.arange(NUM_CLASSES), n)
    # As many real images in place of samples, and at least as many to compare with.
    n = min(n, int(np.bincount(labels, minlength=NUM_CLASSES).min()) // 2)
    real = some_of_each_label(labels, n)  # indices
    real_features, real_classes = features_and_classes(judge, images[real])
    others, other_labels = np.delete(images, real, axis=0), np.delete(labels, real)
    other_features, _ = features_and_classes(judge, others)
    as_many = other_features[some_of_each_label(other_labels, n)]
    spread, real_spread = (
        np.mean([mean_distance(own[of == label]) for label in range(NUM_CLASSES)])
        for own, of in ((features, sample_labels), (real_features, labels[real]))
    )
    train = pixel_rows(train_images)
    near = nearest_distances(pixel_rows(samples.reshape(-1, 28, 28)), train)
    real_near = nearest_distances(pixel_rows(images[real]), train)
    found: dict[str, float | None] = {
        "judge_accuracy": float((classes == sample_labels).mean()),
        "judge_accuracy_real": float((real_classes == labels[real]).mean()),
        "judge_fid": frechet_distance(features, other_features),
        "judge_fid_real": frechet_distance(real_features, other_features),
        "judge_kid": kernel_distance(features, other_features),
        "judge_kid_real": kernel_distance(real_features, other_features),
    }
    own = precision_recall_density_coverage(as_many, features)
    ideal = precision_recall_density_coverage(as_many, real_features)
    for name in own:
        found |= {name: own[name], f"{name}_real": ideal[name]}
    return {
        **found,
        "diversity": _ratio(spread, real_spread),
        "nearest_train": _ratio(np.median(near), np.median(real_near)),
    }


def _ratio(value: np.floating, real: np.floating) -> float | None:
    """Return value / real, or None where real is 0: all real images are equal, or were learnt."""
    return float(value / real) if real else None


def some_of_each_label(labels: np.ndarray, n: int) -> np.ndarray:
    """Return the indices of n images of each label (or of all, if fewer), spread over the split.

    MNIST is sorted by writer, so that the first images are not representative.
    """
    indices = [np.flatnonzero(labels == label) for label in range(NUM_CLASSES)]
    chosen = [np.linspace(0, len(own) - 1, min(n, len(own))).astype(int) for own in indices]
    return np.concatenate([own[some] for own, some in zip(indices, chosen)])
