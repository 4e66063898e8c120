"""The scores equal scikit-image and their formulas, and stay within their bounds."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import structural_similarity

from data_utils import MNISTDataset
from lab import metrics

images_28 = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(28), st.just(28)))


def reference_ssim(a, b):
    return [structural_similarity(x, y, data_range=255) for x, y in zip(a, b)]


def test_ssim_equals_scikit_image_on_digits(valid_set):
    images = valid_set.images[:500]
    others = np.roll(images, 1, axis=2) // 2 + 20
    ours = metrics.ssim_per_image(images, others, chunk=64)
    assert np.abs(ours - reference_ssim(images, others)).max() < 1e-9


@settings(max_examples=60)
@given(st.data())
def test_ssim_equals_scikit_image_on_random_images(data):
    a = data.draw(images_28)
    b = data.draw(hnp.arrays(np.uint8, a.shape))
    assert np.abs(metrics.ssim_per_image(a, b) - reference_ssim(a, b)).max() < 1e-9


@settings(max_examples=30)
@given(images_28)
def test_scores_of_equal_images_and_symmetry_of_ssim(images):
    assert np.allclose(metrics.ssim_per_image(images, images), 1)
    assert not metrics.mse_per_image(images, images).any()
    inverse = 255 - images
    assert np.allclose(
        metrics.ssim_per_image(images, inverse), metrics.ssim_per_image(inverse, images)
    )


def test_mse_of_black_and_white():
    black = np.zeros((2, 28, 28), np.uint8)
    assert metrics.mse_per_image(black, black + 255) == pytest.approx([1, 1])
    assert metrics.mse_per_image(black, black + 51) == pytest.approx([0.04, 0.04])


def fid_by_the_formula(samples, images, labels):
    total = 0.0
    for label in range(10):
        g = samples[label].reshape(len(samples[label]), 784).astype(np.float64) / 255
        a = images[labels == label].reshape(-1, 784).astype(np.float64) / 255
        for pixel in range(784):
            m = g[:, pixel].mean() - a[:, pixel].mean()
            v_g, v_a = np.var(g[:, pixel]), np.var(a[:, pixel])
            total += m**2 + v_g + v_a - 2 * math.sqrt(v_g * v_a)
    return total / 10


def test_fid_equals_its_formula(tiny_set):
    samples = np.random.default_rng(0).integers(0, 256, (10, 7, 28, 28), np.uint8)
    by_label = metrics.fid_per_label(samples, tiny_set.images, tiny_set.labels)
    expected = fid_by_the_formula(samples, tiny_set.images, tiny_set.labels)
    assert np.mean(list(by_label.values())) == pytest.approx(expected, abs=1e-9)


def test_fid_of_real_images():
    """The real training images of each label score 0.35 against those of the test split."""
    train, test = (MNISTDataset(ROOT / "dataset" / split) for split in ("train", "test"))
    samples = [train.images[train.labels == label] for label in range(10)]
    by_label = metrics.fid_per_label(samples, test.images, test.labels)
    assert np.mean(list(by_label.values())) == pytest.approx(0.35, abs=5e-3)


def test_fid_without_images_of_a_label(tiny_set):
    samples = np.zeros((10, 3, 28, 28), np.uint8)
    few = tiny_set.labels < 5
    scores = metrics.fid_per_label(samples, tiny_set.images[few], tiny_set.labels[few])
    assert [scores[label] is None for label in range(10)] == [False] * 5 + [True] * 5


def test_published_scores():
    """The original reports: grade 10 for the VAE, raw 29.276 for the CVAE."""
    vae = metrics.raw_score("VAEwolabel", 0.8504, 0.01335, None, 20)
    assert vae == pytest.approx((5 * 0.8504 + 50 * 0.08665) * (1.2 - 20 / 784))
    assert min(vae, metrics.CAPS["VAEwolabel"]) == 10
    assert metrics.raw_score("Genwithlabel", 0.8591, 0.01253, 2.412, 20) == pytest.approx(
        29.276, abs=2e-3
    )


def test_a_missing_metric_earns_nothing():
    with_fid = metrics.raw_score("Genwithlabel", 0.9, 0.01, 4.0, 20)
    without = metrics.raw_score("Genwithlabel", 0.9, 0.01, None, 20)
    assert with_fid - without == pytest.approx(6 * metrics.compression_bonus(20))
    assert without == 2 * metrics.raw_score("VAEwolabel", 0.9, 0.01, None, 20)
    assert metrics.raw_score("VAEwolabel", None, None, None, 20) == 0


def test_raw_scores_are_not_negative():
    assert metrics.raw_score("VAEwolabel", 0.0, 0.5, None, 20) == 0
    assert metrics.raw_score("Genwithlabel", 0.0, 0.5, 50.0, 20) == 0


@given(st.integers(1, 783))
def test_bonus_falls_with_the_size_of_the_code(latent_dim):
    here, next_one = (
        metrics.compression_bonus(latent_dim),
        metrics.compression_bonus(latent_dim + 1),
    )
    assert 1.2 > here > next_one >= 0.2 - 1e-12


def test_score_task_adds_up(tiny_set):
    recon = np.roll(tiny_set.images, 1, axis=1)
    samples = np.stack([tiny_set.images[tiny_set.labels == label] for label in range(10)])
    words = ("Genwithlabel", recon, tiny_set.images, tiny_set.labels, 10, samples)
    result = metrics.score_task(*words)
    assert metrics.score_task(*words, known=metrics.per_image(recon, tiny_set.images)) == result
    assert result["fid"] == pytest.approx(0, abs=1e-9)
    assert result["score"] == min(result["raw"], 30) and result["cap"] == 30
    assert result["n"] == sum(row["n"] for row in result["per_label"]) == len(tiny_set)
    weighted = sum(row["ssim"] * row["n"] for row in result["per_label"]) / result["n"]
    assert weighted == pytest.approx(result["ssim"])
    assert (
        metrics.score_task("VAEwolabel", recon, tiny_set.images, tiny_set.labels, 10)["fid"] is None
    )


@pytest.mark.parametrize("module", ["lab.metrics", "grade", "lab.settings", "lab.command"])
def test_modules_do_not_import_torch(module):
    """The grader and `train.py --help` do not import torch, which takes seconds."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
