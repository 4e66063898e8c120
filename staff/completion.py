"""The completion points of a submission: record it in the sandbox, judge the recording here.

The student's code runs on inputs that the public check uses and on inputs of the class's secret. It
returns tensors, which are judged in this process; what is expected of them is not in the sandbox.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lab.checks.found import UNTESTED, Problem
from lab.checks.points import Points, judge
from lab.checks.recording import PUBLIC, Recording, Setting, hidden_setting
from lab.checks.rubric import HAND_IN, TESTS, most, rubric
from staff import sandbox
from staff.job import Job
from staff.secret import generator
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, NO_CHECKPOINT
from staff.text import as_text

TRAINED = "3.5"
TASK = "Genwithlabel"
SHARE = 1 / 36  # of a stage's time by the clock, for one experiment: a few may use it up
LEAST_SECONDS = 2.0  # for an experiment: a busy machine takes a while for the first batch


class CompletionFault(Exception):
    """The grader itself failed; the submission is not at fault."""


def completion(code: Path, job: Job) -> dict[str, Any]:
    """Return the completion points of a submission file, and what was wrong.

    Returns:
        points: the sum.
        message: why nothing could be checked; "" otherwise.
        parts: by number: points, of, lost (names of checks) and problems (text, hint, and untested:
            whether it only says that another TODO comes first).

    Raises CompletionFault.
    """
    hidden = hidden_setting(generator(job.secret, "sizes of the hidden checks"))
    seconds = max(LEAST_SECONDS, SHARE * job.limits.seconds)
    settings = [replace(one, seconds=seconds) for one in (PUBLIC, hidden)]
    outcome = sandbox.run_stage(
        "record",
        {"submission.py": code},
        job.limits,
        job.isolation,
        settings=[asdict(setting) for setting in settings],
    )
    if outcome.status == GRADER_ERROR:
        raise CompletionFault(f"{outcome.message} {outcome.log[-500:]}")
    message, found = "", {}
    if outcome.status != "done":
        message = f"{outcome.status}: {outcome.message}"
    else:
        try:
            found = judge(_recordings(outcome.array, settings))
        except Exception:  # the code has forged its recording
            message = "contract breach: what the checks recorded is not usable."
    parts = {number: _as_entry(points) for number, points in found.items()}
    if message:
        parts = {
            number: {"points": 0, "of": part.points, "lost": [], "problems": []}
            for number, part in rubric().items()
            if part.graded == TESTS
        }
    return {
        "points": sum(entry["points"] for entry in parts.values()),
        "message": message,
        "parts": parts,
        "seconds": round(outcome.seconds, 3),
        "cpu_seconds": round(outcome.cpu_seconds, 3),
    }


def _recordings(content: bytes, settings: list[Setting]) -> list[tuple[Recording, Setting]]:
    """Read the recordings that the stage returned, one per setting. Raises ValueError."""
    found = []
    for setting in settings:
        size, content = int.from_bytes(content[:8], "little"), content[8:]
        recording, content = Recording.from_bytes(content[:size]), content[size:]
        recording.problems = {name: as_text(text) for name, text in recording.problems.items()}
        found.append((recording, setting))
    return found


def _as_entry(points: Points) -> dict[str, Any]:
    def entry(problem: Problem) -> dict[str, Any]:
        untested = problem.kind == UNTESTED
        return {"text": problem.text, "hint": problem.hint, "untested": untested}

    return {
        "points": points.points,
        "of": points.part.points,
        "lost": sorted(points.lost.keys() - points.counted_before),
        "problems": [entry(problem) for problem in points.problems()],
    }


def with_trained(checked: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what `completion` returned with part 3.5: whether GenModel is trained, and draws.

    tasks: the results of `task.Task` by task.
    """
    entry = _trained(tasks)
    parts = checked["parts"] | {TRAINED: entry}
    return {**checked, "parts": parts, "points": checked["points"] + entry["points"]}


def _trained(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the entry of part 3.5."""
    one, of = tasks.get(TASK), most(HAND_IN)
    problem = ""
    if one is None or one["status"] == NO_CHECKPOINT:
        problem = "there is no checkpoint of Genwithlabel"
    elif one["status"] not in (GRADED, FLAGGED):
        problem = "the checkpoint does not run: see the message of the task"
    elif not one["better_than_mean"]:
        problem = "it reconstructs no better than the mean of all images; train it"
    hint = "hand in best.pth of a whole training"
    problems = [{"text": problem, "hint": hint, "untested": False}]
    return {
        "points": 0 if problem else of,
        "of": of,
        "lost": ["trained"] if problem else [],
        "problems": problems if problem else [],
    }
