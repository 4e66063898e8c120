"""The page about a student's model, made of what a submission may fill with what it likes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from handed_in import tiles_of

from lab import metrics
from staff import sandbox
from staff.model_report import rows_of, write_model_report
from staff.stage import HISTORY, MAX_ROWS, history_of


def test_a_history_in_a_checkpoint_may_be_anything(tiny_run):
    state = torch.load(tiny_run / "best.pth", weights_only=True)
    history = history_of(state)
    rows = rows_of(json.loads(json.dumps(history)))
    assert [row["step"] for row in rows] == [row["step"] for row in state["counters"]["history"]]
    assert rows[-1]["valid_ssim"] == pytest.approx(
        state["counters"]["history"][-1]["valid_ssim"], rel=1e-5
    )
    cells = [10**400, -(10**30), 1e308, -1e308, 5e-324, float("nan"), float("inf"), "<b>", None]
    odd = [dict.fromkeys(HISTORY, cell) for cell in [*cells, [], {}, True, torch.ones(2)]]
    for counters in ({}, {"history": 3}, {"history": ["x", [1]]}, {"history": odd * 1000}):
        found = json.dumps(history_of({"counters": counters}), allow_nan=False)
        assert len(found) < sandbox.MAX_LINE / 2
    for came in (None, "x", 3, {}, [1, {}, [1], [*"12345678"]], [[*cells[:8]]] * 10**5):
        rows = rows_of(came)
        assert len(rows) <= MAX_ROWS
        for value in (value for row in rows for value in row.values()):
            assert value is None or (type(value) is float and abs(value) <= 1e30)


@pytest.mark.parametrize("latent_dim", [1, 2, 784])
@pytest.mark.parametrize("value", [0, 65504, None])
def test_any_arrays_have_a_page(tmp_path, tiny_set, latent_dim, value):
    """Arrays of the right kind, which a submission can fill with what it likes."""
    rng = np.random.default_rng(0)
    codes = rng.choice([-65504, 0, 6e-8, 65504], (len(tiny_set), latent_dim)).astype(np.float16)
    arrays = {"codes": codes if value is None else np.full_like(codes, value)}
    arrays["recon"] = np.full((len(tiny_set), 28, 28), 0 if value is None else 255, np.uint8)
    arrays["samples"] = np.zeros((10, 1, 28, 28), np.uint8)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    scores = metrics.score_task(
        *("Genwithlabel", arrays["recon"], tiny_set.images, tiny_set.labels, latent_dim),
        samples=arrays["samples"],
    )
    ends = [[step, *[1e29 * (-1) ** step] * 7] for step in range(3)] + [[3, *[1e-29] * 7]]
    file = write_model_report(tmp_path, scores, {}, ends, tmp_path, "Genwithlabel", tiny_set)
    page = file.read_text(encoding="utf-8")
    assert len(tiles_of(page)[0]) == len(tiny_set) and "The codes as a plane" in page
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<style>.*?</style>|base64,[^\"]*", "", page))
