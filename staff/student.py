"""Grades one student: the stages in the sandbox, their outputs checked and scored out here.

Nothing of a student's is imported or unpickled in this process. Codes, reconstructions and samples
come back as bytes, are read as plain arrays of the dtype, shape and range expected or not at all,
and are scored by the same `grade.py` that the student runs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import platform
import shutil
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import metrics
import plots
from checkpoint import write_whole
from data_utils import MNISTDataset
from grade import GradeError, grade
from staff import flags, pages, sandbox
from staff.returned import Breach, is_count, read_array
from staff.sandbox import as_text
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, GRAVEST_FIRST
from staff.submissions import TASKS, HandedInError, Student, take

SHOWN = 64  # test images in the feedback
SCORES = ("score", "cap", "raw", "ssim", "mse", "fid", "bonus", "latent_dim", "n")


class GraderFault(Exception):
    """The grader itself did not work; the student has nothing to do with it."""


@dataclass(frozen=True)
class Job:
    """What all students of a class are graded with. Paths are absolute, seen by every worker.

    Attributes:
        out: where results go; inputs, the stages' inputs, are in `out/.inputs`.
        test_data: the split that is graded on.
        train_data: training images, to recognise copies; None looks for none.
        private_data: a split nobody has seen, see `private_split.py`; or None.
        limits, isolation: of the sandbox.
        gen_num, seed: of the samples.
        grader: hash of the code that grades and of the data; part of what a result rests on.
    """

    out: Path
    test_data: Path
    train_data: Path | None
    private_data: Path | None
    limits: sandbox.Limits
    isolation: str
    gen_num: int
    seed: int
    grader: str

    def folder(self, student: Student) -> Path:
        """Where a student's result lies."""
        return self.out / "students" / student.key

    def inputs(self, split: str) -> Path:
        """Where the stages' inputs of the test or the private split lie."""
        return self.out / ".inputs" / split

    @property
    def splits(self) -> dict[str, Path]:
        """The data graded on, by name."""
        private = {} if self.private_data is None else {"private": self.private_data}
        return {"test": self.test_data, **private}


# ---------------------------------------------------------------- one student


def grade_student(student: Student, job: Job, again: bool = False) -> dict[str, Any]:
    """Grade a student, unless an earlier result rests on the same; write and return the result.

    Every error of the student's is in the result; one of the grader's is too, and is no score.
    `again` grades whatever there is. Its "new" says whether the student was graded just now.
    """
    folder = job.folder(student)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # a run that was killed may still have a worker at it
        return _grade(student, job, folder, again)


def _grade(student: Student, job: Job, folder: Path, again: bool) -> dict[str, Any]:
    started = time.monotonic()
    known = {} if again else read_result(folder)
    if known.get("status") == GRADER_ERROR:
        known = {}
    result: dict[str, Any] = {
        "student": student.key,
        "name": student.name,
        "platform": student.platform,
        "number": student.number,
        "isolation": job.isolation,
    }
    try:
        # Beside no student's files: a worker's own folder, which goes when it is done.
        with tempfile.TemporaryDirectory() as temporary:
            handed_in = take(student, Path(temporary) / "handed_in")
            result["handed_in"] = {
                "code_bytes": handed_in.code.stat().st_size,
                "checkpoint_bytes": {
                    task: file.stat().st_size for task, file in handed_in.checkpoints.items()
                },
            }
            basis = basis_of(handed_in.code, handed_in.checkpoints, job)
            if known.get("basis") == basis:
                return {**known, "new": False}
            result["basis"] = basis
            work = Path(temporary)
            result["tasks"] = _tasks(handed_in.code, handed_in.checkpoints, job, work, folder)
    except HandedInError as error:
        result |= {"tasks": {}, "status": "contract breach", "message": as_text(str(error))}
        result["basis"] = f"refused: {result['message']}"
        if known.get("basis") == result["basis"]:
            return {**known, "new": False}
    except Exception as error:  # of ours: whatever it is, it is no score
        traceback.print_exc()
        words = f"{type(error).__name__}: {error}"
        result |= {"tasks": {}, "status": GRADER_ERROR, "message": words}
    else:
        result |= _together(result["tasks"])
    result["score"] = _total(result)
    result["seconds"] = time.monotonic() - started
    result |= _provenance(job)
    with write_whole(folder / "result.json") as file:
        file.write(json.dumps(result, indent=2).encode())
    pages.write_feedback(result, folder)
    return {**result, "new": True}


