"""What a score is compared with: simple methods on the same images, and the original reports.

The scores of the simple methods on the lab's own splits are stored in references.json, because the
training images take seconds to read; `measure_simple` computed them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_utils import DataError, MNISTDataset
from lab import metrics
from lab.evaluation.floor import floor_of_fid

# The best of the original reports, on their own validation split.
REPORTS: dict[str, dict[str, Any]] = {
    "VAEwolabel": {"latent_dim": 20, "ssim": 0.8551, "mse": 0.01275, "fid": None},
    "Genwithlabel": {"latent_dim": 20, "ssim": 0.8591, "mse": 0.01253, "fid": 2.412},
}
TRAIN = Path("dataset/train")
STORED = Path(__file__).resolve().parent / "references.json"
PER_LABEL = 100  # real images in place of samples


def references(task: str, latent_dim: int, dataset: MNISTDataset) -> dict[str, dict[str, Any]]:
    """Return the scores (ssim, mse, fid, latent_dim, raw) of what a model is compared with.

    blank: black images. mean: the mean image of each label, for VAEwolabel of all. pca: principal
    component analysis with as many components, fitted to the training images, or to the images
    themselves where there are none. real: training images in place of samples. reports: the best of
    the original reports.
    """
    known = _stored().get(dataset.sha256)
    if known is None or str(latent_dim) not in known["pca"]:
        known = measure_simple(dataset, [latent_dim])
    return _rows(task, latent_dim, known)


def stored_references(task: str, latent_dim: int, sha256: str) -> dict[str, dict[str, Any]] | None:
    """Return what `references` does for a split of the lab; None if it is another data set.

    sha256: of the data set; see `MNISTDataset`.
    """
    known = _stored().get(sha256)
    if known is None or str(latent_dim) not in known["pca"]:
        return None
    return _rows(task, latent_dim, known)


def _rows(task: str, latent_dim: int, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scores by name; known: what `measure_simple` returned."""
    labelled = task == "Genwithlabel"
    pairs = {
        "blank": known["blank"],
        "mean": known["mean_of_label" if labelled else "mean"],
        "pca": known["pca"][str(latent_dim)],
    }
    found: dict[str, dict[str, Any]] = {
        name: _row(task, ssim, mse, None, latent_dim) for name, (ssim, mse) in pairs.items()
    }
    if labelled and known["real"] is not None:
        found["real"] = {"ssim": None, "mse": None, "fid": known["real"]}
    return {**found, "reports": _row(task, **REPORTS[task])}


def measure_simple(dataset: MNISTDataset, latent_dims: Iterable[int]) -> dict[str, Any]:
    """Return the scores of the simple methods on a data set.

    Returns:
        blank, mean, mean_of_label: [ssim, mse].
        pca: [ssim, mse] by the number of components, a string, because JSON has no other keys.
        real: the FID of training images; None without training images of each label.
    """
    images, train = dataset.images, _training_images()
    mean, axes = _training_axes() or _principal_axes(images)
    return {
        "blank": _pair(np.zeros_like(images), images),
        "mean": _pair(_means(images, np.zeros_like(dataset.labels)), images),
        "mean_of_label": _pair(_means(images, dataset.labels), images),
        "pca": {str(d): _pair(_pca(images, mean, axes[:, :d]), images) for d in latent_dims},
        "real": None if train is None else floor_of_fid(train, dataset, PER_LABEL),
    }


def _row(task: str, ssim: float, mse: float, fid: float | None, latent_dim: int) -> dict[str, Any]:
    raw = metrics.raw_score(task, ssim, mse, fid, latent_dim)
    return {"latent_dim": latent_dim, "ssim": ssim, "mse": mse, "fid": fid, "raw": raw}


@functools.cache
def _stored() -> dict[str, dict[str, Any]]:
    """Return what `measure_simple` returned, by the SHA-256 of the data set."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def _pair(recon: np.ndarray, images: np.ndarray) -> list[float]:
    """Return ssim and mse."""
    ssim, mse = (of(recon, images) for of in (metrics.ssim_per_image, metrics.mse_per_image))
    return [float(ssim.mean()), float(mse.mean())]


def _means(images: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return for each image the mean of its group (N,), uint8 (N, 28, 28)."""
    means = {group: images[groups == group].mean(axis=0) for group in np.unique(groups)}
    return np.round([means[group] for group in groups]).astype(np.uint8)


@functools.cache
def _training_images() -> MNISTDataset | None:
    try:
        return MNISTDataset(TRAIN)
    except DataError:
        return None


@functools.cache
def _training_axes() -> tuple[np.ndarray, np.ndarray] | None:
    train = _training_images()
    return None if train is None else _principal_axes(train.images)


def _principal_axes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of images (784,) and their principal axes (784, 784), the first first."""
    pixels = images.reshape(len(images), -1).astype(np.float32)  # (N, 784)
    _, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    return pixels.mean(axis=0), vectors[:, ::-1].astype(np.float32)


def _pca(images: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the images, reconstructed from their principal components."""
    pixels = images.reshape(len(images), -1).astype(np.float32)  # (N, 784)
    recon = (pixels - mean) @ axes @ axes.T + mean
    return np.round(recon.clip(0, 255)).astype(np.uint8).reshape(images.shape)
