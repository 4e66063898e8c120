"""A full disk at each operation that needs space: one sentence, whole files, the same result later.

Each trial runs a command until the disk is full, then again with space. With FAULTS=long there is
one trial for every operation (every second or third one of a sweep, which has more), else a few.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SUBMISSIONS, run, tiny_training
from full_disk import full_disk
from PIL import Image

import grade
import inference
import sweep
import train
from lab import checkpoint
from lab.run_folder import RunFolder
from lab.workers import CallFailed

LONG = os.environ.get("FAULTS") == "long"
FEW, MANY = 3, 160  # trials of each command in the short run, and at most in the long one
# Entries that differ between equal runs: times, the hash of a checkpoint, which holds times, and
# the path of the code, which is the run's own copy after a resume.
DIFFER = {"seconds", "total_seconds", "epoch_seconds", "process", "checkpoint_sha256", "submission"}


# ---------------------------------------------------------------- files of a command


def content(file: Path) -> Any:
    """Return what a file holds, without times; raises an exception if the file is not whole."""
    if file.suffix == ".pth":
        return plain(torch.load(file, weights_only=True))
    if file.suffix == ".json":
        return plain(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".csv":
        with open(file, encoding="utf-8", newline="") as opened:
            return plain(list(csv.DictReader(opened)))
    if file.suffix == ".npy":
        return plain(np.load(file))
    if file.suffix in (".png", ".gif"):
        with Image.open(file) as picture:
            picture.load()
    return file.read_bytes()


def plain(value: Any) -> Any:
    """Return a value with tensors as bytes and without the entries that differ."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if name not in DIFFER}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return (str(value.dtype), value.tobytes()) if isinstance(value, np.ndarray) else value


def results_in(folder: Path) -> dict[str, Any]:
    """Return the content of each file but logs and locks; fails if one is not whole."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    kept = [file for file in files if file.name != ".lock" and file.suffix not in (".log", ".md")]
    return {file.relative_to(folder).as_posix(): content(file) for file in kept}


def call(module: ModuleType, words: list) -> int:
    """Run a command's main() in this process; return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, words)])
        patch.chdir(ROOT)
        try:
            module.main()
        except SystemExit as ended:
            return ended.code or 0
    return 0


