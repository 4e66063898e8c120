"""What the checks found in a submission, as points per TODO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lab.checks.found import NOT_DONE, RAISED, UNTESTED, Problem
from lab.checks.loss import LossJudge
from lab.checks.model import NUMBERS, judge_class
from lab.checks.recording import Recording, Setting
from lab.checks.rubric import TESTS, Part, rubric
from lab.checks.seen import Checked

LOSS = "2.3"
# What an experiment measured; all else is what a method returned.
MEASURED = (
    "built",
    "moved",
    "gradient",
    "decoded",
    "encoded",
    "given mu",
    "made",
    "unused",
    "labels",
    "undone",
)
# A TODO of GenModel and the one of VAE that it repeats, in which the same mistake costs points.
REPEATS = dict(zip(NUMBERS["GenModel"], NUMBERS["VAE"]))


@dataclass
class Points:
    """The points of one TODO.

    Attributes:
        part: the TODO.
        lost: the problem of each check that failed, by the check's name.
        counted_before: names of failed checks that cost nothing, because the same mistake has cost
            points in VAE.
    """

    part: Part
    lost: dict[str, Problem] = field(default_factory=dict)
    counted_before: set[str] = field(default_factory=set)

    @property
    def points(self) -> int:
        """What is left of the points of the part."""
        paid = self.lost.keys() - self.counted_before
        return sum(check.points for check in self.part.checks if check.name not in paid)

    def problems(self) -> Iterator[Problem]:
        """Yield each problem once, in the order of the checks."""
        seen: set[str] = set()
        for check in self.part.checks:
            problem = self.lost.get(check.name)
            if problem is not None and problem.text not in seen:
                seen.add(problem.text)
                yield problem


def judge(recordings: Iterable[tuple[Recording, Setting]]) -> dict[str, Points]:
    """Return the points by TODO. A check passes if it passes in each of the recordings."""
    found = {part.number: Points(part) for part in rubric().values() if part.graded == TESTS}
    for given, setting in recordings:
        recording = without_odd_values(given)
        checked: dict[str, Checked] = {LOSS: LossJudge(recording, setting).judge()}
        for name in NUMBERS:
            checked |= judge_class(name, recording, setting)
        for number, points in found.items():
            for one, problem in checked[number].items():
                if problem is not None:
                    points.lost.setdefault(one, problem)
    for number, before in REPEATS.items():
        _forgive(found[number], found[before])
    return found


def without_odd_values(recording: Recording) -> Recording:
    """Return a recording without the arrays that no experiment can have kept.

    These have another shape than the recording states, or a measurement, such as the size of a
    gradient, that is not finite. Whether images and codes are finite is for their own checks.
    """
    arrays, problems = dict(recording.arrays), dict(recording.problems)
    for name, array in recording.arrays.items():
        if name.endswith(" shape"):
            continue
        stated = recording.arrays.get(f"{name} shape", np.zeros(0))
        measured = name.endswith(MEASURED)
        if list(stated) != list(array.shape) or (measured and not np.isfinite(array).all()):
            del arrays[name]
            problems.setdefault(name, "what it returned is not finite, or of another shape")
    return Recording(arrays, problems)


def _forgive(points: Points, before: Points) -> None:
    """Charge nothing for a mistake that GenModel shares with VAE.

    It is the same mistake if the checks found the same kind of problem. An exception is charged
    each time: what raises it may be missing rather than wrong.
    """
    if points.points == 0:
        return  # nothing of it works, whatever VAE does
    paid = {problem.kind for problem in before.lost.values()} - {NOT_DONE, UNTESTED}
    for name, problem in points.lost.items():
        if problem.kind in paid and not problem.kind.startswith(RAISED) and name != "builds":
            points.counted_before.add(name)
