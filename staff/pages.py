"""HTML pages for staff and students. Each is one file that contains its pictures."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, MAX_POINTS, TASKS

TEMPLATES = Path(__file__).resolve().parent / "templates"
FOR_STUDENTS = {FLAGGED: GRADED, GRADER_ERROR: "not graded yet"}
PICTURES = {"recon": "inputs above their reconstructions", "samples": "samples of each label"}


def render(template: str, **values: Any) -> str:
    """Fill in a template of staff/templates. Values are escaped: some come from students."""
    from markupsafe import Markup

    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return (
        _environment()
        .get_template(template)
        .render(style=style, css=css, most=MAX_POINTS, picture=picture, **values)
    )


@functools.cache
def _environment() -> Any:
    """Return the jinja2.Environment, which compiles each template once per process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def css(status: str) -> str:
    """Return the CSS class of a status."""
    return status if status in (GRADED, FLAGGED) else "failed"


def picture(file: Path) -> str:
    """Return a PNG file in base64; "" if it does not exist."""
    return base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""


def write_feedback(result: dict[str, Any], folder: Path) -> Path:
    """Write feedback.html into a student's folder and return its path. Raises OSError.

    Flags are for staff: instead of "flagged", the page shows "graded".
    """
    pictures = {
        task: [
            {"data": data, "alt": f"{task}: {words}"}
            for name, words in PICTURES.items()
            if task in TASKS and (data := picture(folder / f"{task}_{name}.png"))
        ]
        for task in result["tasks"]
    }
    shown = {**result, "status": _for_students(result["status"])}
    shown["tasks"] = {
        task: {**one, "status": _for_students(one["status"])}
        for task, one in result["tasks"].items()
    }
    message = "" if result["tasks"] or result["status"] == GRADER_ERROR else result["message"]
    text = render(
        "feedback.html", result=shown, pictures=pictures, message=message, words=_for_students
    )
    with write_whole(folder / "feedback.html") as file:
        file.write(text.encode())
    return folder / "feedback.html"


def _for_students(status: str) -> str:
    return FOR_STUDENTS.get(status, status)
