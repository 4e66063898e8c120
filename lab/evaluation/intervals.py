"""How much a raw score depends on chance: on the images, and on the seed of the samples."""

from __future__ import annotations

import numpy as np

from lab import metrics

RESAMPLED = 2000  # times
SHARE = 95  # percent of the values that lie in the interval


def raw_interval(
    task: str,
    ssim: np.ndarray | None,
    mse: np.ndarray | None,
    fids: np.ndarray | None,
    latent_dim: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of the raw score by the bootstrap (Efron 1979, percentiles).

    Each time, as many images are drawn with replacement as there are, and one of the sample sets.

    Args:
        task: "VAEwolabel" or "Genwithlabel".
        ssim, mse: (N,), of each image; None for a model without an encoder.
        fids: (S,), the FID of sample sets of several seeds; None for VAEwolabel.
        latent_dim: size of a code.
    """
    rng = np.random.default_rng(seed)
    raws = []
    for _ in range(RESAMPLED):
        ssim_now = mse_now = fid = None
        if ssim is not None and mse is not None:
            drawn = rng.integers(len(ssim), size=len(ssim))
            ssim_now, mse_now = float(ssim[drawn].mean()), float(mse[drawn].mean())
        if fids is not None:
            fid = float(rng.choice(fids))
        raws.append(metrics.raw_score(task, ssim_now, mse_now, fid, latent_dim))
    low, high = np.percentile(raws, [(100 - SHARE) / 2, (100 + SHARE) / 2])
    return float(low), float(high)
