"""The formulas of staff/solutions.md, checked numerically, in the order of its sections."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from submission import vae_loss

positive = some.floats(0.2, 5)
means = some.floats(-3, 3)


def probabilities(count: int) -> some.SearchStrategy[np.ndarray]:
    """Distributions over `count` values, none of which has probability 0."""
    weights = some.lists(some.floats(0.05, 1), min_size=count, max_size=count)
    return weights.map(lambda values: np.array(values) / sum(values))


def kl_1d(m1: float, s1: float, m2: float, s2: float) -> float:
    """0.1 (b)."""
    return math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 1 / 2


def kl_nd(m1: np.ndarray, cov1: np.ndarray, m2: np.ndarray, cov2: np.ndarray) -> float:
    """0.1, in n dimensions."""
    inverse, shift = np.linalg.inv(cov2), m1 - m2
    log_ratio = np.linalg.slogdet(cov2)[1] - np.linalg.slogdet(cov1)[1]
    return float((log_ratio + np.trace(inverse @ cov1) + shift @ inverse @ shift - len(m1)) / 2)


# ---------------------------------------------------------------- 0.1


@given(probabilities(5), probabilities(5))
def test_the_divergence_is_not_negative_and_zero_only_for_equal_densities(p, q):
    divergence = float(np.sum(p * np.log(p / q)))
    # Pinsker's inequality: a divergence near zero means densities that are nearly equal.
    assert divergence >= np.abs(p - q).sum() ** 2 / 2 - 1e-12
    assert abs(float(np.sum(p * np.log(p / p)))) < 1e-15


@given(some.floats(1e-6, 1e6))
def test_the_tangent_of_the_logarithm_lies_above_it(t):
    assert math.log(t) <= t - 1
    if abs(t - 1) > 1e-3:
        assert math.log(t) < t - 1 - 1e-7


@given(means, positive, means, positive)
def test_two_gaussians_against_torch(m1, s1, m2, s2):
    p, q = (Normal(*torch.tensor(pair, dtype=torch.float64)) for pair in ((m1, s1), (m2, s2)))
    assert kl_1d(m1, s1, m2, s2) == pytest.approx(float(kl_divergence(p, q)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.0, 1.0), (1.0, 0.5, -0.5, 2.0), (0, 2, 1, 0.7)])
def test_two_gaussians_by_monte_carlo(values):
    m1, s1, m2, s2 = values
    x = np.random.default_rng(0).normal(m1, s1, 200_000)
    logs = math.log(s2 / s1) - (x - m1) ** 2 / (2 * s1**2) + (x - m2) ** 2 / (2 * s2**2)
    error = logs.std() / math.sqrt(len(x))
    assert abs(logs.mean() - kl_1d(*values)) <= 4 * error + 1e-12


@pytest.mark.parametrize("n", [1, 2, 5])
def test_n_dimensions_against_a_multivariate_normal(n):
    rng = np.random.default_rng(n)
    (m1, m2), roots = rng.normal(size=(2, n)), rng.normal(size=(2, n, n))
    cov1, cov2 = (root @ root.T + 0.5 * np.eye(n) for root in roots)
    p, q = (
        MultivariateNormal(torch.from_numpy(m), torch.from_numpy(cov))
        for m, cov in ((m1, cov1), (m2, cov2))
    )
    assert kl_nd(m1, cov1, m2, cov2) == pytest.approx(float(kl_divergence(p, q)), rel=1e-9)
    if n == 1:
        s1, s2 = float(np.sqrt(cov1[0, 0])), float(np.sqrt(cov2[0, 0]))
        assert kl_nd(m1, cov1, m2, cov2) == pytest.approx(kl_1d(m1[0], s1, m2[0], s2))


# ---------------------------------------------------------------- 0.2


@given(probabilities(3), some.lists(probabilities(4), min_size=3, max_size=3), probabilities(3))
def test_the_likelihood_is_elbo_plus_divergence_for_every_q(prior, likelihoods, q):
    """A discrete model: z has three values, x has four; q is any distribution of z."""
    joint = prior * np.array(likelihoods)[:, 2]  # p(x = 2, z), for each z
    evidence = joint.sum()
    posterior = joint / evidence
    elbo = np.sum(q * (np.log(joint) - np.log(q)))
    divergence = np.sum(q * (np.log(q) - np.log(posterior)))
    assert elbo + divergence == pytest.approx(math.log(evidence), abs=1e-12)
    assert elbo <= math.log(evidence) + 1e-12
    at_posterior = np.sum(posterior * (np.log(joint) - np.log(posterior)))
    assert at_posterior == pytest.approx(math.log(evidence), abs=1e-12)


def log_joint(x: np.ndarray, weights: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return log p(x, z) of a mixture of Gaussians in one dimension: (N, K)."""
    away = (x[:, None] - m) / s
    return np.log(weights) - away**2 / 2 - np.log(s) - math.log(2 * math.pi) / 2


def test_e_and_m_steps_never_lower_the_likelihood():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 0.6, 300), rng.normal(1.5, 1.0, 200)])
    weights, m, s = np.full(2, 0.5), np.array([-0.3, 0.2]), np.ones(2)
    before = -np.inf
    for _ in range(30):
        joint = log_joint(x, weights, m, s)  # (N, 2)
        evidence = np.logaddexp(*joint.T)  # (N,)
        q = np.exp(joint - evidence[:, None])  # the E-step
        elbo = np.sum(q * (joint - np.log(q)))
        assert elbo == pytest.approx(evidence.sum())  # the bound is tight after the E-step
        assert evidence.sum() >= before - 1e-9
        before = evidence.sum()
        count = q.sum(axis=0)  # the M-step
        weights, m = count / len(x), (q * x[:, None]).sum(axis=0) / count
        s = np.sqrt((q * (x[:, None] - m) ** 2).sum(axis=0) / count)
        assert np.sum(q * (log_joint(x, weights, m, s) - np.log(q))) >= elbo - 1e-9
    assert m == pytest.approx([-2, 1.5], abs=0.2)


