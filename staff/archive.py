"""Pack a graded class for later years: submissions, results, marks, splits, secret and versions.

With the archive alone, `python -m staff.verify` computes a grade again. With --fingerprints_only it
holds no name, no file and no text of a student: only hashes and points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from lab.lock import FolderInUseError, only_one
from staff import history
from staff.archived import (
    SECRET,
    ArchivedError,
    Member,
    grade_of,
    sha256_of,
    split_members,
    write_archive,
)
from staff.class_folder import students_in
from staff.class_split import class_split
from staff.commit import commit
from staff.course import CourseError
from staff.decisions import KEPT, files_of
from staff.gradebook import FINAL, GRADES, STAFF, GradebookError, read_book
from staff.permissions import PermissionsError, work_folder, write_for_owner_only
from staff.secret import PRIVATE, secret_in
from staff.seeds import SeedError
from staff.statuses import GRADER_ERROR, TASKS
from staff.stored import folder_of
from staff.student import facts_of
from staff.submissions import HandedIn, HandedInError, Student, take
from staff.tables import TableError

EXAMPLES = """examples:
  python -m staff.archive graded lab-2026.zip
  python -m staff.archive graded lab-2026.zip --fingerprints_only     no names and no files
  python -m staff.archive graded lab-2026.zip --folder collected      if it was moved
"""
OF_GRADING = ("options", "versions", "processor", "commit", "grader_sha256", "data_sha256")
TABLES = (FINAL, GRADES, STAFF, "regrade.csv")


def options_of_grading(out: Path) -> dict[str, Any]:
    """Return the options of the last run of grade_class. Raises ArchivedError."""
    for entry in reversed(history.entries(out)):
        run = json.loads((entry / history.RUN).read_text(encoding="utf-8"))
        if run["program"] == "grade_class":
            return run["options"]
    raise ArchivedError(f"{out} has no history of grade_class; grade the class first.")


def how_graded(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how the class was graded, from its results. Raises ArchivedError if not all alike."""
    graded = [one for one in results if one["status"] != GRADER_ERROR]
    if not graded or any(name not in one for one in graded for name in OF_GRADING):
        raise ArchivedError(
            "the results do not say how they were made; grade the class again with this version."
        )
    for name in ("options", "grader_sha256", "data_sha256"):
        if any(one[name] != graded[0][name] for one in graded):
            raise ArchivedError(f"not all results have the same {name}; grade the class again.")
    return {name: graded[0][name] for name in OF_GRADING} | {"isolation": graded[0]["isolation"]}


def splits_of(out: Path, options: dict[str, Any], hashes: dict[str, str]) -> dict[str, Path]:
    """Return the folders of the splits that the class was graded on, by name.

    Args:
        out: folder of the results.
        options: of the run of grade_class.
        hashes: SHA-256 of the splits, by name, from the results.

    Raises ArchivedError if a split has changed since, DataError.
    """
    splits = {"test": ROOT / options["test_data"]}
    if options["private_data"] is not None:
        splits["private"] = ROOT / options["private_data"]
    elif not options["no_private"]:
        folder = out.resolve() / PRIVATE
        count = options["private_images"]
        splits["private"] = class_split(folder, splits["test"], secret_in(folder), count)
    for name, split in splits.items():
        if MNISTDataset(split).sha256 != hashes.get(name):
            raise ArchivedError(f"{split} is not the split {name} that the class was graded on.")
    return splits


def file_names(handed_in: HandedIn) -> dict[str, Path]:
    """Return the files that were graded, by names from which grading takes them again."""
    names = {
        f"{task if task in TASKS else f'checkpoint_{number}'}.pth": file
        for number, (task, file) in enumerate(handed_in.checkpoints.items())
    }
    return {"submission.py": handed_in.code, **names}


