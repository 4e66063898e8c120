"""Walk a class of 60 through two weeks: collect, grade, return, in each platform's layout.

    python -m benchmarks.class_of_60 FOLDER           everything: 40 minutes on 2 busy cores
    python -m benchmarks.class_of_60 FOLDER --make    only write the class: FOLDER/LAYOUT/download

The class is that of tests/classes.py, with honest checkpoints: a group of three, late ones, odd
files, mistakes, a copied pair, missing tasks, files that are no code. For each layout the commands
of staff/guide.md run. The class is graded once: in the other layouts the grader finds by the hashes
of the files that nothing has to be graded again. At each step each of the 60 must have one row with
the right status, points and total, and each page and grade must reach its student.

The exit status is 0 if all rows are right in all layouts. What is trained is kept in FOLDER/models.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import escape

from benchmarks.commands import make_parser, timed
from lab import ROOT
from lab.checks.rubric import HAND_IN, TESTS, most
from staff.solutions import blank
from tests import classes, classmates, mistakes
from tests.classes import GEN, VAE
from tests.platforms import Canvas, Moodle

SIZE, FIRST_CORRECT, LEADER = 60, 2 * len(classes.ODD), 57
WHOLE, UNTRAINED = most(TESTS) + most(HAND_IN), most(TESTS)
NO_MODELS: dict[str, bytes | None] = {VAE: None, GEN: None}
FULLY_TRAINED = (22, 23, 24, 25, 26, 28, LEADER)  # on the training images; the others on fewer
DUE = "2026-11-20 23:59"
COURSE = 'title = "Lab 2"\nlanguage = "zh"\ndue = 2026-11-20T23:59:00+08:00\n'
SECONDS = 30  # of CPU time of a stage, so that an endless loop does not take long
STUDENT = (ROOT / "tests" / "submissions" / "student.py").read_text(encoding="utf-8")
DEMO = (ROOT / "model.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """What a student made.

    Attributes:
        code: the text of submission.py.
        trained: the number of the student whose checkpoints they are; None for none.
        files: content by kind in place of a trained checkpoint; None leaves a file out.
        statuses: any of these is right.
        points: completion points, any of which is right; () if that depends on the training.
    """

    code: str
    trained: int | None = None
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    statuses: tuple[str, ...] = ("graded",)
    points: tuple[int, ...] = (WHOLE, UNTRAINED)


def works() -> dict[int, Work]:
    """Return the work of each student of the class by number, 0 to 59."""
    poor = ("graded", "flagged")  # samples of a model that is hardly trained may be all alike
    made = {i: Work(classmates.honest(i), i, statuses=poor) for i in range(FIRST_CORRECT)}
    made |= {i: Work(classmates.honest(i), i) for i in (25, 26, 28, LEADER)}
    made |= {22: Work(DEMO, 22), 23: Work(DEMO, 23), 24: Work(STUDENT, 24)}
    made[27] = Work(classmates.other_comments(made[26].code), 26)  # a copy
    made[29] = Work(STUDENT, 29, {GEN: None}, points=(UNTRAINED,))
    made[30] = Work(STUDENT, 30, {VAE: None}, poor)
    blank_file = blank((ROOT / "submission.py").read_text(encoding="utf-8"))
    no_code = (blank_file, "%PDF-1.7 the report\n\0", '{"cells": [], "nbformat": 4}')
    for i, text in zip((31, 32, 33), no_code):
        made[i] = Work(text, None, NO_MODELS, ("no checkpoint",), (0,))
    crash = STUDENT.replace("h = F.relu(self.fc2(z))", "h = F.relu(self.fc2(z, self.width))")
    made[34] = Work(crash, 29, {}, ("student error",), ())
    made[35] = Work(f"while True:\n    pass\n{STUDENT}", 29, {}, ("timeout",), (0,))
    alike = STUDENT.replace("torch.cat([z, y]", "torch.cat([0 * z, y]")
    made[36] = Work(alike, 29, {}, ("flagged",), ())
    made[37] = Work(STUDENT, 29, {GEN: b"PK not a checkpoint"}, ("contract breach",), (UNTRAINED,))
    some = mistakes.MISTAKES[:: len(mistakes.MISTAKES) // 19]
    for i, mistake in zip(range(38, LEADER), some):
        right = UNTRAINED - sum(mistake.costs.values())
        made[i] = Work(mistake.text, None, NO_MODELS, ("no checkpoint",), (right,))
    made |= dict.fromkeys(range(LEADER + 1, SIZE), made[LEADER])  # a group
    return made


def right_of(one: classes.Handed, work: Work) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the statuses and the completion points that are right for a student."""
    if not (one.files or one.group):
        return ("nothing handed in",), (0,)
    if "lab.rar" in one.files:
        return ("contract breach",), (0,)
    return work.statuses, work.points


