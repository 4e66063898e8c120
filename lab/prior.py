"""The optional method fit_prior(codes, labels): a density fitted to the codes after training."""

from __future__ import annotations

import torch
from torch import nn

from data_utils import Batches, own_randomness, to_float
from lab.recovery import TrainingError
from lab.split_model import Submission


def fit_prior(submission: Submission, batches: Batches, seed: int) -> None:
    """Call the model's fit_prior with the codes of all training images and their labels.

    Raises TrainingError when it adds or reshapes a tensor of the model.
    """
    assert submission.fit_prior is not None
    size = batches.batch_size
    codes = [
        submission.encode(to_float(images), labels)
        for images, labels in zip(batches.images.split(size), batches.labels.split(size))
    ]
    before = _shapes(submission.model)
    with own_randomness(seed):
        submission.fit_prior(torch.cat(codes), submission.visible(batches.labels))
    after = _shapes(submission.model)
    if after != before:
        names = sorted(set(after.items()) ^ set(before.items()))
        raise TrainingError(
            f"fit_prior changed the shape or number of the model's tensors ({names[0][0]}), so "
            "its checkpoint would not load; create all tensors in __init__ with register_buffer."
        )


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}
