"""The measures beside the grade equal well-kept implementations and closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_clear_error, run, tiny_training

from data_utils import MNISTDataset
from lab.evaluation.bounds import (
    active_units,
    bits_per_dimension,
    bounds,
    reconstructions_of_draws,
)
from lab.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)
from lab.evaluation.intervals import raw_interval
from lab.evaluation.judge import JUDGE_FILE, features_and_classes, load_judge
from lab.evaluation.samples import measure_samples
from lab.metrics import raw_score
from lab.report.measure import measure
from lab.report.page import build
from lab.split_model import Submission

VAR, LATENT = 0.05, 3

# A linear decoder has p(x) = N(b, W W^T + var I), and this encoder its true posterior, but for
# `wider`, which makes the standard deviation of q too large.
LINEAR = """
import torch
from torch import nn


class VAE(nn.Module):
    wider = 1.0

    def __init__(self, latent_dim=3):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.w = nn.Parameter(0.02 * torch.randn(784, latent_dim, generator=generator))
        self.b = 0.5
        self.var = 0.05

    def forward(self, x, labels):
        precision = torch.eye(self.w.shape[1]) + self.w.T @ self.w / self.var
        # The axes of the posterior are those of z only if w's columns are orthogonal.
        mu = torch.linalg.solve(precision, (self.w.T @ (x.flatten(1) - self.b).T) / self.var).T
        log_var = -precision.diagonal().log() + 2 * torch.tensor(self.wider).log()
        log_var = log_var.expand_as(mu)
        z = mu + (log_var / 2).exp() * torch.randn_like(mu)
        return self.decode(z, labels), mu, log_var

    def encode(self, x, labels):
        return self.forward(x, labels)[1:]

    def decode(self, z, labels):
        return (z @ self.w.T + self.b).view(-1, 1, 28, 28)
