"""The stage "measure", run inside the sandbox: figures of a model, to ask questions about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_utils import to_float
from lab.checkpoint import load
from lab.split_model import Submission

SHOWN = 50  # codes at which the effect of each dimension is measured
FAR = 2.0  # standard deviations of the prior


@torch.no_grad()
def run(
    order: dict[str, Any],
    folder: Path,
    inputs: dict[str, np.ndarray],
    tell: Callable[[dict[str, Any]], None],
) -> bytes:
    """Return figures of a variational model as JSON.

    Args:
        order: threads.
        folder: with submission.py and checkpoint.pth.
        inputs: images, uint8 (N, 28, 28), and their labels, (N,).
        tell: writes a line of JSON to the parent process.

    The figures, on these images:
        kl: of each dimension, nats, in the mean.
        sigma: standard deviation of the posterior of each dimension, in the mean.
        effect: of each dimension: mse between images of z that differ in it alone, by 4; [] for a
            model that fits a prior.
        squared_error: the sum over the pixels, in the mean over the images.
        parameters: of each tensor of weights, by name.

    Raises what the student's code raises.
    """
    torch.set_num_threads(order["threads"])
    state = load(folder / "checkpoint.pth")
    tell({})
    variant = state.get("variant", "")
    submission = Submission(folder / "submission.py", state["task"], state["latent_dim"], variant)
    submission.load_weights(state, "checkpoint.pth")
    submission.model.eval()
    x = to_float(torch.from_numpy(inputs["images"]))  # (N, 1, 28, 28)
    labels = torch.from_numpy(inputs["labels"])
    recon_x, mu, log_var = submission.model(x, submission.visible(labels))
    kl = (mu.square() + log_var.exp() - 1 - log_var).mean(dim=0) / 2  # (d,)
    error = (recon_x.flatten(1) - x.flatten(1)).square().sum(dim=1).mean()
    figures = {
        "kl": kl.tolist(),
        "sigma": (log_var / 2).exp().mean(dim=0).tolist(),
        # A prior that is fitted after the training turns z, so that its axes are not those of mu.
        "effect": _effects(submission, labels[:SHOWN]) if submission.fit_prior is None else [],
        "squared_error": float(error),
        "parameters": {name: value.numel() for name, value in submission.model.named_parameters()},
    }
    return json.dumps(figures).encode()


def _effects(submission: Submission, labels: Tensor) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(len(labels), submission.latent_dim, generator=generator)
    found = []
    for dimension in range(submission.latent_dim):
        low, high = z.clone(), z.clone()
        low[:, dimension], high[:, dimension] = -FAR, FAR
        images = submission.decode(low, labels), submission.decode(high, labels)
        found.append(float((images[0] - images[1]).square().mean()))
    return found
