"""What students read in Chinese: one list, which lacks no text of the checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

from lab.checks.found import ELSE, MESSAGES
from lab.checks.rubric import rubric
from staff import chinese


def test_every_title_hint_and_problem_has_a_text_in_chinese():
    listed = {text for section in chinese.texts().values() for text in section}
    clauses = {text for file in (ROOT / "lab" / "checks").glob("*.py") for text in clauses_of(file)}
    clauses |= {hint for _, hint in MESSAGES} | {ELSE}
    assert len(clauses) > 100 and sorted(clauses - listed) == []
    titles = [part.title_zh for part in rubric().values()]
    texts = [*titles, *(zh for section in chinese.texts().values() for zh in section.values())]
    assert [text for text in texts if not re.search("[\u4e00-\u9fff：]", text)] == []
    for section in chinese.texts().values():
        assert [en for en, zh in section.items() if en.count("{}") != zh.count("{}")] == []


def clauses_of(file: Path) -> list[str]:
    """Return the texts and hints of the problems that a file of lab.checks makes, with gaps."""
    calls = (
        one for one in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(one, ast.Call)
    )
    made = [one.args[1:] for one in calls if ast.unparse(one.func) == "Problem"]
    return [text for args in made for arg in args for text in literals(arg)]


def literals(node: ast.expr) -> list[str]:
    """Return the text of a literal, the texts of a choice of two; [] of a variable."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    if isinstance(node, ast.JoinedStr):
        pieces = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
        return ["".join(map(str, pieces)).replace("{}{}", "{}")]
    return [node.value] if isinstance(node, ast.Constant) else []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("var is sigma^2 already: divide the squared error by 2 * var", "var 本身就是 sigma^2：把"),
        ("the output in the place of mu is something else", "mu 的位置上返回的不是它"),
        ("mu of 5 images is (5, 3); expected (5, 8)", "mu（5 张图像）的形状为 (5, 3)，应为 (5, 8)"),
        ("encode: used more than 30 seconds of CPU time.", "编码（encode）：用了超过 30 秒"),
        (
            "VAEwolabel: decode: KeyError: {0} Genwithlabel: x",
            "VAEwolabel：解码（decode）：KeyError",
        ),
        ("submission.py, line 3: KeyError", "submission.py, line 3: KeyError"),
    ],
)
def test_what_stands_in_a_gap_is_kept_and_may_be_chinese_too(text, expected):
    assert chinese.in_chinese(text).startswith(expected)
