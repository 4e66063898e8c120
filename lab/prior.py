"""The optional method fit_prior(codes, labels): a density fitted to the codes after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data_utils import Batches, own_randomness, to_float
from lab.recovery import TrainingError
from lab.split_model import Submission


class PriorError(TrainingError):
    """fit_prior changed the tensors of the model, so a checkpoint of before does not fit it."""


def fit_prior(submission: Submission, batches: Batches, seed: int) -> None:
    """Call the model's fit_prior with the codes of all training images and their labels.

    Raises ContractError when it raises an exception or the model does not run after it, PriorError
    when it adds or reshapes a tensor.
    """
    size = batches.batch_size
    codes = [
        submission.encode(to_float(images), labels)
        for images, labels in zip(batches.images.split(size), batches.labels.split(size))
    ]
    fit_to(torch.cat(codes), batches.labels, submission, seed)


def fit_to(codes: Tensor, labels: Tensor, submission: Submission, seed: int) -> None:
    """Call the model's fit_prior with codes (N, latent_dim) and labels (N,), and try the result.

    Raises ContractError, PriorError.
    """
    assert submission.fit_prior is not None
    before = _shapes(submission.model)
    with own_randomness(seed), submission.explained("fit_prior"):
        submission.fit_prior(codes, submission.visible(labels))
    after = _shapes(submission.model)
    if after != before:
        names = sorted(set(after.items()) ^ set(before.items()))
        raise PriorError(
            f"fit_prior changed the shape or number of the model's tensors ({names[0][0]}), so "
            "its checkpoint would not load; create all tensors in __init__ with register_buffer."
        )
    submission.try_encode()  # with what fit_prior has stored
    submission.try_decode()


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}
