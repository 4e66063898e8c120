"""The trial that takes longest: can a model memorise one batch of images?"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from data_utils import set_seed
from lab.contract import check_contract
from lab.split_model import Submission

STEPS = 300
SHARE = 0.5  # of the squared error of the best constant picture
VAR = 0.02


def memorise(path: Path, task: str, latent_dim: int) -> str:
    """Check the contract of the whole, then train on one batch for some hundred steps.

    Returns "" if the model reconstructs the images better than their mean, or has no loss of one
    batch to train with; otherwise a sentence. Raises ContractError.
    """
    set_seed(0)
    submission = Submission(path, task, latent_dim)
    check_contract(submission)
    if not submission.has_loss:
        return ""
    model = submission.model.train()
    x, labels = strokes(64)  # (B, 1, 28, 28), (B,)
    labels = submission.visible(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    constant = (x - x.mean(dim=0)).square().mean().item()
    error = math.inf
    for step in range(STEPS):
        optimizer.zero_grad()
        _loss(submission, x, labels).backward()
        optimizer.step()
        if step % 25 == 24:
            recon = submission.decode(submission.encode(x, labels), labels)  # (B, 28, 28)
            error = (recon - x.squeeze(1)).square().mean().item()
            if error < SHARE * constant:
                return ""
    return (
        f"after {STEPS} steps on {len(x)} images their mse is {error:.4f}, and the mean picture "
        f"alone has {constant:.4f}: does z reach the decoder?"
    )


def _loss(submission: Submission, x: Tensor, labels: Tensor) -> Tensor:
    if submission.compute_loss is not None:
        return submission.compute_loss(x, labels, VAR)["loss"]
    assert submission.vae_loss is not None  # has_loss
    recon_x, mu, log_var = submission.model(x, labels)
    return submission.vae_loss(recon_x, x, mu, log_var, var=VAR)


def strokes(count: int) -> tuple[Tensor, Tensor]:
    """Return simple drawings of two strokes: x (count, 1, 28, 28) and labels (count,)."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(2, 16, (count, 2, 2), generator=generator).tolist()
    x = torch.zeros(count, 1, 28, 28)
    for image, ((top, left), (low, right)) in zip(x, corners):
        image[0, top : top + 10, left : left + 3] = 1
        image[0, low : low + 3, right : right + 10] = 1
    return x, torch.arange(count) % 10
