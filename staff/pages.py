"""HTML pages for staff and students. Each is one file that contains its pictures."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from lab.checks.rubric import PERSON, TASK_OF_SCORE, most, rubric
from lab.pages import templates, verbatim
from staff.chinese import in_chinese
from staff.marks import total_of
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, NO_CHECKPOINT, TASKS
from staff.stored import report_file

TEMPLATES = Path(__file__).resolve().parent / "templates"
STATUS_FOR_STUDENTS = {FLAGGED: GRADED, GRADER_ERROR: "not graded yet"}
# What a student may see of a result and of its tasks. Anything that is not listed is for staff.
FOR_STUDENT = ("name", "score", "graded_at", "versions", "grader_sha256")
TASK_FOR_STUDENT = (
    *("message", "score", "cap", "raw", "ssim", "mse", "fid", "bonus", "latent_dim", "n"),
    *("per_label", "counted", "stages", "log"),
)
PART_FOR_STUDENT = ("number", "title", "of", "points", "comment", "problems")
# Of the sums of the grade book; the notes, which name reasons and people, are for staff.
SUMS_FOR_STUDENT = ("parts", "submitted", "due", "days", "from_bank", "percent", "late", "override")
PICTURES = {
    "recon": ("inputs above their reconstructions", "上面是输入，下面是重建"),
    "samples": ("samples of each label", "每个标签的采样"),
}
STATUS_IN_CHINESE = {
    **{GRADED: "已评分", "not graded yet": "尚未评分", "student error": "代码出错"},
    **{"timeout": "超时", "out of memory": "内存不足", "contract breach": "不符合要求"},
    **{"no checkpoint": "缺少检查点", "nothing handed in": "未提交"},
}


def render(template: str, **values: Any) -> str:
    """Fill in a template of staff/templates. Values are escaped: some come from students."""
    style = verbatim(TEMPLATES / "style.css")
    page = templates(TEMPLATES).get_template(template)
    return page.render(style=style, css=css, most=most(), picture=picture, **values)


def css(status: str) -> str:
    """Return the CSS class of a status."""
    if status in (FLAGGED, NO_CHECKPOINT):
        return "look"  # students' pages have no word of a flag
    return "graded" if status == GRADED else "failed"


def picture(file: Path) -> str:
    """Return a PNG file in base64; "" if it does not exist."""
    return base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""


def status_for_student(status: str) -> str:
    """Return the status that a student sees in place of one."""
    return STATUS_FOR_STUDENTS.get(status, status)


def for_student(result: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a result that its student may see; every page for students starts here.

    Flags and the private split's scores, times and messages are for staff. Instead of "flagged" the
    status is "graded". A message about the grader's own error is for staff as well.

    parts: the points of each part of the course; see `marks.parts_of`.
    """
    failed = result["status"] == GRADER_ERROR
    shown = {name: result[name] for name in FOR_STUDENT if name in result}
    shown["status"] = status_for_student(result["status"])
    shown["message"] = "" if failed else result["message"]
    shown["tasks"] = {
        task: {name: one[name] for name in TASK_FOR_STUDENT if name in one}
        | {"status": status_for_student(one["status"])}
        for task, one in sorted(result["tasks"].items(), key=_place_of_task)
    }
    shown["parts"] = [
        {name: part[name] for name in PART_FOR_STUDENT}
        | {"title_zh": rubric()[part["number"]].title_zh}
        for part in parts
    ]
    if "sums" in result:
        shown["sums"] = {name: result["sums"][name] for name in SUMS_FOR_STUDENT}
    shown["checks_failed"] = result.get("completion", {}).get("message", "")
    return shown


def _place_of_task(named: tuple[str, object]) -> int:
    """Return where a task comes on the page: as in the course, then files that are of no task."""
    return TASKS.index(named[0]) if named[0] in TASKS else len(TASKS)


def write_feedback(
    result: dict[str, Any],
    parts: list[dict[str, Any]],
    folder: Path,
    language: str = "en",
    title: str = "VAE lab",
    pseudonym: str = "",
) -> Path:
    """Write feedback.html into a student's folder and return its path. Raises OSError.

    Args:
        result: the student's, with `sums` and `total` of the grade book if it has been computed.
        parts: the points of each part of the course; see `marks.parts_of`.
        folder: the student's.
        language: of the page, "en" or "zh".
        title: its heading.
        pseudonym: the student's on the leaderboard; "" if there is none.
    """
    place = ("en", "zh").index(language)
    pictures = {
        task: [
            {"data": data, "alt": f"{task}: {words[place]}"}
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
        title=title,
        language=language,
        pseudonym=pseudonym,
        t=lambda *words: words[place],
        say=in_chinese if place else str,
        status_words=lambda status: STATUS_IN_CHINESE.get(status, status) if place else status,
        total=result.get("total", total_of(shown["parts"])),
        complete=[part for part in shown["parts"] if part["points"] == part["of"]],
        incomplete=_next_steps(shown["parts"]),
        moment=moment,
        task_of_score={
            number: task
            for number, task in TASK_OF_SCORE.items()
            if "raw" in shown["tasks"].get(task, {})
        },
        unmarked=[
            part["number"]
            for part in shown["parts"]
            if part["points"] is None
            and (shown["tasks"] or rubric()[part["number"]].graded == PERSON)
        ],
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


def _next_steps(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts that lost points, those that lost most first.

    What could not be tested is a problem of a part only where nothing else is.
    """
    lost = [
        {**part, "problems": [one for one in part["problems"] if not one["untested"]]}
        if not all(one["untested"] for one in part["problems"])
        else part
        for part in parts
        if part["points"] is not None and part["points"] < part["of"]
    ]
    return sorted(lost, key=lambda part: part["points"] - part["of"])


def moment(words: str) -> str:
    """Return a time in ISO 8601 as people read it: 2026-11-20 23:59 UTC+08:00."""
    return datetime.fromisoformat(words).strftime("%Y-%m-%d %H:%M %Z")