def read_result(folder: Path) -> dict[str, Any]:
    """Return a stored result; empty where there is none that can be read."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def basis_of(code: Path, checkpoints: dict[str, Path], job: Job) -> str:
    """Hash all that a result rests on: code, checkpoints, grader, data and what was asked."""
    digest = hashlib.sha256()
    for name, file in (("code", code), *sorted(checkpoints.items())):
        with open(file, "rb") as opened:
            content = hashlib.file_digest(opened, "sha256") if _DIGESTS else _digest(opened)
        digest.update(f"{name} {content.hexdigest()}\n".encode())
    asked = [job.grader, job.isolation, job.gen_num, job.seed, asdict(job.limits)]
    digest.update(json.dumps(asked, sort_keys=True).encode())
    return digest.hexdigest()


_DIGESTS = hasattr(hashlib, "file_digest")  # Python 3.11 and later


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest


def _together(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return status and message of all tasks: the gravest of them."""
    gravest = min(tasks.values(), key=lambda task: GRAVEST_FIRST.index(task["status"]))
    messages = [f"{name}: {one['message']}" for name, one in tasks.items() if one.get("message")]
    messages += [f"{name}: {flag}" for name, one in tasks.items() for flag in one["flags"]]
    return {"status": gravest["status"], "message": " ".join(messages)}


def _total(result: dict[str, Any]) -> float | None:
    """Return the points of all tasks together; None where the grader failed."""
    if result["status"] == GRADER_ERROR:
        return None
    return sum(task.get("score") or 0.0 for task in result["tasks"].values())


