"""Run a command in a fork of a server that has imported torch, and so save two seconds per command.

The server is a process of multiprocessing that only imports: it has no threads, whose locks a fork
would copy. A test of what happens at start-up, or of signals, starts a process of its own instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent  # pytest puts it on sys.path; a user has not
AVAILABLE = sys.platform == "linux"
IMPORTED = ["torch", "scipy.linalg", "skimage.metrics", "matplotlib.pyplot"]


def run_forked(
    program: list[str], cwd: Path, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess:
    """Run FILE or -m MODULE, with its arguments, as `python` would; see subprocess.run."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = server.Process(target=_become, args=(program, cwd, environment, outputs))
        process.start()
        process.join(timeout)
        stdout, stderr = (file.read_text(encoding="utf-8") for file in outputs)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(program, timeout, stdout, stderr)
    return subprocess.CompletedProcess(program, process.exitcode, stdout, stderr)


def _become(
    program: list[str], cwd: Path, environment: dict[str, str], outputs: list[Path]
) -> None:
    for number, file in enumerate(outputs, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [
        folder for folder in sys.path if TESTS not in (Path(folder), *Path(folder).parents)
    ]
    if program[0] == "-m":
        sys.argv = program[1:]
        sys.path.insert(0, str(cwd))
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        sys.path.insert(0, str(Path(program[0]).parent))
        runpy.run_path(program[0], run_name="__main__")
