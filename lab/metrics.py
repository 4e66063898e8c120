"""The scores of the lab: SSIM, MSE, a simplified FID, the compression bonus, the grade.

Arrays in, floats out, numpy only. Images are uint8 (N, 28, 28), as stored on disk. SSIM is that of
Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, IEEE Transactions on Image Processing
2004. The FID of Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, is
computed on pixels here, with diagonal covariances.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WINDOW = 7  # side of SSIM's uniform window in pixels, as in scikit-image
CAPS = {"VAEwolabel": 10.0, "Genwithlabel": 30.0}  # the largest score of each task
TASKS = tuple(CAPS)


def mse_per_image(images: np.ndarray, others: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Return the mean squared error of each pair of images: float64 (N,), 0 to 1.

    Pixels are divided by 255 first. Works on `chunk` images at a time, so that intermediate arrays
    stay in the processor's cache.

    Args:
        images, others: uint8 (N, 28, 28).
    """
    sums = np.zeros(len(images))
    for i in range(0, len(images), chunk):
        pair = images[i : i + chunk], others[i : i + chunk]
        difference = np.subtract(*pair, dtype=np.int32).reshape(len(pair[0]), -1)  # (chunk, 784)
        sums[i : i + chunk] = np.square(difference).sum(axis=1)  # integers, so exact
    return sums / images[:1].size / 255**2