def _provenance(job: Job) -> dict[str, Any]:
    names = ("torch", "numpy", "scikit-image")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in names},
        },
        "processor": _processor(),
        "grader_sha256": job.grader,
        "graded_at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _processor() -> str:
    """Return the processor's own name where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


# ---------------------------------------------------------------- its tasks


def _tasks(
    code: Path, checkpoints: dict[str, Path], job: Job, work: Path, folder: Path
) -> dict[str, dict[str, Any]]:
    """Grade each checkpoint; return the results by task."""
    results: dict[str, dict[str, Any]] = {}
    for name, checkpoint in checkpoints.items():
        inputs = {"submission.py": code, "checkpoint.pth": checkpoint}
        task, outcome = name, None
        if name not in TASKS:  # its name does not tell
            outcome = sandbox.run_stage("facts", inputs, job.limits, job.isolation)
            task = outcome.facts.get("task")
        if task not in TASKS or task in results:
            said = outcome.message if outcome else ""
            twice = f"a second checkpoint of {task}" if task in results else "of no task"
            words = f"{checkpoint.name} is {twice}; name it VAEwolabel.pth or Genwithlabel.pth. "
            failed = {"status": "contract breach", "message": words + said, "flags": []}
            results[name if name not in results else f"{name}?"] = {**failed, "stages": {}}
            continue
        results[task] = _Task(task, inputs, job, work / task, folder).run()
    return results


class _Task:
    """Runs the stages of one task and scores what they returned."""

    def __init__(
        self, task: str, inputs: dict[str, Path], job: Job, work: Path, folder: Path
    ) -> None:
        self.task, self.inputs, self.job, self.work, self.folder = task, inputs, job, work, folder
        self.labelled = task == "Genwithlabel"
        self.stages: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self.log = ""

    def run(self) -> dict[str, Any]:
        """Return the task's result: status, message, flags, stages, scores if there are any."""
        result: dict[str, Any] = {"status": GRADED, "message": "", "flags": [], "score": 0.0}
        try:
            for split, data in self.job.splits.items():
                scores = self._scores(split, data)
                if split == "test":
                    result |= {name: scores[name] for name in (*SCORES, "per_label", "data_sha256")}
                    result["flags"] += self._flags()
                else:
                    result["private"] = {
                        name: scores[name] for name in ("ssim", "mse", "fid", "raw")
                    }
                    result["flags"] += flags.of_gap(result, scores)
            result["status"] = FLAGGED if result["flags"] else GRADED
        except _Failed as failure:
            result |= {"status": failure.status, "message": failure.message}
        except (Breach, GradeError) as error:
            result |= {"status": "contract breach", "message": str(error)}
        if result["status"] not in (GRADED, FLAGGED):
            result["score"] = 0.0
        result |= {"stages": self.stages, "log": self.log}
        result["signature"] = self._signature()
        return result

    def _scores(self, split: str, data: Path) -> dict[str, Any]:
        """Run the stages on a split and score what came back."""
        given, outputs = self.job.inputs(split), self.work / split
        dataset = _dataset(data)
        labels = {"labels.npy": given / "labels.npy"} if self.labelled else {}
        count = len(dataset)

        said = self._stage(split, "encode", {"images.npy": given / "images.npy", **labels})
        latent_dim = self.facts.get("latent_dim")
        if not is_count(latent_dim, 784):
            raise Breach(f"the checkpoint says latent_dim {latent_dim!r}; expected 1 to 784.")
        if said:
            codes = read_array(said, "codes", np.float16, (count, latent_dim))
            self._keep(outputs / "codes.npy", codes)
            said = self._stage(split, "decode", {"codes.npy": outputs / "codes.npy", **labels})
            recon = read_array(said, "recon", np.uint8, (count, 28, 28))
            self._keep(outputs / "recon.npy", recon)
        elif self.labelled:
            only = {"task": self.task, "generates_only": True, "latent_dim": latent_dim}
            outputs.mkdir(parents=True, exist_ok=True)
            (outputs / "hyperparams.json").write_text(json.dumps(only), encoding="utf-8")
        else:
            raise Breach("the model has no encode; VAEwolabel is graded on reconstructions.")
        if self.labelled:
            more = {"gen_num": self.job.gen_num, "seed": self.job.seed}
            said = self._stage(split, "generate", {}, **more)
            samples = read_array(said, "samples", np.uint8, (10, self.job.gen_num, 28, 28))
            self._keep(outputs / "samples.npy", samples)
        scores = grade(dataset, {self.task: outputs}, self.job.gen_num)[self.task]
        if split == "test":
            self._draw(outputs, dataset)
        return scores

    def _stage(self, split: str, stage: str, more: dict[str, Path], **asked: Any) -> bytes:
        """Run a stage in the sandbox and return the bytes of its array."""
        inputs = {**self.inputs, **more}
        job = self.job
        outcome = sandbox.run_stage(
            stage, inputs, job.limits, job.isolation, task=self.task, **asked
        )
        name = stage if split == "test" else f"{stage} ({split})"
        self.stages[name] = {
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "cpu_seconds": round(outcome.cpu_seconds, 3),
            "peak_bytes": outcome.peak_bytes,
        }
        if outcome.log.strip():
            self.log += f"--- {name}\n{outcome.log.strip()}\n"
        self.facts = self.facts or outcome.facts
        if outcome.status == GRADER_ERROR:
            raise GraderFault(f"{outcome.message} {outcome.log.strip()[-500:]}")
        if outcome.status != "done":
            raise _Failed(outcome.status, f"{stage}: {outcome.message}")
        said = self.facts.get("task")
        if said != self.task:
            raise Breach(f"the checkpoint was trained for {said!r}, not for {self.task}.")
        return outcome.array

    def _keep(self, file: Path, array: np.ndarray) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array, allow_pickle=False)

    def _flags(self) -> list[str]:
        sizes = (self.inputs[name].stat().st_size for name in ("checkpoint.pth", "submission.py"))
        found = flags.of_files(self.facts, *sizes)
        samples = self.work / "test" / "samples.npy"
        if samples.exists() and self.job.train_data is not None:
            real = _calibration(self.job.train_data, self.job.test_data)
            found += flags.of_samples(np.load(samples, allow_pickle=False), real)
        return found

    def _signature(self) -> list[float]:
        values = self.facts.get("signature")
        if not isinstance(values, list) or len(values) > 5000:
            return []
        return [float(value) for value in values if isinstance(value, (int, float))]

    def _draw(self, outputs: Path, dataset: MNISTDataset) -> None:
        """Keep what the feedback and the report show: pictures, and the error of each image."""
        if (outputs / "recon.npy").exists():
            recon = np.load(outputs / "recon.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_recon.png") as file:
                plots.reconstructions(file, dataset.images[:SHOWN], recon[:SHOWN])
            errors = metrics.mse_per_image(recon, dataset.images).astype(np.float32)
            buffer = io.BytesIO()
            np.save(buffer, errors, allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_errors.npy") as file:
                file.write(buffer.getbuffer())
        if (outputs / "samples.npy").exists():
            samples = np.load(outputs / "samples.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_samples.png") as file:
                plots.samples(file, samples, labelled=True)


class _Failed(Exception):
    """A stage ended otherwise than it should."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


# ---------------------------------------------------------------- the same for all students


@functools.lru_cache(maxsize=4)
def _dataset(path: Path) -> MNISTDataset:
    return MNISTDataset(path)


@functools.lru_cache(maxsize=1)
def _calibration(train_data: Path, test_data: Path) -> flags.Calibration:
    test = _dataset(test_data)
    return flags.calibrate(MNISTDataset(train_data).images, test.images, test.labels)


def write_inputs(job: Job) -> None:
    """Write what the stages are given of each split; images and labels apart."""
    shutil.rmtree(job.out / ".inputs", ignore_errors=True)
    for split, data in job.splits.items():
        dataset, folder = MNISTDataset(data), job.inputs(split)
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", dataset.images, allow_pickle=False)
        np.save(folder / "labels.npy", dataset.labels, allow_pickle=False)
