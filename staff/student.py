"""Grade one student and store the result, unless a stored result has the same inputs.

This process imports no code and unpickles no file of a student; see `task.py` and `sandbox.py`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
import time
import traceback
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from lab.checkpoint import write_whole
from staff import cgroup, pages, sandbox
from staff.commit import commit
from staff.completion import completion, with_trained
from staff.job import Job
from staff.marks import parts_of
from staff.permissions import work_folder
from staff.statuses import (
    CONTRACT_BREACH,
    GRADER_ERROR,
    MOST_SERIOUS_FIRST,
    NO_CHECKPOINT,
    NOT_HANDED_IN,
    TASKS,
)
from staff.stored import read_result
from staff.submissions import HandedIn, HandedInError, NothingHandedInError, Student, take
from staff.task import GraderFault, Task
from staff.text import as_text

MISSING = "there is no checkpoint of this task; hand in {task}.pth, the best.pth of your run of it."


def grade_student(student: Student, job: Job, again: bool = False) -> dict[str, Any]:
    """Grade a student, unless a stored result has the same inputs; store and return the result.

    Args:
        student: the student to grade.
        job: the settings of grading.
        again: grade even if a stored result has the same inputs.

    Returns the result. Its entry "new" says whether this call graded the student. Errors of the
    submission and of the grader are in the result and are not raised. An error of the grader
    gives no score.
    """
    folder = job.folder(student)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # a worker of a killed run may still be grading
        return _grade(student, job, folder, again)


def _grade(student: Student, job: Job, folder: Path, again: bool) -> dict[str, Any]:
    started, at = time.monotonic(), time.strftime("%Y-%m-%d %H:%M:%S")
    known = {} if again else read_result(folder)
    if known.get("status") == GRADER_ERROR:
        known = {}
    who = {"student": student.key, "name": student.name}
    who |= {"platform": student.platform, "number": student.number}
    checks_failed = ""  # why no TODO could be checked
    result: dict[str, Any] = {**who, "isolation": job.isolation, "cgroup": cgroup.NONE}
    try:
        if job.isolation == sandbox.BUBBLEWRAP:
            _probe_once()
            result["cgroup"] = cgroup.available()
        with work_folder(job.work) as work:
            handed_in = take(student, work / "handed_in")
            result["handed_in"] = facts_of(handed_in)
            basis = basis_of(result["handed_in"], job)
            if known.get("basis") == basis:
                return _kept(known, who, folder)
            result["basis"] = basis
            checked = completion(handed_in.code, job) if job.checks else None
            result["tasks"] = _tasks(handed_in.code, handed_in.checkpoints, job, work, folder)
            if checked is not None:
                result["completion"] = with_trained(checked, result["tasks"])
                checks_failed = checked["message"]
    except HandedInError as error:
        message = as_text(str(error))[:1000]
        absent = isinstance(error, NothingHandedInError)
        status = NOT_HANDED_IN if absent else CONTRACT_BREACH
        result |= {"tasks": {}, "status": status, "message": message, "flags": []}
        result["basis"] = f"refused: {result['message']}"
        if known.get("basis") == result["basis"]:
            return _kept(known, who, folder)
    except Exception as error:  # a defect or a broken machine, not the student's
        print(as_text(traceback.format_exc()), file=sys.stderr)
        message = as_text(f"{type(error).__name__}: {error}")
        result |= {"tasks": {}, "status": GRADER_ERROR, "message": message, "flags": []}
    else:
        result |= _together(result["tasks"])
        if checks_failed:
            result["message"] = f"{result['message']} The TODOs: {checks_failed}".strip()
    result["score"] = _total(result)
    if result["score"] is not None:
        result["points"] = result["score"] + result.get("completion", {}).get("points", 0)
    result["seconds"] = time.monotonic() - started
    result |= {**_provenance(job), "graded_at": at}  # the start: the end tells of private stages
    pages.write_feedback(result, parts_of(result, {}), folder)
    _store(result, folder)  # last: the other files are complete
    return {**result, "new": True}


def _kept(known: dict[str, Any], who: dict[str, str], folder: Path) -> dict[str, Any]:
    """Return a stored result; store it again if the roster has another name or number by now."""
    kept = {**known, **who}
    if kept != known:
        _store(kept, folder)
    return {**kept, "new": False}


def _store(result: dict[str, Any], folder: Path) -> None:
    with write_whole(folder / "result.json") as file:
        file.write(json.dumps(result, indent=2).encode())


def facts_of(handed_in: HandedIn) -> dict[str, Any]:
    """Return the size and SHA-256 of the code and of each checkpoint."""
    checkpoints = handed_in.checkpoints.items()
    return {
        "code_bytes": handed_in.code.stat().st_size,
        "code_sha256": _sha256(handed_in.code),
        "checkpoint_bytes": {task: file.stat().st_size for task, file in checkpoints},
        "checkpoint_sha256": {task: _sha256(file) for task, file in checkpoints},
    }


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def basis_of(files: dict[str, Any], job: Job) -> str:
    """Hash the inputs of a result: code, checkpoints, grader, data and options.

    files: what `facts_of` returned.
    """
    inputs = [files["code_sha256"], files["checkpoint_sha256"], job.grader]
    inputs += [job.isolation, job.secret, job.options]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _together(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the most serious status of the tasks, their messages as one, and all their flags.

    The message is for the student, the flags are for staff. A task that is missing counts only if
    no other is there.
    """
    most_serious = min(tasks.values(), key=lambda task: MOST_SERIOUS_FIRST.index(task["status"]))
    messages = [f"{name}: {one['message']}" for name, one in tasks.items() if one.get("message")]
    found = [f"{name}: {flag}" for name, one in tasks.items() for flag in one["flags"]]
    return {"status": most_serious["status"], "message": " ".join(messages), "flags": found}


