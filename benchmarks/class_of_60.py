"""Walk a class of 60 through two weeks: collect, grade, return, in each platform's layout.

    python -m benchmarks.class_of_60 FOLDER           everything: 25 minutes on 2 cores
    python -m benchmarks.class_of_60 FOLDER --make    only write the class: FOLDER/LAYOUT/download

The class is that of tests/classes.py, with honest checkpoints: group of three, late ones, odd files,
mistakes, a copied pair, missing tasks, files that are no code. For each layout the same commands run
as in staff/guide.md. The class is graded once; in the other layouts the same grader finds by the
hashes of the files that nothing has to be graded again. Then each of the 60 must have one row, with
the right status, points and total, at each step, and each page and grade must reach its student.

The exit status is 0 if all rows are right in all layouts. What is trained is kept in FOLDER/models.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.commands import make_parser
from lab import ROOT
from lab.checks.rubric import HAND_IN, TESTS, most
from staff.solutions import blank
from tests import classes, classmates, mistakes
from tests.classes import CODE, GEN, VAE
from tests.platforms import Canvas, Moodle

WHOLE = most(TESTS) + most(HAND_IN)
BREACH, ERROR, MISSING = "contract breach", "student error", "no checkpoint"
NOTHING = "nothing handed in"
SIZE = 60
DUE = "2026-11-20 23:59"
FULLY_TRAINED = (22, 23, 24, 25, 26, 28, 57)  # on the training images; the others on fewer
VICTIM, COPY = 26, 27
STUDENT = (ROOT / "tests" / "submissions" / "student.py").read_text(encoding="utf-8")
DEMO = (ROOT / "model.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """What a student made.

    Attributes:
        code: the text of submission.py.
        trained: the number of the student whose checkpoints they are; None for none.
        files: content by kind in place of a trained checkpoint or the code; None leaves a file out.
        statuses: any of these is right.
        points: the right completion points; None where a model may or may not earn them.
    """

    code: str
    trained: int | None = None
    files: dict[str, bytes | None] = field(default_factory=dict)
    statuses: tuple[str, ...] = ("graded",)
    points: int | None = WHOLE


def works() -> dict[int, Work]:
    """Return the work of each student of the class by number, 0 to 59."""
    made = {i: Work(classmates.honest(i), i) for i in range(SIZE)}
    no_models: dict[str, bytes | None] = {VAE: None, GEN: None}
    untrained = most(TESTS)
    made[22], made[23] = Work(DEMO, 22), Work(DEMO, 23)
    made[24] = Work(STUDENT, 24)
    made[COPY] = Work(classmates.other_comments(made[VICTIM].code), VICTIM)
    made[29] = Work(STUDENT, 29, {GEN: None}, points=untrained)
    made[30] = Work(STUDENT, 30, {VAE: None})
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    made[31] = Work(blank(reference), None, no_models, (MISSING,), 0)
    made[32] = Work("%PDF-1.7 the report\n\0", None, no_models, (BREACH, ERROR, MISSING), 0)
    made[33] = Work('{"cells": [], "nbformat": 4}', None, no_models, (MISSING, ERROR, BREACH), 0)
    crash = STUDENT.replace("h = F.relu(self.fc2(z))", "h = F.relu(self.fc2(z, self.width))")
    made[34] = Work(crash, 29, statuses=(ERROR,), points=None)
    made[35] = Work("while True:\n    pass\n" + STUDENT, 29, statuses=("timeout",), points=0)
    alike = STUDENT.replace("torch.cat([z, y]", "torch.cat([0 * z, y]")
    made[36] = Work(alike, 29, statuses=("flagged",), points=None)
    made[37] = Work(STUDENT, 29, {GEN: b"PK not a checkpoint"}, (BREACH,), None)
    for i, mistake in zip(range(38, 57), mistakes.MISTAKES[:: len(mistakes.MISTAKES) // 19]):
        right = untrained - sum(mistake.costs.values())
        made[i] = Work(mistake.text, None, no_models, (MISSING,), right)
    return made


def train_models(made: dict[int, Work], folder: Path) -> None:
    """Train both models of each student who has some, unless an earlier run did."""
    from train import TrainOptions, train

    for number in sorted({work.trained for work in made.values() if work.trained is not None}):
        code = folder / f"{number}.py"
        code.parent.mkdir(parents=True, exist_ok=True)
        code.write_text(made[number].code, encoding="utf-8")
        for task, var in (("VAEwolabel", 0.05), ("Genwithlabel", 0.5)):
            if not (folder / f"{number}-{task}" / "best.pth").is_file():
                train(
                    TrainOptions(
                        task=task, submission=code, save_dir=folder / f"{number}-{task}",
                        overwrite=True, epochs=2, batch_size=256, latent_dim=8, var=var, lr=3e-3,
                        seed=number, eval_num=500, save_loss_plot=False,
                        train_data=ROOT / "dataset" / ("train" if number in FULLY_TRAINED else "valid"),
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


def main() -> None:
    parser = make_parser("benchmarks.class_of_60", __doc__)
    parser.add_argument("folder", type=Path, help="for the class and all results")
    parser.add_argument("--make", action="store_true", help="only write the class")
    options = parser.parse_args()
    made = works()
    train_models(made, options.folder / "models")
    students = classes.make_class(SIZE, handed_by(made, options.folder / "models"))
    for layout in classes.LAYOUTS:
        there = options.folder / layout
        shutil.rmtree(there, ignore_errors=True)
        classes.write_download(students, layout, there / "download")
        classes.write_roster(students, there / "roster.csv")


if __name__ == "__main__":
    main()
