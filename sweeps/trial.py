"""One trial of a sweep: train, infer and grade in a folder.

The state of a trial is in its folder: `trial.json` has the options and the result, and the
checkpoints have the progress. So any process, on this machine or another, can continue the trial.
"""

from __future__ import annotations

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

import numpy as np
from filelock import FileLock, Timeout

from data_utils import NUM_CLASSES, DataError, MNISTDataset
from lab import command
from lab.checkpoint import INTERRUPTED as INTERRUPTED_FILE
from lab.checkpoint import CheckpointError, best_or_newest, write_whole
from lab.outputs import write_array
from lab.settings import SettingsError
from train import TrainOptions

WAITING, RUNNING, INTERRUPTED = "waiting", "running", "interrupted"
FINISHED, FAILED = "finished", "failed"
STATUSES = (WAITING, RUNNING, INTERRUPTED, FINISHED, FAILED)
IN_NAME = ("var", "lr", "latent_dim", "batch_size", "epochs", "seed")
SHOWN = "shown"  # SHOWN.npy, uint8 (10, 28, 28): a reconstruction of each label
LARGEST = 1e300  # of a number in a record; Python's integers have no bound of their own
SCORES = ("ssim", "mse", "fid", "raw", "score")
COSTS = ("seconds", "total_seconds", "skipped_steps", "epochs_done", "threads")
PATHS = ("submission", "train_data", "valid_data")  # options that are paths
# A trial seeds the random number generators of its process, so a process runs one at a time.
_one_at_a_time = threading.Lock()
_stopped: set[str] = set()  # sweeps that must stop
_stop_of_running: dict[str, threading.Event] = {}  # by sweep


