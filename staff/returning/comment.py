"""The comment on a student's grade, of what the student may see."""

from __future__ import annotations

from typing import Any

from staff.chinese import in_chinese
from staff.pages import for_student

MAX_PROBLEMS = 8  # listed in a comment; the page has them all
MAX_MESSAGE = 500  # characters


def comment_of(result: dict[str, Any], language: str, most: int) -> list[str]:
    """Return the lines of the comment.

    Args:
        result: the student's, with the sums of the grade book.
        language: "en" or "zh".
        most: the points of all parts.
    """
    zh = language == "zh"
    shown = for_student(result, result["parts"])
    marked = [part for part in shown["parts"] if part["points"] is not None]
    points = ", ".join(f"{part['number']}: {part['points']:.4g}/{part['of']}" for part in marked)
    total = f"{result['total']:.2f}"
    lines = [f"总分 {total} / {most}" if zh else f"Total {total} of {most}"]
    lines.append(f"各部分：{points}" if zh else f"Parts: {points}")
    sums = shown["sums"]
    if sums["late"]:
        days, covered, points = sums["days"], sums["from_bank"], f"{sums['late']:.2f}"
        lines.append(
            f"迟交 {days} 天，额度抵扣 {covered} 天，扣 {sums['percent']:g} %：{points}"
            if zh
            else f"Late: {days} days, {covered} covered, {sums['percent']:g} % deducted: {points}"
        )
    if shown["message"]:
        lines.append((in_chinese(shown["message"]) if zh else shown["message"])[:MAX_MESSAGE])
    lines += _problems(marked, zh)
    return [*lines, "详见 feedback.html。" if zh else "More in feedback.html."]


def _problems(parts: list[dict[str, Any]], zh: bool) -> list[str]:
    """Return a line for each problem of the parts, up to MAX_PROBLEMS."""
    found = []
    for part in parts:
        if part["comment"]:
            found.append(f"{part['number']}: {part['comment']}")
        texts = [problem["text"] for problem in part["problems"]]
        found += [f"{part['number']}: {in_chinese(text) if zh else text}" for text in texts]
    return found[:MAX_PROBLEMS]
