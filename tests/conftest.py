"""Shared by the tests: a tiny dataset, and functions that run a command as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import forked
import numpy as np
import psutil
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Set before torch is imported, and for every command that a test starts. Test files run in
# parallel: on two cores, two processes of two threads each are five times as slow as of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from data_utils import MNISTDataset
from lab import ROOT
from staff.idx import gzipped, idx_bytes

# No test depends on how fast the machine is.
settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lab")

SUBMISSIONS = ROOT / "tests" / "submissions"
TINY = 120  # images
LONGEST = (
    *("test_attacks.py", "test_attacks_on_scores.py", "test_sweep.py", "test_commands.py"),
    *("test_class.py", "test_explorer.py", "test_grader.py", "test_trainer.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: a file runs on one worker, and none ends alone."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def write_idx(path: Path, array: np.ndarray) -> None:
    content = idx_bytes(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzipped(content) if path.suffix == ".gz" else content)


def write_dataset(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    write_idx(folder / "images-idx3-ubyte.gz", images)
    write_idx(folder / "labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="session")
def valid_set() -> MNISTDataset:
    """The real validation split."""
    return MNISTDataset(ROOT / "dataset" / "valid")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory, valid_set) -> Path:
    """A folder with twelve real digits of each label."""
    chosen = [np.flatnonzero(valid_set.labels == label)[: TINY // 10] for label in range(10)]
    chosen = np.concatenate(chosen)
    folder = tmp_path_factory.mktemp("tiny")
    return write_dataset(folder, valid_set.images[chosen], valid_set.labels[chosen])


@pytest.fixture(scope="session")
def tiny_set(tiny_data) -> MNISTDataset:
    return MNISTDataset(tiny_data)


def tiny_training(tiny_data: Path, folder: Path, epochs: int = 2) -> list:
    """Return the options of a training whose epochs take milliseconds."""
    data = ["--train_data", tiny_data, "--valid_data", tiny_data, "--eval_num", 20]
    model = ["--submission", "model.py", "--latent_dim", 2, "--batch_size", 30]
    return [*data, *model, "--epochs", epochs, "--save_dir", folder]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_data) -> Path:
    """The folder of a finished run of tiny_training."""
    folder = tmp_path_factory.mktemp("tiny_run")
    result = run("train.py", *tiny_training(tiny_data, folder))
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker_id) -> dict[str, Path]:
    """Checkpoints of model.py after a short training, by task; one training serves all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "trained"
    with FileLock(folder.with_suffix(".lock")):
        for task, var in (("VAEwolabel", 0.05), ("Genwithlabel", 0.5)):
            if (folder / task / "best.pth").exists():
                continue
            words = ["--task", task, "--submission", "model.py", "--lr", 3e-3, "--var", var]
            words += ["--epochs", 4, "--batch_size", 256, "--latent_dim", 8, "--eval_num", 1000]
            result = run("train.py", *words, "--save_dir", folder / task)
            assert result.returncode == 0, result.stderr
    return {task: folder / task / "best.pth" for task in ("VAEwolabel", "Genwithlabel")}


def start(*words: object, cwd: Path = ROOT, env: dict | None = None, **named) -> subprocess.Popen:
    """Start `python WORDS` as a user would, from the project's folder or another.

    The first word is a file, or a module such as staff.handout. env: variables that
    are added to the environment.
    """
    return subprocess.Popen(
        [sys.executable, *program(*words)],
        cwd=cwd,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **named,
    )


def run(
    *words: object,
    cwd: Path = ROOT,
    timeout: float = 300,
    env: dict | None = None,
    **named,
) -> subprocess.CompletedProcess:
    """Run `python WORDS` to its end; fail after `timeout` seconds.

    env: variables that are added to the environment. They may matter at start-up: then, and with
        an empty dict too, the command is a process of its own.
    named: for `start`; so is then the command.
    """
    if forked.AVAILABLE and not named and (env is None or env.keys() == {"PYTHONPATH"}):
        return forked.run_forked(program(*words), cwd, environment(env), timeout)
    process = start(*words, cwd=cwd, env=env, **named)
    stdout, stderr = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def program(*words: object) -> list[str]:
    """Return the arguments of Python that run a file of the project, or a module."""
    first = str(words[0])
    run_it = [str(ROOT / first)] if first.endswith(".py") else ["-m", first]
    return [*run_it, *map(str, words[1:])]


def environment(more: dict | None = None) -> dict[str, str]:
    """Return the environment of a command."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(more or {})}


def reachable_sockets(process: subprocess.Popen) -> list:
    """Return the sockets through which another account could reach a process or its children."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    found = []
    for one in family:
        with suppress(psutil.NoSuchProcess):
            found += one.net_connections("inet")
            found += [named for named in one.net_connections("unix") if named.laddr]
    return found


def assert_clear_error(result: subprocess.CompletedProcess, *mentions: str) -> None:
    """Check that the command failed with one sentence on stderr, status 2 and no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert "error: " in last
    for mention in mentions:
        assert mention in last, last
