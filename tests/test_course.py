"""The course's texts: the same headings, points, formulas and commands in both languages."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from lab.checks.rubric import HAND_IN, SCORE, TESTS, most, rubric

PATTERNS = {
    "numbers of headings": r"^(#+) .*?(\d\.\d|\(?[ab]\))?",
    "points": r"^\| (?:[\d.]+)? \|.*\| (\d+) \|",
    "formulas": r"\$\$(.*?)\$\$",
    "commands": r"```bash\n(.*?)```",
    "files": r"`([\w.]+\.(?:py|pth|pdf|png|sh))`",
}


def parts(name: str, pattern: str) -> list:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(pattern, text, re.DOTALL if "$$" in pattern or "```" in pattern else re.M)


@pytest.mark.parametrize("what", PATTERNS)
def test_the_assignment_is_the_same_in_both_languages(what):
    english, chinese = (parts(name, PATTERNS[what]) for name in ("handout.md", "handout.zh.md"))
    assert english == chinese and len(english) > 1


def points_by_part() -> list[tuple[str, int]]:
    """Return the rows of the assignment's table from the rubric: 2.2.1 to 2.2.4 are one row."""
    rows: dict[tuple[str, str], int] = {}
    for part in rubric().values():
        name = re.sub(r"^(0\.1|2\.2|3)\b.*|[ab]$", r"\1", part.number)
        kind = SCORE if part.graded == SCORE else "other"
        rows[name, kind] = rows.get((name, kind), 0) + part.points
    return [(name, points) for (name, _), points in rows.items()]


def test_the_points_add_up():
    rows = re.findall(
        r"^\| ?([\d.]*) \| .* \| (\d+) \|.*\|$",
        (ROOT / "docs" / "handout.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    *parts_of_it, (name, total) = rows
    assert [(number, int(points)) for number, points in parts_of_it] == points_by_part()
    assert name == "" and sum(int(points) for _, points in parts_of_it) == int(total) == 130
    text = (ROOT / "docs" / "handout.md").read_text(encoding="utf-8")
    for part, points in parts_of_it:
        if part != "3":
            assert re.search(rf"^### {re.escape(part)} .*\({points} points\)$", text, re.M), part
    todos = dict(re.findall(r"(\d\.\d(?:\.\d)?): (\d+)", text.split("## Part 0")[0]))
    tested = {part.number: str(part.points) for part in rubric().values() if part.graded == TESTS}
    assert todos == tested
    assert f"and {most(HAND_IN)} more if your `GenModel` is trained" in text
    third = sum(int(points) for part, points in parts_of_it if part == "3")
    assert f"asked for ({third} points)" in text
