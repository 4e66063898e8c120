"""Read course.toml: what a course decides beside the points, which are in rubric.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from staff.late import Policy
from staff.text import as_line

LANGUAGES = ("en", "zh")
MAX_TITLE = 100  # characters


class CourseError(ValueError):
    """course.toml has a fault; the message says what was expected."""


@dataclass(frozen=True)
class Course:
    """What a course decides.

    Attributes:
        title: the heading of the students' pages.
        language: of the students' pages, "en" or "zh".
        due: with its time zone; None if nothing is ever late.
        late: the policy.
    """

    title: str = "VAE lab"
    language: str = "en"
    due: datetime | None = None
    late: Policy = Policy()


def read_course(file: Path) -> Course:
    """Read course.toml. Raises CourseError."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CourseError(f"{file} is not a TOML file that can be read ({reason}).") from None
    late = values.pop("late", {})
    _expect_known(file, values, {field.name for field in fields(Course)} - {"late"})
    title, language = values.get("title", Course.title), values.get("language", Course.language)
    if not isinstance(title, str) or not 0 < len(title) <= MAX_TITLE:
        raise CourseError(f"{file}: title is {title!r}; expected up to {MAX_TITLE} characters.")
    if language not in LANGUAGES:
        raise CourseError(f'{file}: language is {language!r}; expected "en" or "zh".')
    due = values.get("due")
    if due is not None and (not isinstance(due, datetime) or due.tzinfo is None):
        raise CourseError(
            f"{file}: due is {due}; expected a time with its zone, like 2026-11-20T23:59:00+08:00."
        )
    return Course(as_line(title), language, due, _policy(file, late))


def _policy(file: Path, late: object) -> Policy:
    if not isinstance(late, dict):
        raise CourseError(f"{file}: late is {late!r}; expected a table, [late].")
    _expect_known(file, late, {field.name for field in fields(Policy)})
    most = {"percent_per_day": 100, "grace_hours": 1000, "bank_days": 1000}
    for name, value in late.items():
        numbers = (int,) if name == "bank_days" else (int, float)
        if type(value) not in numbers or not 0 <= value <= most[name]:
            kind = "a whole number" if name == "bank_days" else "a number"
            raise CourseError(
                f"{file}: {name} is {value!r}; expected {kind} from 0 to {most[name]}."
            )
    return Policy(**late)


def _expect_known(file: Path, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(values.keys() - known):
        raise CourseError(
            f"{file}: {as_line(unknown[0])} is unknown; expected {', '.join(sorted(known))}."
        )
