"""The settings of grading, the same for every student, and the input arrays of the stages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_utils import MNISTDataset
from lab.arrays import npy_bytes
from lab.checkpoint import write_whole
from staff import sandbox
from staff.secret import generator
from staff.submissions import Student


@dataclass(frozen=True)
class Job:
    """The settings of grading, the same for every student of a class.

    Paths are absolute and must be the same for every worker.

    Attributes:
        out: folder of the results; the stages' inputs are in `out/.inputs`.
        test_data: the split to grade on.
        private_data: a split that no student has seen (`class_split.py`), or None.
        public_data: further splits that students have, by name, to recognise copies of them.
        count: the split whose reconstructions count, "test" or "private".
        secret: of the class; see `secret.py`.
        data_sha256: SHA-256 of each split by name.
        limits, isolation: see `sandbox.run_stage`.
        gen_num: samples per label.
        seed: of the samples.
        grader: hash of the code and data that make a score; see `grade_class.grader_sha256`.
    """

    out: Path
    test_data: Path
    private_data: Path | None
    public_data: dict[str, Path]
    count: str
    secret: str = field(repr=False)
    data_sha256: dict[str, str]
    limits: sandbox.Limits
    isolation: str
    gen_num: int
    seed: int
    grader: str

    def folder(self, student: Student) -> Path:
        """Return the folder of a student's result."""
        return self.out / "students" / student.key

    def inputs(self, split: str) -> Path:
        """Return the folder of the stages' inputs of a split.

        Its name depends on the data and on the secret, which decides the order of the images.
        """
        basis = f"{self.data_sha256[split]} {self.secret}"
        return self.out / ".inputs" / hashlib.sha256(basis.encode()).hexdigest()[:16]

    def order(self, split: str, count: int) -> np.ndarray:
        """Return the order in which a stage gets the images of a split: a permutation, (count,).

        The test images are public. A submission that knew their order could return the images
        themselves without looking at its input.
        """
        return generator(self.secret, f"order of {split}").permutation(count)

    @property
    def splits(self) -> dict[str, Path]:
        """The splits to grade on, by name."""
        private = {} if self.private_data is None else {"private": self.private_data}
        return {"test": self.test_data, **private}


def write_inputs(job: Job) -> None:
    """Write the stages' inputs of each split, in a secret order: images.npy and labels.npy."""
    for split, data in job.splits.items():
        dataset, folder = MNISTDataset(data), job.inputs(split)
        order = job.order(split, len(dataset))
        for name, array in (("images", dataset.images), ("labels", dataset.labels)):
            file = folder / f"{name}.npy"
            if not file.exists():  # if it does, a worker of an earlier run may be reading it
                with write_whole(file) as opened:
                    opened.write(npy_bytes(array[order]))
                file.chmod(0o644)  # the sandbox's unprivileged user reads it
