"""The pictures: the plot of codes, two-dimensional codes, interpolations, the loss curve."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from lab import latent_plane, pictures, plots


@given(st.floats(-1e4, 1e4), st.floats(1e-5, 1e5))
def test_ticks_are_a_few_evenly_spaced_numbers(low, length):
    high = low + length
    ticks = latent_plane.round_ticks(low, high)
    assert 2 <= len(ticks) <= 11
    slack = 1e-9 * max(abs(low), abs(high))
    assert low - slack <= ticks[0] and ticks[-1] <= high + slack
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0], rtol=1e-3)


@pytest.mark.parametrize("count, width", [(200, 20), (200, 2), (30, 1), (1, 5)])
def test_codes_are_drawn_in_the_colours_of_their_labels(count, width):
    codes = np.random.default_rng(0).standard_normal((count, width)).astype(np.float16)
    labels = np.arange(count) % 10
    file = io.BytesIO()
    latent_plane.draw_codes(file, codes, labels)
    picture = np.asarray(Image.open(file))[40:630, 70:650].reshape(-1, 3)  # within the plane
    drawn = {tuple(map(int, color)) for color in np.unique(picture, axis=0)}
    wanted = {latent_plane.COLORS[label] for label in labels}
    assert wanted <= drawn
    assert not (set(latent_plane.COLORS) - wanted) & drawn


def test_codes_that_are_all_the_same_are_one_point():
    file = io.BytesIO()
    latent_plane.draw_codes(file, np.zeros((5, 3), np.float16), np.zeros(5, np.int64))
    picture = np.asarray(Image.open(file))[40:630, 70:650]
    assert (picture == latent_plane.COLORS[0]).all(axis=2).sum() == 4


def drawn_points(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (row, column) of the circles, and of the points (of label 1)."""
    file = io.BytesIO()
    latent_plane.draw_codes(file, codes.astype(np.float16), np.ones(len(codes), np.int64))
    picture = np.asarray(Image.open(file))[36:634, 61:659]  # the plane inside its frame
    dark, orange = (plots.INK,) * 3, latent_plane.COLORS[1]
    return tuple(np.argwhere((picture == color).all(axis=2)) for color in (dark, orange))


def test_the_circles_hold_their_shares_of_the_prior():
    """They are around the origin, also where the codes are elsewhere."""
    for share, radius in latent_plane.CIRCLES.items():
        assert stats.chi2(2).cdf(radius**2) == pytest.approx(share)
    inner, outer = latent_plane.CIRCLES.values()
    for width in (2, 20):
        spread = 0.5 / np.arange(1, width + 1)
        codes = np.random.default_rng(0).standard_normal((4000, width)) * spread
        circles, points = drawn_points(codes + np.eye(width)[0] * 2)
        origin = (circles.min(axis=0) + circles.max(axis=0)) / 2
        distance = np.linalg.norm(circles - origin, axis=1)
        unit = np.ptp(circles, axis=0).max() / 2 / outer  # in pixels
        nearest = np.where(distance < 2 * unit, inner * unit, outer * unit)
        assert np.allclose(distance, nearest, atol=3)
        off_centre = np.linalg.norm(points.mean(axis=0) - origin) / unit
        assert off_centre == pytest.approx(2, abs=0.1)


def test_circles_are_shown_as_a_whole_and_not_for_one_dimension():
    for scale in (0.01, 30):
        circles, _ = drawn_points(scale * np.random.default_rng(0).standard_normal((50, 2)))
        size = np.ptp(circles, axis=0)
        assert abs(size[0] - size[1]) <= 2 and size[0] > 8
    assert len(drawn_points(np.linspace(-1, 1, 50)[:, None])[0]) == 0


