"""Run many calls in many processes with Dask: on this machine's cores, or on a running cluster.

Dask is an optional requirement and is imported only where it is used.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client, Future

GIB = 1024**3
POLL_SECONDS = 0.1
COUNT_SECONDS = 1.0  # between counts of the workers, which may join and leave
LOST = (
    "the connection to the cluster's scheduler was lost; start the scheduler, then run the same "
    "command again. All stored results are kept."
)


class ClusterError(RuntimeError):
    """There is no usable cluster; the message says what to do."""


def cores() -> int:
    """Return the number of CPU cores that this process may use. Raises ClusterError."""
    require_dask()
    from dask.system import CPU_COUNT  # respects the limits of containers

    return CPU_COUNT


def fitting_workers(wanted: int, gib_each: float) -> int:
    """Return `wanted`, or fewer processes if the memory is too small for `gib_each` GiB each."""
    require_dask()
    from distributed.system import MEMORY_LIMIT

    return max(1, min(wanted, int(MEMORY_LIMIT / (gib_each * GIB))))


@contextmanager
def local_workers(workers: int, environments: Iterable[dict[str, str]] = ({},)) -> Iterator[Client]:
    """Start worker processes on this machine; they end with this process.

    Each runs one call at a time.

    Args:
        workers: the number of processes.
        environments: environment variables of the first worker, the second, and so on, in a cycle.
    """
    require_dask()
    import dask
    from distributed import Client, LocalCluster

    with (
        _without_logs(),
        # The profiler interrupts the work a hundred times per second.
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,  # Dask would kill workers below the limit of the system
            dashboard_address=None,
            silence_logs="CRITICAL",  # of the workers
        ) as local,
        Client(local) as client,
    ):
        client.register_plugin(_local_worker_plugin(list(environments)))
        yield client


@contextmanager
def scheduler_at(address: str) -> Iterator[Client]:
    """Connect to the scheduler of a cluster and wait for its first worker. Raises ClusterError."""
    require_dask()
    from distributed import Client

    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({str(error) or type(error).__name__}); "
            "start one with: dask scheduler"
        ) from None
    with _without_logs(), client:
        if not client.nthreads():
            print(f"waiting for a worker at {address} ... (dask worker {address} --nthreads 1)")
        while not client.nthreads():
            time.sleep(1)
        wide = [worker for worker, threads in client.nthreads().items() if threads != 1]
        if wide:
            raise ClusterError(
                f"the worker {wide[0]} has several threads, which would share random numbers; "
                "start workers with --nthreads 1, and several of them with --nworkers."
            )
        yield client


@contextmanager
def _without_logs() -> Iterator[None]:
    """Hide Dask's logs: the lab reports what matters as a record or an error."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def check_everywhere(client: Client, check: Callable, *arguments: Any) -> None:
    """Call `check` on the scheduler and all workers. Raises ClusterError unless all are True."""
    answers = client.run(check, *arguments, on_error="return")
    try:
        answers["the scheduler"] = client.run_on_scheduler(check, *arguments)
    except Exception as error:  # such as an import that fails there
        answers["the scheduler"] = error
    for who, answer in answers.items():
        if answer is not True:
            raise ClusterError(
                f"{who} does not find the lab or its data ({check.__name__}: {answer!r}); start "
                "scheduler and workers with PYTHONPATH=FOLDER, the folder of the lab. All machines "
                "must see this folder and the --save_dir under the same path."
            )


def run_each(
    client: Client,
    function: Callable,
    calls: Iterable[tuple],
    stop: threading.Event,
    on_stop: Callable[[], None],
) -> Iterator[tuple[tuple, Future]]:
    """Run `function(*call)` for each call; yield each call with its future when it is done.

    The next call is taken only when a worker is free, so it may depend on the results so far. Once
    `stop` is set, no more calls are taken, the running ones are waited for, and `on_stop` is called
    every COUNT_SECONDS. When a worker dies, another worker runs its call again. Raises ClusterError
    when the scheduler is lost.
    """
    calls = iter(calls)
    running: dict[Future, tuple] = {}
    over, workers, counted = False, 0, -math.inf
    while not over or running:
        if time.monotonic() - counted > COUNT_SECONDS:
            workers, counted = _count_workers(client), time.monotonic()
            if stop.is_set():
                over = True
                on_stop()  # repeatedly, as new workers may join
        while len(running) < workers and not over and not stop.is_set():
            call = next(calls, None)
            if call is None:
                over = True
            else:
                running[client.submit(function, *call, pure=False)] = call
        done = [future for future in running if future.done()]
        for future in done:
            if future.status in ("cancelled", "lost"):
                raise ClusterError(LOST)
            yield running.pop(future), future
        if not done:
            time.sleep(POLL_SECONDS)


def _count_workers(client: Client) -> int:
    try:
        return len(client.nthreads())
    except OSError:
        raise ClusterError(LOST) from None


def _local_worker_plugin(environments: list[dict[str, str]]) -> Any:
    from distributed import WorkerPlugin

    class LocalWorker(WorkerPlugin):
        """Sets up a worker when it starts, also when it is started again after it died."""

        name = "local-worker"

        def setup(self, worker: Any) -> None:
            os.environ.update(environments[int(worker.name) % len(environments)])
            # Ctrl-C reaches every process of the terminal; only the main process reacts to it.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return LocalWorker()


def require_dask() -> None:
    """Raise ClusterError when Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "Dask is not installed; expected the packages of requirements/sweep.txt: "
            f"{sys.executable} -m pip install -r requirements/sweep.txt"
        ) from None