def train_models(made: dict[int, Work], folder: Path) -> None:
    """Train both models of each student who has some, unless an earlier run did."""
    from train import TrainOptions, train

    for number in sorted({work.trained for work in made.values() if work.trained is not None}):
        code, split = folder / f"{number}.py", "train" if number in FULLY_TRAINED else "valid"
        code.parent.mkdir(parents=True, exist_ok=True)
        code.write_text(made[number].code, encoding="utf-8")
        for task, var in (("VAEwolabel", 0.05), ("Genwithlabel", 0.5)):
            if not (folder / f"{number}-{task}" / "best.pth").is_file():
                train(
                    TrainOptions(
                        task=task, submission=code, save_dir=folder / f"{number}-{task}",
                        overwrite=True, epochs=2, batch_size=256, latent_dim=8, var=var, lr=3e-3,
                        seed=number, eval_num=500, save_loss_plot=False,
                        train_data=ROOT / "dataset" / split,
                    ),
                    progress=False,
                )  # fmt: skip


def handed_by(made: dict[int, Work], models: Path) -> type[classes.Handed]:
    """Return the kind of student whose files have real code and checkpoints in them."""

    class WithWork(classes.Handed):
        def content(self, kind: str, more: str = "") -> bytes:
            work = made[self.number - classes.FIRST_NUMBER]
            if kind in work.files:
                return work.files[kind] or b""
            if kind in (VAE, GEN) and work.trained is not None:
                run = models / f"{work.trained}-{Path(kind).stem}"
                return (run / "best.pth").read_bytes() + (b"" if not more else more.encode())
            if kind.endswith(".py") and not more:
                return work.code.encode()
            return super().content(kind, more)

        def give(self, name: str, kind: str = "", more: str = "", time: int = classes.NEW) -> bytes:
            work = made[self.number - classes.FIRST_NUMBER]
            if kind in work.files and work.files[kind] is None:
                return b""
            return super().give(name, kind, more, time)

    return WithWork


# ---------------------------------------------------------------- the two weeks


def walk(layout: str, there: Path, graded: Path | None) -> None:
    """Collect, grade, keep the book, make the pages and return, as staff/guide.md says.

    Args:
        layout: of the download in `there`.
        graded: results of the class from another layout, from which grading goes on; None to grade.
    """
    out, collected, roster = there / "graded", there / "collected", there / "roster.csv"
    collect = ("staff.collect", there / "download", "--roster", roster, "--out", collected)
    command(*collect, "--due", DUE)
    with open(collected / "fixes.csv", "a", encoding="utf-8", newline="") as file:
        for row in rows_of(collected / "oddities.csv"):
            if "say so in fixes.csv" in row["oddity"]:
                csv.writer(file).writerow([row["student"], row["file"], "submission.py"])
    command(*collect, "--due", DUE)
    if graded is not None:
        shutil.copytree(graded, out)
    command("staff.grade_class", collected, "--out", out, "--seconds", SECONDS)
    (there / "course.toml").write_text(COURSE, encoding="utf-8")
    command("staff.gradebook", out, "--course", there / "course.toml")
    command("staff.leaderboard", out)
    tables = ["--canvas_export", there / "export.csv", "--assignment", "Lab"]
    if layout.startswith("moodle"):
        tables = ["--moodle_worksheet", there / "worksheet.csv"]
    command("staff.return_grades", out, *tables)


