"""Recompute the grade book of a class that was graded: no code of a student is run.

final.csv shows every summand of each grade and their sum: the points of the parts, what is
deducted for being late, and overrides. grades.csv and the students' pages follow. A copy of each
table is kept with the results, so that later runs use it until another is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import command
from lab.lock import FolderInUseError, only_one
from staff import grades, history
from staff.book import UNKNOWN_TIME, add_sums, write_final
from staff.course import CourseError
from staff.decisions import KEPT, Decisions, files_of, keep, read_decisions
from staff.pages import write_feedback
from staff.permissions import PermissionsError, write_for_owner_only
from staff.pseudonyms import known_pseudonyms
from staff.secret import PRIVATE
from staff.seeds import SeedError
from staff.statuses import GRADER_ERROR
from staff.stored import folder_of, read_results
from staff.tables import TableError

FINAL, GRADES, STAFF = "final.csv", "grades.csv", "staff.csv"
EXAMPLES = """examples:
  python -m staff.gradebook graded --course course.toml
  python -m staff.gradebook graded --marks marks.csv --extensions extensions.csv
  python -m staff.gradebook graded --overrides overrides.csv --report
"""


class GradebookError(ValueError):
    """There is nothing to compute; the message says what was expected."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of gradebook.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.gradebook"
    add = parser.add_argument
    add("out", type=Path, help="folder of the results, the --out of staff.grade_class")
    add("--course", type=Path, help="due time, late policy, title and language: see course.toml")
    add("--marks", type=Path, help="marks of a person: student, part, points, comment")
    add("--extensions", type=Path, help="later due times: student, until")
    add("--overrides", type=Path, help="set points: student, part or total, points, reason, by, on")
    add("--times", type=Path, help="hand-in times: student, submitted; or collected.csv")
    add("--report", action="store_true", help="write report.html again as well")
    return parser


def read_book(
    out: Path, given: Mapping[str, Path] | None = None
) -> tuple[list[dict[str, Any]], Decisions, dict[str, Path]]:
    """Return the results of a class with all sums, what was decided, and the files it was read of.

    given: tables in place of the kept ones, by the names of `KEPT`.

    Raises GradebookError, CourseError, TableError.
    """
    counted, results = history.last_students(out), read_results(out)
    if counted is not None:  # others have left the class since
        results = [result for result in results if result["student"] in counted]
    if not results:
        raise GradebookError(
            f"{out} holds no results; expected the --out of python -m staff.grade_class."
        )
    files = files_of(out, given or {})
    decisions = read_decisions(files, {result["student"] for result in results})
    add_sums(results, decisions)
    return results, decisions, files


def write_book(out: Path, results: list[dict[str, Any]], decisions: Decisions) -> None:
    """Write final.csv, grades.csv, staff.csv and the students' pages.

    results: with their sums; see `book.add_sums`.

    Raises SeedError, PermissionsError, OSError.
    """
    write_final(out / FINAL, results)
    grades.write_grades(out / GRADES, results)
    grades.write_staff(out / STAFF, results)
    course = decisions.course
    names = known_pseudonyms([result["student"] for result in results], out / PRIVATE)
    for result in results:
        folder = folder_of(out, result["student"])
        if result["status"] != GRADER_ERROR and folder.is_dir():
            name = names.get(result["student"])
            known = getattr(name, course.language) if name else ""
            write_feedback(result, result["parts"], folder, course.language, course.title, known)


def append_history(
    out: Path,
    program: str,
    options: Mapping[str, Any],
    files: Mapping[str, Path],
    results: list[dict[str, Any]],
) -> Path:
    """Add this run to the history and return its entry. Raises OSError.

    files: the tables that were read; see `decisions.files_of`.
    """
    copies = {KEPT[name].removeprefix("."): file for name, file in files.items()}
    students = [result["student"] for result in results]
    return history.append(out, program, options, {**copies, FINAL: out / FINAL}, students)


def main() -> None:
    """Parse, compute, write the tables and the pages, print what counted."""
    parser = make_parser()
    options = parser.parse_args()
    out = options.out
    given = {name: getattr(options, name) for name in KEPT if getattr(options, name) is not None}
    write_for_owner_only()
    errors: tuple[type[Exception], ...] = (GradebookError, CourseError, TableError)
    errors += (FolderInUseError, SeedError, PermissionsError)
    with command.clear_errors(parser.prog, *errors), only_one(out, "OUT"):
        results, decisions, files = read_book(out, given)
        keep(out, given)
        write_book(out, results, decisions)
        if options.report:
            from staff import report  # with numpy, which takes a while

            report.write_report(out, results)
        typed = {name: history.as_stored(value) for name, value in vars(options).items()}
        entry = append_history(out, "gradebook", typed, files, results)
    print_summary(results, decisions, files)
    print(f"book:    {out / FINAL}, {len(results)} students")
    print(f"grades:  {out / GRADES}; for staff alone: {out / STAFF}")
    print(f"history: {entry}")


def print_summary(
    results: list[dict[str, Any]], decisions: Decisions, files: Mapping[str, Path]
) -> None:
    """Print what was read, and what a person should know before the grades are returned."""
    for name, file in files.items():
        print(f"read:    {name} of {file}")
    late = [result for result in results if result["sums"]["days"]]
    if decisions.course.due:
        deducted = -sum(result["sums"]["late"] for result in late)
        bank = sum(result["sums"]["from_bank"] for result in late)
        print(
            f"late:    {len(late)} students, {deducted:.2f} points deducted, {bank} days of banks"
        )
    unknown = sum(UNKNOWN_TIME in result["sums"]["notes"] for result in results)
    unmarked = sum(any(part["points"] is None for part in one["parts"]) for one in results)
    for count, what in ((unknown, "with an unknown hand-in time"), (unmarked, "not fully marked")):
        if count:
            print(f"note:    {count} students {what}: see Notes in {FINAL}")


if __name__ == "__main__":
    command.run(main)
