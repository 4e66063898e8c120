"""A trial step, which changes nothing: it shows whether a model runs as it is set up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from data_utils import own_randomness


def trial_loss(model: nn.Module, loss: Callable[[], Tensor], seed: int) -> float:
    """Compute a loss and its gradients once; return the loss.

    Weights, buffers, gradients and the generators of random numbers are left as they were.
    Raises what the model raises.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    before = {name: value.detach().clone() for name, value in tensors}
    try:
        with own_randomness(seed):
            value = loss()
            value.backward()
        return value.item()
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                tensor.copy_(before[name])
