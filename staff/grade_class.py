"""Grade a class: a folder with one folder or zip per student. Each is graded in the sandbox.

Each result is stored when it is ready. The same command continues an interrupted run, and grades
again only what is new or has changed. `report.html` shows the class, also while the run goes on;
`final.csv` is the grade book, and `python -m staff.return_grades` gives the grades back.

Each submission is also graded on a private split: test images that are changed a little by a secret
of the class, made at the first run and kept in the folder of the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils import DataError, MNISTDataset
from lab import ROOT, cluster, command
from lab.checkpoint import write_whole
from lab.lock import FolderInUseError, only_one
from lab.workers import Call, CallFailed, WorkerDied, Workers, local_workers, run_each
from staff import class_split, grades, history, report, sandbox
from staff.book import add_sums
from staff.class_folder import loose_files, students_in
from staff.closure import DATA_FILES, closure
from staff.collect.table import COLLECTED
from staff.course import CourseError
from staff.decisions import KEPT, Decisions, files_of, keep, read_decisions
from staff.gradebook import FINAL, GRADES, STAFF, append_history, write_book
from staff.growing import GrowingReport
from staff.job import Job, prepare
from staff.permissions import PermissionsError, expect_private, write_for_owner_only
from staff.private_split import PrivateSplitError
from staff.secret import PRIVATE, secret_in
from staff.seeds import SeedError
from staff.similar import keep_mean_errors
from staff.statuses import GRADER_ERROR
from staff.stored import folder_of, read_result
from staff.student import grade_student
from staff.submissions import HandedInError, Student
from staff.tables import TableError
from staff.text import as_text

MIB = 1024**2
BEFORE = ".grades_before_regrade.json"  # in the folder of the results
OF_THE_RUN = {  # options that change no result
    *("folder", "out", "regrade", "marks", "no_marks", "changed_options"),
    *("scheduler", "insecure_scheduler", "workers"),
}
CLOCK = 3  # wall-clock seconds allowed per CPU second, because other work slows a stage down
EXAMPLES = """examples:
  python -m staff.grade_class collected --out graded
  python -m staff.grade_class collected --out graded --count private    the private split's scores
  python -m staff.grade_class collected --out graded --private_data dataset/private
  python -m staff.grade_class collected --out graded --marks marks.csv   with the written parts
  python -m staff.grade_class collected --out graded --regrade     list changed grades
"""


@dataclass(frozen=True)
class Options:
    """The command's options; `make_parser` describes each."""

    folder: Path
    out: Path
    test_data: Path
    private_data: Path | None
    private_images: int
    no_private: bool
    count: str
    train_data: Path
    valid_data: Path
    gen_num: int
    seed: int
    regrade: bool
    marks: Path | None
    no_marks: bool
    scores_only: bool
    no_reports: bool
    seconds: int
    memory: int
    scheduler: str | None
    insecure_scheduler: bool
    workers: int | None
    unsafe_no_isolation: bool
    changed_options: bool


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of grade_class.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("folder", type=Path, help="what staff.collect wrote, or a folder or zip per student")
    add("--out", type=Path, required=True, help="folder for the results")
    class_split.add_options(parser)
    add("--gen_num", type=int, default=100, help="samples per label")
    add("--seed", type=int, default=42, help="seed of the samples")
    add(
        "--regrade",
        action="store_true",
        help="grade every student again, list what changed",
    )
    add(
        "--marks",
        type=Path,
        help="marks of the written parts, and overrides: student, part, points, comment;\n"
        "later runs use the same table, until another is given",
    )
    add("--no_marks", action="store_true", help="leave the marks of an earlier run out")
    add(
        "--scores_only",
        action="store_true",
        help="do not check the TODOs, for a leaderboard before the deadline: no completion\n"
        "points, and no pages about the models",
    )
    add("--no_reports", action="store_true", help="write no page about each student's models")
    limits = sandbox.Limits()
    add("--seconds", type=int, default=limits.cpu_seconds, help="CPU seconds of a stage")
    add("--memory", type=int, default=limits.memory_bytes // MIB, help="MiB of memory of a stage")
    add(
        "--scheduler",
        help="address of a Dask scheduler with TLS; this machine's cores if not given",
    )
    add("--insecure-scheduler", action="store_true", help="allow --scheduler without TLS")
    add("--workers", type=int, help="students graded at once here; by default, one per core")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="run the submissions without isolation, with all your rights; each result says so",
    )
    add(
        "--changed_options",
        action="store_true",
        help="grade the class again with other options than those of its results",
    )
    return parser