def test_codes_are_drawn_by_slant_beside():
    codes = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float16)
    file = io.BytesIO()
    latent_plane.draw_codes(file, codes, np.zeros(200, np.int64), codes[:, 0])
    picture = np.asarray(Image.open(file)).astype(int)
    left, right = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
    assert (left == latent_plane.COLORS[0]).all(axis=2).sum() >= 200
    plane = right[40:630, 70:650]
    red = np.where((plane.max(axis=2) - plane.min(axis=2)) > 30, plane[..., 0], -1)  # of points
    columns = [red[:, at : at + 100][red[:, at : at + 100] >= 0].mean() for at in (100, 380)]
    assert columns[0] + 50 < columns[1]  # from purple to yellow


def test_the_two_grids_of_codes():
    """Equal steps, and equal shares of N(0, 1): scipy's quantiles; 0 is in the middle of both."""
    for task, n in (("VAEwolabel", 21), ("Genwithlabel", 11)):
        equal, quantiles = pictures.manifold_values(task)
        assert len(equal) == len(quantiles) == n
        assert np.allclose(np.diff(equal), 15 / (n - 1)) and equal[0] == -7.5
        assert np.allclose(stats.norm.cdf(quantiles), (np.arange(n) + 0.5) / n)
        assert equal[n // 2] == 0 and abs(quantiles[n // 2]) < 1e-12


@pytest.mark.parametrize("panels, n", [(1, 21), (10, 11)])
def test_each_code_is_drawn_at_its_place(panels, n):
    """An image of grey 20 in the top right corner of each panel; the others have grey 9."""
    square = np.full((panels, n, n, 28, 28), 9, np.uint8)
    square[:, 0, -1] = 20
    file = io.BytesIO()
    values = np.linspace(-1, 1, n)
    plots.manifold(file, square, values, square, values)
    picture = np.asarray(Image.open(file))
    assert (picture == 9).sum() == 2 * panels * (n * n - 1) * 28 * 28
    rows, columns = np.nonzero(picture == 20)
    assert len(rows) == 2 * panels * 28 * 28
    below = picture[rows.max() + 1 + 28 * (n - 2) :, columns.max() - 27 : columns.max()]
    assert (below[:28] == 9).all()  # the last column of the last panel, without its top image


def test_interpolations_stand_between_their_images():
    walks = np.full((3, 11, 28, 28), 20, np.uint8)  # darker than text
    file = io.BytesIO()
    plots.interpolation(file, np.full((3, 28, 28), 10, np.uint8), walks, walks[:, 0] + 10)
    picture = np.asarray(Image.open(file))
    (_, lefts), (_, middles), (_, rights) = (np.nonzero(picture == grey) for grey in (10, 20, 30))
    assert lefts.max() < middles.min() and middles.max() < rights.min()


@pytest.mark.parametrize("task, ends", [("VAEwolabel", [1, 2, 0]), ("Genwithlabel", [4, 3, 2])])
def test_the_ends_of_interpolations(task, ends):
    starts, others = pictures.pairs(task, np.array([5, 6, 7, 6, 5]))
    assert list(starts) == [0, 1, 2] and list(others) == ends


def test_the_loss_curve_shows_the_two_terms(monkeypatch):
    figures = []
    made = plots.figure
    monkeypatch.setattr(plots, "figure", lambda *size: figures.append(made(*size)) or figures[-1])
    row = {"train_loss": 3.0, "valid_loss": 4.0, "valid_ssim": 0.5, "valid_mse": 0.1}
    terms = {"valid_reconstruction_loss": 3.0, "valid_kl_divergence": 1.0}
    for history in ([{"step": 1, **row}], [{"step": n, **row, **terms} for n in (1, 2)]):
        plots.loss_curve(io.BytesIO(), history)
    without, with_terms = figures
    lines = [
        {line.get_label(): list(line.get_ydata()) for axes in each.axes for line in axes.lines}
        for each in (without, with_terms)
    ]
    assert set(lines[0]) == {"training", "validation", "ssim", "mse"}
    assert set(lines[1]) - set(lines[0]) == {"reconstruction", "KL"}
    assert (lines[1]["reconstruction"], lines[1]["KL"]) == ([3, 3], [1, 1])
