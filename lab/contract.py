"""Check the contract of a submission on a small batch, before training starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from data_utils import own_randomness
from lab.loading import ContractError
from lab.split_model import TRIAL_BATCH, Submission


def check_contract(submission: Submission, device: torch.device | str = "cpu") -> None:
    """Check the contract on a small batch. Raises ContractError.

    The check uses a second model, so the model to train and the generators of random numbers stay
    unchanged.
    """
    with own_randomness(0):
        trial = submission.with_new_model()
        trial.model.to(device)
        _check_methods(trial)
        if trial.training_step is not None:
            _check_training_step(trial)
        else:
            _check_forward(trial)
            _check_loss(trial)
        trial.try_decode()


def _check_methods(trial: Submission) -> None:
    needed = {"decode": "decode(z, labels) (TODO 2.2.3)"}
    if trial.training_step is None:
        needed["encode"] = "encode(x, labels) (TODO 2.2.2)"
    for name, what in needed.items():
        if not hasattr(trial.model, name):
            raise ContractError(f"{trial.class_name} has no method {what}.")
    if trial.configure_optimizers is not None:
        trial.make_optimizers(1e-3)


def _check_training_step(trial: Submission) -> None:
    assert trial.training_step is not None
    images, labels = trial.trial_batch()
    if trial.configure_optimizers is None:
        raise ContractError(
            f"{trial.class_name} has training_step but no configure_optimizers(lr); add one."
        )
    optimizers = trial.make_optimizers(1e-3)
    with trial.explained("training_step"):
        parts = trial.training_step(images, labels, optimizers, 0)
    if not isinstance(parts, dict) or not parts:
        raise ContractError(
            f"training_step of {trial.class_name} returned {type(parts).__name__}; "
            "expected a dict of named parts, each one number."
        )


def _check_forward(trial: Submission) -> None:
    images, labels = trial.trial_batch()
    calls: list[Tensor] = []
    decode: Any = trial.model.decode

    def counting(z: Tensor, *rest: Any, **named: Any) -> Any:
        calls.append(z)
        return decode(z, *rest, **named)

    with trial.replacing("decode", counting), trial.explained("forward"):
        outputs = trial.model(images, labels)
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
        came = type(outputs).__name__
        if isinstance(outputs, (tuple, list)):
            came = f"{len(outputs)} values"
        raise ContractError(
            f"forward of {trial.class_name} returned {came}; "
            "expected three values, recon_x, mu, log_var (TODO 2.2.4)."
        )
    if len(calls) != 1:
        raise ContractError(
            f"forward of {trial.class_name} called self.decode {len(calls)} times; "
            "expected self.decode(z, labels) once (TODO 2.2.4)."
        )
    recon_x, mu, log_var = outputs
    trial.expect_codes("z, which forward gives to self.decode,", calls[0], TRIAL_BATCH)
    trial.expect_codes("mu, the second value of forward,", mu, TRIAL_BATCH)
    trial.expect_codes("log_var, the third value of forward,", log_var, TRIAL_BATCH)
    trial.as_images("forward", recon_x, TRIAL_BATCH)
    trial.encode(images, labels)


def _check_loss(trial: Submission) -> None:
    where, loss = _loss_of(trial)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        came = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise ContractError(f"{where} returned {came}; expected one number, a 0-d tensor.")
    if not torch.isfinite(loss):
        raise ContractError(
            f"{where} is {loss.item()} on a random batch; expected a finite number. "
            "Look for the logarithm of zero or a division by zero (TODO 2.3)."
        )
    if not loss.requires_grad:
        raise ContractError(
            f"{where} has no gradient to the model's parameters; "
            "remove .detach(), .item() and torch.no_grad()."
        )
    with trial.explained(f"the backward pass of {where}"):
        loss.backward()


def _loss_of(trial: Submission) -> tuple[str, Any]:
    """Return the name of the function that computes the loss, and what it returned."""
    images, labels = trial.trial_batch()
    if trial.compute_loss is not None:
        where = f"compute_loss of {trial.class_name}"
        with trial.explained("compute_loss"):
            parts = trial.compute_loss(images, labels, 0.5)
        if not isinstance(parts, dict) or "loss" not in parts:
            raise ContractError(f"{where} must return a dict with a 'loss' and named parts.")
        return where, parts["loss"]
    if trial.vae_loss is None:
        raise ContractError(f"{trial.path.name} has no function vae_loss (TODO 2.3).")
    with trial.explained("vae_loss"):
        recon_x, mu, log_var = trial.model(images, labels)
        return "vae_loss", trial.vae_loss(recon_x, images, mu, log_var, var=0.5)
