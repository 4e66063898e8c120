"""Import rules: every file is in a layer, and imports only from the layers that this may use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ROOT

from staff.closure import closure, imported_files, imported_names

# Layers by name: the files of each, and the layers that these may import.
LAYERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "submissions": (("submission.py", "model.py", "zoo/*.py"), ()),
    "root": (("lab/__init__.py",), ()),
    "ground": (
        (
            "data_utils.py",
            *(f"lab/{name}.py" for name in ("arrays", "checkpoint", "command")),
            *(f"lab/{name}.py" for name in ("metrics", "plots", "settings")),
        ),
        ("root",),
    ),
    "lab": (("lab/**/*.py",), ("root", "ground", "lab")),
    "trainer": (("trainer.py",), ("root", "ground", "lab")),
    "commands": (
        (
            *("check.py", "train.py", "inference.py", "grade.py", "report.py", "explore.py"),
            "submit.py",
        ),
        ("root", "ground", "lab", "trainer"),
    ),
    "sweeps": (("sweeps/*.py",), ("root", "ground", "lab", "trainer", "commands", "sweeps")),
    "sweep": (("sweep.py",), ("root", "ground", "lab", "sweeps")),
    "staff": (("staff/**/*.py",), ("root", "ground", "lab", "trainer", "commands", "staff")),
    "tests": (("tests/*.py", "tests/faults/*.py"), ()),
    "benchmarks": (
        ("benchmarks/**/*.py",),
        (
            *("submissions", "root", "ground", "lab", "trainer", "commands", "sweeps"),
            *("staff", "tests", "benchmarks"),
        ),
    ),
}
CORE = {"torch", "numpy", "scipy", "skimage", "tqdm", "matplotlib", "PIL"}
FROM_TORCH = {"jinja2", "markupsafe"}  # which torch itself requires
OPTIONAL = {"pyarrow", "imageio_ffmpeg", "dask", "distributed", "onnx", "onnxscript", "tensorboard"}
FOR_SWEEPS = {"filelock", "optuna", "dask", "distributed"}
FOR_STAFF = {"filelock", "jinja2", "markupsafe", "psutil", "yaml"}
FOR_STAFF |= {"markdown_it", "mdit_py_plugins", "docutils", "jupytext", "nbformat"}
FOR_STAFF |= {"fontTools"}  # which matplotlib needs
# Files of staff/ that may load a submission: in the sandbox, or only the reference solution.
LOADERS = {
    "staff/stage.py",
    "staff/replay_stage.py",
    "staff/measure_stage.py",
    "staff/quick_torch.py",
    "staff/handout_proof.py",
}
TRAINERS = {"staff/build_judge.py"}  # trains the judge, which is not a submission
MEASURERS = {"staff/copies.py"}  # aligns images with tensors
LOADING = {"lab/loading.py", "lab/split_model.py", "lab/contract.py", "lab/trained.py"}
LOADING |= {f"lab/checks/{name}.py" for name in ("record", "record_model", "record_loss")}


def layer_of_each_file() -> dict[Path, str]:
    """Return the layer of each Python file; of several that match, the first."""
    layers: dict[Path, str] = {}
    for name, (patterns, _) in LAYERS.items():
        for pattern in patterns:
            for file in ROOT.glob(pattern):
                layers.setdefault(file, name)
    return layers


LAYER = layer_of_each_file()
FILES = {file.relative_to(ROOT).as_posix(): file for file in sorted(LAYER)}
CHECKED = [name for name, file in FILES.items() if LAYER[file] != "tests"]


def test_every_file_has_a_layer():
    ignored = {".venv", "runs", "dist", "submissions"}
    found = {file for file in ROOT.rglob("*.py") if not ignored & set(file.relative_to(ROOT).parts)}
    assert found == set(LAYER)


@pytest.mark.parametrize("name", CHECKED)
def test_a_file_imports_only_from_allowed_layers(name):
    file = FILES[name]
    _, allowed = LAYERS[LAYER[file]]
    for target in imported_files(file, for_types=True):
        assert LAYER[target] in allowed, f"{name} imports {target.relative_to(ROOT)}"


def test_a_forbidden_import_is_found(tmp_path):
    upward = tmp_path / "upward.py"
    upward.write_text("def run():\n    from trainer import Trainer\n    return Trainer\n")
    assert [LAYER[file] for file in imported_files(upward)] == ["trainer"]
    assert "trainer" not in LAYERS["lab"][1]


def test_imports_have_no_cycles():
    graph = {file: set(imported_files(file, for_types=True)) for file in LAYER}
    while leaves := {file for file, targets in graph.items() if not targets}:
        graph = {file: targets - leaves for file, targets in graph.items() if file not in leaves}
    assert not graph, sorted(file.relative_to(ROOT).as_posix() for file in graph)


@pytest.mark.parametrize("name", CHECKED)
def test_each_layer_imports_only_its_libraries(name):
    tops = {imported.split(".")[0] for imported in imported_names(FILES[name], for_types=True)}
    ours = {path.stem if path.is_file() else path.name for path in ROOT.iterdir()}
    outside = tops - ours - set(sys.stdlib_module_names)
    layer = LAYER[FILES[name]]
    if layer == "submissions":
        assert outside == {"torch"}
    elif layer == "staff":
        torch = {"torch"} if name in LOADERS | TRAINERS | MEASURERS else set()
        assert outside <= CORE - {"torch"} | FOR_STAFF | torch
    elif layer == "sweeps":
        assert outside <= CORE | FOR_SWEEPS
    elif layer != "benchmarks":
        assert outside <= CORE | OPTIONAL | (FROM_TORCH if layer == "lab" else set())


@pytest.mark.parametrize("name", [name for name in CHECKED if name.startswith("staff/")])
def test_staff_load_submissions_only_in_the_sandbox(name):
    if name not in LOADERS:
        targets = {file.relative_to(ROOT).as_posix() for file in imported_files(FILES[name])}
        assert not targets & LOADING


@pytest.mark.parametrize("name", ["lab/metrics.py", "grade.py"])
def test_scoring_does_not_import_torch(name):
    assert "torch" not in {imported.split(".")[0] for imported in imported_names(FILES[name])}


def test_a_closure_contains_exactly_what_runs(tmp_path):
    files = {
        "entry.py": "from pack import one\nif TYPE_CHECKING:\n    import typed\n",
        "pack/__init__.py": "",
        "pack/one.py": "def late():\n    import other\n",
        "pack/two.py": "",
        "other.py": "import json\n",
        "typed.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = closure([tmp_path / "entry.py"], tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == [
        *("entry.py", "other.py", "pack/__init__.py", "pack/one.py")
    ]
