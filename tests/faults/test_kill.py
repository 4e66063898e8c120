"""A command that is killed at a random moment loses nothing: it runs again and ends the same."""

from __future__ import annotations

import os
import sys

import pytest

from tests.faults import kills

LONG = os.environ.get("FAULTS") == "long"
TRIALS = 4 if LONG else 1
# The others take long: a sweep and a class start more processes, a grade takes 0.3 s.
NAMES = list(kills.SUBJECTS) if LONG else ["train", "inference", "grade"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> kills.Inputs:
    return kills.Inputs(tmp_path_factory.mktemp("inputs"))


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
