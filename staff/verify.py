"""Compute a grade again from an archive of a class, and compare: is it the one that was given?

The submission runs in the sandbox, on the splits and with the options of the archive. The status is
1 if a figure is outside the tolerance. Of an archive with fingerprints alone, give the student's
files: their hashes say whose they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from staff import sandbox
from staff.archive import file_names
from staff.archived import SECRET, Archived, ArchivedError, grade_of, sha256_of
from staff.book import add_sums
from staff.commit import commit
from staff.decisions import Decisions
from staff.grade_class import grader_sha256
from staff.job import Job, prepare
from staff.permissions import write_for_owner_only
from staff.statuses import GRADER_ERROR
from staff.student import grade_student
from staff.submissions import HandedInError, Student, take

TOLERANCE = 0.01  # points: the digits of grades.csv
SUM = 1e-6  # of the summands, which are added in the same way everywhere
EXAMPLES = """examples:
  python -m staff.verify lab-2026.zip --student ada
  python -m staff.verify lab-2026.zip --files ada/        of an archive with fingerprints alone
"""


@dataclass(frozen=True)
class Figure:
    """A figure of a grade, as archived and as computed again.

    Attributes:
        what: its name.
        before, now: a number, words, or None.
        tolerance: by how much numbers may differ.
    """

    what: str
    before: Any
    now: Any
    tolerance: float = TOLERANCE

    @property
    def same(self) -> bool:
        """Whether both are the same within the tolerance."""
        if isinstance(self.before, (int, float)) and isinstance(self.now, (int, float)):
            return abs(self.before - self.now) <= self.tolerance
        return self.before == self.now


def compare(
    before: dict[str, Any], now: dict[str, Any], tolerance: float = TOLERANCE
) -> Iterator[Figure]:
    """Yield the figures of two grades, as `archived.grade_of` returns them.

    What a person gave is not computed again, but that the summands add up to the total is.
    """
    yield Figure("status", before["status"], now["status"])
    for task in sorted({*before["tasks"], *now["tasks"]}):
        was, again = (one["tasks"].get(task, {}).get("raw") for one in (before, now))
        yield Figure(f"{task} raw", was, again, tolerance)
    for number, part in before["parts"].items():
        if not part["marked"] and part["points"] is not None:
            again = now["parts"].get(number, {}).get("points")
            yield Figure(f"part {number}", part["points"], again, tolerance)
    if before["total"] is not None:
        points = sum(part["points"] or 0 for part in before["parts"].values())
        total = points + before["late"] + before["override"]
        yield Figure("sum of the grade", before["total"], total, SUM)


def student_of(archive: Archived, key: str | None, code_sha256: str | None) -> str:
    """Return whose grade is asked for, by key or by the hash of submission.py.

    Raises ArchivedError.
    """
    students = archive.index["students"]
    if key is not None:
        if key not in students:
            raise ArchivedError(f"there is no student {key!r} in {archive.file}.")
        return key
    found = [
        key for key, one in students.items() if one["sha256"].get("submission.py") == code_sha256
    ]
    if len(found) != 1:
        raise ArchivedError(
            f"{len(found)} students of {archive.file} handed in this submission.py; expected one. "
            "If there are more, name one with --student."
        )
    return found[0]


def files_into(archive: Archived, key: str, given: Path | None, into: Path) -> None:
    """Put a student's files into a folder, of the archive or given ones with the same hashes.

    Raises ArchivedError, HandedInError, OSError.
    """
    expected = archive.index["students"][key]["sha256"]
    if not expected:
        raise ArchivedError(f"{key} handed in nothing that could be graded.")
    if given is None:
        if archive.index["fingerprints_only"]:
            raise ArchivedError(
                f"{archive.file} holds fingerprints alone; give the student's files with --files."
            )
        archive.unpack(f"submissions/{key}/", into)
    else:
        handed_in = take(Student(key, key, "", "", given), into.with_name("given"))
        into.mkdir()
        for name, file in file_names(handed_in).items():
            file.rename(into / name)
    found = {file.name: sha256_of(file.read_bytes()) for file in into.iterdir()}
    if found != expected:
        other = sorted(
            name for name in {*found, *expected} if found.get(name) != expected.get(name)
        )
        raise ArchivedError(f"{', '.join(other)} of {key} are not the files that were graded.")


def job_of(archive: Archived, folder: Path, isolation: str) -> Job:
    """Return the settings of grading, with the splits unpacked. Raises ArchivedError, DataError."""
    graded = archive.index["graded_with"]
    options = dict(graded["options"])
    splits, sums = {}, {}
    public = {name: ROOT / "dataset" / name for name in ("train", "valid")}
    for name in ("test", "private"):
        if archive.names_in(f"splits/{name}/"):
            splits[name] = archive.unpack(f"splits/{name}/", folder / "splits" / name)
    for name, path in {**splits, **public}.items():
        sums[name] = MNISTDataset(path).sha256
        if sums[name] != graded["data_sha256"].get(name):
            raise ArchivedError(f"{path} is not the split {name} that the class was graded on.")
    return Job(
        out=folder / "out",
        test_data=splits["test"],
        private_data=splits.get("private"),
        public_data=public,
        count=options["count"],
        secret=archive.content(SECRET).decode(),
        data_sha256=sums,
        limits=sandbox.Limits(**options["limits"]),
        isolation=isolation,
        gen_num=options["gen_num"],
        seed=options["seed"],
        grader=grader_sha256(sums),
        checks=options["checks"],
        reports=False,
    )


def grade_again(archive: Archived, key: str, given: Path | None, isolation: str) -> dict[str, Any]:
    """Grade a student again and return the figures of the grade.

    Raises ArchivedError, HandedInError, DataError, SandboxError, OSError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files_into(archive, key, given, folder / "files")
        job = job_of(archive, folder, isolation)
        for words in notes(archive.index["graded_with"], job):
            print(f"note:    {words}")
        if isolation == sandbox.BUBBLEWRAP:
            sandbox.probe(job.limits)
        prepare(job)
        result = grade_student(Student(key, key, "", "", folder / "files"), job)
    if result["status"] == GRADER_ERROR:
        raise ArchivedError(f"the grader failed, so nothing was compared: {result['message']}")
    add_sums([result], Decisions())
    return grade_of(result)


