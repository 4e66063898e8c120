"""The tables of a class: grades.csv for Moodle, a copy of a Canvas export, regrade.csv."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from lab.checks.rubric import most, rubric
from staff.statuses import GRADER_ERROR, TASKS

SCORES = ("score", "raw", "ssim", "mse", "fid", "latent_dim")
SIGNS = ("=", "+", "-", "@", "\N{MINUS SIGN}")  # a formula begins with one of them
PRIVATE_SCORES = ("score", "raw", "ssim", "mse")
CANVAS_COLUMN = re.compile(r".+ \(\d+\)$")  # "Lab 2 (81523)": an assignment and its number


class GradesError(ValueError):
    """A table of another program cannot be used; the message says what was expected."""


def write_grades(file: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write one row per student. Raises OSError.

    The first columns are those of Moodle's grading worksheet. Moodle shows students the grade and
    the feedback comments, which therefore hold no flag.
    """
    rows = [map(escaped, _row(result).values()) for result in results]
    _write(file, [_row({}), *rows])


def _row(result: dict[str, Any]) -> dict[str, Any]:
    """Return a student's row by the names of the columns."""
    number = result.get("number", "") if result.get("platform") == "moodle" else ""
    status = result.get("status")
    row = {
        "Identifier": f"Participant {number}" if number else "",
        "Full name": result.get("name"),
        "Status": status,
        "Grade": _rounded(result.get("total")),
        "Maximum Grade": most(),
        "Feedback comments": "" if status == GRADER_ERROR else result.get("message"),
        "Submission": result.get("student"),
        "Isolation": result.get("isolation"),
        "Flags": " ".join(result.get("flags", [])),
    }
    points = {part["number"]: part["points"] for part in result.get("parts", [])}
    row |= {
        f"{number} (of {part.points})": _number(points.get(number))
        for number, part in rubric().items()
    }
    for task in TASKS:
        one = result.get("tasks", {}).get(task, {})
        row |= {f"{task} {name}": _number(one.get(name)) for name in SCORES}
        private = one.get("private", {})
        row |= {f"{task} private {name}": _number(private.get(name)) for name in PRIVATE_SCORES}
    return row


def _number(value: float | None) -> float | str:
    return "" if value is None else value


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 2)


def escaped(value: Any) -> Any:
    """Return a cell's value, escaped so that no spreadsheet reads a student's text as a formula.

    An apostrophe is put before a sign at the beginning, and at each place where a spreadsheet may
    split the text into two cells: some take a semicolon or tab for the end of a cell.
    """
    if not isinstance(value, str):
        return value
    parts = re.split(r"([;\t\r\n])", value)
    text = "".join(f"'{part}" if _begins_with_sign(part) else part for part in parts)
    return f"'{text}" if text.startswith(("\t", "\r", "\n")) else text


def _begins_with_sign(text: str) -> bool:
    """Return whether the first visible character is a sign, of any width (such as U+FF1D)."""
    visible = (c for c in text if unicodedata.category(c)[0] not in "ZC")
    return unicodedata.normalize("NFKC", next(visible, "")).startswith(SIGNS)


def fill_canvas(
    export: Path, file: Path, results: Iterable[dict[str, Any]], assignment: str = ""
) -> int:
    """Fill the grades into a copy of Canvas's export, by its ID column; return how many.

    Args:
        export: the export of Canvas's gradebook.
        file: the copy to write.
        results: of the class.
        assignment: beginning of the column's name; needed if there are several assignments.

    Raises GradesError, OSError.
    """
    try:
        with open(export, encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GradesError(f"{export} is not a CSV file that can be read ({error}).") from None
    if not rows or "ID" not in rows[0]:
        raise GradesError(f"{export} has no column ID; expected the export of Canvas's gradebook.")
    head = rows[0]
    columns = [name for name in head if CANVAS_COLUMN.match(name) and name.startswith(assignment)]
    if len(columns) != 1:
        known = ", ".join(name for name in head if CANVAS_COLUMN.match(name)) or "none"
        raise GradesError(
            f"{export} has {len(columns)} columns of assignments that begin with {assignment!r}; "
            f"name one of these with --assignment: {known}."
        )
    column, by_number = head.index(columns[0]), head.index("ID")
    scores = {
        result["number"]: result["total"]
        for result in results
        if result.get("platform") == "canvas" and result.get("total") is not None
    }
    filled = 0
    for row in rows[1:]:
        if len(row) > max(column, by_number) and row[by_number].strip() in scores:
            row[column] = f"{scores[row[by_number].strip()]:.2f}"
            filled += 1
    _write(file, rows)
    return filled


def changes(
    before: Mapping[str, float | None], results: Iterable[dict[str, Any]]
) -> list[tuple[str, float | None, float | None]]:
    """Return (student, old grade, new grade) for each grade that changed; None is no grade."""
    found: list[tuple[str, float | None, float | None]] = []
    for result in results:
        old, new = before.get(result["student"]), result.get("total")
        same = old == new if old is None or new is None else abs(new - old) <= 1e-9
        if not same:
            found.append((result["student"], old, new))
    return found


def write_changes(file: Path, changed: Iterable[tuple[str, float | None, float | None]]) -> None:
    """Write a row for each grade that changed. Raises OSError."""
    rows = [[escaped(key), old, new] for key, old, new in changed]
    _write(file, [["Submission", "Grade before", "Grade now"], *rows], "\n", "utf-8")


def _write(
    file: Path, rows: Iterable[Iterable[Any]], line_end: str = "\r\n", encoding: str = "utf-8-sig"
) -> None:
    """Write a CSV file. Excel reads names correctly only in the encoding "utf-8-sig"."""
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(rows)
    with write_whole(file) as written:
        written.write(text.getvalue().encode(encoding))
