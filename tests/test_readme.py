"""The README tells the truth: its commands parse, its files exist, its figures are stored ones."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex

import pytest
from conftest import ROOT

from benchmarks import class_drill, reference, reproduce, sweep_speed, zoo
from benchmarks.markdown import block_in

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")
CLUSTER = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
ZOO = (ROOT / "zoo" / "README.md").read_text(encoding="utf-8")
STAFF = (ROOT / "staff" / "README.md").read_text(encoding="utf-8")
ALL = README + CHINESE + CLUSTER + ZOO + STAFF
SNIPPETS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", ALL, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
MAKE_TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_there_are_snippets():
    assert len(SNIPPETS) > 10


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(snippet):
    """A command of ours parses with its own parser; a make target is in the Makefile."""
    program, *words = shlex.split(snippet.removeprefix("PYTHONPATH=$PWD "))
    if program == "./run_sweep.sh":
        program, words = "python", ["sweep.py", *words]
    if program == "make":
        assert set(words) <= set(MAKE_TARGETS)
    elif program == "dask":
        from distributed.cli import dask_scheduler, dask_worker

        command = {"scheduler": dask_scheduler, "worker": dask_worker}[words[0]].main
        command.make_context(words[0], words[1:])  # parses, and runs nothing
    elif program == "apt-get":
        assert words == ["install", "bubblewrap"]
    elif words[0] == "-m" and words[1] in ("venv", "pip"):
        pass
    elif words[0] == "-m" and words[1].startswith("benchmarks."):
        assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file()
    else:
        assert program.endswith("python")
        name, words = (words[1], words[2:]) if words[0] == "-m" else (words[0][:-3], words[1:])
        module = importlib.import_module(name)
        options = module.make_parser().parse_args(words)
        submissions = getattr(options, "submission", None) or []
        for submission in submissions if isinstance(submissions, list) else [submissions]:
            assert (ROOT / submission).is_file()


@pytest.mark.parametrize("name", ["demo", "commands", "reference"])
def test_figures_are_the_stored_ones(name):
    """No number is typed: each block is what benchmarks/reference.py makes of its JSON."""
    assert block_in(ROOT / "README.md", name) == reference.blocks()[name]


def test_figures_of_sweeps_are_the_stored_ones():
    figures = json.loads(sweep_speed.FIGURES.read_text(encoding="utf-8"))
    assert block_in(ROOT / "README.md", "sweep") == sweep_speed.render_speed(figures)
    assert block_in(ROOT / "docs" / "cluster.md", "cost") == sweep_speed.render_cost(figures)
    assert all(row["finished"] == row["trials"] for row in figures["models"].values())
    assert figures["models"]["mlp"]["trials"] == 16 and figures["models"]["mlp"]["epochs"] == 5
    assert figures["models"]["mlp"]["over_commands"] >= 1.3


def test_figures_of_the_zoo_are_the_stored_ones():
    figures = json.loads(zoo.FIGURES.read_text(encoding="utf-8"))
    assert block_in(ROOT / "zoo" / "README.md", "zoo") == zoo.render(figures)
    assert block_in(ROOT / "zoo" / "README.md", "records") == zoo.render_records(figures)
    rows = zoo.rows_of(figures)
    assert set(rows) == set(zoo.MODELS)
    for name, row in rows.items():
        assert zoo.expected(row) in (ROOT / "zoo" / f"{name}.py").read_text(encoding="utf-8")


def test_the_reports_tables_are_the_stored_ones_and_nothing_explodes():
    figures = json.loads(reproduce.FIGURES.read_text(encoding="utf-8"))
    assert reproduce.RESULTS.read_text(encoding="utf-8") == reproduce.document(figures)
    for table in reproduce.TABLES:
        for value, theirs in table.rows.items():
            ours = figures["tables"][table.title][value]
            assert ours["tried"] > 0 and ours["skipped"] == 0, (table.title, value)
            if isinstance(theirs, str):  # where the report's training failed
                assert ours["trained"] == ours["tried"] == len(reproduce.SEEDS), value


def test_figures_of_the_class_are_the_stored_ones():
    figures = json.loads(class_drill.FIGURES.read_text(encoding="utf-8"))
    assert block_in(ROOT / "staff" / "README.md", "drill") == class_drill.render(figures)
    assert not figures["killed"]["wrong"] and not figures["cluster"]["wrong"]


def test_slurm_script_asks_for_workers_of_one_thread():
    """The script in docs/cluster.md, up to where it needs Slurm itself."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    (script,) = re.findall(r"```python\n(.*?)```", CLUSTER, re.DOTALL)
    (call,) = (
        node
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SLURMCluster"
    )
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    job = jobqueue.slurm.SLURMJob("tcp://127.0.0.1:1", "name", **named).job_script()
    assert "--nthreads 1 " in job and "--nworkers 16 " in job
    assert "#SBATCH --cpus-per-task=16" in job
    assert "PYTHONPATH=$SLURM_SUBMIT_DIR" in job


def test_promised_figures_are_reached():
    """What the lab promises of its reference solution, of its demo and of its Trainer."""
    figures = json.loads(reference.FIGURES.read_text(encoding="utf-8"))
    for row in figures["runs"]["VAEwolabel"]:
        assert row["ssim"] >= 0.94 and row["mse"] <= 0.0054 and row["raw"] >= 11.05
        assert row["train_s"] <= 180
    for row in figures["runs"]["Genwithlabel"]:
        assert row["raw"] >= 32.0 and row["fid"] <= 1.8 and row["total_s"] <= 240
    assert figures["demo"]["seconds"] < 180
    assert all(row["score"] == row["cap"] for row in figures["demo"]["scores"].values())


def test_files_named_are_there():
    for name in re.findall(r"`([a-z_]+\.(?:py|txt|sh))`", README + CHINESE + CLUSTER):
        if name == "slurm.py":  # which the reader is told to make
            continue
        assert (ROOT / name).is_file(), name
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", README + CHINESE):
        assert (ROOT / path).exists(), path


def test_every_top_level_file_is_in_the_tour():
    tour = README.split("## The tour")[1].split("\n## ")[0]
    for path in ROOT.glob("*.py"):
        assert f"`{path.name}`" in tour, path.name
