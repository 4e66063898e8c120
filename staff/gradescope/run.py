"""Grade the submission in a Gradescope container and write its results.json.

The format is that of https://gradescope-autograders.readthedocs.io/en/latest/specs/: scores are
numbers, `tests` has a row per check, and `leaderboard` has the values that compare models. If the
grader fails, or the container refuses the sandbox, there is no score.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_utils import MNISTDataset
from lab import ROOT, metrics
from lab.checkpoint import write_whole
from lab.checks.rubric import HAND_IN, TESTS, rubric
from staff import sandbox
from staff.job import Job, prepare
from staff.marks import parts_of
from staff.pages import for_student
from staff.permissions import write_for_owner_only
from staff.secret import NAME, secret_in
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, NO_CHECKPOINT, TIMEOUT
from staff.student import grade_student
from staff.submissions import Student
from staff.task import FAILED_UNSEEN

HIDDEN, VISIBLE, FOR_STAFF = "after_published", "visible", "hidden"  # "hidden" is never shown
SEED = 42  # of the samples, as in inference.py
LEADERBOARD = {"raw": "desc", "ssim": "desc", "mse": "asc", "fid": "asc"}
CHECKED = {part.number for part in rubric().values() if part.graded in (TESTS, HAND_IN)}
GRADER_FAILED = "The grader failed, which is not your fault; the staff will run it again."
# What the grader says about these is in its own words. (A second run of a timeout takes as long.)
QUIET = (GRADED, FLAGGED, NO_CHECKPOINT, TIMEOUT)
# By default Gradescope reads the output of all tests together, which holds what the student's code
# printed, as HTML.
AS_TEXT = {"output_format": "text", "test_output_format": "text", "test_name_format": "text"}
INSTEAD = (
    "Nothing was graded. Download the submissions and grade them with python -m staff.grade_class, "
    "or build autograder.zip with --unsafe-no-isolation after you have read what it gives up."
)


def gradescope_results(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result of `grade_student` in Gradescope's format.

    Only the row for staff is made of the whole result; students see nothing else of it than
    `for_student` returns.
    """
    if result["status"] == GRADER_ERROR:
        return without_score(result["message"])
    shown = for_student(result, parts_of(result, {}))
    refused = "" if shown["tasks"] else shown["message"]  # nothing ran
    failed = shown["checks_failed"] or refused
    parts = [part for part in shown["parts"] if part["number"] in CHECKED]
    tests, leaders = [_checks_of(part, failed) for part in parts], []
    for task, cap in metrics.CAPS.items():
        one = shown["tasks"].get(task)
        ran = one is not None and one["status"] == GRADED
        tests.append(
            {
                "name": f"{task}: your code and checkpoint run",
                "score": 0.0,
                "max_score": 0.0,
                "status": "passed" if ran else "failed",
                "output": "yes" if ran else one["message"] if one else refused,
                "visibility": VISIBLE,
            }
        )
        score = float(one["score"]) if ran else 0.0
        tests.append(
            {
                "name": f"{task}: score",
                "score": score,
                "max_score": float(cap),
                "status": "passed" if ran else "failed",
                "output": _scores_of(one) if ran else "",
                "visibility": HIDDEN,
            }
        )
        for name, order in LEADERBOARD.items():
            if ran and one.get(name) is not None:
                leaders.append({"name": f"{task} {name}", "value": one[name], "order": order})
    for name, one in shown["tasks"].items():
        if name not in metrics.CAPS:  # a file that is no task's checkpoint, or a second one
            row = {"name": name, "score": 0.0, "max_score": 0.0, "status": "failed"}
            tests.append({**row, "output": one["message"], "visibility": VISIBLE})
    tasks = shown["tasks"].values()
    log = "\n".join(one["log"] for one in tasks if one.get("log"))
    seconds = sum(stage["seconds"] for one in tasks for stage in one["stages"].values())
    return {
        "score": sum(test["score"] for test in tests),
        **AS_TEXT,
        "output": log[:10_000],
        "visibility": VISIBLE,
        "stdout_visibility": FOR_STAFF,  # a traceback may hold private images
        "execution_time": round(seconds, 1),  # without the private stages
        "tests": [*tests, _for_staff(result)],
        "leaderboard": leaders,
        "extra_data": {"status": shown["status"], "isolation": result["isolation"]},
    }


def without_score(reason: str) -> dict[str, Any]:
    """Return the results of a submission that could not be graded: no number that would count.

    reason: for staff.
    """
    return {
        **AS_TEXT,
        "output": GRADER_FAILED,
        "visibility": VISIBLE,
        "stdout_visibility": FOR_STAFF,
        "tests": [],
        "extra_data": {"grader": reason},
    }


def _checks_of(part: dict[str, Any], failed: str) -> dict[str, Any]:
    """Return the row of a TODO, with what is wrong and where to look.

    failed: why no TODO could be checked; "" otherwise.
    """
    problems = [f"{one['text']}. Hint: {one['hint']}." for one in part["problems"]]
    points = part["points"] or 0  # None if nothing ran
    if failed and points < part["of"]:
        problems.append(f"It could not be checked: {failed}")
    return {
        "name": f"{part['number']} {part['title']}",
        "score": float(points),
        "max_score": float(part["of"]),
        "status": "passed" if points == part["of"] else "failed",
        "output": "\n".join(problems),
        "visibility": VISIBLE,
    }