def _total(result: dict[str, Any]) -> float | None:
    """Return the sum of the scores of all tasks; None if the grader failed."""
    if result["status"] == GRADER_ERROR:
        return None
    return sum(task.get("score") or 0.0 for task in result["tasks"].values())


def _provenance(job: Job) -> dict[str, Any]:
    """Return how a result was made: options, versions, processor, hashes of grader and data."""
    names = ("torch", "numpy", "scikit-image")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in names},
        },
        "processor": _processor(),
        "options": job.options,
        "commit": commit(),
        "grader_sha256": job.grader,
        "data_sha256": job.data_sha256,
    }


def _processor() -> str:
    """Return the name of the processor, or its architecture if the system has no name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


@functools.cache
def _probe_once() -> None:
    """Test the isolation, once in each process that grades."""
    sandbox.probe()


def _tasks(
    code: Path, checkpoints: dict[str, Path], job: Job, work: Path, folder: Path
) -> dict[str, dict[str, Any]]:
    """Grade each checkpoint and return the results by task, also of those without a checkpoint.

    Raises GraderFault.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, checkpoint in checkpoints.items():
        inputs = {"submission.py": code, "checkpoint.pth": checkpoint}
        task = name if name in TASKS else _task_of(inputs, job)
        if task and task not in results:
            results[task] = Task(task, inputs, job, work / task, folder).run()
            continue
        what = f"a second checkpoint of {task}" if task else "not a checkpoint of a task"
        message = f"it is {what}; hand in one per task, VAEwolabel.pth and Genwithlabel.pth."
        failed = {"status": CONTRACT_BREACH, "message": message, "flags": [], "log": ""}
        results[name] = {**failed, "stages": {}}
    for task in TASKS:
        if task not in results:
            missing = {"status": NO_CHECKPOINT, "message": MISSING.format(task=task)}
            results[task] = {**missing, "flags": [], "log": "", "stages": {}}
            for picture in folder.glob(f"{task}_*"):  # of an earlier grading
                picture.unlink()
    return results


def _task_of(inputs: dict[str, Path], job: Job) -> str | None:
    """Return the task that a checkpoint was trained for; None if it states no task of the lab."""
    outcome = sandbox.run_stage("facts", inputs, job.limits, job.isolation)
    if outcome.status == GRADER_ERROR:
        raise GraderFault(outcome.message)
    task = outcome.facts.get("task")
    return task if isinstance(task, str) and task in TASKS else None
