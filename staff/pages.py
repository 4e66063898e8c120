"""HTML pages for staff and students. Each is one file that contains its pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from lab.checks.rubric import most
from lab.pages import templates, verbatim
from staff.marks import total_of
from staff.model_report import report_file
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, NO_CHECKPOINT, TASKS

TEMPLATES = Path(__file__).resolve().parent / "templates"
STATUS_FOR_STUDENTS = {FLAGGED: GRADED, GRADER_ERROR: "not graded yet"}
# What a student may see of a result and of its tasks. Anything that is not listed is for staff.
FOR_STUDENT = ("name", "score", "graded_at", "versions", "grader_sha256")
TASK_FOR_STUDENT = (
    *("message", "score", "cap", "raw", "ssim", "mse", "fid", "bonus", "latent_dim", "n"),
    *("per_label", "counted", "stages", "log"),
)
PART_FOR_STUDENT = ("number", "title", "of", "points", "comment", "problems")
PICTURES = {"recon": "inputs above their reconstructions", "samples": "samples of each label"}


def render(template: str, **values: Any) -> str:
    """Fill in a template of staff/templates. Values are escaped: some come from students."""
    style = verbatim(TEMPLATES / "style.css")
    page = templates(TEMPLATES).get_template(template)
    return page.render(style=style, css=css, most=most(), picture=picture, **values)


def css(status: str) -> str:
    """Return the CSS class of a status."""
    if status == NO_CHECKPOINT:
        return FLAGGED
    return status if status in (GRADED, FLAGGED) else "failed"


def picture(file: Path) -> str:
    """Return a PNG file in base64; "" if it does not exist."""
    return base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""


def for_student(result: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a result that its student may see; every page for students starts here.

    Flags and the private split's scores, times and messages are for staff. Instead of "flagged" the
    status is "graded". A message about the grader's own error is for staff as well.

    parts: the points of each part of the course; see `marks.parts_of`.
    """
    failed = result["status"] == GRADER_ERROR
    shown = {name: result[name] for name in FOR_STUDENT if name in result}
    shown["status"] = STATUS_FOR_STUDENTS.get(result["status"], result["status"])
    shown["message"] = "" if failed else result["message"]
    shown["tasks"] = {
        task: {name: one[name] for name in TASK_FOR_STUDENT if name in one}
        | {"status": STATUS_FOR_STUDENTS.get(one["status"], one["status"])}
        for task, one in result["tasks"].items()
    }
    shown["parts"] = [{name: part[name] for name in PART_FOR_STUDENT} for part in parts]
    shown["checks_failed"] = result.get("completion", {}).get("message", "")
    return shown


def write_feedback(result: dict[str, Any], parts: list[dict[str, Any]], folder: Path) -> Path:
    """Write feedback.html into a student's folder and return its path. Raises OSError.

    parts: the points of each part of the course; see `marks.parts_of`.
    """
    pictures = {
        task: [
            {"data": data, "alt": f"{task}: {words}"}
            for name, words in PICTURES.items()
            if task in TASKS and (data := picture(folder / f"{task}_{name}.png"))
        ]
        for task in result["tasks"]
    }
    shown = for_student(result, parts)
    message = "" if result["tasks"] else shown["message"]  # otherwise it is beside its task
    text = render(
        "feedback.html",
        result=shown,
        total=total_of(shown["parts"]),
        unmarked=[part["number"] for part in shown["parts"] if part["points"] is None],
        pictures=pictures,
        reports={
            task: page.name
            for task in TASKS
            if task in result["tasks"] and (page := report_file(folder, task)).is_file()
        },
        message=message,
    )
    with write_whole(folder / "feedback.html") as file:
        file.write(text.encode())
    return folder / "feedback.html"
