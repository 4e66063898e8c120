"""The settings of grading, the same for every student, and the input arrays of the stages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from data_utils import MNISTDataset
from lab.arrays import npy_bytes
from lab.checkpoint import remove_leftovers, write_whole
from staff import sandbox
from staff.permissions import private_folder
from staff.submissions import Student


@dataclass(frozen=True)
class Job:
    """The settings of grading, the same for every student of a class.

    Paths are absolute and must be the same for every worker.

    Attributes:
        out: folder of the results; the stages' inputs are in `out/.inputs`, and the students'
            files while they are graded in `out/.work`.
        test_data: the split to grade on.
        train_data: training images, to recognise copies; None to skip this check.
        private_data: a split that no student has seen (`private_split.py`), or None.
        data_sha256: SHA-256 of each split by name; "test", and "private" if there is one.
        limits, isolation: see `sandbox.run_stage`.
        gen_num: samples per label.
        seed: of the samples.
        grader: hash of the code and data that make a score; see `grade_class.grader_sha256`.
    """

    out: Path
    test_data: Path
    train_data: Path | None
    private_data: Path | None
    data_sha256: dict[str, str]
    limits: sandbox.Limits
    isolation: str
    gen_num: int
    seed: int
    grader: str

    def folder(self, student: Student) -> Path:
        """Return the folder of a student's result."""
        return folder_of(self.out, student.key)

    @property
    def work(self) -> Path:
        """The folder that each process makes its work folder in."""
        return self.out / ".work"

    def inputs(self, split: str) -> Path:
        """Return the folder of the stages' inputs of a split; its name depends on the data."""
        return self.out / ".inputs" / self.data_sha256[split][:16]

    @property
    def splits(self) -> dict[str, Path]:
        """The splits to grade on, by name."""
        private = {} if self.private_data is None else {"private": self.private_data}
        return {"test": self.test_data, **private}


def folder_of(out: Path, key: str) -> Path:
    """Return the folder of a student's result; its name is UTF-8 under every locale."""
    return out / "students" / os.fsdecode(key.encode())


def write_inputs(job: Job) -> None:
    """Write the stages' inputs of each split: images.npy and labels.npy.

    The folders of the results are made before, closed to other accounts, and the students' files
    that a killed grader left are removed.
    """
    for name in ("students", ".inputs", job.work.name):
        private_folder(job.out / name)
    remove_leftovers(job.work)
    for split, data in job.splits.items():
        dataset, folder = MNISTDataset(data), job.inputs(split)
        for name, array in (("images", dataset.images), ("labels", dataset.labels)):
            file = folder / f"{name}.npy"
            if not file.exists():  # if it does, a worker of an earlier run may be reading it
                with write_whole(file) as opened:
                    opened.write(npy_bytes(array))
                file.chmod(0o644)  # the sandbox's unprivileged user reads it
