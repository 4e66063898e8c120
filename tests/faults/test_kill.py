"""A command that is killed at a random moment loses nothing: it runs again and ends the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest
from conftest import run

import inference
from lab import checkpoint, stages
from tests.faults import kills

LONG = os.environ.get("FAULTS") == "long"
TRIALS = 4 if LONG else 1
# The others take long: a sweep and a class start more processes, a grade takes 0.3 s.
NAMES = list(kills.SUBJECTS) if LONG else ["train", "inference", "grade"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> kills.Inputs:
    def finish(words: list[object], temporary: object) -> None:
        result = run(*words)
        assert result.returncode == 0, result.stderr

    return kills.Inputs(tmp_path_factory.mktemp("inputs"), finish)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_loses_nothing(name, inputs, tmp_path):
    if name == "class" and not kills.has_sandbox():
        pytest.skip("bubblewrap is not installed")
    subject = kills.SUBJECTS[name]
    whole = kills.undisturbed(subject, inputs, tmp_path / "whole")
    assert whole.result
    for number in range(TRIALS):
        _, faults = kills.kill_trial(
            subject, inputs, tmp_path / str(number), whole, f"test-{number}"
        )
        assert not faults


def test_what_a_kill_may_leave_is_found(inputs, tmp_path):
    """The checks find a file cut short, outputs of two models, and a temporary file."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n2")
    (tmp_path / "codes.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / ".best.pth.here-1.tmp").write_bytes(b"")
    faults = " ".join(kills.faults_in(tmp_path))
    assert "history.csv" in faults and "codes.npy" in faults and ".tmp" not in faults
    assert [path.name for path in kills.left_over(tmp_path)] == [".best.pth.here-1.tmp"]


# ---------------------------------------------------------------- at moments that are rarely met


def die(*arguments: object, **named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_killed_child(work) -> None:
    """Run a function in a child, which must be killed."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_outputs_of_two_models_are_never_graded_as_one(inputs, tmp_path, monkeypatch):
    """inference.py is killed between the stages encode and decode."""
    subject = kills.SUBJECTS["inference"]
    words = [str(word) for word in subject.words(inputs, tmp_path)]
    subject.before(inputs, tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(stages, "decode_codes", die)
    in_killed_child(inference.main)
    assert (tmp_path / "inference" / "codes.npy").is_file()
    assert subject.after(inputs, tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch):
    """The process is killed when it has removed the first file of the old folder."""
    (tmp_path / "recon").mkdir()
    for name in ("a", "b"):
        (tmp_path / "recon" / name).write_text("old")

    def remove_one_and_die(folder, **named):
        next(folder.iterdir()).unlink()
        die()

    def replace():
        with checkpoint.replace_folder(tmp_path / "recon") as folder:
            for name in ("a", "b"):
                (folder / name).write_text("new")
            monkeypatch.setattr(checkpoint.shutil, "rmtree", remove_one_and_die)

    in_killed_child(replace)
    assert [file.read_text() for file in (tmp_path / "recon").iterdir()] == ["new", "new"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_a_temporary_folder_is_removed_by_the_next_process(tmp_path):
    def encode_a_video():
        with checkpoint.temporary_folder(tmp_path / "training.mp4") as folder:
            (folder / "training.mp4").write_bytes(b"half")
            die()

    in_killed_child(encode_a_video)
    assert len(list(tmp_path.iterdir())) == 1
    checkpoint.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
