"""Marks that a person gives, and the points of all parts of the course together.

Staff keep one table, marks.csv, with the columns student, part, points and comment. It is merged at
every run, so a regrade keeps it. A row for a part that tests or scores grade overrides these.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.checks.rubric import PERSON, SCORE, TASK_OF_SCORE, rubric
from staff.text import as_text

COLUMNS = ("student", "part", "points", "comment")


class MarksError(ValueError):
    """The table of marks has a fault; the message names the line and what was expected."""


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
    """Read the table of marks. Raises MarksError.

    students: the known ones; a row for another is an error, because it is a typing mistake.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise MarksError(f'{file} is not in UTF-8; save it as "CSV UTF-8".') from None
    except (OSError, csv.Error) as error:
        raise MarksError(f"{file} is not a CSV file that can be read ({error}).") from None
    names = [name.strip().lower() for name in rows[0][1]] if rows else []
    if not {*COLUMNS} <= {*names}:
        found = as_text(", ".join(names)) or "none"
        raise MarksError(
            f"{file} has the columns {found}; expected {', '.join(COLUMNS)}, separated by commas."
        )
    marks: dict[str, dict[str, Mark]] = {}
    for line, row in rows[1:]:
        where = f"{file}, line {line}"
        if not any(cell.strip() for cell in row):
            continue  # a spreadsheet may leave empty rows
        if len(row) > len(names):
            raise MarksError(f"{where}: more cells than columns; put a text with commas in quotes.")
        cells = dict(zip(names, [*row, *[""] * len(names)]))
        values = {name: cells[name].strip() for name in COLUMNS}
        student, number = values["student"], values["part"]
        if student not in students:
            raise MarksError(f"{where}: there is no student {as_text(student)!r}.")
        part = rubric().get(number)
        if part is None:
            known = ", ".join(rubric())
            raise MarksError(f"{where}: there is no part {as_text(number)!r}; the parts: {known}.")
        if number in marks.setdefault(student, {}):
            raise MarksError(f"{where}: a second mark of {as_text(student)!r} for {number}.")
        written = re.fullmatch(r"[0-9]+(\.[0-9]+)?", values["points"])
        points = float(values["points"]) if written else -1.0
        if not 0 <= points <= part.points:
            raise MarksError(
                f"{where}: {as_text(values['points'])!r} points for {number}; "
                f"expected 0 to {part.points}."
            )
        marks[student][number] = Mark(points, as_text(values["comment"]))
    return marks


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
