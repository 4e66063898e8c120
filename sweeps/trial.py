"""One trial of a sweep: train, infer, grade, in a folder of its own.

A trial's folder is its memory: `trial.json` says what was asked and how it ended, the checkpoints
say how far it came. Whoever runs the trial again, here or on another machine, goes on from there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import threading
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_utils import DataError
from lab import command
from lab.checkpoint import INTERRUPTED as INTERRUPTED_FILE
from lab.checkpoint import CheckpointError, to_infer_from, write_whole
from lab.settings import SettingsError
from train import TrainOptions

WAITING, RUNNING, INTERRUPTED = "waiting", "running", "interrupted"
FINISHED, FAILED = "finished", "failed"
IN_NAME = ("var", "lr", "latent_dim", "batch_size", "epochs", "seed")
SCORES = ("ssim", "mse", "fid", "raw", "score")
PATHS = ("submission", "train_data", "valid_data")  # options that are paths

# A trial seeds the generators of random numbers of its whole process, so a process runs one.
_one_at_a_time = threading.Lock()
_stopped: set[str] = set()  # sweeps that were asked to stop
_stop_of_running: dict[str, threading.Event] = {}  # by sweep


@dataclass(frozen=True)
class Trial:
    """What to run, and where.

    Attributes:
        options: every option of `train.add_training_options` by name, one value each.
        sweep_dir: the sweep's folder, absolute; the trial's own is in its trials/.
        root: the folder from which relative paths in the options are meant, absolute.
        code: the copy of the submission that is trained, absolute; it stays as it is while the
            student goes on editing.
    """

    options: dict[str, Any]
    sweep_dir: Path
    root: Path
    code: Path

    @property
    def name(self) -> str:
        """Readable, and the same for the same options in any sweep."""
        plain = json.dumps(self.plain_options(), sort_keys=True)
        digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
        return "-".join([*(f"{name}_{self.options[name]:g}" for name in IN_NAME), digest])

    @property
    def folder(self) -> Path:
        """Where all of the trial lies."""
        return self.sweep_dir / "trials" / self.name

    def plain_options(self) -> dict[str, Any]:
        """Return the options as JSON holds them."""
        return {name: command.plain(value) for name, value in self.options.items()}

    def train_options(self) -> TrainOptions:
        """Return the options of `train.train`, with paths that hold in any working folder."""
        paths = {name: self.root / self.options[name] for name in PATHS}
        where = {"submission": self.code, "save_dir": self.folder}
        return TrainOptions(**{**self.options, **paths, **where})

    def code_sha256(self) -> str:
        """SHA-256 of the code that is trained."""
        return hashlib.sha256(self.code.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Order:
    """How a sweep wants its trials run.

    Attributes:
        sweep: names the sweep, for `stop_sweep`.
        threads: CPU threads for torch; 0 leaves it to the worker.
        keep_weights: whether the best checkpoint and the arrays stay once the trial is graded.
        epochs_now: stop after so many epochs, to be gone on with later; 0 runs them all.
    """

    sweep: str
    threads: int = 0
    keep_weights: bool = True
    epochs_now: int = 0


# ---------------------------------------------------------------- the record


def read_record(trial: Trial) -> dict[str, Any]:
    """Return what is known of a trial: at least its status, one of the five above.

    A trial that says it is running and is held by no process was cut off: it is interrupted.
    """
    record = _stored_record(trial)
    if record["status"] == RUNNING and not _is_held(trial):
        record["status"] = INTERRUPTED
    return record


def _stored_record(trial: Trial) -> dict[str, Any]:
    try:
        return json.loads((trial.folder / "trial.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"status": WAITING}


def write_record(trial: Trial, record: dict[str, Any]) -> None:
    """Keep what is known of a trial."""
    with write_whole(trial.folder / "trial.json") as file:
        file.write(json.dumps({**record, "options": trial.plain_options()}, indent=2).encode())


def _lock(trial: Trial) -> FileLock:
    # The system itself gives it back when a process ends, in whatever way.
    return FileLock(trial.folder / ".lock")


def _is_held(trial: Trial) -> bool:
    try:
        with _lock(trial).acquire(timeout=0):
            return False
    except Timeout:
        return True


# ---------------------------------------------------------------- running


def run_trial(trial: Trial, order: Order) -> dict[str, Any]:
    """Run what is left of a trial and return its record. A trial's own errors are in the record.

    A trial that another process holds is waited for, and never run twice at once.
    """
    import torch  # noqa: F401  takes seconds once a worker, which are no trial's own

    trial.folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time:
        while order.sweep not in _stopped:
            try:
                with _lock(trial).acquire(timeout=1):
                    return _run_held(trial, order)
            except Timeout:
                continue
    return read_record(trial)


def _run_held(trial: Trial, order: Order) -> dict[str, Any]:
    record = _stored_record(trial)
    if record["status"] == FINISHED:  # by the process that was waited for
        return record
    started = time.perf_counter()
    stop = _stop_of_running[order.sweep] = threading.Event()
    if order.sweep in _stopped:  # since it was looked at
        stop.set()
    try:
        code = trial.code_sha256()
        same_code = record.get("submission_sha256") == code
        before = record.get("total_seconds", 0.0) if same_code else 0.0
        record = {"status": RUNNING, "submission_sha256": code, "total_seconds": before}
        record["process"] = f"{platform.node()}:{os.getpid()}"  # to find it on a cluster
        write_record(trial, record)
        with (
            open(trial.folder / "output.log", "a", encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            record |= _outcome(trial, order, stop, going_on=same_code)
    finally:
        del _stop_of_running[order.sweep]
    record["total_seconds"] = round(before + time.perf_counter() - started, 3)
    write_record(trial, record)
    if record["status"] == FINISHED:  # only now, for a trial that was cut off goes on from these
        _tidy(trial.folder, order.keep_weights)
    return record


def _outcome(trial: Trial, order: Order, stop: threading.Event, going_on: bool) -> dict[str, Any]:
    """Run the trial; a failure is an outcome like any other."""
    # These need torch, which whoever only reads records does without.
    import torch

    from lab.loading import ContractError
    from lab.outputs import OutputsError
    from lab.stages import InferenceError
    from trainer import TrainingError

    known = (SettingsError, DataError, CheckpointError, ContractError, TrainingError)
    known += (InferenceError, OutputsError, OSError)
    threads_before = torch.get_num_threads()
    try:
        if order.threads:
            torch.set_num_threads(order.threads)
        return _train_infer_grade(trial, order, stop, going_on)
    except known as error:
        return {"status": FAILED, "error": str(error)}
    except (Exception, SystemExit) as error:  # whatever a student's code, or torch, comes up with
        traceback.print_exc()
        return {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
    finally:
        torch.set_num_threads(threads_before)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # for the other trials on this GPU


def _train_infer_grade(
    trial: Trial, order: Order, stop: threading.Event, going_on: bool
) -> dict[str, Any]:
    import torch

    import train

    options, state = trial.train_options(), None
    checkpoints = [trial.folder / INTERRUPTED_FILE, *trial.folder.glob("epoch_*.pth")]
    if going_on and any(file.is_file() for file in checkpoints):
        given = {option.name for option in fields(options)}
        options, state = train.resume(options, given)
    else:
        options = replace(options, overwrite=True)
    clock = _clock(order.epochs_now, stop)
    complete = train.train(options, state, stop, [clock], progress=False)
    facts = {**_training_figures(trial.folder), "epoch_seconds": clock.epoch_seconds()}
    facts |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if not complete:
        if order.epochs_now:
            with suppress(Exception):  # a rehearsal; only its time is wanted
                _infer_grade(trial, options)
        return {**facts, "status": INTERRUPTED}
    result = _infer_grade(trial, options)
    with write_whole(trial.folder / "grade_result.json") as file:
        file.write(json.dumps({options.task: result}, indent=2).encode())
    return {**facts, **{name: result[name] for name in SCORES}, "status": FINISHED}


def _infer_grade(trial: Trial, options: TrainOptions) -> dict[str, Any]:
    """Return the result of grading the trial's best checkpoint on the validation data."""
    import grade
    import inference
    from data_utils import MNISTDataset

    task, outputs = options.task, trial.folder / "inference"
    shared = ("task", "latent_dim", "submission", "device", "convolutions")
    inference.infer(
        inference.InferenceOptions(
            checkpoint_path=to_infer_from(trial.folder),
            save_dir=outputs,
            data_path=options.valid_data,
            **{name: getattr(options, name) for name in shared},
        )
    )
    return grade.grade(MNISTDataset(options.valid_data), {task: outputs})[task]


