"""Write leaderboard.html: the raw scores of a class under pseudonyms, safe to publish.

A secret salt decides the pseudonyms. The page holds no name, no key and no other figure of a
student than the raw score of each task on the test split, with its interval of 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.evaluation.intervals import raw_interval
from lab.lock import FolderInUseError, only_one
from lab.report.references import stored_references
from staff.course import LANGUAGES, CourseError
from staff.gradebook import GradebookError, read_book, write_book
from staff.pages import render
from staff.permissions import PermissionsError, write_for_owner_only
from staff.pseudonyms import Pseudonym, pseudonyms, salt_in
from staff.secret import PRIVATE
from staff.seeds import SeedError
from staff.statuses import TASKS
from staff.stored import folder_of
from staff.tables import TableError, write_table

PAGE, NAMES = "leaderboard.html", "pseudonyms.csv"  # in the folder of the results
# Standard deviation of the FID of 100 samples per label: of real images, see docs/reference.md.
FID_SPREAD = 0.08
FID_DRAWS = 1000
LATENT_DIM = 20  # of the baselines, as of the reference
REFERENCE = ROOT / "benchmarks" / "reference.json"
TRAINED = (  # parts of it: what was trained as a student does
    ("example", "the example, model.py", "示例 model.py"),
    ("runs", "the reference solution", "参考解答"),
)
ZOO = ROOT / "zoo" / "zoo.json"
EXAMPLES = """examples:
  python -m staff.leaderboard graded
  python -m staff.leaderboard graded --language zh --leave_out ada
  python -m staff.leaderboard graded --baseline "last year" grade_result.json
"""


class LeaderboardError(ValueError):
    """The leaderboard cannot be made; the message says what was expected."""


@dataclass(frozen=True)
class Row:
    """A row of a task's table.

    Attributes:
        name: in English and Chinese: a pseudonym, or what a baseline is.
        raw: the raw score.
        low, high: ends of its interval; both are `raw` where none is known.
        baseline: whether it is no student.
        first, last: the places that the intervals leave open; 0 for a baseline.
    """

    name: Pseudonym
    raw: float
    low: float
    high: float
    baseline: bool = False
    first: int = 0
    last: int = 0


def placed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, the best first, each student's with the places that are possible.

    A student is behind all whose whole interval is above theirs, and before all whose whole
    interval is below. Others are tied with them. Baselines take no place.
    """
    students = [row for row in rows if not row.baseline]
    found = []
    for row in rows:
        if row.baseline:
            found.append(row)
            continue
        above = sum(other.low > row.high for other in students)
        below = sum(other.high < row.low for other in students)
        found.append(replace(row, first=1 + above, last=len(students) - below))
    return sorted(found, key=lambda row: (-row.raw, row.name))


def rows_of(
    out: Path, task: str, results: Sequence[dict[str, Any]], names: dict[str, Pseudonym]
) -> list[Row]:
    """Return a row for each student whose model of a task has a raw score."""
    rows = []
    for result in tqdm(results, desc=task, unit="student", leave=False, dynamic_ncols=True):
        one = result["tasks"].get(task, {})
        if (raw := one.get("raw")) is not None:
            low, high = interval_of(folder_of(out, result["student"]), task, one)
            rows.append(Row(names[result["student"]], raw, low, high))
    return rows


def interval_of(folder: Path, task: str, one: dict[str, Any]) -> tuple[float, float]:
    """Return the 95 % interval of a student's raw score, by the images and the samples of the FID.

    Grading makes one set of samples, so the spread of its FID is that of real images. Where the
    scores of each image were not kept, both ends are the raw score.

    Args:
        folder: the student's.
        one: the result of the task.
    """
    ssim, mse = (_kept(folder / f"{task}_{name}.npy") for name in ("ssim", "errors"))
    if one["ssim"] is not None and (ssim is None or mse is None):
        return one["raw"], one["raw"]
    fids = None
    if one["fid"] is not None:
        fids = one["fid"] + FID_SPREAD * np.random.default_rng(0).standard_normal(FID_DRAWS)
    return raw_interval(task, ssim, mse, fids, one["latent_dim"])


def _kept(file: Path) -> np.ndarray | None:
    return np.load(file, allow_pickle=False) if file.is_file() else None


# ---------------------------------------------------------------- baselines


def baselines(task: str, test_sha256: str) -> list[Row]:
    """Return what the class is compared with, on the same images: [] for other ones than the lab's.

    The other three are measured by benchmarks/reference.py and benchmarks/zoo.py. Their figures are
    in the lab's repository alone, and left out elsewhere.
    """
    simple = stored_references(task, LATENT_DIM, test_sha256)
    if simple is None:
        return []
    pca = f"PCA, {LATENT_DIM} components", f"PCA，{LATENT_DIM} 个主成分"
    rows = [_baseline("a blank image", "空白图像", [simple["blank"]["raw"]])]
    rows.append(_baseline(*pca, [simple["pca"]["raw"]]))
    for part, en, zh in TRAINED:
        if runs := [run["raw"] for run in _json(REFERENCE).get(part, {}).get(task, [])]:
            rows.append(_baseline(en, zh, runs))
    records = [one["raw"] for one in _json(ZOO).get("records", []) if one["task"] == task]
    if records:
        rows.append(_baseline("the record", "纪录", [max(records)]))
    return rows


