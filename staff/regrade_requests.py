"""Answer regrade requests: a table of requests in, one page with all answers out.

The page says for each request what the part is worth now and before the last change, what the
checks found, and the reason in overrides.csv. It is for staff, who send each student their answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import command
from lab.checkpoint import write_whole
from lab.checks.rubric import most, rubric
from lab.lock import FolderInUseError, only_one
from staff import history
from staff.chinese import in_chinese
from staff.course import LANGUAGES, CourseError
from staff.decisions import TOTAL, Decisions, most_of
from staff.gradebook import FINAL, GradebookError, read_book
from staff.pages import for_student, render
from staff.permissions import write_for_owner_only
from staff.tables import TableError, read_rows, read_table

PAGE = "requests.html"  # in the folder of the results
MAX_WORDS = 5000  # characters of a request that are shown
EXAMPLES = """examples:
  python -m staff.regrade_requests graded requests.csv
  python -m staff.gradebook graded --overrides overrides.csv     first: what was decided
"""


@dataclass(frozen=True)
class Request:
    """What a student asks for.

    Attributes:
        student: as in the column Submission of grades.csv.
        part: a number of the rubric, or "total".
        words: why, in the student's words.
    """

    student: str
    part: str
    words: str


def read_requests(file: Path, students: Collection[str]) -> list[Request]:
    """Read requests.csv: student, part ("total" for the sum), request. Raises TableError."""
    found = []
    for where, row in read_table(file, ("student", "part", "request")):
        if row["student"] not in students:
            raise TableError(f"{where}: there is no student {row['student']!r}.")
        if row["part"] != TOTAL and row["part"] not in rubric():
            known = ", ".join([TOTAL, *rubric()])
            raise TableError(f"{where}: there is no part {row['part']!r}; the parts: {known}.")
        found.append(Request(row["student"], row["part"], row["request"][:MAX_WORDS]))
    if not found:
        raise TableError(f"{file} has no request.")
    return found


def points_before(out: Path, request: Request, now: float | None) -> float | None:
    """Return the points of the newest grade book in the history that differ from those of now.

    None if there is none: the points have never changed. Raises TableError.
    """
    column = f"Total (of {most()})"
    if request.part != TOTAL:
        column = f"{request.part} (of {most_of(request.part)})"
    for entry in reversed(history.entries(out)):
        rows = [row for _, row in read_rows(entry / FINAL)]
        for row in rows[1:]:
            cells = dict(zip(rows[0], row))
            if cells["Submission"] == request.student:
                with suppress(ValueError, KeyError):  # an empty cell, or another rubric
                    points = float(cells[column])
                    if now is None or abs(points - now) > 1e-9:
                        return points
    return None


def answer(out: Path, request: Request, result: dict[str, Any], decisions: Decisions) -> dict:
    """Return what the page says about a request.

    result: the student's, with the sums of the grade book. Raises TableError.
    """
    shown = for_student(result, result["parts"])
    part = next((one for one in shown["parts"] if one["number"] == request.part), None)
    now = part["points"] if part else result["total"]
    override = decisions.overrides.get(request.student, {}).get(request.part)
    return {
        "student": request.student,
        "name": result["name"],
        "part": request.part,
        "titles": (part["title"], part["title_zh"]) if part else ("the sum", "总分"),
        "words": request.words,
        "of": most_of(request.part),
        "before": points_before(out, request, now),
        "now": now,
        "problems": part["problems"] if part else [],
        "comment": part["comment"] if part else "",
        "override": override,
    }


def write_page(file: Path, answers: list[dict[str, Any]], title: str, language: str) -> None:
    """Write the page. Raises OSError."""
    place = LANGUAGES.index(language)
    text = render(
        "requests.html",
        answers=answers,
        title=title,
        place=place,
        say=in_chinese if place else str,
        t=lambda *words: words[place],
    )
    with write_whole(file) as opened:
        opened.write(text.encode())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.regrade_requests"
    add = parser.add_argument
    add("out", type=Path, help="folder of the results, the --out of staff.grade_class")
    add("requests", type=Path, help="table of the requests: student, part or total, request")
    return parser


def main() -> None:
    """Parse, look each request up, write the page."""
    parser = make_parser()
    options = parser.parse_args()
    out = options.out
    errors = (GradebookError, CourseError, TableError, FolderInUseError)
    write_for_owner_only()
    with command.clear_errors(parser.prog, *errors), only_one(out, "OUT"):
        results, decisions, _ = read_book(out)
        known = {result["student"]: result for result in results}
        requests = read_requests(options.requests, known)
        answers = [answer(out, one, known[one.student], decisions) for one in requests]
        course = decisions.course
        write_page(out / PAGE, answers, course.title, course.language)
    changed = sum(one["before"] is not None for one in answers)
    print(
        f"answers: {out / PAGE}, {len(answers)} requests, {changed} with other points than before"
    )


if __name__ == "__main__":
    command.run(main)
