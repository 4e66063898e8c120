"""Read rubric.toml: the points of every part of the course."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

RUBRIC_FILE = Path(__file__).resolve().parent / "rubric.toml"
TESTS, HAND_IN, SCORE, PERSON = "tests", "hand-in", "score", "person"  # how a part is graded
TASK_OF_SCORE = {"2.5": "VAEwolabel", "3": "Genwithlabel"}  # the parts that are graded by a score


@dataclass(frozen=True)
class Check:
    """One property that a test looks at.

    Attributes:
        name: unique in its part.
        points: what it is worth.
        that: what must hold, as a sentence without a full stop.
    """

    name: str
    points: int
    that: str


@dataclass(frozen=True)
class Part:
    """A part of the course.

    Attributes:
        number: as in the assignment: "0.1a", "2.2.1", "3".
        title, title_zh: what it is, in English and Chinese.
        graded: TESTS, HAND_IN, SCORE or PERSON.
        points: the most that it gives.
        checks: of a part that is graded by tests; their points add up to `points`.
    """

    number: str
    title: str
    title_zh: str
    graded: str
    points: int
    checks: tuple[Check, ...] = ()


@functools.cache
def rubric() -> dict[str, Part]:
    """Return the parts by number, in the order of the assignment."""
    entries = tomllib.loads(RUBRIC_FILE.read_text(encoding="utf-8"))["part"]
    return {
        entry["number"]: Part(
            entry["number"],
            entry["title"],
            entry["title_zh"],
            entry["graded"],
            entry["points"],
            tuple(Check(name, **values) for name, values in entry.get("checks", {}).items()),
        )
        for entry in entries
    }


def most(*graded: str) -> int:
    """Return the sum of the points of the parts that are graded in these ways; of all if none."""
    return sum(part.points for part in rubric().values() if not graded or part.graded in graded)