class Packer:
    """Packs students one after the other, so that one student's files at a time are copied.

    Args:
        out: folder of the results.
        students: who handed in, by key.
        results: with the sums of the grade book.
        fingerprints_only: whether to leave out names, files, messages and tables.

    Attributes:
        entries: of archive.json, by student, once all members were taken.
    """

    def __init__(
        self,
        out: Path,
        students: dict[str, Student],
        results: Sequence[dict[str, Any]],
        fingerprints_only: bool,
    ) -> None:
        self.out, self.students, self.results = out, students, results
        self.fingerprints_only = fingerprints_only
        self.entries: dict[str, dict[str, Any]] = {}

    def members(self) -> Iterator[Member]:
        """Yield the files of each student. Raises ArchivedError, OSError."""
        found: list[dict[str, Any]] = []
        for result in tqdm(self.results, unit="student", dynamic_ncols=True):
            key = result["student"]
            entry: dict[str, Any] = {"grade": grade_of(result), "sha256": {}}
            with work_folder(self.out / ".work") as work:
                files = self._files(result, work)
                entry["sha256"] = {
                    name: sha256_of(file.read_bytes()) for name, file in files.items()
                }
                if not self.fingerprints_only:
                    for name, file in files.items():
                        yield Member(f"submissions/{key}/{name}", file)
            if self.fingerprints_only:
                found.append(entry)
                continue
            self.entries[key] = {"name": result["name"], **entry}
            yield Member(f"results/{key}/result.json", folder_of(self.out, key) / "result.json")
        # In an order that says nothing of the students.
        for number, entry in enumerate(sorted(found, key=lambda one: str(one["sha256"])), 1):
            self.entries[f"{number:04d}"] = entry

    def _files(self, result: dict[str, Any], work: Path) -> dict[str, Path]:
        """Return copies of what was graded of a student. Raises ArchivedError."""
        key = result["student"]
        if key not in self.students:
            raise ArchivedError(f"there is no submission of {key}; give its folder with --folder.")
        try:
            handed_in = take(self.students[key], work / "handed_in")
        except HandedInError:
            return {}  # as when it was graded: the result says why
        if result.get("handed_in") not in (None, facts_of(handed_in)):
            raise ArchivedError(
                f"the files of {key} are not those that were graded; grade the class again first."
            )
        return file_names(handed_in)


def table_members(out: Path) -> Iterator[Member]:
    """Yield the tables of the grade book, and what each run was asked and read."""
    for name, file in files_of(out, {}).items():
        yield Member(f"tables/{KEPT[name].removeprefix('.')}", file)
    for name in TABLES:
        if (out / name).is_file():
            yield Member(f"tables/{name}", out / name)
    for entry in history.entries(out):
        yield Member(f"history/{entry.name}/{history.RUN}", entry / history.RUN)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.archive"
    add = parser.add_argument
    add("out", type=Path, help="folder of the results, the --out of staff.grade_class")
    add("file", type=Path, help="the archive to write, a zip")
    add("--folder", type=Path, help="the submissions; where they were when they were graded")
    add(
        "--fingerprints_only",
        action="store_true",
        help="hashes and points alone: no name, no file, no message, no table",
    )
    return parser


def main() -> None:
    """Parse, pack, print what is in the archive."""
    parser = make_parser()
    options = parser.parse_args()
    out, only = options.out, options.fingerprints_only
    errors = (GradebookError, CourseError, TableError, HandedInError, ArchivedError, DataError)
    write_for_owner_only()
    with (
        command.clear_errors(parser.prog, *errors, SeedError, PermissionsError, FolderInUseError),
        only_one(out, "OUT"),
    ):
        results, decisions, _ = read_book(out)
        asked = options_of_grading(out)
        graded = how_graded(results)
        splits = splits_of(out, asked, graded["data_sha256"])
        students = {one.key: one for one in students_in(options.folder or ROOT / asked["folder"])}
        packer = Packer(out, students, results, only)
        index = {
            "title": decisions.course.title,
            "packed_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "packed_by": commit(),
            "fingerprints_only": only,
            "graded_with": graded,
            "students": packer.entries,  # filled in while the members are written
        }

        def members() -> Iterator[Member]:
            yield Member(SECRET, secret_in(out / PRIVATE).encode())
            for name, folder in splits.items():
                yield from split_members(name, folder)
            yield from packer.members()
            if not only:
                yield from table_members(out)

        write_archive(options.file, index, members())
    held = "hashes and points" if only else "files, results and tables"
    print(f"archive: {options.file}, {len(results)} students: {held}")
    print("keep:    only staff may read it: it holds the class's secret and private images")


if __name__ == "__main__":
    command.run(main)
