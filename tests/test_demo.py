"""The demo: commands that fit together. The test of the handout runs it."""

from __future__ import annotations

import importlib
from pathlib import Path

from conftest import run

from lab import demo
from lab.metrics import TASKS


def test_each_command_reads_what_an_earlier_one_writes():
    parsed = []
    for name, *words in demo.steps(Path("dataset/valid"), demo.RECIPE):
        module = importlib.import_module(name.removesuffix(".py"))
        parsed.append(module.make_parser().parse_args(words))
    one, two, first, second, graded, *pages = parsed
    trained = [one, two]
    assert [options.task for options in trained] == list(TASKS)
    for task, training, inference in zip(TASKS, trained, (first, second)):
        assert inference.checkpoint_path == training.save_dir / "best.pth"
        assert getattr(graded, f"{task}_output_dir") == training.save_dir / "inference"
        assert [training.save_dir] in [page.runs for page in pages if hasattr(page, "runs")]
        assert inference.data_path == graded.test_data_path == Path("dataset/valid")


def test_the_demo_stops_where_a_command_fails():
    result = run("lab.demo", "--recipe=--epochs 0")
    assert result.returncode == 2 and "epochs is 0; expected 1 or more" in result.stderr
    assert result.stdout.count("python ") == 1
