"""Diagnostics of samples, in addition to the scores. They do not affect the grade.

A small classifier of digits, the judge, shows whether samples have the requested label, how far
their features are from those of real images, and how varied the samples of a label are. Distances
over pixels show whether samples are copies of training images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_utils import NUM_CLASSES, to_float

JUDGE_FILE = Path(__file__).resolve().parent / "judge" / "judge.pth"
FEATURES = 128


class Judge(nn.Module):
    """A convolutional classifier of digits. Its last hidden layer gives the features."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.image_to_maps = nn.Sequential(
            *(block(1, 16), block(16, 16), nn.MaxPool2d(2)),  # (B, 16, 14, 14)
            *(block(16, 32), block(32, 32), nn.MaxPool2d(2)),  # (B, 32, 7, 7)
            *(block(32, 64), nn.MaxPool2d(2)),  # (B, 64, 3, 3)
        )
        self.maps_to_features = nn.Linear(64 * 3 * 3, FEATURES)
        self.features_to_scores = nn.Linear(FEATURES, NUM_CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 128) of images (B, 1, 28, 28) in [0, 1]."""
        return F.relu(self.maps_to_features(self.image_to_maps(images).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten digits, (B, 10)."""
        return self.features_to_scores(self.features(images))


def load_judge() -> Judge:
    """Return the judge that the lab contains, in evaluation mode."""
    state = torch.load(JUDGE_FILE, map_location="cpu", weights_only=True)
    judge = Judge().eval()
    judge.load_state_dict({name: value.float() for name, value in state.items()})
    return judge


def diagnose(
    samples: np.ndarray, images: np.ndarray, labels: np.ndarray, train_images: np.ndarray
) -> dict[str, float]:
    """Return the diagnostics of samples, by name.

    Args:
        samples: uint8 (10, n, 28, 28), n samples per label.
        images, labels: the real images that are graded against, uint8 (N, 28, 28) and (N,).
        train_images: the images that the model may have memorised, uint8 (M, 28, 28).

    Returns:
        judge_accuracy: share of samples that the judge classifies as the requested label.
        judge_fid: Frechet distance of the judge's features, with full covariances (Heusel et al.,
            GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017).
        judge_accuracy_real, judge_fid_real: the same for as many real images of each label: the
            values to aim for.
        diversity: mean distance of features between two samples of a label, divided by that
            between two real images of the label; 0 if all samples are equal.
        nearest_train: median distance of a sample to its nearest training image, divided by that
            of real images; far below 1 if training images are copied.
    """
    judge = load_judge()
    n = samples.shape[1]
    features, classes = features_and_classes(judge, samples.reshape(-1, 28, 28))
    sample_labels = np.repeat(np.arange(NUM_CLASSES), n)
    real = some_of_each_label(labels, n)  # indices of real images
    real_features, real_classes = features_and_classes(judge, images[real])
    all_features, _ = features_and_classes(judge, np.delete(images, real, axis=0))
    spread = np.mean(
        [mean_distance(features[sample_labels == label]) for label in range(NUM_CLASSES)]
    )
    real_spread = np.mean(
        [mean_distance(real_features[labels[real] == label]) for label in range(NUM_CLASSES)]
    )
    train = pixel_rows(train_images)
    near = nearest_distances(pixel_rows(samples.reshape(-1, 28, 28)), train)
    real_near = nearest_distances(pixel_rows(images[real]), train)
    return {
        "judge_accuracy": float((classes == sample_labels).mean()),
        "judge_accuracy_real": float((real_classes == labels[real]).mean()),
        "judge_fid": frechet_distance(features, all_features),
        "judge_fid_real": frechet_distance(real_features, all_features),
        "diversity": float(spread / real_spread),
        "nearest_train": float(np.median(near) / np.median(real_near)),
    }


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Frechet distance of two normal distributions, fitted to (n, d) and (m, d).

    ||mean_a - mean_b||^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), Heusel et al. 2017.
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (cov_a cov_b)^(1/2) is the sum of the square roots of the product's eigenvalues. These are
    # also the eigenvalues of root_a cov_b root_a, which is symmetric: real and not negative.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None))
    difference = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(difference + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


@torch.no_grad()
def features_and_classes(judge: Judge, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the judge's features and classes of images, uint8 (N, 28, 28).

    Features are float64 (N, 128), classes int64 (N,), 0 to 9.
    """
    features, classes = [], []
    for chunk in torch.from_numpy(images).split(1000):
        features.append(judge.features(to_float(chunk)))
        classes.append(judge.features_to_scores(features[-1]).argmax(1))
    return torch.cat(features).double().numpy(), torch.cat(classes).numpy()


def some_of_each_label(labels: np.ndarray, n: int) -> np.ndarray:
    """Return the indices of n images of each label (or of all, if fewer), spread over the split.

    MNIST is sorted by writer, so that the first images are not representative.
    """
    indices = [np.flatnonzero(labels == label) for label in range(NUM_CLASSES)]
    chosen = [np.linspace(0, len(own) - 1, min(n, len(own))).astype(int) for own in indices]
    return np.concatenate([own[some] for own, some in zip(indices, chosen)])


# ---------------------------------------------------------------- distances


def pixel_rows(images: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, 28, 28) as float32 (n, 784), in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def mean_distance(points: np.ndarray) -> float:
    """Return the mean Euclidean distance between two different rows of (n, d); 0 if n < 2."""
    if len(points) < 2:
        return 0.0
    return float(torch.pdist(torch.from_numpy(points)).mean())


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
