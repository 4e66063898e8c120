"""Regions between markers: solutions in submission.py, and parts of documents for staff only.

A solution is between `### BEGIN SOLUTION` and `### END SOLUTION`, below a comment that begins with
its number, `# TODO 2.2.2: ...`, or with `# Optional`. In a document

    <!-- staff: begin --> to <!-- staff: end -->    is left out of the handout (# in a Makefile)
    <!-- staff --> at the end of a line             leaves out that line, e.g. a row of a table
    <!-- handout: begin to handout: end -->         is hidden here and shown in the handout
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STAFF = {
    ".md": ("<!-- staff: begin -->", "<!-- staff: end -->"),
    "": ("# staff: begin", "# staff: end"),
}
STAFF_LINE = "<!-- staff -->"
HIDDEN = ("<!-- handout: begin", "handout: end -->")
OPTIONAL = "Optional"
WIDTH = 100  # characters of a line of code, as in pyproject.toml
RUN = 3  # consecutive lines of a solution that no file of the handout may contain


class HandoutError(ValueError):
    """The handout cannot be built, or has a fault; the message names file and line."""


# ---------------------------------------------------------------- regions


def regions(text: str, begin: str, end: str, name: str) -> list[tuple[int, int]]:
    """Return the indices of the two marker lines of each region, in order.

    Raises HandoutError, with file and line, for markers without a partner and for nested regions.
    """
    found: list[tuple[int, int]] = []
    start = None
    for index, line in enumerate(text.split("\n")):
        place = f"{name}, line {index + 1}"
        if line.strip() == begin:
            if start is not None:
                raise HandoutError(f"{place}: {begin} again before the end of line {start + 1}'s.")
            start = index
        elif line.strip() == end:
            if start is None:
                raise HandoutError(f"{place}: {end} without its {begin}.")
            found.append((start, index))
            start = None
    if start is not None:
        raise HandoutError(f"{name}, line {start + 1}: {begin} without its {end}.")
    return found


def for_students(text: str, name: str) -> str:
    """Return a document without the lines for staff, and with the lines for the handout."""
    lines = text.split("\n")
    suffix = ".md" if name.endswith(".md") else ""
    left_out = {i for i, line in enumerate(lines) if line.rstrip().endswith(STAFF_LINE)}
    for begin, end in regions(text, *STAFF[suffix], name):
        left_out.update(range(begin, end + 1))
    for markers in regions(text, *HIDDEN, name):
        left_out.update(markers)
    rest = "\n".join(line for i, line in enumerate(lines) if i not in left_out)
    return re.sub(r"\n{3,}", "\n\n", rest).rstrip("\n") + "\n"  # at most one blank line in a row


# ---------------------------------------------------------------- solutions


@dataclass(frozen=True)
class Solution:
    """A solution in submission.py.

    Attributes:
        begin, end: indices of its two marker lines.
        number: "2.2.2", or OPTIONAL.
        body: the lines between the markers.
        stub: the lines that replace it in the handout.
    """

    begin: int
    end: int
    number: str
    body: list[str]
    stub: list[str]


def solutions(text: str, name: str = "submission.py") -> list[Solution]:
    """Return the solutions in a file. Raises HandoutError, with file and line."""
    lines = text.split("\n")
    found: list[Solution] = []
    with_solution: set[int] = set()  # indices of comment lines
    for begin, end in regions(text, BEGIN, END, name):
        top = begin
        while top > 0 and re.match(r"\s*#(?!##)", lines[top - 1]):
            top -= 1
        comment = " ".join(line.strip().lstrip("# ") for line in lines[top:begin])
        body = lines[begin + 1 : end]
        todo = re.match(r"TODO (\d[\d.]*): (.*)", comment)
        if todo:
            number = todo[1]
            if number in {other.number for other in found}:
                raise HandoutError(f"{name}, line {top + 1}: a second TODO {number}.")
            sentence = re.split(r"[.;](?:\s|$)|\s+Hint:", todo[2])[0]
            stub = _stub(lines[begin], f"TODO {number}: {sentence}")
        elif comment.startswith(OPTIONAL):
            number, stub = OPTIONAL, []
        else:
            raise HandoutError(
                f"{name}, line {begin + 1}: a solution without a comment right above it that "
                "begins with `# TODO 1.2: ` or `# Optional`."
            )
        found.append(Solution(begin, end, number, body, stub))
        with_solution.update(range(top, begin))
    for index, line in enumerate(lines):
        if re.match(r"\s*# TODO \d", line) and index not in with_solution:
            raise HandoutError(f"{name}, line {index + 1}: a TODO without a solution below it.")
    return found


def _stub(marker: str, message: str) -> list[str]:
    """Return the lines that raise NotImplementedError, with the indentation of the marker."""
    indent = marker[: len(marker) - len(marker.lstrip())]
    words = json.dumps(message, ensure_ascii=False)
    line = f"{indent}raise NotImplementedError({words})"
    if len(line) <= WIDTH:
        return [line]
    return [f"{indent}raise NotImplementedError(", f"{indent}    {words}", f"{indent})"]


def blank(text: str, name: str = "submission.py", keep: Collection[str] = ()) -> str:
    """Return a submission whose solutions are replaced by NotImplementedError; comments stay.

    Optional solutions are removed. Solutions whose number (or OPTIONAL) is in `keep` stay, without
    their markers. Raises HandoutError.
    """
    lines = text.split("\n")
    for solution in reversed(solutions(text, name)):
        shown = solution.body if solution.number in keep else solution.stub
        lines[solution.begin : solution.end + 1] = shown
    return "\n".join(lines)


# ---------------------------------------------------------------- leaks


def leaks(reference: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a sentence for each place where the files reveal a solution of the reference.

    - submission.py may contain no line of a solution that is not also outside the solutions.
    - Other files may not contain RUN consecutive lines of a solution (or a shorter solution).
      Single lines are allowed; the given model.py has some of them.

    Blank lines, comments, lines of brackets alone and indentation are ignored.

    Args:
        reference: the text of submission.py with its solutions.
        files: content of the files by name.
    """
    bodies = [_code_lines("\n".join(solution.body)) for solution in solutions(reference)]
    secret = {line for body in bodies for line in body} - set(_code_lines(blank(reference)))
    runs = {
        "\n".join(["", *body[start : start + RUN], ""])
        for body in bodies
        for start in range(max(1, len(body) - RUN + 1))
        if body
    }
    for name, content in files.items():
        lines = _code_lines(content.decode("utf-8", errors="replace"))
        if name == "submission.py":
            for line in lines:
                if line in secret:
                    yield f"{name} has a line of a solution: {line}"
        else:
            text = "\n".join(["", *lines, ""])
            for run in sorted(runs):
                if run in text:
                    yield f"{name} has lines of a solution: {run.strip().splitlines()[0]} ..."


def _code_lines(text: str) -> list[str]:
    """Return the lines of code, without indentation and trailing comment."""
    lines = (line.split("  #")[0].strip() for line in text.split("\n"))
    return [line for line in lines if re.search(r"\w", line) and not line.startswith("#")]
