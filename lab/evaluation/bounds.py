"""Bounds of the log-likelihood, and what the posterior says of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_utils import NUM_CLASSES, own_randomness, to_float, to_uint8
from lab.split_model import Submission

PIXELS = 784
AT_ONCE = 1000  # images that are decoded together
ACTIVE = 0.01  # variance of the posterior's mean over the images, above which a unit is active


@dataclass
class Bounds:
    """Bounds of log p(x), for x with pixels in [0, 1], as means over images.

    The model is p(x, z) = N(x; decode(z), var I) N(z; 0, I), and q(z|x) = N(mu, exp(log_var)).

    Attributes:
        elbo: E_q[log p(x|z)] - KL(q(z|x) || N(0, I)) in nats, equation 10 of Kingma and Welling,
            Auto-Encoding Variational Bayes, ICLR 2014.
        importance_weighted: log (1/K) sum_k p(x, z_k) / q(z_k|x) in nats, equation 8 of Burda,
            Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.
        draws: K, the number of z per image.
        kl: (latent_dim,), the KL divergence of each dimension in nats.
        active: number of dimensions whose mu varies from image to image (Burda et al., section 5).
        n: number of images.
    """

    elbo: float
    importance_weighted: float
    draws: int
    kl: np.ndarray
    active: int
    n: int


def bits_per_dimension(nats: float) -> float:
    """Return a bound in nats per image as bits per pixel of 256 levels: smaller is better.

    A level is 1/256 wide, so a density p of an image gives it the probability p / 256^784.
    """
    return -nats / PIXELS / math.log(2) + 8


@torch.no_grad()
def bounds(
    submission: Submission,
    images: np.ndarray,
    labels: np.ndarray,
    var: float,
    draws: int = 64,
    seed: int = 0,
) -> Bounds | None:
    """Return the bounds of a model on images uint8 (N, 28, 28) with labels (N,).

    None if the model has no q(z|x) = N(mu, exp(log_var)) whose mean is what decode gets.
    var: of the decoder. Raises ContractError.
    """
    elbos, weighted, kls, means = [], [], [], []
    generator = torch.Generator().manual_seed(seed)
    for x, y in _batches(submission, images, labels, max(1, AT_ONCE // draws)):
        found = posterior(submission, x, y)
        if found is None:
            return None
        mu, log_var = found
        noise = torch.randn(draws, *mu.shape, generator=generator).to(mu)  # (K, B, d)
        z = mu + (log_var / 2).exp() * noise  # (K, B, d)
        recon = submission.decode(z.flatten(0, 1), y.repeat(draws)).view(draws, *x.shape)
        error = (recon.double() - x).square().flatten(2).sum(2)  # (K, B)
        log_p_x = -error / (2 * var) - PIXELS / 2 * math.log(2 * math.pi * var)
        # The factors sqrt(2 pi) of prior and posterior cancel.
        log_p_z = -z.double().square().sum(2) / 2
        log_q_z = -noise.double().square().sum(2) / 2 - log_var.sum(1) / 2
        log_w = log_p_x + log_p_z - log_q_z  # (K, B)
        kl = kl_divergence(mu, log_var)  # (B, d)
        elbos.append(log_p_x.mean(0) - kl.sum(1))
        weighted.append(log_w.logsumexp(0) - math.log(draws))
        kls.append(kl)
        means.append(mu)
    return Bounds(
        elbo=torch.cat(elbos).mean().item(),
        importance_weighted=torch.cat(weighted).mean().item(),
        draws=draws,
        kl=torch.cat(kls).mean(0).cpu().numpy(),
        active=_active(torch.cat(means)),
        n=len(images),
    )


@torch.no_grad()
def posterior(submission: Submission, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return mu and log_var of q(z|x), each (B, latent_dim), or None if the model has none.

    x: float32 (B, 1, 28, 28) in [0, 1]; labels: (B,). None also if decode does not get mu.
    """
    found = mu_and_log_var(submission, x, labels)
    if found is None or not _is_decoded(submission, found[0], x, labels):
        return None
    mu, log_var = found
    return mu.float(), log_var.float()