@dataclass(frozen=True)
class Trial:
    """The options and the folder of a trial.

    Attributes:
        options: one value for every option of `train.add_training_options`, by name.
        sweep_dir: the sweep's folder, absolute.
        root: the folder that paths in the options are relative to, absolute.
        code: the copy of the submission that is trained, absolute; later edits of the submission
            do not change it.
    """

    options: dict[str, Any]
    sweep_dir: Path
    root: Path
    code: Path

    @property
    def name(self) -> str:
        """Readable name; the same options give the same name in every sweep."""
        plain = json.dumps(self.plain_options(), sort_keys=True)
        digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
        return "-".join([*(f"{name}_{self.options[name]:g}" for name in IN_NAME), digest])

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        return self.sweep_dir / "trials" / self.name

    def plain_options(self) -> dict[str, Any]:
        """Return the options with values that JSON can hold."""
        return {name: command.plain(value) for name, value in self.options.items()}

    def train_options(self) -> TrainOptions:
        """Return the options of `train.train`, with absolute paths."""
        paths = {name: self.root / self.options[name] for name in PATHS}
        where = {"submission": self.code, "save_dir": self.folder}
        return TrainOptions(**{**self.options, **paths, **where})

    def code_sha256(self) -> str:
        """Return the SHA-256 of the code that is trained."""
        return hashlib.sha256(self.code.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Order:
    """Settings for running the trials of a sweep, the same for all of them.

    Attributes:
        sweep: identifies the sweep, for `stop_sweep`.
        threads: CPU threads for torch; 0 leaves it to the worker.
        keep_weights: whether to keep the best checkpoint and the arrays of a graded trial.
        epochs_now: stop after this number of epochs, to continue later; 0 runs all.
    """

    sweep: str
    threads: int = 0
    keep_weights: bool = True
    epochs_now: int = 0


# ---------------------------------------------------------------- the record


def read_record(trial: Trial) -> dict[str, Any]:
    """Return the record of a trial: at least its status, one of the five above.

    A trial whose stored status is running, but whose folder no process has locked, was killed:
    its status is interrupted.
    """
    record = _stored_record(trial)
    if record["status"] == RUNNING and not _is_locked(trial):
        record["status"] = INTERRUPTED
    return record


def _stored_record(trial: Trial) -> dict[str, Any]:
    """Return the stored record. A trial without one, or with a damaged one, runs from the start."""
    record = read_json(trial.folder / "trial.json")
    return record if record is not None and _is_record(record) else {"status": WAITING}


def read_json(file: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is none, or the file is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):  # RecursionError: too deeply nested
        return None
    return found if isinstance(found, dict) else None


def _is_record(record: dict[str, Any]) -> bool:
    """Return whether a record has what its status needs, and only finite numbers."""
    numbers = [record.get(name) for name in (*SCORES, *COSTS, "epoch_seconds")]
    finite = all(number is None or _is_finite(number) for number in numbers)
    words = [record.get(name, "") for name in ("status", "error", "submission_sha256")]
    if not finite or not all(isinstance(word, str) for word in words):
        return False
    needed = {
        FINISHED: ("submission_sha256", "raw", "score", "epochs_done", "total_seconds"),
        FAILED: ("error",),
    }
    status = words[0]
    complete = all(record.get(name) is not None for name in needed.get(status, ()))
    return status in STATUSES and complete


def _is_finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < LARGEST  # false for nan


def write_record(trial: Trial, record: dict[str, Any]) -> None:
    """Store the record of a trial."""
    with write_whole(trial.folder / "trial.json") as file:
        file.write(json.dumps({**record, "options": trial.plain_options()}, indent=2).encode())


def _lock(trial: Trial) -> FileLock:
    # The system releases the lock when the process ends, also when it is killed.
    return FileLock(trial.folder / ".lock")


def _is_locked(trial: Trial) -> bool:
    try:
        with _lock(trial).acquire(timeout=0):
            return False
    except Timeout:
        return True


# ---------------------------------------------------------------- running


def run_trial(trial: Trial, order: Order) -> dict[str, Any]:
    """Run the rest of a trial and return its record; errors of the trial are in the record.

    Waits while another process runs the trial, so that no trial runs twice at the same time.
    """
    import torch  # noqa: F401  takes seconds once per worker, not counted for the trial

    trial.folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time:
        while order.sweep not in _stopped:
            try:
                with _lock(trial).acquire(timeout=1):
                    return _run_locked(trial, order)
            except Timeout:
                continue
    return read_record(trial)


def _run_locked(trial: Trial, order: Order) -> dict[str, Any]:
    record = _stored_record(trial)
    if record["status"] == FINISHED:  # by the process that held the lock before
        return record
    started = time.perf_counter()
    stop = _stop_of_running[order.sweep] = threading.Event()
    if order.sweep in _stopped:  # it was stopped after the check in run_trial
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
    if record["status"] == FINISHED:  # not earlier: a killed trial continues from these files
        _tidy(trial.folder, order.keep_weights)
    return record


def _outcome(trial: Trial, order: Order, stop: threading.Event, going_on: bool) -> dict[str, Any]:
    """Run the trial and return the changes to its record, also when it fails."""
    # These import torch, which reading a record does not need.
    import torch

    from lab.loading import ContractError
    from lab.outputs import OutputsError
    from lab.stages import InferenceError
    from trainer import TrainingError

    known: tuple[type[Exception], ...] = (SettingsError, DataError, CheckpointError, ContractError)
    known += (TrainingError, InferenceError, OutputsError, OSError)
    threads_before = torch.get_num_threads()
    try:
        if order.threads:
            torch.set_num_threads(order.threads)
        return _train_infer_grade(trial, order, stop, going_on)
    except known as error:
        return {"status": FAILED, "error": str(error)}
    except (Exception, SystemExit) as error:  # from a student's code or from torch
        traceback.print_exc()
        return {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
    finally:
        torch.set_num_threads(threads_before)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # for other trials on this GPU


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
    facts = {**clock.figures(), "epoch_seconds": clock.epoch_seconds()}
    facts |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if not complete:
        if order.epochs_now:
            with suppress(Exception):  # only the time of these commands is needed here
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

    task, outputs = options.task, trial.folder / "inference"
    shared = ("task", "latent_dim", "submission", "device", "convolutions")
    inference.infer(
        inference.InferenceOptions(
            checkpoint_path=best_or_newest(trial.folder),
            save_dir=outputs,
            data_path=options.valid_data,
            **{name: getattr(options, name) for name in shared},
        )
    )
    dataset = MNISTDataset(options.valid_data)
    result = grade.grade(dataset, {task: outputs})[task]
    if task == "VAEwolabel":  # kept without recon.npy, which is a thousand times as large
        write_array(trial.folder, SHOWN, _one_of_each_label(outputs / "recon.npy", dataset.labels))
    return result


def _one_of_each_label(file: Path, labels: np.ndarray) -> np.ndarray:
    """Return the first image of each label of an array in a file: uint8 (10, 28, 28)."""
    images = np.load(file, mmap_mode="r", allow_pickle=False)
    shown = np.zeros((NUM_CLASSES, *images.shape[1:]), np.uint8)
    known, firsts = np.unique(labels, return_index=True)
    shown[known] = images[firsts]
    return shown


def _clock(epochs_now: int, stop: threading.Event) -> Any:
    """Return a callback that times epochs, and stops training after `epochs_now` of them."""
    from lab.callbacks import Callback, Training

    class Clock(Callback):
        def on_start(self, trainer: Training) -> None:
            self.times, self.state = [time.perf_counter()], trainer.state

        def on_epoch_end(self, trainer: Training) -> None:
            self.times.append(time.perf_counter())
            if epochs_now and len(self.times) > epochs_now:
                stop.set()

        def figures(self) -> dict[str, Any]:
            """Return the complete epochs, the seconds and the skipped steps so far."""
            state = self.state
            figures = {"epochs_done": state.epoch, "seconds": round(state.seconds, 3)}
            return {**figures, "skipped_steps": state.skipped_steps}

        def epoch_seconds(self) -> float | None:
            """Return the mean seconds per epoch of this run, with validation and checkpoint."""
            epochs = len(self.times) - 1
            return (self.times[-1] - self.times[0]) / epochs if epochs else None

    return Clock()


def _tidy(folder: Path, keep_weights: bool) -> None:
    """Delete files that a graded trial no longer needs, so that a sweep does not fill the disk."""
    kept = best_or_newest(folder) if keep_weights else None
    dropped = [path for path in folder.glob("*.pth") if path != kept]
    if not keep_weights:
        dropped += [folder / "inference" / name for name in ("codes.npy", "recon.npy")]
    for path in dropped:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- calls from outside the worker


def stop_sweep(sweep: str) -> None:
    """Stop the running trial of a sweep at its next complete step, and start no other one."""
    _stopped.add(sweep)
    if sweep in _stop_of_running:
        _stop_of_running[sweep].set()


def sees_folder(folder: Path) -> bool:
    """Return whether this process sees a sweep's folder. Calling it also imports this module."""
    return folder.is_dir()
