"""Kill a command with SIGKILL at a random moment, run it again, compare with an undisturbed run.

After the kill every file is whole or absent. After the second run the results are equal to those of
an undisturbed run, and neither a temporary file nor a process of the killed run is left.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import torch
from PIL import Image

from data_utils import MNISTDataset
from grade import grade
from lab import ROOT, checkpoint
from lab.outputs import OutputsError
from staff.idx import write_split
from staff.permissions import private_folder
from staff.secret import NAME, PRIVATE

TASKS = ("VAEwolabel", "Genwithlabel")
LATENT_DIMS = {"VAEwolabel": 8, "Genwithlabel": 4}
SECONDS = 300  # after this time a command hangs
MARGIN = 1.05  # of the run time, within which the kill falls: the last lines of a run count as well
# Entries of records and tables that are times, or that depend on them.
TIMES = {"seconds", "total_seconds", "epoch_seconds", "cpu_seconds", "peak_bytes", "graded_at"}
TIMES |= {"process", "checkpoint_sha256"}
CACHES = ("torchinductor_", "dask-scratch-space")  # that these libraries keep between runs
WORDS = (".log", ".lock", ".html", ".md", ".tmp")  # messages, locks, and pages that show times


# ---------------------------------------------------------------- what the commands work on


class Inputs:
    """Small inputs for all commands; each is made when it is first needed, and never changed.

    run: runs the commands that make them; see `finish`.
    """

    def __init__(
        self, folder: Path, run: Callable[[list[object], Path], object] | None = None
    ) -> None:
        self.folder, self.run = folder, run or finish

    @functools.cached_property
    def data(self) -> Path:
        """Six real digits of each label, readable by their owner alone."""
        whole = MNISTDataset(ROOT / "dataset" / "valid")
        chosen = np.concatenate([np.flatnonzero(whole.labels == n)[:6] for n in range(10)])
        folder = self.folder / "data"
        write_split(folder, whole.images[chosen], whole.labels[chosen])
        for file in folder.iterdir():
            file.chmod(0o600)
        folder.chmod(0o700)  # it is also used as a private split
        return folder

    @functools.cached_property
    def submission(self) -> Path:
        """The demo model with a small hidden layer."""
        text = (ROOT / "model.py").read_text(encoding="utf-8")
        file = self.folder / "code" / "submission.py"
        file.parent.mkdir(parents=True)
        file.write_text(text.replace("hidden_dim: int = 400", "hidden_dim: int = 16"), "utf-8")
        return file

    def training(self, task: str, *more: object) -> list[object]:
        """Return the options of a short training."""
        data = ["--train_data", self.data, "--valid_data", self.data]
        words = ["--submission", self.submission, "--task", task]
        words += ["--latent_dim", LATENT_DIMS[task], "--epochs", 3, "--batch_size", 10]
        return [*words, *data, "--lr", 3e-3, *more]

    @functools.cached_property
    def trained(self) -> dict[str, Path]:
        """The folder of a finished and inferred run of each task."""
        folders = {task: self.folder / "trained" / task for task in TASKS}
        for task, folder in folders.items():
            words = self.training(task, "--epochs", 2)
            self.run(["train.py", *words, "--save_dir", folder], self.folder / "tmp")
            words = [*self.inference(task, folder), "--gen_num", 20]
            self.run(["inference.py", *words], self.folder / "tmp")
        return folders

    def inference(self, task: str, run: Path) -> list[object]:
        """Return the options of inference with a run's best checkpoint."""
        return ["--checkpoint_path", run / "best.pth", "--data_path", self.data]

    @functools.cached_property
    def handed_in(self) -> Path:
        """A class of two students; one handed in no checkpoint."""
        folder = self.folder / "handed_in"
        for name in ("ada", "bob"):
            (folder / name).mkdir(parents=True)
            shutil.copyfile(self.submission, folder / name / "submission.py")
        shutil.copyfile(self.trained["VAEwolabel"] / "best.pth", folder / "ada" / "VAEwolabel.pth")
        return folder


def start(words: list[object], temporary: Path, output: IO[str]) -> subprocess.Popen:
    """Start `python WORDS` in a process group of its own.

    Args:
        words: a file of the project, or "-m" and a module, and the options.
        temporary: the system's folder of temporary files for this command.
        output: gets what the command prints.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **own},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(words: list[object], temporary: Path) -> None:
    """Run `python WORDS` to its end. Raises RuntimeError if it fails or hangs."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = start(words, temporary, output)
        try:
            status: object = process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            status = f"nothing after {SECONDS} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        if status != 0:
            raise RuntimeError(f"{words[0]} ended with {status}: {output.read()[-2000:]}")