def ssim_per_image(images: np.ndarray, others: np.ndarray, chunk: int = 16) -> np.ndarray:
    """Return the structural similarity of each pair of images: float64 (N,), 1 if equal.

    The result equals `skimage.metrics.structural_similarity(a, b, data_range=255)` with its default
    options (7 x 7 uniform window, sample covariance, no borders), up to rounding. Works on `chunk`
    images at a time, so that intermediate arrays stay in the processor's cache.

    Args:
        images, others: uint8 (N, 28, 28).
    """
    parts = [
        _ssim_chunk(images[i : i + chunk], others[i : i + chunk])
        for i in range(0, len(images), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _ssim_chunk(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return equation 13 of Wang et al. 2004, averaged over all windows: float64 (N,)."""
    n = WINDOW**2
    # The sum of 49 bytes fits into 16 bits, which takes half the memory of 32.
    sum_a, sum_b = (_window_sums(x.astype(np.int16)).astype(np.int32) for x in (a, b))
    a, b = a.astype(np.int32), b.astype(np.int32)
    sum_squares, sum_products = _window_sums(a * a + b * b), _window_sums(a * b)
    # Means and variances times n^2 are integers, so everything before the division is exact.
    mean_product = sum_a * sum_b
    mean_squares = sum_a * sum_a + sum_b * sum_b
    covariance = n * sum_products - mean_product
    variances = n * sum_squares - mean_squares
    sample = n / (n - 1)  # from population to sample covariance
    c1, c2 = (0.01 * 255 * n) ** 2, (0.03 * 255 * n) ** 2
    similarity = (2 * mean_product + c1) * (2 * sample * covariance + c2)
    similarity /= (mean_squares + c1) * (sample * variances + c2)
    return similarity.mean(axis=(1, 2))


def _window_sums(maps: np.ndarray) -> np.ndarray:
    """Return the sum of every 7 x 7 window: integers (N, H, W) to (N, H - 6, W - 6)."""
    for axis in (1, 2):
        maps = np.swapaxes(maps, 1, axis)
        pairs = maps[:, :-1] + maps[:, 1:]  # windows of 2
        fours = pairs[:, :-2] + pairs[:, 2:]  # windows of 4
        maps = fours[:, :-3] + pairs[:, 4:-1] + maps[:, 6:]  # windows of 4 + 2 + 1
        maps = np.swapaxes(maps, 1, axis)
    return maps


class PerImage(NamedTuple):
    """The scores of each image, float64 (N,) each."""

    ssim: np.ndarray
    mse: np.ndarray


def per_image(recon: np.ndarray, images: np.ndarray) -> PerImage:
    """Return the scores of each pair of images, uint8 (N, 28, 28)."""
    return PerImage(ssim_per_image(recon, images), mse_per_image(recon, images))


def fid_per_label(
    samples: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> dict[int, float | None]:
    """Return the simplified FID of the samples of each label against the true images of that label.

    It is ||m_g - m_a||^2 + sum(v_g + v_a - 2 sqrt(v_g v_a)), the Frechet distance of two Gaussians
    with diagonal covariance: m and v are mean and population variance of the 784 pixels in [0, 1],
    of the generated (g) and the true (a) images. None for a label without true images.

    Args:
        samples: uint8 (10, n, 28, 28), n generated images per label.
        images, labels: the true images, uint8 (N, 28, 28), and their labels (N,).
    """
    scores: dict[int, float | None] = {}
    for label, generated in enumerate(samples):
        true = images[labels == label]
        scores[label] = _frechet_distance(generated, true) if len(true) else None
    return scores


def _frechet_distance(generated: np.ndarray, true: np.ndarray) -> float:
    mean_g, var_g = _pixel_moments(generated)
    mean_a, var_a = _pixel_moments(true)
    distance = np.square(mean_g - mean_a) + var_g + var_a - 2 * np.sqrt(var_g * var_a)
    return float(distance.sum())


def _pixel_moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and population variance of each pixel in [0, 1], each float64 (784,)."""
    n, pixels = len(images), images.reshape(len(images), -1)  # (n, 784)
    # Sums of bytes and of their squares are integers, so everything before the division is exact.
    total = pixels.sum(axis=0, dtype=np.int64)  # (784,)
    squares = np.square(pixels, dtype=np.uint16).sum(axis=0, dtype=np.int64)  # (784,)
    return total / n / 255, (n * squares - total * total) / n**2 / 255**2


def fid_pooled(samples: np.ndarray, images: np.ndarray) -> float:
    """Return the simplified FID between all samples (10, n, 28, 28) and all images (N, 28, 28).

    It is not graded. It compares models that do not use the label.
    """
    return _frechet_distance(samples.reshape(-1, *samples.shape[2:]), images)


def compression_bonus(latent_dim: int) -> float:
    """Return 0.2 + (1 - latent_dim / 784): a smaller code earns a larger bonus."""
    return 0.2 + (1 - latent_dim / 784)


def raw_score(
    task: str, ssim: float | None, mse: float | None, fid: float | None, latent_dim: int
) -> float:
    """Return the score before the cap, which compares models. None gives no points.

    (5 ssim + 50 max(0.1 - mse, 0)) bonus for VAEwolabel; for Genwithlabel
    (2 (5 ssim + 50 max(0.1 - mse, 0)) + max(10 - fid, 0)) bonus, where bonus is
    compression_bonus(latent_dim).
    """
    points = 0.0
    if ssim is not None and mse is not None:
        points = 5 * ssim + 50 * max(0.1 - mse, 0)
    if task == "Genwithlabel":
        points = 2 * points + (max(10 - fid, 0) if fid is not None else 0)
    return points * compression_bonus(latent_dim)


def score_task(
    task: str,
    recon: np.ndarray | None,
    images: np.ndarray,
    labels: np.ndarray,
    latent_dim: int,
    samples: np.ndarray | None = None,
    known: PerImage | None = None,
) -> dict:
    """Score one task.

    Args:
        task: "VAEwolabel" or "Genwithlabel"; only the latter has samples.
        recon, images: uint8 (N, 28, 28), the reconstructions and the true images; recon is None
            for a model that only generates.
        labels: (N,), 0 to 9.
        latent_dim: size of the codes that the reconstructions were decoded from.
        samples: uint8 (10, n, 28, 28), n images per label.
        known: what `per_image` returned for recon; computed if not given.

    Returns:
        A dict of ssim, mse (None without recon), fid, fid_pooled (None without samples),
        latent_dim, bonus, raw, score (raw, at most cap), cap, n, and per_label: a list of ten dicts
        with label, n, ssim, mse, fid and raw.
    """
    if recon is not None:
        ssims, mses = known or per_image(recon, images)  # (N,) each
    fids = fid_per_label(samples, images, labels) if samples is not None else {}
    known_fids = [value for value in fids.values() if value is not None]

    ssim, mse = (float(ssims.mean()), float(mses.mean())) if recon is not None else (None, None)
    fid = float(np.mean(known_fids)) if known_fids else None
    raw = raw_score(task, ssim, mse, fid, latent_dim)
    per_label = []
    for label in range(10):
        chosen = labels == label
        row = {"label": label, "n": int(chosen.sum())}
        scores = {"ssim": None, "mse": None, "fid": fids.get(label), "raw": None}
        if row["n"]:
            if recon is not None:
                scores["ssim"] = float(ssims[chosen].mean())
                scores["mse"] = float(mses[chosen].mean())
            scores["raw"] = raw_score(
                task, scores["ssim"], scores["mse"], scores["fid"], latent_dim
            )
        per_label.append({**row, **scores})
    return {
        "ssim": ssim,
        "mse": mse,
        "fid": fid,
        "fid_pooled": fid_pooled(samples, images) if samples is not None else None,
        "latent_dim": latent_dim,
        "bonus": compression_bonus(latent_dim),
        "raw": raw,
        "score": min(raw, CAPS[task]),
        "cap": CAPS[task],
        "n": len(images),
        "per_label": per_label,
    }
