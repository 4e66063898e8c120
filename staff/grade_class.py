"""Grade a class: a folder with a folder or zip a student, each run inside the sandbox.

Results are written one by one; the same command goes on where it was, and grades again only what
is new or was changed. `report.html` shows the class, `grades.csv` goes into Moodle.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils import DataError, MNISTDataset
from lab import ROOT, cluster, command
from lab.checkpoint import write_whole
from lab.diagnostics import JUDGE_FILE
from staff import grades, report, sandbox
from staff.closure import closure
from staff.job import Job, write_inputs
from staff.statuses import GRADER_ERROR
from staff.student import grade_student, read_result
from staff.submissions import HandedInError, Student, loose_files, students_in

MIB = 1024**2
BEFORE = ".grades_before_regrade.json"
CLOCK = 3  # times as long by the clock, for others compute too
EXAMPLES = """examples:
  python -m staff.grade_class handed_in --out graded
  python -m staff.grade_class handed_in --out graded --private_data dataset/private
  python -m staff.grade_class handed_in --out graded --canvas export.csv --assignment "Lab 2"
  python -m staff.grade_class handed_in --out graded --regrade     list every grade that changed
"""


@dataclass(frozen=True)
class Options:
    """The command's options; `make_parser` describes each."""

    folder: Path
    out: Path
    test_data: Path
    private_data: Path | None
    train_data: Path
    gen_num: int
    seed: int
    regrade: bool
    canvas: Path | None
    assignment: str
    seconds: int
    memory: int
    scheduler: str | None
    workers: int | None
    unsafe_no_isolation: bool


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of grade_class.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("folder", type=Path, help="as Moodle, Canvas or Gradescope give it")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--test_data", type=Path, default=ROOT / "dataset" / "test", help="the split to grade on")
    add("--private_data", type=Path, help="a split nobody has seen; see private_split.py")
    add("--train_data", type=Path, default=ROOT / "dataset" / "train", help="to recognise copies")
    add("--gen_num", type=int, default=100, help="samples a label")
    add("--seed", type=int, default=42, help="seed of the samples")
    add("--regrade", action="store_true", help="grade everybody again, list what changed")
    add("--canvas", type=Path, help="Canvas's gradebook export, to be filled in")
    add("--assignment", default="", help="beginning of the column's name in the Canvas export")
    limits = sandbox.Limits()
    add("--seconds", type=int, default=limits.cpu_seconds, help="of a core, for a stage")
    add("--memory", type=int, default=limits.memory_bytes // MIB, help="MiB for a stage")
    add("--scheduler", help="address of a Dask scheduler; this machine's cores if not given")
    add("--workers", type=int, help="students at once here; one a core if not given")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="run strangers' code with all your rights; each result says so",
    )
    return parser


def make_job(options: Options) -> Job:
    """Return what every student is graded with. Raises SandboxError where the sandbox fails."""
    limits = sandbox.Limits(
        cpu_seconds=options.seconds,
        seconds=CLOCK * options.seconds,
        memory_bytes=options.memory * MIB,
    )
    isolation = sandbox.NONE if options.unsafe_no_isolation else sandbox.BUBBLEWRAP
    if isolation == sandbox.BUBBLEWRAP:
        sandbox.probe(limits)
    private_data = options.private_data.resolve() if options.private_data else None
    test_data, train_data = options.test_data.resolve(), options.train_data.resolve()
    data = {"test": test_data, "train": train_data, "private": private_data}
    sums = {name: MNISTDataset(path).sha256 for name, path in data.items() if path}
    return Job(
        out=options.out.resolve(),
        test_data=test_data,
        train_data=train_data,
        private_data=private_data,
        data_sha256=sums,
        limits=limits,
        isolation=isolation,
        gen_num=options.gen_num,
        seed=options.seed,
        grader=grader_sha256(sums),
    )


def grader_sha256(data_sha256: Mapping[str, str], root: Path = ROOT) -> str:
    """Hash what makes a score; a change in any of it grades every student again.

    That is the closure of what grades a student and of what runs in the sandbox, the judge's
    weights, the data (SHA-256 of each split, by name), and the versions of torch and numpy.
    """
    files = closure([root / "staff" / "student.py", root / "staff" / "stage.py"], root)
    judge = root / JUDGE_FILE.relative_to(ROOT)
    digest = hashlib.sha256()
    for file in [*files, judge]:
        content = file.read_bytes()
        if file != judge:
            content = content.replace(b"\r\n", b"\n")  # a checkout on Windows is the same code
        name = file.relative_to(root).as_posix()
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    known = {**data_sha256, **{name: version(name) for name in ("torch", "numpy")}}
    digest.update(json.dumps(known, sort_keys=True).encode())
    return digest.hexdigest()


