"""The plot of codes, which is drawn pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lab import plots


@given(st.floats(-1e4, 1e4), st.floats(1e-5, 1e5))
def test_ticks_are_a_few_evenly_spaced_numbers(low, length):
    high = low + length
    ticks = plots._ticks(low, high)
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
    plots.latent(file, codes, labels)
    picture = np.asarray(Image.open(file))[40:630, 70:650].reshape(-1, 3)  # within the plane
    drawn = {tuple(map(int, color)) for color in np.unique(picture, axis=0)}
    wanted = {plots.COLORS[label] for label in labels}
    assert wanted <= drawn
    assert not (set(plots.COLORS) - wanted) & drawn


def test_codes_that_are_all_the_same_are_one_point():
    file = io.BytesIO()
    plots.latent(file, np.zeros((5, 3), np.float16), np.zeros(5, np.int64))
    picture = np.asarray(Image.open(file))[40:630, 70:650]
    assert (picture == plots.COLORS[0]).all(axis=2).sum() == 4