def command(*words: object) -> None:
    """Run a command of the staff, and print it with its seconds. Raises CalledProcessError."""
    seconds = timed(sys.executable, "-m", *words, quiet=True)
    print(f"{seconds:6.1f} s  python -m {' '.join(map(str, words))}", flush=True)


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(file, encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


# ---------------------------------------------------------------- the platforms


def people(students: list[classes.Handed]) -> dict[int, tuple[str, str]]:
    """Return name and address of each participant by the platform's number."""
    return {one.number: (one.name, f"{one.id}@example.edu") for one in students}


def write_platform(layout: str, students: list[classes.Handed], there: Path) -> None:
    """Write the table that the platform gives: Moodle's worksheet, or Canvas's export.

    A course in Gradescope returns the grades of `grade_class` through the gradebook of its campus.
    """
    if layout.startswith("moodle"):
        (there / "worksheet.csv").write_bytes(Moodle("zh", people(students)).worksheet())
        return
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab (81523)"]]
    rows += [["    Points Possible", "", "", "", "", str(most())]]
    for number, (name, email) in people(students).items():
        rows.append([name, str(number), email.split("@")[0], email, "L1", ""])
    with open(there / "export.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def returned(layout: str, students: list[classes.Handed], there: Path) -> dict[int, float]:
    """Return the grade of each number after the platform has imported what was returned."""
    folder = there / "graded" / "return"
    if layout.startswith("moodle"):
        site = Moodle("zh", people(students))
        site.import_worksheet((folder / "moodle_worksheet.csv").read_bytes())
        site.import_zip((folder / "moodle_feedback.zip").read_bytes())
        for one in students:
            page = site.files[one.number]["feedback.html"].decode()
            expect(f"<title>Lab 2：{escape(one.name)}<" in page, one, "the page in the zip")
        return site.grades
    campus = Canvas({str(one.number): {} for one in students})
    campus.take((folder / "canvas.csv").read_bytes())
    return {int(number): float(own["Lab (81523)"]) for number, own in campus.grades.items() if own}


# ---------------------------------------------------------------- what is right


WRONG: list[str] = []


def expect(right: bool, one: classes.Handed, what: str) -> None:
    """Note what is wrong with a student's row."""
    if not right:
        WRONG.append(f"{one.id} {one.name}: {what}")


def check(layout: str, students: list[classes.Handed], made: dict[int, Work], there: Path) -> None:
    """Check that each student has one right row at each step; print how many have."""
    before, out = len(WRONG), there / "graded"
    keys = [one.id for one in students]
    tables = {
        "collected.csv": [row["id"] for row in rows_of(there / "collected" / "collected.csv")],
        "grades.csv": [row["Submission"] for row in rows_of(out / "grades.csv")],
        "final.csv": [row["Submission"] for row in rows_of(out / "final.csv")],
    }
    for name, found in tables.items():
        if found != keys:
            WRONG.append(f"{layout}: {name} has not one row for each student")
    grades = {row["Submission"]: row for row in rows_of(out / "grades.csv")}
    imported = returned(layout, students, there)
    statuses: Counter[str] = Counter()
    for number, one in enumerate(students):
        result = json.loads((out / "students" / one.id / "result.json").read_text("utf-8"))
        expected, points = right_of(one, made[number])
        statuses[result["status"]] += 1
        expect(result["status"] in expected, one, f"status {result['status']}")
        achieved = result.get("completion", {}).get("points", 0)
        expect(not points or achieved in points, one, f"{achieved} completion points")
        total = float(grades[one.id]["Grade"])
        expect(abs(imported.get(one.number, -1) - total) < 0.006, one, "the returned grade")
        page = (out / "students" / one.id / "feedback.html").read_text("utf-8")
        page = re.sub('<style>.*?</style>|base64,[^"]*', "", page, flags=re.DOTALL)
        expect("各部分得分" in page, one, "the page is not in Chinese")
        expect("flag" not in page.lower(), one, "a flag on the page")
        expect(page.count(f"{total:.2f} 分（满分") == 1, one, "the total on the page")
    listed = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    print(f"{layout}: {SIZE - len(WRONG) + before} of {SIZE} right ({listed})", flush=True)


def main() -> None:
    """Make the class, walk through the two weeks in each layout, say what is wrong."""
    parser = make_parser("benchmarks.class_of_60", __doc__)
    parser.add_argument("folder", type=Path, help="for the class and all results")
    parser.add_argument("--make", action="store_true", help="only write the class")
    options = parser.parse_args()
    folder, made = options.folder.resolve(), works()
    train_models(made, folder / "models")
    students = classes.make_class(SIZE, handed_by(made, folder / "models"))
    graded = None
    for layout in classes.LAYOUTS:
        there = folder / layout
        shutil.rmtree(there, ignore_errors=True)
        classes.write_download(students, layout, there / "download")
        classes.write_roster(students, there / "roster.csv")
        write_platform(layout, students, there)
        if not options.make:
            walk(layout, there, graded)
            check(layout, students, made, there)
            graded = graded or there / "graded"
    print(*WRONG, sep="\n")
    sys.exit(1 if WRONG else 0)


if __name__ == "__main__":
    main()