def fill_the_disk(
    folder: Path, module: ModuleType, words: list, again: Callable[[], list], capsys: Any
) -> int:
    """Run a command with a full disk at several operations, then again; return their number.

    Args:
        folder: what the command writes; empty now.
        module, words: the command.
        again: returns the words that a user would type after the failure.
    """
    with full_disk(folder, sys.maxsize) as disk:
        assert call(module, words) == 0, capsys.readouterr().err
    expected, count = results_in(folder), disk.count
    assert count > 3
    for first in range(1, count + 1, max(1, count // (MANY if LONG else FEW))):
        shutil.rmtree(folder)
        capsys.readouterr()
        with full_disk(folder, first):
            status = call(module, words)
        error = capsys.readouterr().err
        where = f"operation {first} of {count}: {error}"
        # A trial of a sweep that fails is status 1, and the error is in its record.
        assert status == 2 or (module is sweep and status == 1), where
        assert "Traceback" not in error, where
        if status == 2:
            assert sum("error: " in line for line in error.splitlines()) == 1, where
            assert "No space left" in error, where
        left = results_in(folder) if folder.exists() else {}
        assert not [name for name in left if name.endswith(".tmp")], where
        assert call(module, again()) == 0, where + capsys.readouterr().err
        assert results_in(folder) == expected, where
    return count


@pytest.mark.parametrize("name", ["model", "own_loss"])  # own_loss fits a prior at the end
def test_training(name, tmp_path, tiny_data, capsys):
    folder = tmp_path / "run"
    more = {"model": [], "own_loss": ["--submission", SUBMISSIONS / "own_loss.py", "--video"]}
    words = [*tiny_training(tiny_data, folder), "--task", "Genwithlabel", *more[name]]

    def again() -> list:
        if not list(folder.glob("*.pth")):
            return words
        return ["--load_from_checkpoint", "--save_dir", folder, *more[name][2:]]

    fill_the_disk(folder, train, words, again, capsys)


def test_inference(tiny_run, tmp_path, tiny_data, capsys):
    data = ["--checkpoint_path", tiny_run / "best.pth", "--data_path", tiny_data]
    folder = tmp_path / "outputs"
    words = [*data, "--save_dir", folder, "--gen_num", 2, "--inf_num", 3, "--png"]
    fill_the_disk(folder, inference, words, lambda: words, capsys)


def test_grading(tiny_run, tmp_path, tiny_data, capsys):
    outputs = tmp_path / "outputs"
    words = ["--checkpoint_path", tiny_run / "best.pth", "--data_path", tiny_data]
    assert call(inference, [*words, "--save_dir", outputs, "--stage", "all"]) == 0
    words = ["--test_data_path", tiny_data, "--VAEwolabel_output_dir", outputs]
    words += ["--no-Genwithlabel", "--output", tmp_path / "graded" / "result.json"]
    fill_the_disk(tmp_path / "graded", grade, words, lambda: words, capsys)


def test_a_folder_that_is_removed_while_training_runs(tmp_path, tiny_data, monkeypatch):
    """The run goes on in a new folder, which can be resumed and inferred from."""
    folder = tmp_path / "run"
    on_epoch_end = RunFolder.on_epoch_end

    def removing(self: RunFolder, trainer: Any) -> None:
        if trainer.state.epoch == 2:
            shutil.rmtree(folder)
        on_epoch_end(self, trainer)

    monkeypatch.setattr(RunFolder, "on_epoch_end", removing)
    assert call(train, tiny_training(tiny_data, folder, epochs=3)) == 0
    found = results_in(folder)
    assert {"hyperparams.json", "history.csv", "epoch_2.pth", "epoch_3.pth"} <= set(found)
    assert found["submission.py"] == (ROOT / "model.py").read_bytes()
    words = ["--checkpoint_path", folder / "best.pth", "--data_path", tiny_data]
    assert call(inference, words) == 0
    assert call(train, ["--load_from_checkpoint", "--save_dir", folder, "--epochs", 4]) == 0


def test_the_newest_checkpoint_does_not_depend_on_the_clock(tmp_path):
    """After the clock went back, a newer file has an older date."""
    for epoch in (9, 10, 11):
        (tmp_path / f"epoch_{epoch}.pth").touch()
        os.utime(tmp_path / f"epoch_{epoch}.pth", (1000 - epoch, 1000 - epoch))
    assert checkpoint.newest(tmp_path).name == "epoch_11.pth"
    (tmp_path / "interrupted.pth").touch()
    os.utime(tmp_path / "interrupted.pth", (1, 1))
    assert checkpoint.newest(tmp_path).name == "interrupted.pth"


class Here:
    """Workers of a sweep that run each call at once, in this process, where the disk is full."""

    def count(self) -> int:
        return 1

    def check(self, function: Callable, *arguments: Any) -> None:
        pass

    def tell_all(self, function: Callable, *arguments: Any) -> None:
        pass

    def submit(self, function: Callable, *arguments: Any) -> Any:
        class Done:
            def done(self) -> bool:
                return True

            def result(self) -> Any:
                try:
                    return function(*arguments)
                except Exception as error:
                    raise CallFailed(f"{type(error).__name__}: {error}") from None

        return Done()


def test_a_sweep(tmp_path, tiny_data, capsys, monkeypatch):
    @contextmanager
    def workers_for(*ignored: Any) -> Iterator[tuple[Here, int]]:
        yield Here(), 1

    monkeypatch.setattr(sweep, "workers_for", workers_for)
    folder = tmp_path / "sweep"
    words = [*tiny_training(tiny_data, folder), "--var", 0.5, "--lr", 1e-3, "--no-keep_weights"]
    fill_the_disk(folder, sweep, words, lambda: [*words, "--retry-failed"], capsys)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small file system"
)
def test_a_disk_that_is_really_full(tmp_path, tiny_data):
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder])
    if made.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        words = tiny_training(tiny_data, folder / "run", epochs=6)
        result = run("train.py", *words)
        assert result.returncode == 2 and "No space left on device" in result.stderr
        assert "Traceback" not in result.stderr and not list(folder.rglob("*.tmp"))
        left = list((folder / "run").glob("epoch_*.pth"))
        assert left and all(checkpoint.load(file) for file in left)
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        again = ["--load_from_checkpoint", "--save_dir", folder / "run"]
        result = run("train.py", *again)
        assert result.returncode == 0, result.stderr
        assert checkpoint.load(folder / "run" / "epoch_6.pth")["epoch"] == 6
    finally:
        subprocess.run(["umount", folder], check=True)
