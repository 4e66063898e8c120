"""report.html, written again and again while a class is graded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from staff.book import add_sums
from staff.decisions import Decisions
from staff.report import write_report

SECONDS = 15  # between two pages, at least
SHARE = 0.05  # of the time is spent on pages, at most


class GrowingReport:
    """Writes report.html when a result has come, unless it is too soon after the last page.

    Args:
        out: folder of the results.
        students: keys of all students of the class, in the order of the page.
        decisions: of people; see `decisions.read_decisions`.
    """

    def __init__(self, out: Path, students: Sequence[str], decisions: Decisions) -> None:
        self.out, self.students, self.decisions = out, students, decisions
        self.next = time.monotonic()

    def show(self, results: Mapping[str, dict[str, Any]]) -> None:
        """Write the page of the results so far, by student. Raises OSError."""
        started = time.monotonic()
        if started < self.next or len(results) == len(self.students):  # the end writes it anyway
            return
        known = [results[key] for key in self.students if key in results]
        add_sums(known, self.decisions)
        write_report(self.out, known, len(self.students) - len(known))
        now = time.monotonic()
        self.next = now + max(SECONDS, (now - started) / SHARE)
