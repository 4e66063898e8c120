"""Runs whose scores are kept: none is made twice, each is stored at once, a failure is told."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import figures, results_page, stored_runs
from benchmarks.report_tables import Row, Table

A, B, C = ("--lr", "1"), ("--lr", "2"), ("--lr", "3")


def test_only_what_is_missing_is_run_and_each_result_is_stored_at_once(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    written, made = [], []

    def run(words, at_a_draw):
        made.append(words)
        if words == C and len(made) < 4:
            raise KeyboardInterrupt
        return {"ssim": float(words[1])}

    monkeypatch.setattr(stored_runs, "run", run)
    monkeypatch.setattr(stored_runs.os, "cpu_count", lambda: 1)
    document = lambda results: written.append(len(results))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        stored_runs.run_missing([A, B, A, C], file, document)
    assert made == [A, B, C] and written == [1, 2]
    assert figures.stored(file) == {"--lr 1": {"ssim": 1.0}, "--lr 2": {"ssim": 2.0}}
    results = stored_runs.run_missing([A, B, A, C], file, document)
    assert made == [A, B, C, C] and results == figures.stored(file)


def test_a_training_that_stops_is_a_result_and_another_failure_is_not(monkeypatch):
    def fails(command, status=2):
        def run(*_, **__):
            raise subprocess.CalledProcessError(status, ["python", command])

        return run

    monkeypatch.setattr(stored_runs, "train_infer_grade", fails("train.py"))
    result = stored_runs.run(A)
    assert result["stopped"]
    table = Table("t", "conv_vae", "row", (Row("x", "", {"ssim": 0.5}),))
    page = results_page.render(table, {" ".join(table.command(table.rows[0])): result})
    assert page.splitlines()[-1] == "| x | behind | 0.5000 |"
    for failure in (fails("grade.py"), fails("train.py", 130), fails("train.py", -9)):
        monkeypatch.setattr(stored_runs, "train_infer_grade", failure)
        with pytest.raises(subprocess.CalledProcessError):
            stored_runs.run(A)
