"""Marks that a person gives, and the points of all parts of the course together.

Staff keep one table, marks.csv, with the columns student, part, points and comment. It is merged at
every run, so a regrade keeps it. A row for a part that tests or scores grade overrides these.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.checks.rubric import PERSON, SCORE, TASK_OF_SCORE, rubric
from staff.tables import TableError, read_table

COLUMNS = ("student", "part", "points", "comment")


@dataclass(frozen=True)
class Mark:
    """What a person gave for one part of one student.

    Attributes:
        points: from 0 to the points of the part.
        comment: for the student; may be "".
    """

    points: float
    comment: str


Marks = Mapping[str, Mapping[str, Mark]]  # by student, as in grades.csv's "Submission", and part


def read_marks(file: Path, students: Collection[str]) -> Marks:
    """Read the table of marks. Raises TableError.

    students: the known ones; a row for another is an error, because it is a typing mistake.
    """
    marks: dict[str, dict[str, Mark]] = {}
    for where, row in read_table(file, COLUMNS):
        student, number = row["student"], row["part"]
        if student not in students:
            raise TableError(f"{where}: there is no student {student!r}.")
        part = rubric().get(number)
        if part is None:
            known = ", ".join(rubric())
            raise TableError(f"{where}: there is no part {number!r}; the parts: {known}.")
        if number in marks.setdefault(student, {}):
            raise TableError(f"{where}: a second mark of {student!r} for {number}.")
        points = points_from(where, number, row["points"], part.points)
        marks[student][number] = Mark(points, row["comment"])
    return marks


def points_from(where: str, part: str, words: str, most: int) -> float:
    """Return the points that a cell states, from 0 to `most`. Raises TableError."""
    points = float(words) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", words) else -1.0
    if not 0 <= points <= most:
        raise TableError(f"{where}: {words!r} points for {part}; expected 0 to {most}.")
    return points


def parts_of(result: Mapping[str, Any], marks: Mapping[str, Mark]) -> list[dict[str, Any]]:
    """Return the points of every part of the course for one student.

    Each entry has number, title, of, points (None for a written part without a mark), comment,
    problems (of a TODO: text and hint), and marked (whether a person gave the points).
    """
    checked = result.get("completion", {}).get("parts", {})
    tasks = result.get("tasks", {})
    entries = []
    for number, part in rubric().items():
        entry: dict[str, Any] = {
            "number": number,
            "title": part.title,
            "of": part.points,
            "points": 0 if checked and part.graded != PERSON else None,
            "comment": "",
            "problems": [],
            "marked": number in marks,
        }
        if part.graded == SCORE:
            entry["points"] = tasks.get(TASK_OF_SCORE[number], {}).get("score") or 0.0
        elif number in checked:
            entry |= {name: checked[number][name] for name in ("points", "problems")}
        if number in marks:
            mark = marks[number]  # what tests found no longer explains the points
            entry |= {"points": mark.points, "comment": mark.comment, "problems": []}
        entries.append(entry)
    return entries


def total_of(parts: list[dict[str, Any]]) -> float:
    """Return the sum of the points of parts; written parts without a mark count nothing."""
    return float(sum(part["points"] or 0 for part in parts))
