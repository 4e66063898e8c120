"""Run the trials of a sweep on its workers, and keep the tables up to date."""

from __future__ import annotations

import itertools
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lab import command
from lab.workers import Call, CallFailed, WorkerDied, Workers, run_each
from sweeps import estimate, report
from sweeps.plan import SweepError
from sweeps.search import Grid, Tpe
from sweeps.trial import (
    FAILED,
    FINISHED,
    Order,
    Trial,
    read_record,
    run_trial,
    sees_folder,
    stop_sweep,
    write_record,
)

WRITE_INTERVAL = 20  # between writes of the tables, in multiples of the time a write takes


class Sweep:
    """Runs the trials of a search that are neither finished nor failed.

    Args:
        search: chooses the trials.
        records: the record of each trial, by name; kept up to date.
        folder: the sweep's folder.
        keep_weights: whether to keep the checkpoint and the arrays of graded trials.
    """

    def __init__(
        self,
        search: Grid | Tpe,
        records: dict[str, dict[str, Any]],
        folder: Path,
        keep_weights: bool = True,
    ) -> None:
        self.search, self.records = search, records
        self.folder, self.keep_weights = folder, keep_weights
        self.order = Order(uuid.uuid4().hex, keep_weights=keep_weights)
        self.stop_announced = False

    @property
    def failed(self) -> int:
        """The number of failed trials."""
        return sum(record["status"] == FAILED for record in self.records.values())

    @property
    def complete(self) -> bool:
        """Whether every trial is finished or failed."""
        known = self.search.trials.values()
        return len(known) == len(self.search) and all(map(self._is_over, known))

    def run(self, workers: Workers, threads: int = 0) -> bool:
        """Run the remaining trials; return False if a signal stopped the sweep.

        Args:
            workers: which run the trials.
            threads: CPU threads per trial; 0 leaves it to the workers.

        Raises SweepError when the disk has too little space, ClusterError.
        """
        self.workers, self.order = workers, replace(self.order, threads=threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        workers.check(sees_folder, self.folder.resolve())
        todo = (trial for trial in self.search if not self._is_over(trial))
        with command.stop_requests() as self.stop:
            try:
                first = self._time_an_epoch(todo)
                self._run_all(itertools.chain(first, todo))
            finally:
                with suppress(OSError):  # an unwritable folder is reported later
                    report.write_tables(self.folder, self.search, self.records)
            return not self.stop.is_set()

    def _run_all(self, trials: Iterable[Trial]) -> None:
        over = sum(self._is_over(trial) for trial in self.search.trials.values())
        written = cost = 0.0
        with tqdm(total=len(self.search), initial=over, unit="trial", dynamic_ncols=True) as bar:
            for trial, record in self._results(trials, self.order):
                if self._is_over(trial):
                    tqdm.write(self._line(trial, record))
                    bar.update()
                started = time.monotonic()
                if started - written > WRITE_INTERVAL * cost:
                    bar.set_postfix_str(self._best())
                    with suppress(OSError):  # open in a spreadsheet? they are written again
                        report.write_tables(self.folder, self.search, self.records)
                    written, cost = time.monotonic(), time.monotonic() - started

    def _results(
        self, trials: Iterable[Trial], order: Order
    ) -> Iterator[tuple[Trial, dict[str, Any]]]:
        """Run the trials on the workers; store and yield each record."""

        def tell_workers() -> None:
            if not self.stop_announced:
                tqdm.write("stopping; the running trials save their last complete step ...")
                self.stop_announced = True
            self.workers.tell_all(stop_sweep, order.sweep)

        calls = ((trial, order) for trial in trials)
        results = run_each(self.workers, run_trial, calls, self.stop, tell_workers)
        for (trial, _), call in results:
            record = self.records[trial.name] = _record_of(trial, call)
            self.search.tell(trial, record)
            yield trial, record

    def _is_over(self, trial: Trial) -> bool:
        return self.records.get(trial.name, {}).get("status") in (FINISHED, FAILED)

    # ------------------------------------------------------------ before the start

    def _time_an_epoch(self, todo: Iterator[Trial]) -> list[Trial]:
        """Train one epoch of a trial on each worker, unless an earlier run of the sweep did.

        Returns the timed trials that are not complete; they continue after this epoch.
        Raises SweepError when the disk has too little space for all trials.
        """
        while not self.stop.is_set():
            at_once = self.workers.count()
            first = list(itertools.islice(todo, at_once))
            if not first:
                break
            if not self._timed():
                print(f"timing one epoch: {len(first)} at once ...", flush=True)
                for trial, record in self._results(first, replace(self.order, epochs_now=1)):
                    if self._is_over(trial):
                        print(self._line(trial, record), flush=True)
            left = [trial for trial in first if not self._is_over(trial)]
            if self._timed() and not self.stop.is_set():
                self._announce(first[0], at_once)
                return left
            if left:
                return left
        return []

    def _timed(self) -> list[dict[str, Any]]:
        return [record for record in self.records.values() if record.get("epoch_seconds")]

    def _announce(self, first: Trial, at_once: int) -> None:
        """Print the expected time and disk space of the sweep. Raises SweepError."""
        left = [trial for trial in self.search.trials.values() if not self._is_over(trial)]
        not_chosen = len(self.search) - len(self.search.trials)
        epochs = [trial.options["epochs"] for trial in left]
        epochs += [first.options["epochs"]] * not_chosen
        if not epochs:  # all trials were timed, so none is left
            return
        seconds = estimate.expected_seconds(epochs, self._timed(), at_once)
        until = time.strftime("%H:%M", time.localtime(time.time() + seconds))

        room = estimate.Room(first, estimate.checkpoint_bytes(self.search.trials.values()))
        needed = room.needed(len(epochs), at_once, self.keep_weights)
        free = shutil.disk_usage(self.folder).free
        print(
            f"{len(epochs)} trials to run, {at_once} at once: about "
            f"{estimate.in_words(seconds)}, until {until}; "
            f"about {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free",
            flush=True,
        )
        if needed > free:
            less = room.needed(len(epochs), at_once, keep_weights=False)
            raise SweepError(
                f"{self.folder} has room for {free / 1e9:.1f} GB and the sweep needs about "
                f"{needed / 1e9:.1f} GB; free some space, or give another --save_dir"
                + (f", or --no-keep_weights ({less / 1e9:.1f} GB)." if less < free else ".")
            )

    # ------------------------------------------------------------ while it runs

    def _best(self) -> str:
        best = report.best_of(report.rows_of(self.search, self.records), self.search.names)
        return ", ".join(f"best raw {row['raw']:.3f}: {row['label']}" for row in best)

    def _line(self, trial: Trial, record: dict[str, Any]) -> str:
        label = report.label(trial.plain_options(), self.search.names) or trial.name
        if record["status"] == FAILED:
            return f"{label}: failed: {record['error']}"
        return f"{label}: {report.scores(record)}"


def _record_of(trial: Trial, call: Call) -> dict[str, Any]:
    """Return the record of a trial; write it if the worker failed. Raises ClusterError."""
    try:
        return call.result()
    except WorkerDied as error:
        reason = f"{error}, perhaps out of memory; try fewer --workers, or a smaller --batch_size."
    except CallFailed as error:  # such as a worker with another disk or other code
        reason = str(error)
    record = {**read_record(trial), "status": FAILED, "error": reason}
    write_record(trial, record)
    return record
