"""The statuses of a graded submission, and the tasks."""

from __future__ import annotations

from lab import metrics

GRADED, FLAGGED, GRADER_ERROR = "graded", "flagged", "grader error"
NO_CHECKPOINT = "no checkpoint"
STUDENT_ERROR, TIMEOUT, CONTRACT_BREACH = "student error", "timeout", "contract breach"
NOT_HANDED_IN = "nothing handed in"
FAILURES = (STUDENT_ERROR, TIMEOUT, "out of memory", CONTRACT_BREACH, NOT_HANDED_IN)
STATUSES = (GRADED, FLAGGED, NO_CHECKPOINT, *FAILURES, GRADER_ERROR)
MOST_SERIOUS_FIRST = (GRADER_ERROR, *FAILURES, FLAGGED, GRADED, NO_CHECKPOINT)
TASKS = tuple(metrics.CAPS)
