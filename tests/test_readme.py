"""The README tells the truth: its commands parse, its files exist, its figures are stored ones."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
from conftest import ROOT

from benchmarks import reference

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")
SNIPPETS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README + CHINESE, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
MAKE_TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_there_are_snippets():
    assert len(SNIPPETS) > 10


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(snippet):
    """A command of ours parses with its own parser; a make target is in the Makefile."""
    program, *words = shlex.split(snippet)
    if program == "make":
        assert set(words) <= set(MAKE_TARGETS)
    elif words[0].startswith("benchmarks/"):
        assert (ROOT / words[0]).is_file()
    elif words[0] == "-m":
        assert words[1] in ("venv", "pip")
    else:
        assert program == "python" and words[0].endswith(".py")
        options = importlib.import_module(words[0][:-3]).make_parser().parse_args(words[1:])
        if submission := getattr(options, "submission", None):
            assert (ROOT / submission).is_file()


@pytest.mark.parametrize("name", ["demo", "commands", "reference", "overhead"])
def test_figures_are_the_stored_ones(name):
    """No number is typed: each block is what benchmarks/reference.py makes of its JSON."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    assert README.split(begin)[1].split(end)[0] == reference.blocks()[name]


def test_promised_figures_are_reached():
    """What the lab promises of its reference solution, of its demo and of its Trainer."""
    figures = reference.json.loads(reference.FIGURES.read_text(encoding="utf-8"))
    for row in figures["runs"]["VAEwolabel"]:
        assert row["ssim"] >= 0.94 and row["mse"] <= 0.0054 and row["raw"] >= 11.05
        assert row["train_s"] <= 180
    for row in figures["runs"]["Genwithlabel"]:
        assert row["raw"] >= 32.0 and row["fid"] <= 1.8 and row["total_s"] <= 240
    assert figures["demo"]["seconds"] < 180
    assert all(row["score"] == row["cap"] for row in figures["demo"]["scores"].values())
    overhead = reference.json.loads(reference.OVERHEAD.read_text(encoding="utf-8"))
    assert all(row["ratio"] <= 1.10 for row in overhead["models"].values())


def test_files_named_are_there():
    for name in re.findall(r"`([a-z_]+\.(?:py|txt|sh))`", README + CHINESE):
        assert (ROOT / name).is_file(), name
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", README + CHINESE):
        assert (ROOT / path).exists(), path


def test_every_top_level_file_is_in_the_tour():
    tour = README.split("## The tour")[1].split("\n## ")[0]
    for path in ROOT.glob("*.py"):
        assert f"`{path.name}`" in tour, path.name
