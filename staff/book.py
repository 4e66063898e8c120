"""The grade book: every summand of each student's grade, and the sum. No code is run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from lab.checks.rubric import most, rubric
from staff.decisions import TOTAL, Decisions
from staff.late import late
from staff.marks import Mark, parts_of
from staff.pages import status_for_student
from staff.statuses import GRADER_ERROR, NOT_HANDED_IN
from staff.tables import write_table

UNKNOWN_TIME = "the time of the hand-in is unknown, so nothing is deducted"


def add_sums(results: Iterable[dict[str, Any]], decisions: Decisions) -> None:
    """Add to each result the points of every part, the sums, and the total.

    The entry `sums` has: parts (their sum), submitted and due (ISO 8601; "" if unknown), days
    (late), from_bank, percent, late (points, at most 0), override (points that the override of the
    total adds), and notes, which are for staff. The total is parts + late + override; it is None if
    the grader failed.
    """
    for result in results:
        student = result["student"]
        overrides = decisions.overrides.get(student, {})
        marks = dict(decisions.marks.get(student, {}))
        for number, one in overrides.items():
            if number != TOTAL:
                comment = marks[number].comment if number in marks else ""
                marks[number] = Mark(one.points, comment)
        result["parts"] = parts_of(result, marks)
        came = result["status"] != NOT_HANDED_IN
        sums = result["sums"] = _sums(result["parts"], student, decisions, came)
        total = sums["parts"] + sums["late"]
        if TOTAL in overrides:
            sums["override"] = overrides[TOTAL].points - total
            total = overrides[TOTAL].points
        sums["notes"] += [
            f"{number}: {one.points:g} by {one.by}, {one.on}: {one.reason}"
            for number, one in overrides.items()
        ]
        result["total"] = None if result["status"] == GRADER_ERROR else float(total)


def _sums(
    parts: list[dict[str, Any]], student: str, decisions: Decisions, came: bool
) -> dict[str, Any]:
    """Return the sums of a student without an override of the total.

    came: whether anything was handed in.
    """
    course, times = decisions.course, decisions.times.get(student)
    submitted, due = times.at if times else None, _due(student, decisions)
    points = float(sum(part["points"] or 0 for part in parts))
    sums: dict[str, Any] = {
        "parts": points,
        "submitted": _in_zone_of(due, submitted).isoformat() if submitted else "",
        "due": due.isoformat() if due else "",
        **{"days": 0, "from_bank": 0, "percent": 0.0, "late": 0.0, "override": 0.0},
        "notes": [],
    }
    if unmarked := [part["number"] for part in parts if part["points"] is None]:
        sums["notes"].append(f"not marked: {' '.join(unmarked)}")
    if due and submitted:
        found = late(submitted, due, course.late)
        sums |= {"days": found.days, "from_bank": found.from_bank, "percent": found.percent}
        sums["late"] = -points * found.percent / 100 if found.percent else 0.0
    elif due and came:
        sums["notes"].append(UNKNOWN_TIME)
    return sums


def _in_zone_of(due: datetime | None, at: datetime) -> datetime:
    return at.astimezone(due.tzinfo) if due else at


def _due(student: str, decisions: Decisions) -> datetime | None:
    """Return when a student's work is due; an extension never makes it earlier."""
    due = decisions.course.due
    extension = decisions.extensions.get(student)
    return max(due, extension) if due and extension else due


def write_final(file: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write final.csv: a row per student, in the order of their names in the results.

    Nothing is rounded, so that the columns of a row add up to its total. Raises OSError.
    """
    head = ["Submission", "Full name", "Status"]
    head += [f"{number} (of {part.points})" for number, part in rubric().items()]
    head += ["Sum of the parts", "Submitted", "Due", "Days late", "Days from the bank"]
    head += ["Percent deducted", "Late", "Override", f"Total (of {most()})", "Notes"]
    write_table(file, [head, *map(_row, sorted(results, key=lambda one: one["student"]))])


def _row(result: dict[str, Any]) -> list[Any]:
    sums = result["sums"]
    names = ("parts", "submitted", "due", "days", "from_bank", "percent", "late", "override")
    return [
        *(result["student"], result["name"], status_for_student(result["status"])),
        *(part["points"] for part in result["parts"]),
        *(sums[name] for name in names),
        *(result["total"], "; ".join(sums["notes"])),
    ]
