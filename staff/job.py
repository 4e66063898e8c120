"""What a class is graded with, the same for every student, and what the stages are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_utils import MNISTDataset
from lab.arrays import npy_bytes
from lab.checkpoint import write_whole
from staff import sandbox
from staff.submissions import Student


@dataclass(frozen=True)
class Job:
    """What all students of a class are graded with. Paths are absolute, seen by every worker.

    Attributes:
        out: where results go; what the stages are given is in `out/.inputs`.
        test_data: the split that is graded on.
        train_data: training images, to recognise copies; None looks for none.
        private_data: a split nobody has seen, see `private_split.py`; or None.
        data_sha256: of each split that is graded on, by name.
        limits, isolation: of the sandbox.
        gen_num, seed: of the samples.
        grader: hash of the code that grades and of the data; part of what a result rests on.
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
        """Where a student's result lies."""
        return self.out / "students" / student.key

    def inputs(self, split: str) -> Path:
        """Where the stages' inputs of a split lie; other data have a folder of their own."""
        return self.out / ".inputs" / self.data_sha256[split][:16]

    @property
    def splits(self) -> dict[str, Path]:
        """The data graded on, by name."""
        private = {} if self.private_data is None else {"private": self.private_data}
        return {"test": self.test_data, **private}


def write_inputs(job: Job) -> None:
    """Write what the stages are given of each split; images and labels apart."""
    for split, data in job.splits.items():
        dataset, folder = MNISTDataset(data), job.inputs(split)
        for name, array in (("images", dataset.images), ("labels", dataset.labels)):
            file = folder / f"{name}.npy"
            if not file.exists():  # a worker of an earlier run may be reading it
                with write_whole(file) as opened:
                    opened.write(npy_bytes(array))
                file.chmod(0o644)  # an unprivileged user reads it