def grade_all(
    students: list[Student], job: Job, options: Options
) -> tuple[dict[str, dict[str, Any]], bool]:
    """Grade the students on this machine's cores or a cluster; return the results, and whether
    a Ctrl-C stopped it before all were graded."""
    results: dict[str, dict[str, Any]] = {}
    with _workers(options, len(students)) as client, command.stop_requests() as stop:
        cluster.expect_all_to_say_yes(client, sees, job.inputs("test"))
        calls = ((student, job, options.regrade) for student in students)

        def tell() -> None:
            bar.set_description("stopping; those under way are finished")

        with tqdm(total=len(students), unit="student", dynamic_ncols=True) as bar:
            for (student, *_), future in cluster.run_each(client, grade_student, calls, stop, tell):
                result = results[student.key] = _result_of(student, job, future)
                counts = Counter(one["status"] for one in results.values())
                if result["new"]:
                    tqdm.write(_line(result))
                bar.set_postfix(counts, refresh=False)
                bar.update()
        return results, stop.is_set()


def sees(inputs: Path) -> bool:
    """Whether a worker sees what the stages are given."""
    return (inputs / "images.npy").is_file()


def _workers(options: Options, students: int) -> AbstractContextManager[Any]:
    if options.scheduler:
        return cluster.scheduler_at(options.scheduler)
    wanted = options.workers or min(cluster.cores(), students)
    gib = 1 + options.memory / 1024
    return cluster.local_workers(cluster.fitting_workers(wanted, gib))


def _result_of(student: Student, job: Job, future: Any) -> dict[str, Any]:
    """Return what a worker found; where the worker itself died, that is the grader's error."""
    try:
        return future.result()
    except Exception as error:
        if future.status != "error":
            raise cluster.ClusterError(cluster.LOST) from None
        words = f"the worker that graded it failed ({type(error).__name__}: {error})."
        failed = {"status": GRADER_ERROR, "message": words, "score": None, "tasks": {}, "new": True}
        who = {"student": student.key, "name": student.name, "platform": student.platform}
        return {**who, "number": student.number, "isolation": job.isolation, **failed}


def _line(result: dict[str, Any]) -> str:
    score = "" if result["score"] is None else f" {result['score']:.2f}"
    message = f": {' '.join(result['message'].split())}" if result["message"] else ""
    return f"{result['student']}: {result['status']}{score}{message}"[:300]


def grades_before(students: list[Student], job: Job, regrade: bool) -> dict[str, float | None]:
    """Return the grades before a regrade, which is kept until it has come to its end."""
    if not regrade:
        return {}
    file = job.out / BEFORE
    if not file.exists():
        known = {student.key: read_result(job.folder(student)).get("score") for student in students}
        with write_whole(file) as written:
            written.write(json.dumps(known).encode())
    return json.loads(file.read_text(encoding="utf-8"))


def changes(
    before: dict[str, float | None], after: dict[str, dict]
) -> list[tuple[str, float | None, float | None]]:
    """Return (student, old grade, new grade) where they differ, None for no grade."""
    found = []
    for key, result in after.items():
        old, new = before.get(key), result["score"]
        same = old == new if None in (old, new) else abs(new - old) <= 1e-9
        if not same:
            found.append((key, old, new))
    return found


def write_changes(file: Path, changed: list[tuple[str, Any, Any]]) -> None:
    """Write a row for each grade that changed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Submission", "Grade before", "Grade now"])
    writer.writerows([grades.escaped(key), old, new] for key, old, new in changed)
    with write_whole(file) as written:
        written.write(text.getvalue().encode())


def main() -> None:
    """Parse, grade, write the tables and the report, say where they are."""
    parser = make_parser()
    options = Options(**vars(parser.parse_args()))
    errors = (HandedInError, DataError, grades.GradesError, sandbox.SandboxError)
    with command.clear_errors(parser.prog, *errors, cluster.ClusterError, OSError):
        students = students_in(options.folder)
        if loose := loose_files(options.folder):
            print(f"not in a folder or zip, so nobody's: {', '.join(loose)}")
        job, out = make_job(options), options.out
        before = grades_before(students, job, options.regrade)
        write_inputs(job)
        results, stopped = grade_all(students, job, options)
        for student in students:  # those that a Ctrl-C left for later, as they were
            if student.key not in results and (known := read_result(job.folder(student))):
                results[student.key] = {**known, "new": False}
        ordered = [results[student.key] for student in students if student.key in results]
        grades.write_grades(out / "grades.csv", ordered)
        print(f"{sum(result['new'] for result in ordered)} graded now, {len(ordered)} in all")
        print(f"grades:   {out / 'grades.csv'}")
        print(f"report:   {report.write_report(out, ordered)}")
        print(f"feedback: {out / 'students'}/*/feedback.html")
        if options.regrade:
            changed = changes(before, results)
            write_changes(out / "regrade.csv", changed)
            if not stopped:
                (out / BEFORE).unlink()
            for key, old, new in changed:
                print(f"changed:  {key}: {_points(old)} to {_points(new)}")
            print(f"{len(changed)} grades changed: {out / 'regrade.csv'}")
        if options.canvas:
            file = out / "canvas.csv"
            filled = grades.fill_canvas(options.canvas, file, ordered, options.assignment)
            print(f"canvas:   {file}, {filled} grades filled in")
    failed = sum(result["status"] == GRADER_ERROR for result in ordered)
    if failed:
        print(f"{failed} not graded for errors of the grader; the same command tries again")
    if stopped:
        print("stopped; the same command goes on from here")
        sys.exit(130)
    sys.exit(1 if failed else 0)


def _points(score: float | None) -> str:
    return "no grade" if score is None else f"{score:.2f}"


if __name__ == "__main__":
    main()
