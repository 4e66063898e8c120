"""The settings of grading, the same for every student."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from staff import sandbox
from staff.permissions import private_folder
from staff.stored import folder_of
from staff.submissions import Student


@dataclass(frozen=True)
class Job:
    """The settings of grading, the same for every student of a class.

    Paths are absolute and must be the same for every worker.

    Attributes:
        out: folder of the results; the students' files are in `out/.work` while they are graded.
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
        checks: whether to check each TODO, for the completion points.
        reports: whether to write a page about each model, which the feedback links.
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
    checks: bool = True
    reports: bool = True

    def folder(self, student: Student) -> Path:
        """Return the folder of a student's result."""
        return folder_of(self.out, student.key)

    @property
    def options(self) -> dict[str, Any]:
        """What a result depends on besides files, data, grader and secret, as JSON can hold it."""
        names = ("gen_num", "seed", "count", "checks", "reports")
        return {name: getattr(self, name) for name in names} | {"limits": asdict(self.limits)}

    @property
    def work(self) -> Path:
        """The folder that each process makes its work folder in."""
        return self.out / ".work"

    @property
    def splits(self) -> dict[str, Path]:
        """The splits to grade on, by name."""
        private = {} if self.private_data is None else {"private": self.private_data}
        return {"test": self.test_data, **private}


def prepare(job: Job) -> None:
    """Make the folder of results, closed to other accounts; `work_folder` does so for the work."""
    private_folder(job.out / "students")
