"""Run a command in a fork of a server that has imported torch, which saves seconds per command.

The server is a process of multiprocessing that only imports: it has no threads, whose locks a fork
would copy. A test of what happens at start-up, or of signals, starts a process of its own instead.
The worker processes that a command spawns are forks of the same server.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent  # pytest puts it on sys.path; a user has not
AVAILABLE = sys.platform == "linux"
# torch._dynamo is what the first optimizer of a process imports; it takes as long as torch.
IMPORTED = ["torch", "torch._dynamo", "scipy.linalg", "skimage.metrics"]
IMPORTED += ["matplotlib.pyplot", "matplotlib.backends.backend_agg"]


def run_forked(
    program: list[str], cwd: Path, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess:
    """Run FILE or -m MODULE, with its arguments, as `python` would; see subprocess.run."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        forkserver.ensure_running()
        key = getattr(forkserver._forkserver, "_forkserver_authkey", None)  # since Python 3.14
        process = server.Process(target=_become, args=(program, cwd, environment, outputs, key))
        process.start()
        process.join(timeout)
        stdout, stderr = (file.read_text(encoding="utf-8") for file in outputs)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(program, timeout, stdout, stderr)
    return subprocess.CompletedProcess(program, process.exitcode, stdout, stderr)


def _become(
    program: list[str],
    cwd: Path,
    environment: dict[str, str],
    outputs: list[Path],
    key: bytes | None,
) -> None:
    _settle(cwd, environment, outputs)
    # A forked process that needs a server would start its own. It uses the one that forked it.
    forkserver._forkserver.ensure_running = lambda: None
    forkserver._forkserver._forkserver_authkey = key
    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: (
        _Forking() if method == "spawn" else get_context(method)
    )
    if program[0] == "-m":
        sys.argv = program[1:]
        sys.path.insert(0, str(cwd))
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        sys.path.insert(0, str(Path(program[0]).parent))
        runpy.run_path(program[0], run_name="__main__")


def _settle(cwd: Path, environment: dict[str, str], outputs: list[Path]) -> None:
    for number, file in enumerate(outputs, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    named = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    others = [one for one in sys.path if one != str(TESTS.parent) and one not in named]
    sys.path[:] = [*named, *(one for one in others if TESTS not in (Path(one), *Path(one).parents))]


# ---------------------------------------------------------------- workers of a command


class _Worker(multiprocessing.context.ForkServerProcess):
    """A process with what a spawned one inherits: folder, environment, stdout and stderr."""

    def __init__(self, target: Callable[..., object], args: tuple, **named: Any) -> None:
        outputs = [Path(os.readlink(f"/proc/self/fd/{number}")) for number in (1, 2)]
        inherited = Path.cwd(), dict(os.environ), outputs
        super().__init__(target=_call, args=(inherited, target, args), **named)

    def start(self) -> None:
        sys.path.append(str(TESTS))  # the server finds this class there
        try:
            super().start()
        finally:
            sys.path.remove(str(TESTS))


class _Forking(multiprocessing.context.ForkServerContext):
    Process = _Worker


def _call(inherited: tuple, function: Callable[..., object], arguments: tuple) -> None:
    _settle(*inherited)
    function(*arguments)