# ---------------------------------------------------------------- the commands


@dataclass(frozen=True)
class Subject:
    """A command that is killed.

    Attributes:
        name: of the command.
        words: returns its words, given the inputs and the folder that it writes to.
        before: prepares that folder; the command finds an earlier result there.
        go_on: returns the words that a user adds to continue, given the folder.
        after: returns what is wrong right after the kill, beside files that are not whole.
    """

    name: str
    words: Callable[[Inputs, Path], list[object]]
    before: Callable[[Inputs, Path], None] = lambda inputs, folder: None
    go_on: Callable[[Path], list[object]] = lambda folder: []
    after: Callable[[Inputs, Path], list[str]] = lambda inputs, folder: []


def _train(inputs: Inputs, folder: Path) -> list[object]:
    options = inputs.training("Genwithlabel")
    return ["train.py", *options, "--save_dir", folder / "run"]


def _resume(folder: Path) -> list[object]:
    """Without a checkpoint there is nothing to continue: the command runs from the start."""
    return ["--load_from_checkpoint"] if any((folder / "run").glob("*.pth")) else []


def _replace(inputs: Inputs, folder: Path) -> list[object]:
    return [*_train(inputs, folder), "--video", "--overwrite"]


def _another_run(inputs: Inputs, folder: Path) -> None:
    shutil.copytree(inputs.trained["VAEwolabel"], folder / "run")


def _infer(inputs: Inputs, folder: Path) -> list[object]:
    run = inputs.trained["Genwithlabel"]
    words = ["inference.py", *inputs.inference("Genwithlabel", run), "--gen_num", 20, "--png"]
    return [*words, "--seed", 7, "--save_dir", folder / "inference"]


def _other_outputs(inputs: Inputs, folder: Path) -> None:
    shutil.copytree(inputs.trained["VAEwolabel"] / "inference", folder / "inference")


def _mixed_outputs(inputs: Inputs, folder: Path) -> list[str]:
    """Outputs after a kill are those of the earlier model, or are refused; never of two models."""
    dataset, task = MNISTDataset(inputs.data), "VAEwolabel"
    (before, now) = (inputs.trained[task] / "inference", folder / "inference")
    try:
        score = grade(dataset, {task: now})[task]["raw"]
    except OutputsError:
        return []
    right = score == grade(dataset, {task: before})[task]["raw"]
    return [] if right else [f"outputs of two models were graded as one: raw {score}"]


def _grade(inputs: Inputs, folder: Path) -> list[object]:
    words: list[object] = ["grade.py", "--test_data_path", inputs.data, "--gen_num", 20]
    for task, run in inputs.trained.items():
        words += [f"--{task}_output_dir", run / "inference"]
    return [*words, "--output", folder / "grade.json"]


def _sweep(inputs: Inputs, folder: Path) -> list[object]:
    options = inputs.training("VAEwolabel", "--var", 0.5, 0.1, "--workers", 1)
    return ["sweep.py", *options, "--save_dir", folder / "sweep"]


def _same_secret(inputs: Inputs, folder: Path) -> None:
    """Store a secret of the class: each run makes its own, and with another, results differ."""
    file = private_folder(folder / "graded" / PRIVATE) / NAME
    file.write_text(hashlib.sha256(b"the same in every trial").hexdigest(), encoding="utf-8")
    file.chmod(0o600)


def _grade_class(inputs: Inputs, folder: Path) -> list[object]:
    words = ["-m", "staff.grade_class", inputs.handed_in, "--out", folder / "graded"]
    words += ["--test_data", inputs.data, "--private_data", inputs.data, "--gen_num", 20]
    return [*words, "--train_data", inputs.data, "--workers", 1]


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("train", _train, go_on=_resume),
        Subject("train --overwrite", _replace, before=_another_run),
        Subject("inference", _infer, before=_other_outputs, after=_mixed_outputs),
        Subject("grade", _grade),
        Subject("sweep", _sweep),
        Subject("class", _grade_class, before=_same_secret),
    )
}


def has_sandbox() -> bool:
    """Return whether a class can be graded here."""
    return shutil.which("bwrap") is not None


# ---------------------------------------------------------------- results


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in order, without the system's temporary folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "tmp" not in file.relative_to(folder).parts[:1]:
            yield file


def result_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each result below a folder, without times, by its path."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(content).hexdigest()
        for file in files_in(folder)
        if not file.name.endswith(WORDS) and (content := _content(file, str(folder))) is not None
    }