def make_job(options: Options) -> Job:
    """Return the settings of grading; make the class's secret and private split at the first run.

    Raises SandboxError if the sandbox fails, PermissionsError if others can read the private split,
    DataError, SeedError, PrivateSplitError, OSError.
    """
    limits = sandbox.Limits(
        cpu_seconds=options.seconds,
        seconds=CLOCK * options.seconds,
        memory_bytes=options.memory * MIB,
    )
    isolation = sandbox.NONE if options.unsafe_no_isolation else sandbox.BUBBLEWRAP
    if isolation == sandbox.BUBBLEWRAP:
        sandbox.probe(limits)
    test_data, folder = options.test_data.resolve(), options.out.resolve() / PRIVATE
    public = {"train": options.train_data.resolve(), "valid": options.valid_data.resolve()}
    sums = {name: MNISTDataset(path).sha256 for name, path in {"test": test_data, **public}.items()}
    secret, private_data = secret_in(folder), None
    if options.private_data is not None:
        private_data = options.private_data.resolve()
        # Its folder; images and labels may also be two files in a folder.
        expect_private(private_data if private_data.is_dir() else private_data.parent)
    elif not options.no_private:
        private_data = class_split.class_split(folder, test_data, secret, options.private_images)
    if private_data is not None:
        sums["private"] = MNISTDataset(private_data).sha256
    return Job(
        out=options.out.resolve(),
        test_data=test_data,
        private_data=private_data,
        public_data=public,
        count=options.count,
        secret=secret,
        data_sha256=sums,
        limits=limits,
        isolation=isolation,
        gen_num=options.gen_num,
        seed=options.seed,
        grader=grader_sha256(sums),
        checks=not options.scores_only,
        reports=not (options.no_reports or options.scores_only),
    )


def grader_sha256(data_sha256: Mapping[str, str], root: Path = ROOT) -> str:
    """Return a hash of what a score depends on; after a change, every student is graded again.

    These are the closure of what grades a student and of what runs in the sandbox, with the data
    files of the lab (the judge's weights, the rubric), the splits (SHA-256 by name), and the
    versions of torch and numpy.
    """
    files = closure([root / "staff" / "student.py", root / "staff" / "stage.py"], root)
    data = [root / file.relative_to(ROOT) for file in DATA_FILES]
    digest = hashlib.sha256()
    for file in [*files, *data]:
        content = file.read_bytes()
        if file.suffix in (".py", ".toml"):
            content = content.replace(b"\r\n", b"\n")  # a checkout on Windows is the same code
        name = file.relative_to(root).as_posix()
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    known = {**data_sha256, **{name: version(name) for name in ("torch", "numpy")}}
    digest.update(json.dumps(known, sort_keys=True).encode())
    return digest.hexdigest()


def grade_all(
    students: list[Student], job: Job, options: Options, decisions: Decisions
) -> tuple[dict[str, dict[str, Any]], bool]:
    """Grade the students on this machine's cores or on a cluster. report.html grows meanwhile.

    Returns the results by student, and whether a signal stopped the run before all were graded.
    Raises cluster.ClusterError.
    """
    results: dict[str, dict[str, Any]] = {}
    page = GrowingReport(job.out, [student.key for student in students], decisions)
    with _workers(options, len(students)) as workers, command.stop_requests() as stop:
        workers.check(sees, [job.out, *job.splits.values()])
        calls = ((student, job, options.regrade) for student in students)

        def announce_stop() -> None:
            bar.set_description("stopping after the students in progress")

        with tqdm(total=len(students), unit="student", dynamic_ncols=True) as bar:
            for (student, *_), call in run_each(workers, grade_student, calls, stop, announce_stop):
                result = results[student.key] = _result_of(student, job, call)
                counts = Counter(one["status"] for one in results.values())
                if result["new"]:
                    tqdm.write(_line(result))
                bar.set_postfix(counts, refresh=False)
                bar.update()
                page.show(results)
        return results, stop.is_set()


def sees(folders: list[Path]) -> bool:
    """Return whether a worker sees the folders of the results and of the data."""
    return all(folder.exists() for folder in folders)


def _workers(options: Options, students: int) -> AbstractContextManager[Workers]:
    if options.scheduler:
        return cluster.scheduler_at(options.scheduler, options.insecure_scheduler)
    wanted = options.workers or min(cluster.cores(), students)
    gib = 1 + options.memory / 1024
    return local_workers(cluster.fitting_workers(wanted, gib))


def _result_of(student: Student, job: Job, call: Call) -> dict[str, Any]:
    """Return the result of a worker; a grader error if the worker failed. Raises ClusterError."""
    try:
        return call.result()
    except (CallFailed, WorkerDied) as error:
        message = f"the worker that graded it failed ({as_text(str(error))})."
        return {
            "student": student.key,
            "name": student.name,
            "platform": student.platform,
            "number": student.number,
            "isolation": job.isolation,
            "status": GRADER_ERROR,
            "message": message,
            "flags": [],
            "score": None,
            "tasks": {},
            "new": True,
        }


def expect_same_kind(options: Options, students: list[Student]) -> None:
    """Raise HistoryError if --scores_only would replace results that hold completion points."""
    if options.scores_only:
        for student in students:
            if "completion" in read_result(folder_of(options.out, student.key)):
                raise history.HistoryError(
                    f"{options.out} holds completion points, which --scores_only would replace; "
                    "give another folder with --out."
                )


def graded_with(options: Options) -> dict[str, Any]:
    """Return the options on which results depend, by name."""
    return {
        name: history.as_stored(value)
        for name, value in asdict(options).items()
        if name not in OF_THE_RUN
    }


