"""Grade the submission in a Gradescope container and write its results.json.

The format is that of Gradescope's autograder documentation: scores are numbers, `tests` has a row
per check, and `leaderboard` has the values that compare models. If the grader fails there is no
score.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from data_utils import MNISTDataset
from lab import ROOT, metrics
from lab.checkpoint import write_whole
from staff import sandbox
from staff.job import Job, write_inputs
from staff.permissions import write_for_owner_only
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR
from staff.student import grade_student
from staff.submissions import Student

HIDDEN, VISIBLE = "after_published", "visible"
LEADERBOARD = {"raw": "desc", "ssim": "desc", "mse": "asc", "fid": "asc"}
GRADER_FAILED = "The grader failed, which is not your fault; the staff will run it again."


def gradescope_results(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result of `grade_student` in Gradescope's format."""
    if result["status"] == GRADER_ERROR:
        return {"output": GRADER_FAILED, "tests": [], "extra_data": {"grader": result["message"]}}
    tests, leaders = [], []
    for task, cap in metrics.CAPS.items():
        one = result["tasks"].get(task)
        ran = one is not None and one["status"] in (GRADED, FLAGGED)
        missing = f"There is no checkpoint of {task}. {result['message']}"
        tests.append(
            {
                "name": f"{task}: your code and checkpoint run",
                "score": 0.0,
                "max_score": 0.0,
                "status": "passed" if ran else "failed",
                "output": "yes" if ran else one["message"] if one else missing,
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
    log = "\n".join(one["log"] for one in result["tasks"].values() if one.get("log"))
    return {
        "score": sum(test["score"] for test in tests),
        "output": log[:10_000],
        "visibility": VISIBLE,
        "execution_time": round(result["seconds"], 1),
        "tests": tests,
        "leaderboard": leaders,
        "extra_data": {"status": result["status"], "isolation": result["isolation"]},
    }


def without_output(results: dict[str, Any]) -> dict[str, Any]:
    """Return results without the output and messages of the student's code.

    These could reveal the images of a private split.
    """
    tests = [
        {**test, "output": test["output"] if test["status"] == "passed" else "it failed"}
        for test in results["tests"]
    ]
    return {**results, "output": "", "tests": tests}


def _scores_of(one: dict[str, Any]) -> str:
    """Return the scores of a task as text."""
    known = [(name, one.get(name)) for name in LEADERBOARD]
    return ", ".join(f"{name} {value:.5g}" for name, value in known if value is not None)


def grade_one(
    submission: Path, data: Path, train: Path, unsafe: bool, gen_num: int = 100, seed: int = 42
) -> dict[str, Any]:
    """Grade a submission and return its results in Gradescope's format.

    Args:
        submission: the student's folder.
        data, train: the split to grade on, and training images to find copies of.
        unsafe: run the submission without isolation.
        gen_num: samples per label.
        seed: of the samples.

    Raises SandboxError, DataError.
    """
    if not unsafe:
        sandbox.probe()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            out=Path(folder),
            test_data=data,
            train_data=train,
            private_data=None,
            data_sha256={"test": MNISTDataset(data).sha256},
            limits=sandbox.Limits(),
            isolation=sandbox.NONE if unsafe else sandbox.BUBBLEWRAP,
            grader="gradescope",
            gen_num=gen_num,
            seed=seed,
        )
        write_inputs(job)
        return gradescope_results(grade_student(Student("you", "you", "", "", submission), job))


def main() -> None:
    """Grade the submission and write results.json, also if the grader fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--submission", type=Path, default=Path("/autograder/submission"))
    add("--results", type=Path, default=Path("/autograder/results/results.json"))
    add("--test_data", type=Path, default=ROOT / "dataset" / "test")
    add("--train_data", type=Path, default=ROOT / "dataset" / "train")
    add("--gen_num", type=int, default=100)
    add("--quiet", action="store_true", help="show no output of the code: the split is secret")
    add("--unsafe-no-isolation", action="store_true")
    args = parser.parse_args()
    write_for_owner_only()
    data = (args.test_data.resolve(), args.train_data.resolve())
    try:
        unsafe = args.unsafe_no_isolation
        results = grade_one(args.submission, *data, unsafe, gen_num=args.gen_num)
        if args.quiet and "score" in results:
            results = without_output(results)
    except BaseException as error:  # Gradescope needs a results.json in every case
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        results = {"output": GRADER_FAILED, "tests": [], "extra_data": {"grader": message}}
    with write_whole(args.results) as file:
        file.write(json.dumps(results, indent=2).encode())
    sys.exit(0 if "score" in results else 1)


if __name__ == "__main__":
    main()
