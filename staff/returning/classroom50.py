"""Classroom 50: a result.json per student, in the form classroom50/result/v1.

The form is that of schemas/result-v1.schema.json of foundation50/classroom50: scores are whole
numbers from 0 to the most, and who handed in what is copied from the collected scores.json.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from lab.checks.rubric import most
from staff.pages import for_student
from staff.returning.matching import Filled
from staff.returning.sheet import ReturnError
from staff.tables import MAX_BYTES

SCHEMA, SCORES_SCHEMA = "classroom50/result/v1", "classroom50/scores/v1"
COPIED = (  # of the newest submission in scores.json
    *("classroom", "assignment_type", "owner", "submission", "commit", "release", "review"),
    "datetime",
)
LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


def write_results(
    scores: Path, assignment: str, folder: Path, results: Iterable[dict[str, Any]]
) -> Filled:
    """Write `folder`/OWNER/result.json for each repository whose owner is a student of the class.

    Args:
        scores: the classroom's scores.json.
        assignment: the short name of the assignment.
        folder: for the results.
        results: of the class, with their sums; a student is an owner by key or name, in any case.

    Raises ReturnError, OSError.
    """
    entries = {entry["owner"].casefold(): entry for entry in _entries(scores, assignment)}
    filled = Filled()
    for result in results:
        if result["total"] is None:
            continue
        keys = (result["student"].casefold(), result["name"].casefold())
        entry = next((entries[key] for key in keys if key in entries), None)
        if entry is None:
            filled.without_row.append(result["name"])
            continue
        content = result_of(entry["submissions"][0], assignment, result)
        file = folder / entry["owner"] / "result.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(file) as opened:
            opened.write(json.dumps(content, indent=2).encode())
        filled.numbers[result["student"]] = entry["owner"]
    filled.without_grade = len(entries) - len(filled.numbers)
    return filled


def result_of(
    submission: dict[str, Any], assignment: str, result: dict[str, Any]
) -> dict[str, Any]:
    """Return a student's result in the form of Classroom 50.

    The tests are the parts of the course. They do not add up to the score where it holds more than
    these: a deduction for being late, or an override.
    """
    parts = for_student(result, result["parts"])["parts"]
    points = whole_points([part["points"] or 0 for part in parts])
    return {
        "schema": SCHEMA,
        "assignment": assignment,
        **{name: submission[name] for name in COPIED},
        "score": math.floor(result["total"] + 0.5),
        "max-score": most(),
        "tests": [
            {
                "test-name": f"{part['number']} {part['title']}",
                "passed": part["points"] == part["of"],
                "score": score,
                "max-score": part["of"],
            }
            for part, score in zip(parts, points)
        ],
    }


def whole_points(points: Sequence[float]) -> list[int]:
    """Round points so that their sum is the rounded sum, and none is rounded by one or more."""
    sums = [0.0]
    for value in points:
        sums.append(sums[-1] + value)
    whole = [math.floor(value + 0.5) for value in sums]
    return [after - before for before, after in zip(whole, whole[1:])]


def _entries(scores: Path, assignment: str) -> list[dict[str, Any]]:
    """Return the entries of an assignment in scores.json. Raises ReturnError."""
    try:
        if scores.stat().st_size > MAX_BYTES:
            raise ReturnError(f"{scores} is larger than {MAX_BYTES:,} bytes.")
        known = json.loads(scores.read_text(encoding="utf-8-sig"))
        if known["schema"] != SCORES_SCHEMA:
            raise ReturnError(f"{scores} is of the form {known['schema']}; read {SCORES_SCHEMA}.")
        buckets = known["assignments"]
        if assignment not in buckets:
            names = ", ".join(buckets) or "none"
            raise ReturnError(
                f"{scores} has no assignment {assignment!r}; name one of these with "
                f"--assignment: {names}."
            )
        entries = buckets[assignment]["entries"]
        for entry in entries:
            if not LOGIN.fullmatch(entry["owner"]):
                raise ReturnError(f"{scores}: the owner {entry['owner']!r} is not a login.")
            _ = [entry["submissions"][0][name] for name in COPIED]
    except OSError as error:
        raise ReturnError(f"{scores} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, ReturnError):
            raise
        raise ReturnError(f"{scores} is not the scores.json of Classroom 50.") from None
    return entries