# ---------------------------------------------------------------- 1.3


@given(probabilities(4))
@settings(max_examples=30)
def test_the_smallest_divergence_is_the_largest_likelihood(p_data):
    """The family p_theta has one parameter, the weight of two fixed distributions."""
    a, b = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    thetas = np.linspace(0, 1, 101)[:, None]
    family = thetas * a + (1 - thetas) * b  # (101, 4)
    divergences = (p_data * np.log(p_data / family)).sum(axis=1)
    likelihoods = (p_data * np.log(family)).sum(axis=1)
    entropy = -(p_data * np.log(p_data)).sum()
    assert divergences + likelihoods == pytest.approx(np.full(101, -entropy))  # free of theta
    assert divergences[likelihoods.argmax()] == pytest.approx(divergences.min(), abs=1e-12)


# ---------------------------------------------------------------- 1.5


@pytest.mark.parametrize("var", [0.01, 0.5, 2.0])
def test_the_loss_is_the_negative_elbo_without_its_constant(var):
    torch.manual_seed(0)
    x, recon_x = torch.rand(6, 1, 28, 28), torch.rand(6, 1, 28, 28)
    mu, log_var = torch.randn(6, 20), torch.randn(6, 20)
    decoder = Normal(recon_x.flatten(1).double(), math.sqrt(var))
    constant = 784 / 2 * math.log(2 * math.pi * var)
    reconstruction = -decoder.log_prob(x.flatten(1).double()).sum(dim=1) - constant  # (6,)
    posterior = Normal(mu.double(), (log_var / 2).exp().double())
    prior = Normal(torch.zeros(20).double(), 1.0)
    expected = (reconstruction + kl_divergence(posterior, prior).sum(dim=1)).mean()
    assert float(vae_loss(recon_x, x, mu, log_var, var)) == pytest.approx(float(expected), rel=1e-5)


def test_the_kl_of_the_loss_is_the_formula_for_n_dimensions():
    torch.manual_seed(1)
    mu, log_var = torch.randn(1, 5), torch.randn(1, 5)
    same = torch.rand(1, 1, 28, 28)
    loss = float(vae_loss(same, same, mu, log_var, 0.5))  # no reconstruction error
    sigma_squared = np.diag(log_var[0].double().exp().numpy())
    expected = kl_nd(mu[0].double().numpy(), sigma_squared, np.zeros(5), np.eye(5))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_mu_and_sigma_through_the_sample():
    """z = mu + sigma epsilon has mean mu and standard deviation sigma, and dz/dmu = 1."""
    torch.manual_seed(2)
    mu, log_var = torch.tensor([0.5]).requires_grad_(), torch.tensor([-1.0]).requires_grad_()
    epsilon = torch.randn(100_000)
    z = mu + (log_var / 2).exp() * epsilon
    assert float(z.detach().mean()) == pytest.approx(0.5, abs=4 * math.exp(-0.5) / 300)
    assert float(z.detach().std()) == pytest.approx(math.exp(-0.5), rel=0.02)
    (by_mu, by_log_var) = torch.autograd.grad(z.square().mean(), (mu, log_var))
    # E[z^2] = mu^2 + sigma^2, so its derivatives are 2 mu and sigma^2.
    assert float(by_mu) == pytest.approx(1.0, abs=0.05)
    assert float(by_log_var) == pytest.approx(math.exp(-1), rel=0.05)


def test_a_discrete_divergence_is_that_of_torch():
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.4, 0.2])
    ours = np.sum(p * np.log(p / q))
    theirs = kl_divergence(Categorical(torch.from_numpy(p)), Categorical(torch.from_numpy(q)))
    assert ours == pytest.approx(float(theirs))


# ---------------------------------------------------------------- the two languages


def test_the_solutions_are_the_same_in_both_languages():
    english, chinese = (
        (ROOT / "staff" / name).read_text(encoding="utf-8")
        for name in ("solutions.md", "solutions.zh.md")
    )
    for pattern in (
        r"\$\$(.*?)\$\$",  # displayed formulas
        r"^(#+ (?:\d\.\d|\([ab]\))?)",  # levels and numbers of the headings
        r"^\| (\d+) \|",  # points for steps
        r"\| (\d+) \|$",  # points that mistakes cost
    ):
        first, second = (
            re.findall(pattern, text, re.DOTALL | re.MULTILINE) for text in (english, chinese)
        )
        assert first == second and len(first) > 5, pattern


def test_the_points_of_each_written_part_add_up():
    text = (ROOT / "staff" / "solutions.md").read_text(encoding="utf-8")
    parts = re.split(r"^##", text, flags=re.MULTILINE)
    total = 0
    for part in parts:
        head = re.match(r".*\((\d+) points\)", part)
        steps = [int(points) for points in re.findall(r"^\| (\d+) \|", part, re.MULTILINE)]
        if head and steps:
            assert sum(steps) == int(head[1]), part[:60]
            total += sum(steps)
    assert total == 40
