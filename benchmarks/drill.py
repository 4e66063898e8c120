"""Start the processes that the drills of sweeps and of class grading kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab import ROOT


def start(*words: object, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Start a Python command in the project's folder and discard its output."""
    command = [sys.executable, *map(str, words)]
    output = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)


@contextmanager
def two_workers(
    port: int, env: dict[str, str] | None = None
) -> Iterator[tuple[str, list[subprocess.Popen], Callable[[], subprocess.Popen]]]:
    """Start a Dask scheduler and two workers on loopback, each a process; kill them at the end.

    Yields the scheduler's address, the workers, and a function that starts one more worker.
    """
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    worker = ["worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
    processes = [start("-m", "dask", *scheduler, env=env)]

    def start_worker() -> subprocess.Popen:
        processes.append(start("-m", "dask", *worker, env=env))
        return processes[-1]

    try:
        yield address, [start_worker(), start_worker()], start_worker
    finally:
        for process in processes:
            process.kill()
            process.wait()
