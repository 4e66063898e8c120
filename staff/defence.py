"""Write a page per student with five questions on their own lines and figures, and a key.

For an oral defence, and for staff alone. The questions are templates whose condition holds for the
submission (staff/questions.py); no language model is used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from lab.arrays import npy_bytes
from lab.checkpoint import write_whole
from lab.lock import FolderInUseError, only_one
from staff import sandbox
from staff.class_folder import students_in
from staff.integrity.code import Code, read_code
from staff.integrity.weights import Record, read_record
from staff.job import folder_of
from staff.pages import render
from staff.permissions import private_folder, work_folder, write_for_owner_only
from staff.questions import Facts, Question, Text, questions
from staff.statuses import TASKS
from staff.submissions import HandedInError, Student, take
from staff.text import as_line

EXAMPLES = """examples:
  python -m staff.defence handed_in defence --graded graded
  python -m staff.defence handed_in defence --graded graded --language zh
"""
MEASURED = 1000  # validation images
MAX_BYTES = 1 << 20  # of what the sandbox returns
WORDS = {
    "title": Text("Oral defence", "答辩"),
    "staff": Text(
        "For staff alone. The answers were measured or follow from the line; a student may say it in "
        "other words.",
        "仅供教师使用。答案来自测量或代码本身；学生可以用自己的话回答。",
    ),
    "key": Text("key", "参考"),
    "answer": Text("Answer:", "答案："),
    "expect": Text("To expect:", "应当说出："),
    "none": Text(
        "There is nothing to ask about: no checkpoint could be read.", "没有可用的检查点。"
    ),
    "unmeasured": Text("The model could not be measured:", "模型无法测量："),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("folder", type=Path, help="the submissions, as Moodle, Canvas or Gradescope export them")
    add("out", type=Path, help="folder for the pages")
    add("--graded", type=Path, help="results of staff.grade_class, for the scores of each label")
    add("--language", choices=("en", "zh"), default="en", help="of the pages")
    add("--valid_data", type=Path, default=ROOT / "dataset" / "valid", help="validation split")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="run the submissions without isolation, with all your rights",
    )
    return parser


def facts_of(
    student: Student, work: Path, data: MNISTDataset, graded: Path | None, isolation: str
) -> list[tuple[Facts, str]]:
    """Return the facts of each task of a student, and why the model could not be measured, or "".

    Args:
        student: the folder or zip.
        work: a folder for copies, which are removed.
        data: the images that are measured on.
        graded: the folder of results of staff.grade_class.
        isolation: see `sandbox.run_stage`.

    Raises HandedInError, SandboxError, OSError.
    """
    found = []
    with work_folder(work) as folder:
        handed_in = take(student, folder / "handed_in")
        code = read_code(handed_in.code.read_bytes())
        arrays = {}
        for name, array in (("images", data.images), ("labels", data.labels)):
            arrays[f"{name}.npy"] = folder / f"{name}.npy"
            arrays[f"{name}.npy"].write_bytes(npy_bytes(np.ascontiguousarray(array[:MEASURED])))
        for file in handed_in.checkpoints.values():
            inputs = {"submission.py": handed_in.code, "checkpoint.pth": file}
            outcome = sandbox.run_stage("sketch", inputs, sandbox.Limits(), isolation)
            record = read_record(outcome.array) if outcome.status == "done" else None
            if record is None or record.task not in TASKS:
                continue
            outcome = sandbox.run_stage("measure", inputs | arrays, sandbox.Limits(), isolation)
            figures, problem = _figures(outcome)
            labels = _per_label(graded, student.key, record.task)
            found.append((_facts(code, record, figures, labels), problem))
    return found


def _facts(
    code: Code, record: Record, figures: dict[str, Any], labels: list[dict[str, Any]]
) -> Facts:
    return Facts(
        record.task,
        [as_line(line) for line in code.lines],
        code.sites,
        record.settings,
        record.history,
        figures,
        labels,
    )


def _figures(outcome: sandbox.Outcome) -> tuple[dict[str, Any], str]:
    """Return what the sandbox measured; {} and the reason if it could not."""
    if outcome.status != "done":
        return {}, f"{outcome.status}: {outcome.message}"
    try:
        figures = json.loads(outcome.array[:MAX_BYTES])
        sizes = figures.get("parameters", {})
        figures["parameters"] = {as_line(str(name)): int(size) for name, size in sizes.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}, "what was measured is not usable."
    return figures, ""


def _per_label(graded: Path | None, key: str, task: str) -> list[dict[str, Any]]:
    """Return the scores of each label from grading; [] if there are none."""
    if graded is None:
        return []
    try:
        file = folder_of(graded, key) / "result.json"
        result = json.loads(file.read_text(encoding="utf-8"))
        return list(result["tasks"][task]["per_label"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_page(file: Path, name: str, found: list[tuple[Facts, str]], language: str) -> None:
    """Write a student's page. Raises OSError."""

    def words(text: Text) -> str:
        return text.zh if language == "zh" else text.en

    def plain(facts: Facts, one: Question) -> dict[str, Any]:
        line = facts.lines[one.line - 1].strip()[:200] if one.line else ""
        texts = {part: words(getattr(one, part)) for part in ("asked", "answer", "expect")}
        return {**texts, "line": one.line, "text": line}

    tasks: list[dict[str, Any]] = []
    asked: list[Question] = []
    for facts, problem in sorted(found, key=lambda one: TASKS.index(one[0].task)):
        chosen = questions(facts, asked)
        asked += chosen
        shown = [plain(facts, one) for one in chosen]
        unmeasured = f"{words(WORDS['unmeasured'])} {problem}" if problem else ""
        tasks.append({"name": facts.task, "questions": shown, "problem": unmeasured})
    labels = {part: words(text) for part, text in WORDS.items()}
    text = render("defence.html", lang=language, name=name, words=labels, tasks=tasks)
    with write_whole(file) as opened:
        opened.write(text.encode())


def main() -> None:
    """Parse, measure, write the pages."""
    parser = make_parser()
    options = parser.parse_args()
    errors = (HandedInError, DataError, sandbox.SandboxError, FolderInUseError)
    write_for_owner_only()
    with command.clear_errors(parser.prog, *errors), only_one(options.out, "OUT"):
        students = [one for one in students_in(options.folder) if one.path.exists()]
        data = MNISTDataset(options.valid_data)
        isolation = sandbox.NONE if options.unsafe_no_isolation else sandbox.BUBBLEWRAP
        if isolation == sandbox.BUBBLEWRAP:
            sandbox.probe()
        work = private_folder(private_folder(options.out) / ".work")
        for student in tqdm(students, unit="student", dynamic_ncols=True):
            try:
                found = facts_of(student, work, data, options.graded, isolation)
            except HandedInError as error:
                tqdm.write(f"{student.key}: {as_line(str(error))}")
                found = []
            write_page(options.out / f"{student.key}.html", student.name, found, options.language)
    print(f"{len(students)} pages: {options.out}")


if __name__ == "__main__":
    command.run(main)