def read_baselines(given: Sequence[Sequence[str]], task: str, sha256: str) -> list[Row]:
    """Return the baselines that staff name: pairs of a name and a result of grade.py.

    Raises LeaderboardError for another file, or one of other images.
    """
    rows = []
    for name, file in given:
        result = _json(Path(file)).get(task)
        if result is None and not any(one in _json(Path(file)) for one in TASKS):
            raise LeaderboardError(f"{file} is no result of grade.py; expected grade_result.json.")
        if result is not None and result.get("data_sha256") != sha256:
            raise LeaderboardError(
                f"{file} is of other images than the class; grade it with --test_data_path "
                "dataset/test."
            )
        if result is not None:
            rows.append(_baseline(name, name, [float(result["raw"])]))
    return rows


def _baseline(en: str, zh: str, raws: Sequence[float]) -> Row:
    """Return a row of a baseline; the interval is from the lowest to the highest of its runs."""
    mean = sum(raws) / len(raws)
    return Row(Pseudonym(en, zh), mean, min(raws), max(raws), baseline=True)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------- the page


def write_page(file: Path, tables: dict[str, list[Row]], title: str, language: str) -> None:
    """Write the page. Raises OSError.

    tables: the rows by task, as `placed` returns them.
    """
    place = LANGUAGES.index(language)
    ends = {
        task: (
            min(row.low for row in rows if not row.baseline),
            max(row.high for row in rows),
        )
        for task, rows in tables.items()
    }
    text = render(
        "leaderboard.html",
        title=title,
        language=language,
        t=lambda *words: words[place],
        tables=tables,
        name=lambda row: getattr(row.name, language),
        # Where a value is between the ends of its task, in percent; a poor baseline is below 0.
        at=lambda task, value: _percent(value, *ends[task]),
    )
    with write_whole(file) as opened:
        opened.write(text.encode())


def _percent(value: float, low: float, high: float) -> float:
    return 100 * (value - low) / (high - low) if high > low else 50.0


def write_names(file: Path, results: Sequence[dict[str, Any]], names: dict[str, Pseudonym]) -> None:
    """Write whose each pseudonym is, for staff alone. Raises OSError."""
    head = ["Submission", "Full name", "Pseudonym", "Pseudonym in Chinese"]
    keyed = [(one["student"], one["name"], names[one["student"]]) for one in results]
    write_table(file, [head, *([key, name, two.en, two.zh] for key, name, two in keyed)])


def chosen(results: Sequence[dict[str, Any]], left_out: Collection[str]) -> list[dict[str, Any]]:
    """Return the results without those of some students. Raises LeaderboardError."""
    if unknown := sorted({*left_out} - {one["student"] for one in results}):
        raise LeaderboardError(
            f"there is no student {unknown[0]!r}; expected a name of the column Submission."
        )
    return [one for one in results if one["student"] not in left_out]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.leaderboard"
    add = parser.add_argument
    add("out", type=Path, help="folder of the results, the --out of staff.grade_class")
    add("--language", choices=LANGUAGES, help="of the page; that of course.toml if not given")
    add("--leave_out", nargs="+", default=[], metavar="KEY", help="students who are not shown")
    add(
        "--baseline",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="another baseline: its name, and the grade_result.json of grade.py on the test split",
    )
    return parser


def main() -> None:
    """Parse, compute the intervals, write the page and the table of names."""
    parser = make_parser()
    options = parser.parse_args()
    errors = (GradebookError, CourseError, TableError, FolderInUseError, LeaderboardError)
    write_for_owner_only()
    with (
        command.clear_errors(parser.prog, *errors, SeedError, PermissionsError),
        only_one(options.out, "OUT"),
    ):
        out = options.out
        results, decisions, _ = read_book(out)
        names = pseudonyms([one["student"] for one in results], salt_in(out / PRIVATE))
        shown = chosen(results, options.leave_out)
        shas = {one["data_sha256"]["test"] for one in shown if "test" in one.get("data_sha256", {})}
        sha256 = shas.pop() if len(shas) == 1 else ""
        tables = {}
        for task in TASKS:
            rows = rows_of(out, task, shown, names)
            if rows:
                more = [*baselines(task, sha256), *read_baselines(options.baseline, task, sha256)]
                tables[task] = placed([*rows, *more])
        if not tables:
            raise LeaderboardError(f"{out} holds no raw score; grade the class first.")
        course = decisions.course
        write_page(out / PAGE, tables, course.title, options.language or course.language)
        write_names(out / NAMES, results, names)
        write_book(out, results, decisions)  # so that each student's page has their pseudonym
    print(f"publish:   {out / PAGE}")
    print(f"for staff: {out / NAMES}, whose each pseudonym is")


if __name__ == "__main__":
    command.run(main)
