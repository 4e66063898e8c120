"""The trial of the optional method fit_prior: does it run, and does decode invert it?"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data_utils import NUM_CLASSES, own_randomness, set_seed
from lab.checks.experiments import unfinished
from lab.checks.training import strokes
from lab.prior import PriorError, fit_to
from lab.split_model import Submission
from lab.time_limit import TooLongError, time_limit

LEAST = 40  # images per label; more for long codes, whose covariance needs more codes than numbers
MOVED = 0.01  # of the variance of a label's reconstructions, that a fit may move them
SECONDS = 120.0


def try_prior(path: Path, task: str, latent_dim: int, seconds: float = SECONDS) -> str:
    """Call fit_prior of a new model with the codes of drawings, and reconstruct them again.

    seconds: after which fit_prior is stopped.

    Returns "" if the model has no fit_prior or nothing is wrong; otherwise a sentence. Raises
    ContractError.
    """
    set_seed(0)
    submission = Submission(path, task, latent_dim)
    if submission.fit_prior is None or not submission.has_encoder:
        return ""
    x, labels = strokes(NUM_CLASSES * max(LEAST, 2 * latent_dim))
    with own_randomness(0):
        x = 0.9 * x + 0.1 * torch.rand_like(x)  # codes then vary in every dimension
    codes = submission.encode(x, labels)
    before = submission.decode(codes, labels)
    try:
        with time_limit(seconds):
            fit_to(codes, labels, submission, seed=0)
    except PriorError as error:
        return str(error)
    except TooLongError as error:
        return unfinished(error, path, "fit_prior", seconds)
    after = submission.decode(submission.encode(x, labels), labels)
    if (after - before).square().mean() <= MOVED * _variance(before, labels):
        return ""
    return (
        "fit_prior changes the reconstructions, so they would be worse after training than while "
        "it ran: decode maps z to where the codes are, and forward does not undo this map, or not "
        "exactly, before it calls decode"
    )


def _variance(images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean variance of a pixel among the images of a label, which share its mean."""
    own = [images[labels == label] for label in labels.unique()]
    return torch.stack([(some - some.mean(dim=0)).square().mean() for some in own]).mean()
