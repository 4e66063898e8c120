"""Distances between two sets of images, as points in a space of features."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Frechet distance of two normal distributions, fitted to (n, d) and (m, d).

    ||mean_a - mean_b||^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), Heusel et al., GANs Trained
    by a Two Time-Scale Update Rule, NeurIPS 2017.
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (cov_a cov_b)^(1/2) is the sum of the square roots of the product's eigenvalues. These are
    # also the eigenvalues of root_a cov_b root_a, which is symmetric: real and not negative.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None))
    difference = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(difference + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the kernel distance (KID) of two sets of points, (n, d) and (m, d), n and m above 1.

    It is the unbiased estimate of the squared maximum mean discrepancy with the kernel
    k(x, y) = (x . y / d + 1)^3, Binkowski et al., Demystifying MMD GANs, ICLR 2018. Equal
    distributions give 0 on average, for any number of points; single estimates may be negative.
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_pairs(x: np.ndarray) -> float:
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    return float(mean_of_pairs(a) + mean_of_pairs(b) - 2 * kernel(a, b).mean())


def precision_recall_density_coverage(
    real: np.ndarray, generated: np.ndarray, k: int = 5
) -> dict[str, float]:
    """Return how well two sets of points, (n, d) and (m, d), cover each other.

    The ball of a point reaches to its k-th nearest neighbour in its own set.

    precision: share of generated points in the ball of some real point (Kynkaanniemi et al.,
        Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS 2019).
    recall: share of real points in the ball of some generated point (the same).
    density: mean number of real balls that contain a generated point, divided by k (Naeem et al.,
        Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020); may exceed 1.
    coverage: share of real points whose ball contains a generated point (the same).

    Each set needs more than k points.
    """
    real_reach, generated_reach = _reach(real, k), _reach(generated, k)  # (n,), (m,)
    between = _distances(real, generated)  # (n, m)
    in_real = between < real_reach[:, None]
    return {
        "precision": float(in_real.any(axis=0).mean()),
        "recall": float((between < generated_reach).any(axis=1).mean()),
        "density": float(in_real.sum(axis=0).mean() / k),
        "coverage": float((between.min(axis=1) < real_reach).mean()),
    }


def _reach(points: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of each point to its k-th nearest neighbour, (n,)."""
    return np.partition(_distances(points, points), k, axis=1)[:, k]  # the first is the point


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances between (n, d) and (m, d): (n, m)."""
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


# ---------------------------------------------------------------- pixels


def pixel_rows(images: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, 28, 28) as float32 (n, 784), in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def mean_distance(points: np.ndarray) -> float:
    """Return the mean Euclidean distance between two different rows of (n, d); 0 if n < 2."""
    return float(pdist(points).mean()) if len(points) > 1 else 0.0


def nearest_distances(
    points: np.ndarray, others: np.ndarray, squares: np.ndarray | None = None
) -> np.ndarray:
    """Return the Euclidean distance of each row of (n, d) to the nearest row of (m, d): (n,).

    squares: (m,), the sum of squares of each row of `others`, for a caller who has it already.
    """
    if squares is None:
        squares = np.square(others).sum(axis=1)
    best = np.full(len(points), np.inf, np.float32)
    for first in range(0, len(others), 10_000):
        some = slice(first, first + 10_000)
        squared = squares[some] - 2 * points @ others[some].T  # (n, 10000)
        best = np.minimum(best, squared.min(axis=1))
    return np.sqrt(np.maximum(best + np.square(points).sum(axis=1), 0))