def notes(graded: dict[str, Any], job: Job) -> Iterator[str]:
    """Yield what differs from when the class was graded, in words."""
    if graded["grader_sha256"] != job.grader:
        was, now = graded["commit"] or "unknown", commit() or "unknown"
        versions = graded["versions"]["torch"], version("torch")
        yield "the grader, torch or numpy is another one than then:"
        yield f"graded by commit {was}, torch {versions[0]}; now commit {now}, torch {versions[1]}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.verify"
    add = parser.add_argument
    add("file", type=Path, help="what staff.archive wrote")
    add("--student", metavar="KEY", help="whose grade, as in the column Submission of grades.csv")
    add("--files", type=Path, help="the student's folder or zip, in place of the archive's files")
    add("--tolerance", type=float, default=TOLERANCE, help="points by which figures may differ")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="run the submission without isolation, with all your rights",
    )
    return parser


def main() -> None:
    """Parse, grade again, print each figure; the status is 1 if one differs."""
    parser = make_parser()
    options = parser.parse_args()
    if options.student is None and options.files is None:
        parser.error("give --student, or --files to find the student by the files' hashes")
    isolation = sandbox.NONE if options.unsafe_no_isolation else sandbox.BUBBLEWRAP
    errors = (ArchivedError, HandedInError, DataError, sandbox.SandboxError)
    write_for_owner_only()
    with command.clear_errors(parser.prog, *errors):
        archive = Archived(options.file)
        code = _code_sha256(options.files) if options.student is None else None
        key = student_of(archive, options.student, code)
        before = archive.index["students"][key]["grade"]
        figures = list(
            compare(before, grade_again(archive, key, options.files, isolation), options.tolerance)
        )
    for one in figures:
        print(f"{'same' if one.same else 'OTHER':8} {one.what}: {_shown(one)}")
    marked = [number for number, part in before["parts"].items() if part["marked"]]
    if marked:
        print(f"note:    not computed, as a person gave the points: {', '.join(marked)}")
    other = [one.what for one in figures if not one.same]
    print(
        f"{key}: {len(figures)} figures, {len(other)} differ by more than {options.tolerance:g} "
        f"points"
    )
    sys.exit(1 if other else 0)


def _shown(one: Figure) -> str:
    return str(one.before) if one.before == one.now else f"{one.before} archived, {one.now} now"


def _code_sha256(path: Path) -> str:
    """Return the hash of the submission.py in a folder or zip. Raises HandedInError, OSError."""
    with tempfile.TemporaryDirectory() as folder:
        code = take(Student("files", "files", "", "", path), Path(folder) / "files").code
        return sha256_of(code.read_bytes())


if __name__ == "__main__":
    command.run(main)
