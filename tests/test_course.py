"""The course's texts: the same headings, points, formulas and commands in both languages."""

from __future__ import annotations

import importlib
import re

import pytest
from conftest import ROOT
from PIL import Image

from benchmarks import course_page, figures
from benchmarks.markdown import block_in
from lab.checks.rubric import HAND_IN, SCORE, TESTS, most, rubric

DOCS = ROOT / "docs"
PAGES = ("handout", "student-guide", "report-template")
# What must be the same in both languages, and the pages that have it.
PATTERNS = {
    "headings": (r"^(#+ (?:\d+(?:\.\d+)*)?)", PAGES),
    "parts of headings": (r"^#+ .*?(\d\.\d|\(?[ab]\))", PAGES),
    "points": (r"^\| (?:[\d.]+)? \|.*\| (\d+) \|", ("handout",)),
    "formulas": (r"(?s)\$\$(.*?)\$\$", ("handout", "student-guide")),
    "commands": (r"(?s)```bash\n(.*?)```", PAGES),
    "pictures": (r"!\[[^\]]*\]\((.*?)\)", PAGES),
    "files": (r"`([\w.]+\.(?:py|pth|pdf|png|sh|md|csv|log|gif))`", PAGES),
    "options": (r"`(--\w+)", ("student-guide",)),
    "rows of tables": (r"^(\|)", PAGES),
    "items of lists": (r"^(- )", ("handout", "student-guide")),
    "blocks": (r"<!-- (course-[\w-]+): (?:begin|end) -->", PAGES),
}
CASES = [(page, what) for what, (_, pages) in PATTERNS.items() for page in pages]
PICTURES = sorted((DOCS / "course").glob("*.png"))
COMMANDS = ("check", "train", "inference", "grade", "sweep", "submit")
STORED = figures.read(course_page.FIGURES)


def text_of(page: str, language: str = "") -> str:
    return (DOCS / f"{page}{language}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "what"), CASES)
def test_a_page_is_the_same_in_both_languages(page, what):
    pattern = PATTERNS[what][0]
    english, chinese = (
        re.findall(pattern, text_of(page, language), re.M) for language in ("", ".zh")
    )
    if what in ("files", "options"):  # each language has its own order of words
        english, chinese = sorted(english), sorted(chinese)
    assert english == chinese and english


def test_every_picture_is_there_small_and_shown():
    shown = {
        DOCS / name for page in PAGES for name in re.findall(r"!\[[^\]]+\]\((.*?)\)", text_of(page))
    }
    assert shown == set(PICTURES)
    sizes = [file.stat().st_size for file in PICTURES]
    assert max(sizes) < 150_000 and sum(sizes) < 1_000_000
    for file in PICTURES:
        assert Image.open(file).size[0] > 800, file


def test_no_page_names_an_option_that_does_not_exist():
    parsers = [importlib.import_module(name).make_parser() for name in COMMANDS]
    known = {option for parser in parsers for option in parser._option_string_actions}
    for page in (*PAGES, "faq"):
        for language in ("", ".zh"):
            for option in re.findall(r"`(--[\w-]+)", text_of(page, language)):
                assert option in known, (page, language, option)


def test_the_figures_are_the_stored_ones():
    written = course_page.blocks(STORED)
    assert {file.name.split(".")[0] for file in written} == set(PAGES)
    for document, named in written.items():
        for name, block in named.items():
            assert block_in(document, name) == block, (document, name)


def test_the_figures_show_what_the_pages_say():
    """The sentences around the blocks have no numbers, but they claim an order."""
    rows = STORED["var"]["rows"]  # from the largest var to the smallest
    assert [row["ssim"] for row in rows] == sorted(row["ssim"] for row in rows)
    assert [row["kl"] for row in rows] == sorted(row["kl"] for row in rows)
    assert rows[0]["active"] == 0 < rows[1]["active"] < rows[-1]["active"] == 20
    explodes, usual = STORED["explosion"]["runs"]
    assert explodes["log"] and explodes["skipped"] >= 5 and usual["skipped"] == 0
    smooth, sharp, fitted = STORED["scribbles"]["rows"].values()
    assert fitted["fid"] < smooth["fid"] < sharp["fid"]
    assert smooth["ssim"] < sharp["ssim"] == fitted["ssim"]
    swept = STORED["ablation"]["rows"]  # from the largest var to the smallest
    assert [row["ssim"] for row in swept] == sorted(row["ssim"] for row in swept)
    best = min(swept, key=lambda row: row["fid"])
    assert best not in (swept[0], swept[-1]) and all(row["n"] == 3 for row in swept)
    steps = [after["ssim"] - before["ssim"] for before, after in zip(swept, swept[1:])]
    assert min(steps) > 5 * max(row["ssim_spread"] for row in swept)
    assert best["raw"] == max(row["raw"] for row in swept) < fitted["raw"]


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
