"""What real images score in place of samples: no model can be expected to do better."""

from __future__ import annotations

import numpy as np

from data_utils import NUM_CLASSES, MNISTDataset
from lab import metrics


def mean_fid(samples: np.ndarray, dataset: MNISTDataset) -> float:
    """Return the mean over labels of the graded FID of samples, uint8 (10, n, 28, 28)."""
    fids = metrics.fid_per_label(samples, dataset.images, dataset.labels)
    return float(np.mean([fid for fid in fids.values() if fid is not None]))


def floor_of_fid(train: MNISTDataset, dataset: MNISTDataset, n: int) -> float | None:
    """Return the FID of n training images per label; None if a label has fewer."""
    real = [_spread(train.images[train.labels == label], n) for label in range(NUM_CLASSES)]
    return mean_fid(np.stack(real), dataset) if min(map(len, real)) == n else None


def _spread(images: np.ndarray, n: int) -> np.ndarray:
    """Return n of the images: not the first, because MNIST is sorted by writer."""
    return images[np.linspace(0, len(images) - 1, min(n, len(images))).astype(int)]
