"""Who may import whom: one direction of data, as design.md draws it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FLAT = {path.stem for path in ROOT.glob("*.py")}
WINGS = {"zoo", "staff", "benchmarks", "tests", "sweeps", "judge"}
GROUND = {"metrics", "data_utils", "checkpoint", "plots", "settings", "command", "device"}
GROUND |= {"cluster", "convolutions", "imports"}
SWEEPS = {path.stem for path in (ROOT / "sweeps").glob("*.py")}
UPSTAIRS = {"contract", "trainer", "run_folder", "diagnostics"}
STUDENTS = {"submission", "model"}
COMMANDS = {"train", "inference", "grade", "check"}
SWEEP = {"sweep"}  # stands on the commands: a trial is what they do
CORE = {"torch", "numpy", "scipy", "skimage", "tqdm", "matplotlib", "PIL"}
OPTIONAL = {"pyarrow", "imageio_ffmpeg", "dask", "distributed"}
STAFF = {path.stem for path in (ROOT / "staff").glob("*.py")}
LOADERS = {  # what loads a submission
    "stage": {"contract", "convolutions", "inference", "torch", "probe"},  # inside the sandbox
    "handout_proof": {"check", "contract"},  # our own reference
}
FOR_STAFF = {"filelock", "jinja2", "markupsafe", "psutil"}
FOR_SWEEPS = {"filelock", "optuna", "dask", "distributed"}


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("name", sorted(FLAT))
def test_who_imports_whom(name):
    ours = imported(ROOT / f"{name}.py") & (FLAT | WINGS)
    if name == "device":
        allowed = {"settings"}
    elif name in STUDENTS or name in GROUND:
        allowed = set()
    elif name == "run_folder":
        allowed = GROUND | {"trainer"}
    elif name in UPSTAIRS:
        allowed = GROUND
    elif name in SWEEP:
        allowed = GROUND | UPSTAIRS | COMMANDS | {"sweeps"}
    else:
        allowed = GROUND | UPSTAIRS
    assert ours <= allowed


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_sweeps_stand_on_the_commands_and_nothing_stands_on_them_but_sweep(name):
    found = imported(ROOT / "sweeps" / f"{name}.py") - set(sys.stdlib_module_names)
    assert found & (FLAT | WINGS) <= GROUND | UPSTAIRS | COMMANDS | {"sweeps"}
    assert found - (FLAT | WINGS) <= CORE | FOR_SWEEPS | {"__future__"}


@pytest.mark.parametrize("name", sorted(STAFF))
def test_staff_never_load_a_submission_but_in_the_sandbox(name):
    found = imported(ROOT / "staff" / f"{name}.py") - set(sys.stdlib_module_names)
    more = LOADERS.get(name, set())
    assert found & (FLAT | WINGS) <= GROUND | {"grade", "diagnostics", "staff"} | more
    assert found - (FLAT | WINGS) <= (CORE - {"torch"}) | FOR_STAFF | {"__future__"} | more


def test_every_file_has_its_place():
    assert FLAT == GROUND | UPSTAIRS | STUDENTS | COMMANDS | SWEEP


def test_the_trainer_never_imports_a_submission():
    assert not imported(ROOT / "trainer.py") & (STUDENTS | {"contract"})


@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_a_submission_needs_torch_alone(name):
    assert imported(ROOT / f"{name}.py") == {"torch"}


@pytest.mark.parametrize("name", sorted(FLAT))
def test_outside_libraries_are_the_core_and_the_optional(name):
    outside = imported(ROOT / f"{name}.py") - FLAT - WINGS - set(sys.stdlib_module_names)
    assert outside <= CORE | OPTIONAL | {"__future__"}


@pytest.mark.parametrize("name", ["metrics", "grade"])
def test_scores_know_no_torch(name):
    assert "torch" not in imported(ROOT / f"{name}.py")