def _for_staff(result: dict[str, Any]) -> dict[str, Any]:
    """Return the row for staff alone: flags, and the scores on the private split."""
    lines = list(result["flags"])
    for task, one in result["tasks"].items():
        if "private" in one:
            lines.append(f"{task} on the private split: {_scores_of(one['private'])}")
    return {
        "name": "for staff: flags and the private split",
        "score": 0.0,
        "max_score": 0.0,
        "status": "failed" if result["flags"] else "passed",
        "output": "\n".join(lines) or "none",
        "visibility": FOR_STAFF,
    }


def in_public_words(result: dict[str, Any], job: Job, student: Student) -> dict[str, Any]:
    """Return a result whose messages and printed text tell students nothing of a secret test split.

    A task that failed runs again on the validation split, which students have, and what happens
    then is shown. What happened on the test split is a flag, for staff. The checks of the TODOs
    stay: their images are random.
    """
    unheard = {
        task: one["message"]
        for task, one in result["tasks"].items()
        if task in metrics.CAPS and one["status"] not in QUIET
    }
    again: dict[str, Any] = {}
    if unheard:
        valid = job.public_data["valid"]
        public = replace(job, out=job.out / "public", test_data=valid, private_data=None)
        public = replace(public, count="test", checks=False)
        prepare(public)
        again = grade_student(student, public)["tasks"]
    tasks = {task: {**one, "log": ""} for task, one in result["tasks"].items()}
    for task in unheard:
        seen = again.get(task, {})
        tasks[task]["message"] = seen.get("message") or FAILED_UNSEEN
        tasks[task]["log"] = seen.get("log", "")
    flags = [f"{task} on the test split: {message}" for task, message in unheard.items()]
    return {**result, "tasks": tasks, "flags": [*result["flags"], *flags]}


def _scores_of(one: dict[str, Any]) -> str:
    """Return the scores of a task as text."""
    known = [(name, one.get(name)) for name in LEADERBOARD]
    return ", ".join(f"{name} {value:.5g}" for name, value in known if value is not None)


def grade_one(submission: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Grade a submission and return its results in Gradescope's format.

    Args:
        submission: the student's folder.
        options: of the command.

    Raises SandboxError, DataError, SeedError.
    """
    unsafe = options.unsafe_no_isolation
    if not unsafe:
        sandbox.probe()
    private = options.private_data.resolve()
    splits = {"test": options.test_data.resolve()}
    if private.is_dir():
        splits["private"] = private
    public = {"train": options.train_data.resolve(), "valid": options.valid_data.resolve()}
    (options.secret / NAME).chmod(0o600)  # unpacked from the zip, it is open to others
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            out=Path(folder),
            test_data=splits["test"],
            private_data=splits.get("private"),
            public_data={name: path for name, path in public.items() if path.is_dir()},
            count=options.count,
            secret=secret_in(options.secret),
            data_sha256={name: MNISTDataset(path).sha256 for name, path in splits.items()},
            limits=sandbox.Limits(),
            isolation=sandbox.NONE if unsafe else sandbox.BUBBLEWRAP,
            grader="gradescope",
            gen_num=options.gen_num,
            seed=SEED,
            reports=False,  # Gradescope shows no files
        )
        prepare(job)
        student = Student("you", "you", "", "", submission)
        result = grade_student(student, job)
        if not options.quiet:
            return gradescope_results(result)
        results = gradescope_results(in_public_words(result, job, student))
        results.pop("execution_time", None)  # of the stages with secret images
        return results


def main() -> None:
    """Grade the submission and write results.json, also if the grader fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--submission", type=Path, default=Path("/autograder/submission"))
    add("--results", type=Path, default=Path("/autograder/results/results.json"))
    for split in ("test", "train", "valid", "private"):
        add(f"--{split}_data", type=Path, default=ROOT / "dataset" / split)
    add("--secret", type=Path, default=ROOT / "secret", help="folder of the class's secret")
    add("--count", choices=("test", "private"), default="test")
    add("--gen_num", type=int, default=100)
    add("--quiet", action="store_true", help="the test split is secret, from students too")
    add("--unsafe-no-isolation", action="store_true")
    args = parser.parse_args()
    write_for_owner_only()
    try:
        results = grade_one(args.submission, args)
        content = json.dumps(results, indent=2, allow_nan=False)  # JSON has no nan
    except BaseException as error:  # Gradescope needs a results.json in every case
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, sandbox.SandboxError):
            reason = f"{error} {INSTEAD}"
        else:
            traceback.print_exc()
        results = without_score(reason)
        content = json.dumps(results, indent=2)
    with write_whole(args.results) as file:
        file.write(content.encode())
    if "score" not in results:
        print(f"error: {results['extra_data']['grader']}", file=sys.stderr)  # staff can read it
        sys.exit(2)


if __name__ == "__main__":
    main()
