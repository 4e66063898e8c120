"""The late policy: days late, days from the student's bank, and the percentage that is deducted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Policy:
    """What a course deducts.

    Attributes:
        percent_per_day: of the points achieved, for each day late that the bank does not cover.
        grace_hours: after the due time, in which nothing is late.
        bank_days: whole days late that each student may have without a deduction.
    """

    percent_per_day: float = 0.0
    grace_hours: float = 0.0
    bank_days: int = 0


@dataclass(frozen=True)
class Late:
    """How late a submission is.

    Attributes:
        days: late; a day counts as soon as it has begun.
        from_bank: those of them that the bank covers.
        percent: of the points achieved that are deducted, from 0 to 100.
    """

    days: int
    from_bank: int
    percent: float


def late(submitted: datetime, due: datetime, policy: Policy) -> Late:
    """Return how late a submission is; days count from the end of the grace.

    submitted, due: with their time zones.
    """
    over = submitted - due - timedelta(hours=policy.grace_hours)
    days = max(0, math.ceil(over / DAY))
    from_bank = min(days, policy.bank_days)
    return Late(days, from_bank, min(100.0, policy.percent_per_day * (days - from_bank)))
