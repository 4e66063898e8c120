"""The tables of a class: grades.csv, which Moodle imports, and a Canvas export filled in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.statuses import MOST, TASKS

SCORES = ("score", "raw", "ssim", "mse", "fid", "latent_dim")
CANVAS_COLUMN = re.compile(r".+ \(\d+\)$")  # "Lab 2 (81523)": an assignment and its number


class GradesError(ValueError):
    """A table from elsewhere is not what it must be; says what was expected."""


def write_grades(file: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write a row a student. The first columns are those of Moodle's grading worksheet."""
    rows = [_row(result) for result in results]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_row(None)), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: escaped(value) for name, value in row.items()} for row in rows)
    with write_whole(file) as written:
        written.write(text.getvalue().encode("utf-8-sig"))  # so that Excel reads names rightly


def _row(result: dict[str, Any] | None) -> dict[str, Any]:
    result = result or {}
    number = result.get("number", "") if result.get("platform") == "moodle" else ""
    row = {
        "Identifier": f"Participant {number}" if number else "",
        "Full name": result.get("name"),
        "Status": result.get("status"),
        "Grade": _number(result.get("score")),
        "Maximum Grade": MOST,
        "Feedback comments": result.get("message"),
        "Submission": result.get("student"),
        "Isolation": result.get("isolation"),
    }
    for task in TASKS:
        one = result.get("tasks", {}).get(task, {})
        row |= {f"{task} {name}": _number(one.get(name)) for name in SCORES}
    return row


def _number(value: float | None) -> float | str:
    return "" if value is None else value


def escaped(value: Any) -> Any:
    """Keep a spreadsheet from taking what a student wrote for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def fill_canvas(
    export: Path, file: Path, results: Iterable[dict[str, Any]], assignment: str = ""
) -> int:
    """Fill the grades into a copy of Canvas's export, by its ID column; return how many.

    assignment: beginning of the column's name, where there is more than one assignment.
    Raises GradesError.
    """
    try:
        with open(export, encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GradesError(f"{export} is no CSV file that can be read ({error}).") from None
    if not rows or "ID" not in rows[0]:
        raise GradesError(f"{export} has no column ID; expected the export of Canvas's gradebook.")
    head = rows[0]
    columns = [name for name in head if CANVAS_COLUMN.match(name) and name.startswith(assignment)]
    if len(columns) != 1:
        known = ", ".join(name for name in head if CANVAS_COLUMN.match(name)) or "none"
        raise GradesError(
            f"{export} has {len(columns)} columns that could be meant; "
            f"say which with --assignment: {known}."
        )
    place, by_number = head.index(columns[0]), head.index("ID")
    scores = {
        result["number"]: result["score"]
        for result in results
        if result.get("platform") == "canvas" and result.get("score") is not None
    }
    filled = 0
    for row in rows[1:]:
        if len(row) > max(place, by_number) and row[by_number].strip() in scores:
            row[place] = f"{scores[row[by_number].strip()]:.2f}"
            filled += 1
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    with write_whole(file) as written:
        written.write(text.getvalue().encode("utf-8-sig"))
    return filled
