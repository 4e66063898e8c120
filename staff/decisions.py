"""What people decide beside the grader: the course's policy, marks, extensions and overrides.

A copy of each table is kept with the results, so that later runs use it until another is given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from lab.checkpoint import write_whole
from lab.checks.rubric import most, rubric
from staff.class_folder import keys_of
from staff.collect.table import COLLECTED
from staff.course import Course, read_course
from staff.marks import Marks, points_from, read_marks
from staff.tables import TableError, read_table

KEPT = {  # the copies in the folder of the results
    "course": ".course.toml",
    "marks": ".marks.csv",
    "extensions": ".extensions.csv",
    "overrides": ".overrides.csv",
    "times": ".times.csv",
}
TOTAL = "total"  # in the column `part` of overrides.csv: the sum of all
OF_PLATFORMS = ("%d %B %Y, %I:%M %p", "%A, %d %B %Y, %I:%M %p")  # Moodle's worksheet, in English


@dataclass(frozen=True)
class Override:
    """Points that a person set in place of what was computed.

    Attributes:
        points: from 0 to the points of the part.
        reason, by, on: why, who, and when (a date); for staff.
    """

    points: float
    reason: str
    by: str
    on: str


@dataclass(frozen=True)
class HandedIn:
    """When a student handed in.

    Attributes:
        at: the time; None if nothing was handed in, or the table's words are not a time.
        words: as in the table.
        email: the student's; "" if the table has none.
    """

    at: datetime | None
    words: str
    email: str


Overrides = Mapping[str, Mapping[str, Override]]  # by student and part


@dataclass(frozen=True)
class Decisions:
    """All that people decided. Students are named as in the column Submission of grades.csv."""

    course: Course = Course()
    marks: Marks = field(default_factory=dict)
    extensions: Mapping[str, datetime] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=dict)
    times: Mapping[str, HandedIn] = field(default_factory=dict)


def files_of(out: Path, given: Mapping[str, Path]) -> dict[str, Path]:
    """Return the file of each table that there is: given to this run, or kept.

    given: by name, of `KEPT`.
    """
    collected = out / COLLECTED
    files = {"times": collected} if collected.is_file() else {}
    files |= {name: out / kept for name, kept in KEPT.items() if (out / kept).is_file()}
    return {**files, **given}


def read_decisions(files: Mapping[str, Path], students: Collection[str]) -> Decisions:
    """Read the tables by name, as `files_of` returns them. Raises CourseError, TableError.

    students: the known ones; a row for another is an error, because it is a typing mistake.
    """
    course = read_course(files["course"]) if "course" in files else Course()
    marks, extensions, overrides, times = (
        files.get(name) for name in ("marks", "extensions", "overrides", "times")
    )
    return Decisions(
        course,
        read_marks(marks, students) if marks else {},
        read_extensions(extensions, students, course) if extensions else {},
        read_overrides(overrides, students) if overrides else {},
        read_times(times, students, course) if times else {},
    )


def keep(out: Path, given: Mapping[str, Path]) -> None:
    """Keep copies of the tables that were given. Raises OSError."""
    for name, file in given.items():
        content = file.read_bytes()
        with write_whole(out / KEPT[name]) as kept:
            kept.write(content)


def read_extensions(file: Path, students: Collection[str], course: Course) -> dict[str, datetime]:
    """Read extensions.csv: student, until (a time), and reason if wanted. Raises TableError.

    A time without a zone is in that of the course's due time.
    """
    found: dict[str, datetime] = {}
    for where, row in read_table(file, ("student", "until")):
        student = _known(where, row["student"], students)
        if student in found:
            raise TableError(f"{where}: a second extension of {student!r}.")
        until = time_of(row["until"], course) if len(row["until"]) > len("2026-11-20") else None
        if until is None:
            raise TableError(
                f"{where}: until is {row['until']!r}; expected a time like 2026-11-22 23:59."
            )
        found[student] = until
    return found


def read_overrides(file: Path, students: Collection[str]) -> dict[str, dict[str, Override]]:
    """Read overrides.csv: student, part ("total" for the sum), points, reason, by, on.

    Raises TableError.
    """
    found: dict[str, dict[str, Override]] = {}
    for where, row in read_table(file, ("student", "part", "points", "reason", "by", "on")):
        student, part = _known(where, row["student"], students), row["part"]
        if part != TOTAL and part not in rubric():
            known = ", ".join([TOTAL, *rubric()])
            raise TableError(f"{where}: there is no part {part!r}; the parts: {known}.")
        if part in found.setdefault(student, {}):
            raise TableError(f"{where}: a second override of {student!r} for {part}.")
        points = points_from(where, part, row["points"], most_of(part))
        for name, what in (("reason", "why"), ("by", "who decided")):
            if not row[name]:
                raise TableError(f"{where}: {name} is empty; write {what}.")
        if not _is_date(row["on"]):
            raise TableError(f"{where}: on is {row['on']!r}; expected a date like 2026-12-01.")
        found[student][part] = Override(points, row["reason"], row["by"], row["on"])
    return found


def most_of(part: str) -> int:
    """Return the points of a part, or of all for "total"."""
    return most() if part == TOTAL else rubric()[part].points


def read_times(file: Path, students: Collection[str], course: Course) -> dict[str, HandedIn]:
    """Read when each student handed in, from collected.csv or a table of student and submitted.

    Rows of students without a result are left out. Raises TableError.
    """
    rows = [row for _, row in read_table(file, ("submitted",), ("student", "id", "email"))]
    keys = [row["student"] for row in rows]
    if rows and not any(keys):
        keys = keys_of(row["id"] for row in rows)
        if not any(row["id"] for row in rows):
            raise TableError(f"{file} has no column student and no column id; expected one.")
    return {
        key: HandedIn(time_of(row["submitted"], course), row["submitted"], row["email"])
        for key, row in zip(keys, rows)
        if key in students
    }


def time_of(words: str, course: Course) -> datetime | None:
    """Return a time in words; without a zone, in that of the course. None if it is no time."""
    found = None
    with suppress(ValueError):
        found = datetime.fromisoformat(words)
    for form in OF_PLATFORMS:
        with suppress(ValueError):
            found = found or datetime.strptime(words, form)
    if found is None or found.tzinfo is not None:
        return found
    return found.replace(tzinfo=course.due.tzinfo) if course.due else found.astimezone()


def _known(where: str, student: str, students: Collection[str]) -> str:
    if student not in students:
        raise TableError(f"{where}: there is no student {student!r}.")
    return student


def _is_date(words: str) -> bool:
    with suppress(ValueError):
        return bool(re.match(r"\d{4}-", words)) and bool(date.fromisoformat(words))
    return False