"""


def linear(folder, wider: float = 1.0) -> Submission:
    file = folder / "submission.py"
    file.write_text(LINEAR, encoding="utf-8")
    submission = Submission(file, "VAEwolabel", LATENT, variant=f"wider={wider}")
    weights, _ = torch.linalg.qr(submission.model.w.detach())  # (784, d), orthogonal columns
    submission.model.w.data = 0.4 * weights
    return submission


def images_of(submission: Submission, n: int) -> np.ndarray:
    z = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(1))
    x = submission.decode(z, torch.zeros(n, dtype=torch.long)).numpy()  # (n, 28, 28)
    noise = np.random.default_rng(2).normal(size=x.shape) * 0.05  # little, so that 0 <= x <= 1
    return np.round(255 * (x + noise).clip(0, 1)).astype(np.uint8)


def log_likelihood(submission: Submission, images: np.ndarray) -> float:
    """The mean of log N(x; b, W W^T + var I), by torch."""
    w = submission.model.w.detach().double()
    normal = torch.distributions.MultivariateNormal(
        torch.full((784,), 0.5).double(), w @ w.T + VAR * torch.eye(784).double()
    )
    x = torch.from_numpy(images).double().flatten(1) / 255
    return normal.log_prob(x).mean().item()


def test_with_the_true_posterior_both_bounds_are_the_likelihood(tmp_path):
    submission = linear(tmp_path)
    images = images_of(submission, 20)
    found = bounds(submission, images, np.zeros(20, np.int64), VAR, draws=200)
    expected = log_likelihood(submission, images)
    assert found.importance_weighted == pytest.approx(expected, abs=1e-2)
    # Its reconstruction term is a mean over draws.
    assert found.elbo == pytest.approx(expected, abs=0.3)
    assert found.kl.shape == (LATENT,) and found.active == LATENT and found.n == 20


def test_a_wrong_posterior_lowers_the_elbo_and_draws_make_good_for_it(tmp_path):
    submission = linear(tmp_path, wider=2.0)
    images, labels = images_of(submission, 40), np.zeros(40, np.int64)
    few = bounds(submission, images, labels, VAR, draws=5)
    many = bounds(submission, images, labels, VAR, draws=500)
    expected = log_likelihood(submission, images)
    # KL(N(mu, (2 s)^2) || N(mu, s^2)) = (4 - 1)/2 - log 2 per dimension.
    gap = LATENT * (1.5 - math.log(2))
    assert many.elbo == pytest.approx(expected - gap, abs=0.3)
    assert few.elbo < few.importance_weighted < many.importance_weighted < expected + 0.1
    assert many.importance_weighted == pytest.approx(expected, abs=0.1)


def test_a_draw_of_the_posterior_is_worse_than_its_mean(tmp_path):
    submission = linear(tmp_path)
    images, labels = images_of(submission, 50), np.zeros(50, np.int64)
    drawn = reconstructions_of_draws(submission, images, labels)
    codes = submission.encode(torch.from_numpy(images)[:, None] / 255, torch.from_numpy(labels))
    at_mean = submission.decode(codes, torch.from_numpy(labels)).numpy() * 255
    x = images.astype(float)
    assert np.square(drawn - x).mean() > np.square(at_mean - x).mean()


def test_the_draw_of_a_model_with_a_learned_prior_is_its_own(tmp_path):
    submission = Submission(ROOT / "zoo" / "conv_cvae.py", "Genwithlabel", 2, "depth=0")
    images, labels = MNISTDataset(ROOT / "dataset" / "test").images[:30], np.zeros(30, np.int64)
    x, y = torch.from_numpy(images)[:, None] / 255, torch.from_numpy(labels)
    submission.model.mean += 1.0  # what decode gets is z - 1
    assert bounds(submission, images, labels, VAR, draws=1) is None
    at_mean, drawn = submission.encode(x, y), submission.encode(x, y, seed=0)
    assert torch.equal(drawn, submission.encode(x, y, seed=0))
    assert not torch.equal(drawn, submission.encode(x, y, seed=1))
    # Drawn codes scatter around the mean as q says.
    _, log_var = submission.model.encode(x, y)
    scatter = (drawn - at_mean) / (log_var / 2).exp()
    assert scatter.square().mean().item() == pytest.approx(1, abs=0.5)
    expected = submission.decode(drawn, y).numpy() * 255
    found = reconstructions_of_draws(submission, images, labels)
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_an_autoencoder_has_no_bounds_and_no_draws():
    submission = Submission(ROOT / "zoo" / "mlp_ae.py", "VAEwolabel", 2)
    images, labels = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int64)
    assert bounds(submission, images, labels, VAR) is None
    assert reconstructions_of_draws(submission, images, labels) is None
    assert active_units(submission, images, labels) is None


def test_a_dimension_that_the_encoder_ignores_is_not_active(tmp_path):
    submission = linear(tmp_path)
    images, labels = images_of(submission, 30), np.zeros(30, np.int64)
    assert active_units(submission, images, labels) == LATENT
    submission.model.w.data[:, 1] = 0
    assert active_units(submission, images, labels) == LATENT - 1
    assert bounds(submission, images, labels, VAR, draws=1).active == LATENT - 1


def test_uniform_pixels_have_eight_bits():
    assert bits_per_dimension(0.0) == 8  # the density 1 on [0, 1]
    assert bits_per_dimension(784 * math.log(2)) == 7


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 16)), 0.3 + 0.8 * rng.normal(size=(90, 16))


def test_kernel_distance_is_that_of_torchmetrics(points):
    from torchmetrics.image.kid import poly_mmd  # here, as every worker imports this file

    real, generated = points
    expected = poly_mmd(*(torch.from_numpy(x[:90]) for x in (real, generated)))
    assert kernel_distance(real[:90], generated) == pytest.approx(expected.item())
    assert abs(kernel_distance(real[:60], real[60:])) < kernel_distance(real, generated) / 5


def test_precision_to_coverage_are_those_of_their_authors(points):
    from prdc import compute_prdc

    real, generated = points
    expected = compute_prdc(real, generated, nearest_k=5)
    assert precision_recall_density_coverage(real, generated, 5) == pytest.approx(expected)


def test_the_interval_of_raw_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    ssim, mse = rng.normal(0.8, 0.1, 400), np.full(400, 0.02)
    low, high = raw_interval("VAEwolabel", ssim, mse, None, 20)
    raw = raw_score("VAEwolabel", ssim.mean(), 0.02, None, 20)
    slope = raw_score("VAEwolabel", 1, 0.1, None, 20)  # raw is linear in ssim
    half = 1.96 * slope * ssim.std() / 20
    assert low < raw < high
    assert high - low == pytest.approx(2 * half, rel=0.1)


def test_the_interval_of_raw_holds_the_spread_of_sample_sets():
    even = np.full(100, 0.8), np.full(100, 0.02)
    low, high = raw_interval("Genwithlabel", *even, np.array([2.0, 3.0]), 20)
    ends = [raw_score("Genwithlabel", 0.8, 0.02, fid, 20) for fid in (3.0, 2.0)]
    assert [low, high] == pytest.approx(ends)


# ---------------------------------------------------------------- samples


@pytest.fixture(scope="module")
def real_samples(valid_set) -> np.ndarray:
    """Twenty real digits per label, used as samples; the real images of a test exclude them."""
    chosen = [np.flatnonzero(valid_set.labels == label)[-400::20] for label in range(10)]
    return np.stack([valid_set.images[indices] for indices in chosen])


def test_the_judge_reads_digits():
    stored = json.loads((ROOT / "lab" / "judge" / "judge.json").read_text())
    assert stored["test"] >= 0.994 and JUDGE_FILE.stat().st_size < 400_000
    test_set = MNISTDataset(ROOT / "dataset" / "test")
    _, read = features_and_classes(load_judge(), test_set.images)
    assert (read == test_set.labels).mean() == pytest.approx(stored["test"], abs=2e-3)


def test_measures_of_real_digits_and_of_bad_samples(real_samples, valid_set):
    images, labels = valid_set.images[:5000:2], valid_set.labels[:5000:2]
    others = valid_set.images[1:5000:2]
    real = measure_samples(real_samples, images, labels, others)
    assert real["judge_accuracy"] >= 0.98
    assert real["judge_fid"] == pytest.approx(real["judge_fid_real"], rel=0.5)
    assert 0.85 < real["diversity"] < 1.15 and 0.85 < real["nearest_train"] < 1.15

    wrong_labels = measure_samples(np.roll(real_samples, 1, axis=0), images, labels, others)
    assert wrong_labels["judge_accuracy"] < 0.05
    one_each = np.repeat(real_samples[:, :1], 20, axis=1)
    same = measure_samples(one_each, images, labels, others)
    assert same["diversity"] < 0.01 and same["judge_fid"] > 2 * real["judge_fid"]
    learnt = np.concatenate([others, real_samples.reshape(-1, 28, 28)])
    copied = measure_samples(real_samples, images, labels, learnt)
    assert copied["nearest_train"] < 0.01


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (20000, 3))
    b = rng.normal(2, 3, (20000, 3))
    expected = 3 * (2**2 + (3 - 1) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=0.03)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("task", ["VAEwolabel", "Genwithlabel"])
def test_grade_and_report_measure_the_model(tiny_data, tiny_set, tmp_path, task):
    folder, result = tmp_path / "run", tmp_path / "grade.json"
    assert run("train.py", *tiny_training(tiny_data, folder), "--task", task).returncode == 0
    data = ["--data_path", tiny_data, "--gen_num", 12]
    assert run("inference.py", "--checkpoint_path", folder / "best.pth", *data).returncode == 0
    words = [f"--{task}_output_dir", folder / "inference", "--test_data_path", tiny_data]
    words += ["--gen_num", 12, "--train_data", tiny_data, "--output", result, "--diagnostics"]
    graded = run("grade.py", *words)
    assert graded.returncode == 0, graded.stderr
    found = json.loads(result.read_text(encoding="utf-8"))[task]
    measured = found["diagnostics"]
    assert measured["raw_low"] <= found["raw"] <= measured["raw_high"]
    assert measured["elbo"] <= measured["importance_weighted"] and len(measured["kl"]) == 2
    assert measured["mse_draw"] >= found["mse"]
    assert ("judge_kid" in measured) == ("fid_1000" in measured) == (task == "Genwithlabel")
    assert "95 % of raw" in graded.stdout
    page = build([measure(folder, tiny_set, tiny_set, gen_num=12)], tiny_set)
    assert "Beside the grade" in page and f"{measured['elbo']:.4f}" in page
    (folder / "best.pth").unlink()
    assert_clear_error(run("grade.py", *words), "which does not exist", "run inference.py again")
