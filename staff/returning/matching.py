"""Whose row of a platform's table is whose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from staff.returning.sheet import ReturnError, Sheet


@dataclass
class Filled:
    """What was filled in.

    Attributes:
        numbers: the platform's number of each student whose row has a grade.
        without_row: names of students with a grade whom the table lacks.
        without_grade: how many rows have no grade of ours.
    """

    numbers: dict[str, str] = field(default_factory=dict)
    without_row: list[str] = field(default_factory=list)
    without_grade: int = 0


class Matching:
    """Finds the student of a row by the platform's number for them, or else by their address.

    platform: whose numbers the table has.
    results: of the class; those without a grade are left out.
    emails: by student, as far as they are known.
    """

    def __init__(
        self, platform: str, results: Sequence[dict[str, Any]], emails: Mapping[str, str]
    ) -> None:
        self.graded = [result for result in results if result["total"] is not None]
        self.filled = Filled()
        self._by_number = {
            one["number"]: one for one in self.graded if one.get("platform") == platform
        }
        self._by_email = {
            emails[one["student"]].casefold(): one
            for one in self.graded
            if emails.get(one["student"])
        }

    def student_of(self, sheet: Sheet, number: str, emails: Iterable[str]) -> dict[str, Any] | None:
        """Return the result of a row's student, and note the row; None if it has no grade of ours.

        Raises ReturnError if the student has another row already.
        """
        mails = (mail.strip().casefold() for mail in emails)
        by_email = (self._by_email[mail] for mail in mails if mail in self._by_email)
        result = self._by_number.get(number) or next(by_email, None)
        if result is None:
            self.filled.without_grade += 1
            return None
        if result["student"] in self.filled.numbers:
            raise ReturnError(
                f"{sheet.file} has two rows of {result['name']}; expected one per student."
            )
        self.filled.numbers[result["student"]] = number
        return result

    def finish(self) -> Filled:
        """Return what was filled in, with the students whose rows did not come."""
        numbers = self.filled.numbers
        self.filled.without_row = [
            one["name"] for one in self.graded if one["student"] not in numbers
        ]
        return self.filled
