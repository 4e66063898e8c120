"""Run many calls on the workers of a Dask cluster; `lab/workers.py` does so on this machine.

Dask is an optional requirement and is imported only where it is used.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.workers import Call, CallFailed, WorkerDied

if TYPE_CHECKING:
    from distributed import Client, Future

GIB = 1024**3
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
def scheduler_at(address: str, insecure: bool = False) -> Iterator[DaskWorkers]:
    """Connect to the scheduler of a cluster and wait for its first worker. Raises ClusterError.

    Args:
        address: such as tls://10.0.0.1:8786. Dask's own settings name the certificates.
        insecure: whether an address without TLS is allowed.
    """
    if not address.startswith("tls://") and not insecure:
        raise ClusterError(
            f"{address} is not a tls:// address; without TLS, anyone who reaches the scheduler can "
            "run code as you. Set up certificates (docs/cluster.md), or add --insecure-scheduler."
        )
    require_dask()
    from distributed import Client

    try:
        client = Client(address, timeout=5)
    except TypeError:
        raise ClusterError(
            "Dask's settings name no certificate, which a tls:// address needs; set the variables "
            "that docs/cluster.md lists."
        ) from None
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
        yield DaskWorkers(client)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Hide Dask's logs: the lab reports what matters as a record or an error."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class DaskWorkers:
    """The workers of a Dask cluster; see `lab.workers.Workers`. Methods raise ClusterError."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def count(self) -> int:
        """Return the number of workers, which may join and leave."""
        try:
            return len(self.client.nthreads())
        except OSError:
            raise ClusterError(LOST) from None

    def check(self, function: Callable[..., bool], *arguments: Any) -> None:
        """Call the function on the scheduler and all workers. Unless all return True, raise."""
        answers = self.client.run(function, *arguments, on_error="return")
        try:
            answers["the scheduler"] = self.client.run_on_scheduler(function, *arguments)
        except Exception as error:  # such as an import that fails there
            answers["the scheduler"] = error
        for who, answer in answers.items():
            if answer is not True:
                raise ClusterError(
                    f"{who} does not find the lab or its data ({function.__name__}: {answer!r}); "
                    "start scheduler and workers with PYTHONPATH=FOLDER, the folder of the lab. "
                    "All machines must see this folder and the --save_dir under the same path."
                )

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Let a worker call the function."""
        return _DaskCall(self.client.submit(function, *arguments, pure=False))

    def tell_all(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a short function in every worker now."""
        self.client.run(function, *arguments, on_error="ignore")  # a worker may be dying


class _DaskCall:
    """A call on the cluster; see `lab.workers.Call`."""

    def __init__(self, future: Future) -> None:
        self.future = future

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> Any:
        from distributed import KilledWorker

        try:
            return self.future.result()
        except KilledWorker as error:
            raise WorkerDied(error.allowed_failures + 1) from None
        except Exception as error:
            if self.future.status != "error":  # not from the call: its result was lost in transit
                raise ClusterError(LOST) from None
            raise CallFailed(f"{type(error).__name__}: {error}") from None


def require_dask() -> None:
    """Raise ClusterError when Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "Dask is not installed; expected the packages of requirements/sweep.txt: "
            f"{sys.executable} -m pip install -r requirements/sweep.txt"
        ) from None
