"""The tables of a class: grades.csv, which holds nothing that students may not see, and staff.csv.

Platforms take neither: `python -m staff.return_grades` fills in their own tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.checks.rubric import most, rubric
from staff.pages import for_student
from staff.statuses import TASKS
from staff.tables import write_table

SCORES = ("score", "raw", "ssim", "mse", "fid", "latent_dim")
PRIVATE_SCORES = ("score", "raw", "ssim", "mse")


def write_grades(file: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write grades.csv: one row per student, with grades and points of two digits.

    It is made of what `for_student` returns, so it holds no flag. Raises OSError.
    """
    head = ["Submission", "Full name", "Status", "Grade", "Maximum Grade", "Feedback comments"]
    head += [f"{number} (of {part.points})" for number, part in rubric().items()]
    head += [f"{task} {name}" for task in TASKS for name in SCORES]
    write_table(file, [head, *map(_for_students, results)])


def _for_students(result: dict[str, Any]) -> list[Any]:
    shown = for_student(result, result["parts"])
    row = [result["student"], result["name"], shown["status"]]
    row += [_rounded(result["total"]), most(), shown["message"]]
    row += [_rounded(part["points"]) for part in shown["parts"]]
    for task in TASKS:
        one = shown["tasks"].get(task, {})
        row += [_rounded(one.get("score")), *(one.get(name) for name in SCORES[1:])]
    return row


def write_staff(file: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write staff.csv: what students must not see, flags and the private split. Raises OSError."""
    head = ["Submission", "Full name", "Status", "Flags", "Message", "Isolation"]
    head += [f"{task} private {name}" for task in TASKS for name in PRIVATE_SCORES]
    write_table(file, [head, *map(_for_staff, results)])


def _for_staff(result: dict[str, Any]) -> list[Any]:
    row = [result["student"], result["name"], result["status"], " ".join(result["flags"])]
    row += [result["message"], result["isolation"]]
    for task in TASKS:
        private = result["tasks"].get(task, {}).get("private", {})
        row += [private.get(name) for name in PRIVATE_SCORES]
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


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
    write_table(file, [["Submission", "Grade before", "Grade now"], *changed])