def _clock(epochs_now: int, stop: threading.Event) -> Any:
    """Return a callback that times epochs, and asks for a stop after `epochs_now` of them."""
    from lab.callbacks import Callback, Training

    class Clock(Callback):
        def on_start(self, trainer: Training) -> None:
            self.times = [time.perf_counter()]

        def on_epoch_end(self, trainer: Training) -> None:
            self.times.append(time.perf_counter())
            if epochs_now and len(self.times) > epochs_now:
                stop.set()

        def epoch_seconds(self) -> float | None:
            """Seconds of an epoch of this sitting, with its validation and its checkpoint."""
            epochs = len(self.times) - 1
            return (self.times[-1] - self.times[0]) / epochs if epochs else None

    return Clock()


def _training_figures(folder: Path) -> dict[str, Any]:
    """Return what the last row of history.csv says of the training so far."""
    try:
        with open(folder / "history.csv", encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file)
    except (FileNotFoundError, ValueError):  # stopped before the first validation
        return {"epochs_done": 0, "seconds": 0.0, "skipped_steps": 0}
    return {
        "epochs_done": int(last["epoch"]),
        "seconds": float(last["seconds"]),
        "skipped_steps": int(last["skipped_steps"]),
    }


def _tidy(folder: Path, keep_weights: bool) -> None:
    """Drop what a graded trial no longer needs: a sweep has many, and a checkpoint is large."""
    kept = to_infer_from(folder) if keep_weights else None
    dropped = [path for path in folder.glob("*.pth") if path != kept]
    if not keep_weights:
        dropped += [folder / "inference" / name for name in ("codes.npy", "recon.npy")]
    for path in dropped:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- asked of a worker from outside


def stop_sweep(sweep: str) -> None:
    """Stop what this process runs of a sweep at the next complete step, and start no more of it."""
    _stopped.add(sweep)
    if sweep in _stop_of_running:
        _stop_of_running[sweep].set()


def sees(folder: Path) -> bool:
    """Whether this process, which has come as far as importing this, sees a sweep's folder."""
    return folder.is_dir()
