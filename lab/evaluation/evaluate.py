"""All measures of a trained model beside its grade; docs/metrics.md defines them."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_utils import NUM_CLASSES, MNISTDataset
from lab import metrics
from lab.evaluation.bounds import bits_per_dimension, bounds, reconstructions_of_draws
from lab.evaluation.floor import floor_of_fid, mean_fid
from lab.evaluation.intervals import raw_interval
from lab.evaluation.samples import LEAST, measure_samples, some_of_each_label
from lab.split_model import Submission
from lab.stages import generate_samples

MANY = 1000  # samples per label for the FID with a lower floor
SETS = 20  # of samples, each with its own seed, for the interval of raw
BOUNDED = 100  # images per label whose likelihood is bounded


def evaluate(
    submission: Submission,
    var: float | None,
    dataset: MNISTDataset,
    train: MNISTDataset,
    recon: np.ndarray | None,
    samples: np.ndarray | None,
) -> dict[str, Any]:
    """Return the measures of a model by name; a name that ends in _real is that of real images.

    Args:
        submission: the trained model.
        var: the variance of its decoder in training; None if unknown, and nothing is bounded.
        dataset: the images that are graded against; see `enough`.
        train: the training images.
        recon: uint8 (N, 28, 28), reconstructions of the dataset; None without an encoder.
        samples: uint8 (10, n, 28, 28), those that are graded; None for VAEwolabel.

    Raises ContractError.
    """
    found: dict[str, Any] = {}
    fids = None
    if samples is not None:
        n = samples.shape[1]
        fids = np.array(
            [mean_fid(generate_samples(submission, n, seed), dataset) for seed in range(SETS)]
        )
    ssim, mse = (None, None) if recon is None else metrics.per_image(recon, dataset.images)
    low, high = raw_interval(submission.task, ssim, mse, fids, submission.latent_dim)
    found |= {"raw_low": low, "raw_high": high}
    if samples is not None:
        found |= {
            "fid": mean_fid(samples, dataset),
            "fid_real": floor_of_fid(train, dataset, samples.shape[1]),
            "fid_1000": mean_fid(generate_samples(submission, MANY, 0), dataset),
            "fid_1000_real": floor_of_fid(train, dataset, MANY),
            **measure_samples(samples, dataset.images, dataset.labels, train.images),
        }
    if recon is not None and var is not None:
        found |= _likelihood(submission, var, dataset)
    return found


def _likelihood(submission: Submission, var: float, dataset: MNISTDataset) -> dict[str, Any]:
    """Return the bounds, and the scores of reconstructions from draws; what the model has."""
    drawn = scores_of_draws(submission, dataset) or {}
    some = some_of_each_label(dataset.labels, BOUNDED)
    bounded = bounds(submission, dataset.images[some], dataset.labels[some], var) if drawn else None
    if bounded is None:
        return drawn
    return {
        "elbo": bounded.elbo,
        "importance_weighted": bounded.importance_weighted,
        "bits_per_dimension": bits_per_dimension(bounded.importance_weighted),
        "kl": bounded.kl.tolist(),
        "active_units": bounded.active,
        **drawn,
    }


def scores_of_draws(submission: Submission, dataset: MNISTDataset) -> dict[str, float] | None:
    """Return ssim_draw and mse_draw: the scores with z drawn from q(z|x); None without q(z|x)."""
    drawn = reconstructions_of_draws(submission, dataset.images, dataset.labels)
    if drawn is None:
        return None
    ssim, mse = metrics.per_image(drawn, dataset.images)
    return {"ssim_draw": float(ssim.mean()), "mse_draw": float(mse.mean())}


def enough(dataset: MNISTDataset) -> bool:
    """Return whether a data set has enough images of each label to be compared with."""
    return int(np.bincount(dataset.labels, minlength=NUM_CLASSES).min()) >= LEAST
