"""What a score is compared with: simple methods on the same images, and the original reports."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from data_utils import DataError, MNISTDataset
from lab import metrics

# The best of the original reports, on their own validation split.
REPORTS: dict[str, dict[str, Any]] = {
    "VAEwolabel": {"latent_dim": 20, "ssim": 0.8551, "mse": 0.01275, "fid": None},
    "Genwithlabel": {"latent_dim": 20, "ssim": 0.8591, "mse": 0.01253, "fid": 2.412},
}
TRAIN = Path("dataset/train")
PER_LABEL = 100  # real images in place of samples


def references(task: str, latent_dim: int, dataset: MNISTDataset) -> dict[str, dict[str, Any]]:
    """Return the scores (ssim, mse, fid, latent_dim, raw) of what a model is compared with.

    blank: black images. mean: the mean image of each label, for VAEwolabel of all. pca: principal
    component analysis with as many components, fitted to the training images, or to the images
    themselves where there are none. real: training images in place of samples. reports: the best of
    the original reports.
    """
    images, labels = dataset.images, dataset.labels
    groups = labels if task == "Genwithlabel" else np.zeros_like(labels)
    means = np.stack(
        [images[groups == label].mean(axis=0) for label in range(groups.max() + 1)]
    )  # (labels, 28, 28)
    mean = np.round(means).astype(np.uint8)[groups]
    train = _training_images()
    found = {
        "blank": _scores(task, np.zeros_like(images), images, latent_dim),
        "mean": _scores(task, mean, images, latent_dim),
        "pca": _scores(task, _pca(images, latent_dim), images, latent_dim),
    }
    if task == "Genwithlabel" and train is not None:
        real = [_spread(train.images[train.labels == label]) for label in range(10)]
        if min(map(len, real)) == PER_LABEL:
            fids = metrics.fid_per_label(np.stack(real), images, labels)
            known = [fid for fid in fids.values() if fid is not None]
            found["real"] = {"ssim": None, "mse": None, "fid": float(np.mean(known))}
    reports = REPORTS[task]
    raw = metrics.raw_score(
        task, reports["ssim"], reports["mse"], reports["fid"], reports["latent_dim"]
    )
    found["reports"] = {**reports, "raw": raw}
    return found


def _spread(images: np.ndarray) -> np.ndarray:
    """Return some of the images: not the first, because MNIST is sorted by writer."""
    return images[np.linspace(0, len(images) - 1, min(PER_LABEL, len(images))).astype(int)]


def _scores(task: str, recon: np.ndarray, images: np.ndarray, latent_dim: int) -> dict[str, Any]:
    ssim = float(metrics.ssim_per_image(recon, images).mean())
    mse = float(metrics.mse_per_image(recon, images).mean())
    raw = metrics.raw_score(task, ssim, mse, None, latent_dim)
    return {"latent_dim": latent_dim, "ssim": ssim, "mse": mse, "fid": None, "raw": raw}


@functools.cache
def _training_images() -> MNISTDataset | None:
    try:
        return MNISTDataset(TRAIN)
    except DataError:
        return None


@functools.lru_cache(maxsize=4)
def _axes(latent_dim: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean (784,) and the first principal axes (784, latent_dim) of the training images."""
    train = _training_images()
    return None if train is None else _fit(train.images, latent_dim)


def _fit(images: np.ndarray, latent_dim: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = images.reshape(len(images), -1).astype(np.float32)  # (N, 784)
    mean = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    return mean, vectors[:, ::-1][:, :latent_dim].astype(np.float32)


def _pca(images: np.ndarray, latent_dim: int) -> np.ndarray:
    """Return the images, reconstructed from their first principal components."""
    mean, axes = _axes(latent_dim) or _fit(images, latent_dim)
    pixels = images.reshape(len(images), -1).astype(np.float32)  # (N, 784)
    recon = (pixels - mean) @ axes @ axes.T + mean
    return np.round(recon.clip(0, 255)).astype(np.uint8).reshape(images.shape)
