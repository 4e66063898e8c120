"""Signals that end other programs at once: training saves first; its status is 128 + signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, start, tiny_training

from lab import checkpoint

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def begun(folder: Path, process: subprocess.Popen) -> bool:
    """Whether training is past its first epoch; the process must run."""
    time.sleep(0.02)
    assert process.poll() is None
    return (folder / "epoch_1.pth").exists()


def test_sigterm_of_a_scheduler_saves(tmp_path, tiny_data):
    process = start("train.py", *tiny_training(tiny_data, tmp_path, epochs=1000))
    while not begun(tmp_path, process):
        pass
    process.terminate()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert "--load_from_checkpoint" in stdout and "Traceback" not in stderr
    assert checkpoint.load(tmp_path / "interrupted.pth")["epoch"] >= 1


def test_a_terminal_that_is_closed_saves(tmp_path, tiny_data):
    """The terminal is gone when training stops, so that printing to it fails."""
    import fcntl
    import termios

    ours, theirs = os.openpty()
    words = map(str, tiny_training(tiny_data, tmp_path, epochs=1000))
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *words],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    while not begun(tmp_path, process):
        with suppress(BlockingIOError):
            os.read(ours, 1 << 16)  # a terminal whose output nobody reads stops the process
    os.close(ours)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert checkpoint.load(tmp_path / "interrupted.pth")["epoch"] >= 1


def test_nohup_stays_in_force(tmp_path, tiny_data):
    """With SIGHUP ignored, training goes on to its end."""
    process = start(
        *("train.py", *tiny_training(tiny_data, tmp_path, epochs=4)),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    while not begun(tmp_path, process):
        pass
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert (tmp_path / "epoch_4.pth").is_file()
