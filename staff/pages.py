"""The pages that staff and students look at: one HTML file each, with its pictures inside it."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, MOST, TASKS

TEMPLATES = Path(__file__).resolve().parent / "templates"
FOR_STUDENTS = {FLAGGED: GRADED, GRADER_ERROR: "not graded yet"}
PICTURES = {"recon": "inputs above their reconstructions", "samples": "samples of each label"}


def render(template: str, **values: Any) -> str:
    """Fill in a template; everything that comes from students is escaped."""
    from markupsafe import Markup

    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704  ours
    return (
        _environment()
        .get_template(template)
        .render(style=style, css=css, most=MOST, picture=picture, **values)
    )


@functools.cache
def _environment() -> Any:
    """Return what keeps the templates, which are compiled once in each process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def css(status: str) -> str:
    """Return the class that colours a status."""
    return status if status in (GRADED, FLAGGED) else "failed"


def picture(file: Path) -> str:
    """Return a PNG file as text that stands in a page; empty where it is not there."""
    return base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""


def write_feedback(result: dict[str, Any], folder: Path) -> Path:
    """Write a student's page. Flags are for staff; a student sees "graded" in their place."""
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
