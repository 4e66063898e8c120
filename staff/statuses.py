"""The statuses of a graded submission, the tasks, and the maximum number of points."""

from __future__ import annotations

from lab import metrics

GRADED, FLAGGED, GRADER_ERROR = "graded", "flagged", "grader error"
STUDENT_ERROR, TIMEOUT = "student error", "timeout"
FAILURES = (STUDENT_ERROR, TIMEOUT, "out of memory", "contract breach")
STATUSES = (GRADED, FLAGGED, *FAILURES, GRADER_ERROR)
MOST_SERIOUS_FIRST = (GRADER_ERROR, *FAILURES, FLAGGED, GRADED)
TASKS = tuple(metrics.CAPS)
MAX_POINTS = sum(metrics.CAPS.values())  # points of both tasks together