def _content(file: Path, folder: str) -> bytes:
    """Return what must be equal in two runs: everything but times and the folder's own path."""
    if file.suffix == ".pth":
        return repr(_plain(torch.load(file, weights_only=True), folder)).encode()
    if file.suffix == ".json":
        return repr(_plain(json.loads(file.read_bytes()), folder)).encode()
    if file.suffix == ".csv":
        with open(file, encoding="utf-8-sig", newline="") as opened:
            return repr(_plain(list(csv.DictReader(opened)), folder)).encode()
    return file.read_bytes()


def _plain(value: Any, folder: str) -> Any:
    """Return nested values without times; tensors as dtype, shape and hash of their bytes."""
    if isinstance(value, dict):
        items = ((key, _plain(one, folder)) for key, one in value.items() if key not in TIMES)
        return sorted(items, key=lambda item: str(item[0]))
    if isinstance(value, (list, tuple)):
        return [_plain(one, folder) for one in value]
    if isinstance(value, torch.Tensor):
        content = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
    return value.replace(folder, "FOLDER") if isinstance(value, str) else value


def faults_in(folder: Path) -> list[str]:
    """Return the files below a folder that are not whole. Temporary files do not count."""
    faults = []
    for file in files_in(folder):
        if any(part.endswith(".tmp") for part in file.parts):
            continue
        try:
            _expect_whole(file)
        except FileNotFoundError:  # a process of the killed command may still be running
            continue
        except Exception as error:
            faults.append(f"{file.relative_to(folder)}: {type(error).__name__}: {error}")
    return faults


def _expect_whole(file: Path) -> None:
    if file.suffix == ".pth":
        checkpoint.load(file)
    elif file.suffix == ".npy":
        np.load(file)
    elif file.suffix == ".json":
        json.loads(file.read_bytes())
    elif file.suffix in (".png", ".gif"):
        with Image.open(file) as picture:
            picture.load()
    elif file.suffix == ".csv":
        with open(file, encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened))
        if not rows or {len(row) for row in rows} != {len(rows[0])}:
            raise ValueError("a row is incomplete")
    elif file.suffix == ".html" and not file.read_bytes().rstrip().endswith(b"</html>"):
        raise ValueError("its end is missing")
    elif file.suffix == ".py":
        compile(file.read_bytes(), file.name, "exec")


# ---------------------------------------------------------------- a trial


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its seconds, and its result."""

    seconds: float
    result: dict[str, str]


def undisturbed(subject: Subject, inputs: Inputs, folder: Path) -> Whole:
    """Run a command without a kill."""
    folder.mkdir(parents=True)
    subject.before(inputs, folder)
    words = subject.words(inputs, folder)  # makes the inputs, which does not count
    started = time.perf_counter()
    finish(words, folder / "tmp")
    seconds = time.perf_counter() - started
    return Whole(seconds, result_of(folder))


def kill_trial(
    subject: Subject, inputs: Inputs, folder: Path, whole: Whole, seed: str
) -> tuple[bool, list[str]]:
    """Kill the command at a random moment and run it again.

    seed: of the moment, and of whether all processes of the command are killed or the first only.

    Returns whether the command was still running, and what was wrong.
    """
    draw = random.Random(seed)
    moment, everybody = draw.uniform(0, MARGIN * whole.seconds), draw.random() < 0.5
    folder.mkdir(parents=True)
    subject.before(inputs, folder)
    children: list[psutil.Process] = []
    with open(os.devnull, "w") as nowhere:
        process = start(subject.words(inputs, folder), folder / "tmp", nowhere)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)
        if everybody:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    killed = process.returncode == -signal.SIGKILL
    faults = faults_in(folder) + subject.after(inputs, folder)
    try:
        finish([*subject.words(inputs, folder), *subject.go_on(folder)], folder / "tmp")
    except RuntimeError as error:
        faults.append(f"the second run failed: {error}")
    else:
        faults += _differences(whole.result, result_of(folder))
        faults += [f"{path} is left" for path in left_over(folder)]
    _, alive = psutil.wait_procs(children, timeout=20)
    faults += [f"the process {one.pid} is left" for one in alive]
    return killed, [f"{subject.name}, killed at {moment:.2f} s: {fault}" for fault in faults]


def _differences(expected: dict[str, str], came: dict[str, str]) -> list[str]:
    names = sorted(expected.keys() | came.keys())
    return [f"{name} differs" for name in names if expected.get(name) != came.get(name)]


def left_over(folder: Path) -> list[Path]:
    """Return temporary files and folders: in the results, and in the system's temporary folder."""
    temporary = folder / "tmp"
    ours = [path for path in folder.rglob("*.tmp") if temporary not in path.parents]
    theirs = [path for path in temporary.iterdir() if not path.name.startswith(CACHES)]
    return [path.relative_to(folder) for path in [*ours, *theirs]]
