"""Run many calls in many processes of this machine, which talk over pipes.

No socket listens, so no other account of the machine can reach a worker. `lab/cluster.py` offers
the same interface for the workers of a Dask cluster.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from tqdm import tqdm

from lab.command import STOP_SIGNALS

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and locks
MAX_DEATHS = 2  # of the workers of a call, before the call is given up
POLL_SECONDS = 0.1
COUNT_SECONDS = 1.0  # between counts of the workers, which may join and leave a cluster


class CallFailed(RuntimeError):
    """The function of a call raised an exception; the message has its type and text."""


class WorkerDied(RuntimeError):
    """Each worker that ran a call died; the message says how many."""

    def __init__(self, deaths: int) -> None:
        super().__init__(f"its worker died {deaths} time{'s' if deaths > 1 else ''}")


class Call(Protocol):
    """A call that a worker runs or will run."""

    def done(self) -> bool:
        """Return whether the call is over."""

    def result(self) -> Any:
        """Return what the function returned. Raises CallFailed, WorkerDied."""


class Workers(Protocol):
    """Processes that run calls, each one call at a time."""

    def count(self) -> int:
        """Return the number of workers."""

    def check(self, function: Callable[..., bool], *arguments: Any) -> None:
        """Raise an error unless `function` returns True wherever calls may run."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Let a worker call the function."""

    def tell_all(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a short function in every worker now, also in those that run a call."""


def run_each(
    workers: Workers,
    function: Callable[..., Any],
    calls: Iterable[tuple],
    stop: threading.Event,
    on_stop: Callable[[], None],
) -> Iterator[tuple[tuple, Call]]:
    """Run `function(*call)` for each of the calls; yield each with its Call when that is done.

    The next call is taken only when a worker is free, so it may depend on the results so far. Once
    `stop` is set, no more calls are taken, the running ones are waited for, and `on_stop` is called
    every COUNT_SECONDS. When a worker dies, another worker runs its call again.
    """
    calls = iter(calls)
    running: dict[Call, tuple] = {}
    over, count, counted = False, 0, -math.inf
    while not over or running:
        if time.monotonic() - counted > COUNT_SECONDS:
            count, counted = workers.count(), time.monotonic()
            if stop.is_set():
                over = True
                on_stop()  # repeatedly, as new workers may join
        while len(running) < count and not over and not stop.is_set():
            call = next(calls, None)
            if call is None:
                over = True
            else:
                running[workers.submit(function, *call)] = call
        done = [one for one in running if one.done()]
        for one in done:
            yield running.pop(one), one
        if not done:
            time.sleep(POLL_SECONDS)


# ---------------------------------------------------------------- this machine


@contextmanager
def local_workers(
    count: int, environments: Sequence[dict[str, str]] = ({},)
) -> Iterator[LocalWorkers]:
    """Start worker processes on this machine; they end with this process, also if it is killed.

    Args:
        count: the number of processes.
        environments: environment variables of the first worker, the second, and so on, in a cycle.
    """
    workers = LocalWorkers([environments[i % len(environments)] for i in range(count)])
    try:
        yield workers
    finally:
        workers.close()


class LocalWorkers:
    """The workers of this machine: a process each, and a thread here that waits for its answer.

    environments: environment variables of each worker.
    """

    def __init__(self, environments: Sequence[dict[str, str]]) -> None:
        self._workers = [_Worker(environment) for environment in environments]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(len(self._workers))
        self._restarting, self._closed = threading.Lock(), False

    def count(self) -> int:
        """Return the number of workers; one that died is started again."""
        return len(self._workers)

    def check(self, function: Callable[..., bool], *arguments: Any) -> None:
        """Do nothing: the workers run the same code and see the same folders as this process."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Let a worker call the function; both, and the result, must be picklable."""
        return self._threads.submit(self._run, function, arguments)

    def tell_all(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a short function in every worker now, in a thread beside the running call."""
        for worker in self._workers:
            worker.tell(function, arguments)

    def close(self) -> None:
        """End all workers; calls that have not finished are given up."""
        with self._restarting:
            self._closed = True
            for worker in self._workers:
                worker.end()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, function: Callable[..., Any], arguments: tuple) -> Any:
        worker = self._idle.get()
        try:
            for _ in range(MAX_DEATHS):
                try:
                    return worker.call(function, arguments)
                except (EOFError, OSError):  # it died
                    with self._restarting:
                        if self._closed:
                            raise
                        worker.end()
                        worker.start()
            raise WorkerDied(MAX_DEATHS)
        finally:
            self._idle.put(worker)


class _Worker:
    """One worker process and this process's end of its pipe."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.sending = threading.Lock()
        self.start()

    def start(self) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        words = theirs, self.environment
        self.process = SPAWN.Process(target=_work, args=words, daemon=True)
        with _signals_blocked():  # inherited, until the worker has its handlers
            self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def end(self) -> None:
        self.process.kill()
        self.process.join()

    def call(self, function: Callable[..., Any], arguments: tuple) -> Any:
        """Return what the function returns. Raises CallFailed; EOFError, OSError if it dies."""
        self._send(False, function, arguments)
        returned, value = pickle.loads(self.pipe.recv_bytes())
        if not returned:
            raise CallFailed(value)
        return value

    def tell(self, function: Callable[..., object], arguments: tuple) -> None:
        with suppress(OSError):  # it died; the thread that waits for its answer starts it again
            self._send(True, function, arguments)

    def _send(self, at_once: bool, function: Callable[..., object], arguments: tuple) -> None:
        with self.sending:
            self.pipe.send((at_once, function, arguments))


@contextmanager
def _signals_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------- inside a worker


def _work(pipe: Connection, environment: dict[str, str]) -> None:
    """Run the calls that arrive, one after another, until the pipe ends."""
    os.environ.update(environment)
    # By default tqdm makes a semaphore for several processes, which is left behind when this
    # process is killed, as it is at the end. No other process prints with this lock.
    tqdm.set_lock(threading.RLock())
    # Ctrl-C reaches every process of a terminal, and a scheduler's SIGTERM every process of a job.
    # Only the main process reacts. (SIG_IGN instead would be inherited by the worker's children.)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, calls), daemon=True).start()
    while True:
        pipe.send_bytes(_answer(*calls.get()))


def _listen(pipe: Connection, calls: queue.SimpleQueue) -> None:
    """Put calls into the queue, and run at once what cannot wait; end with the main process."""
    try:
        while True:
            at_once, function, arguments = pipe.recv()
            if at_once:
                function(*arguments)
            else:
                calls.put((function, arguments))
    finally:  # the main process has closed the pipe, or was killed
        os._exit(1)


def _answer(function: Callable[..., Any], arguments: tuple) -> bytes:
    """Return whether the function returned, and its result or the text of its exception."""
    try:
        return pickle.dumps((True, function(*arguments)))
    except Exception as error:  # not every exception survives pickling; its text does
        return pickle.dumps((False, f"{type(error).__name__}: {error}"))