def _is_decoded(submission: Submission, mu: Tensor, x: Tensor, labels: Tensor) -> bool:
    """Return whether decode gets mu itself, at the posterior mean."""
    codes = submission.encode(x, labels)  # (B, d)
    return torch.allclose(codes, mu.float(), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def mu_and_log_var(
    submission: Submission, x: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Return what forward returns as mu and log_var, each (B, latent_dim), or None.

    Unlike in `posterior`, decode may get something else, as a model with a learned prior does.
    None also if log_var is 0 everywhere: such a model is an autoencoder, and draws nothing.
    """
    submission.model.eval()
    with own_randomness(0), submission.explained("forward"):
        outputs = submission.model(x, submission.visible(labels))
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
        return None
    mu, log_var = outputs[1:]
    expected = (len(x), submission.latent_dim)
    if not all(isinstance(part, Tensor) and part.shape == expected for part in (mu, log_var)):
        return None
    if not log_var.any():
        return None
    return mu, log_var


def kl_divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return the KL divergence of each dimension from N(0, I) in nats, float64 (B, latent_dim).

    Kingma and Welling 2014, appendix B.
    """
    mu, log_var = mu.double(), log_var.double()
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


@torch.no_grad()
def kl_per_dimension(
    submission: Submission, images: np.ndarray, labels: np.ndarray
) -> np.ndarray | None:
    """Return the KL divergence of q(z|x) from N(0, I) of each dimension, its mean over the images.

    In nats, (latent_dim,). None if forward of the model does not return mu and log_var of this
    width. Raises ContractError.
    """
    total = np.zeros(submission.latent_dim)
    for x, y in _batches(submission, images, labels, AT_ONCE):
        found = mu_and_log_var(submission, x, y)
        if found is None:
            return None
        total += kl_divergence(*found).sum(dim=0).cpu().numpy()
    return total / len(images)


@torch.no_grad()
def active_units(submission: Submission, images: np.ndarray, labels: np.ndarray) -> int | None:
    """Return the number of dimensions whose mu varies from image to image, as in `Bounds`.

    None if forward of the model does not return mu and log_var. Raises ContractError.
    """
    means = []
    for x, y in _batches(submission, images, labels, AT_ONCE):
        found = mu_and_log_var(submission, x, y)
        if found is None:
            return None
        means.append(found[0].float())
    return _active(torch.cat(means))


def _active(mu: Tensor) -> int:
    return int((mu.var(dim=0) > ACTIVE).sum())


@torch.no_grad()
def reconstructions_of_draws(
    submission: Submission, images: np.ndarray, labels: np.ndarray, seed: int = 0
) -> np.ndarray | None:
    """Return images decoded from one draw of q(z|x) each, instead of its mean: uint8 (N, 28, 28).

    If decode gets something else than z, as in a model with a learned prior, the draw is that of
    its own forward. None if forward does not return mu and log_var. Raises ContractError.
    """
    generator = torch.Generator().manual_seed(seed)
    recon: list[np.ndarray] = []
    for x, y in _batches(submission, images, labels, AT_ONCE):
        found = mu_and_log_var(submission, x, y)
        if found is None:
            return None
        mu, log_var = (value.float() for value in found)
        if _is_decoded(submission, mu, x, y):
            noise = torch.randn(mu.shape, generator=generator).to(mu)  # (B, d)
            z = mu + (log_var / 2).exp() * noise  # (B, d)
        else:
            z = submission.encode(x, y, seed=seed + len(recon))  # (B, d)
        recon.append(to_uint8(submission.decode(z, y)))
    return np.concatenate(recon)


def _batches(
    submission: Submission, images: np.ndarray, labels: np.ndarray, at_once: int
) -> Iterator[tuple[Tensor, Tensor]]:
    assert labels.max(initial=0) < NUM_CLASSES
    for first in range(0, len(images), at_once):
        some = slice(first, first + at_once)
        yield (
            to_float(torch.from_numpy(images[some])).to(submission.device),  # (B, 1, 28, 28)
            torch.from_numpy(labels[some]).to(submission.device),
        )