def _line(result: dict[str, Any]) -> str:
    """Return a result as a line for the terminal."""
    score = f" {result['points']:.2f}" if "points" in result else ""
    words = " ".join(" ".join([result["message"], *result["flags"]]).split())
    return f"{result['student']}: {result['status']}{score}{': ' if words else ''}{words}"[:300]


def tables_of(options: Options, students: Collection[str]) -> dict[str, Path]:
    """Return the tables of the grade book, given or kept, once they have been read without fault.

    A copy of the marks is kept, so that a run without the option has them. Raises TableError,
    CourseError.
    """
    out = options.out
    given = {"marks": options.marks} if options.marks else {}
    if options.no_marks:
        (out / KEPT["marks"]).unlink(missing_ok=True)
    found = read_decisions(files_of(out, given), students)
    if found.marks and not given:
        count = sum(map(len, found.marks.values()))
        print(f"marks: {count}, of the earlier run; --no_marks leaves them")
    keep(out, given)
    collected = options.folder / COLLECTED
    if collected.is_file():
        content = collected.read_bytes()
        with write_whole(out / COLLECTED) as file:
            file.write(content)
    return files_of(out, {})


def grades_before(students: list[Student], job: Job, earlier: Decisions) -> dict[str, float | None]:
    """Return the grades by student before a regrade.

    A file keeps them until the regrade is complete, because the regrade may be interrupted.

    earlier: what people had decided before this run.
    """
    file = job.out / BEFORE
    if not file.exists():
        stored = [read_result(job.folder(student)) for student in students]
        results = [result for result in stored if result.get("score") is not None]
        add_sums(results, earlier)
        known = {student.key: None for student in students}
        known |= {result["student"]: result["total"] for result in results}
        with write_whole(file) as written:
            written.write(json.dumps(known).encode())
    return json.loads(file.read_text(encoding="utf-8"))


def print_tables(
    out: Path, results: list[dict[str, Any]], before: dict[str, float | None] | None
) -> None:
    """Print where the tables are; write regrade.csv if there are grades of before a regrade.

    Raises OSError.
    """
    print(f"{sum(result['new'] for result in results)} graded now, {len(results)} in all")
    print(f"grades:   {out / GRADES}; every summand: {out / FINAL}; for staff: {out / STAFF}")
    print(f"report:   {report.write_report(out, results)}")
    print(f"feedback: {out / 'students'}/*/feedback.html")
    if before is not None:
        changed = grades.changes(before, results)
        grades.write_changes(out / "regrade.csv", changed)
        for key, old, new in changed:
            print(f"changed:  {key}: {_points(old)} to {_points(new)}")
        print(f"{len(changed)} grades changed: {out / 'regrade.csv'}")


def _points(score: float | None) -> str:
    return "no grade" if score is None else f"{score:.2f}"


def main() -> None:
    """Parse, grade, write the tables and the report, print where they are."""
    parser = make_parser()
    options = Options(**vars(parser.parse_args()))
    errors: tuple[type[Exception], ...]
    errors = (HandedInError, DataError, sandbox.SandboxError, PermissionsError)
    errors += (TableError, CourseError, history.HistoryError)
    errors += (SeedError, PrivateSplitError, cluster.ClusterError, FolderInUseError)
    out = options.out
    write_for_owner_only()
    with command.clear_errors(parser.prog, *errors), only_one(out, "--out"):
        class_split.check_options(options.private_images, options.no_private, options.count)
        students = students_in(options.folder)
        if loose := loose_files(options.folder):
            print(f"not in a student's folder or zip, so not graded: {', '.join(loose)}")
        keys = {student.key for student in students}
        expect_same_kind(options, students)
        chosen = graded_with(options)
        for words in history.expect_same_options(out, chosen, options.changed_options):
            print(f"changed option, so the class is graded again: {words}")
        earlier = read_decisions(files_of(out, {}), keys) if options.regrade else Decisions()
        files = tables_of(options, keys)
        decisions = read_decisions(files, keys)
        job = make_job(options)
        prepare(job)
        keep_mean_errors(out, MNISTDataset(job.test_data).images)
        history.keep_options(out, chosen)
        before = None
        if options.regrade:
            before = grades_before(students, job, earlier)
        results, stopped = grade_all(students, job, options, decisions)
        for student in students:  # after Ctrl-C, the stored results of the others
            if student.key not in results and (known := read_result(job.folder(student))):
                results[student.key] = {**known, "new": False}
        ordered = [results[student.key] for student in students if student.key in results]
        add_sums(ordered, decisions)
        write_book(out, ordered, decisions)
        print_tables(out, ordered, before)
        typed = {name: history.as_stored(value) for name, value in asdict(options).items()}
        print(f"history:  {append_history(out, 'grade_class', typed, files, ordered)}")
        if options.regrade and not stopped:
            (job.out / BEFORE).unlink()
    failed = sum(result["status"] == GRADER_ERROR for result in ordered)
    if failed:
        print(f"{failed} not graded because the grader failed; run the same command again")
    if stopped:
        print("stopped; run the same command to continue")
    sys.exit(command.status_of_stop() if stopped else 1 if failed else 0)


if __name__ == "__main__":
    command.run(main)
