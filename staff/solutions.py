"""Marked regions: the solutions in submission.py, and what a document says to the staff alone.

A solution stands between `### BEGIN SOLUTION` and `### END SOLUTION`, under a comment that begins
with its number, `# TODO 2.2.2: ...`, or with `# Optional`. In a document

    <!-- staff: begin --> to <!-- staff: end -->    is left out of the handout (# in a Makefile)
    <!-- staff --> at the end of a line             leaves out that line: a row of a table, say
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
WIDTH = 100  # of a line of code, as ruff has it
RUN = 3  # so many lines of a solution, one after another, give it away in any file


class HandoutError(ValueError):
    """The handout cannot be made, or is not what it should be; the message names the place."""


# ---------------------------------------------------------------- regions


def regions(text: str, begin: str, end: str, name: str) -> list[tuple[int, int]]:
    """Return the indices of the two marker lines of each region, in their order.

    Raises HandoutError, with file and line, for markers that do not come in pairs or nest.
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
    """Return a document as students get it: the staff's lines gone, the hidden ones shown."""
    lines = text.split("\n")
    suffix = ".md" if name.endswith(".md") else ""
    gone = {i for i, line in enumerate(lines) if line.rstrip().endswith(STAFF_LINE)}
    for begin, end in regions(text, *STAFF[suffix], name):
        gone.update(range(begin, end + 1))
    for markers in regions(text, *HIDDEN, name):
        gone.update(markers)
    rest = "\n".join(line for i, line in enumerate(lines) if i not in gone)
    return re.sub(r"\n{3,}", "\n\n", rest).rstrip("\n") + "\n"  # one blank line where lines went


# ---------------------------------------------------------------- solutions


@dataclass(frozen=True)
class Solution:
    """A solution region: the indices of its marker lines, its number, what it holds, its stub."""

    begin: int
    end: int
    number: str  # "2.2.2", or OPTIONAL
    body: list[str]
    stub: list[str]  # what stands in its place in the handout


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
    """Return the lines that raise NotImplementedError, indented as the marker is."""
    indent = marker[: len(marker) - len(marker.lstrip())]
    words = json.dumps(message, ensure_ascii=False)
    line = f"{indent}raise NotImplementedError({words})"
    if len(line) <= WIDTH:
        return [line]
    return [f"{indent}raise NotImplementedError(", f"{indent}    {words}", f"{indent})"]


def blank(text: str, name: str = "submission.py", keep: Collection[str] = ()) -> str:
    """Return a submission with NotImplementedError where its solutions were; comments stay.

    Optional ones give way to nothing. The solutions whose numbers are in `keep` (or OPTIONAL)
    stand, without their markers. Raises HandoutError.
    """
    lines = text.split("\n")
    for solution in reversed(solutions(text, name)):
        shown = solution.body if solution.number in keep else solution.stub
        lines[solution.begin : solution.end + 1] = shown
    return "\n".join(lines)


# ---------------------------------------------------------------- leaks


def leaks(reference: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield where the files give a solution of the reference away, one sentence each.

    - No line of a solution is in submission.py, unless it stands outside the solutions too.
    - No run of three lines of a solution (or a whole shorter one) is in any other file: single
      lines are common property, the given model.py has some of them.

    Blank lines, comments and lines of brackets alone do not count, nor does indentation.
    """
    bodies = [_telling("\n".join(solution.body)) for solution in solutions(reference)]
    secret = {line for body in bodies for line in body} - set(_telling(blank(reference)))
    runs = {
        "\n".join(["", *body[start : start + RUN], ""])
        for body in bodies
        for start in range(max(1, len(body) - RUN + 1))
        if body
    }
    for name, content in files.items():
        lines = _telling(content.decode("utf-8", errors="replace"))
        if name == "submission.py":
            for line in lines:
                if line in secret:
                    yield f"{name} has a line of a solution: {line}"
        else:
            text = "\n".join(["", *lines, ""])
            for run in sorted(runs):
                if run in text:
                    yield f"{name} has lines of a solution: {run.strip().splitlines()[0]} ..."


def _telling(text: str) -> list[str]:
    """Return the lines that say something, without indentation and trailing comment."""
    lines = (line.split("  #")[0].strip() for line in text.split("\n"))
    return [line for line in lines if re.search(r"\w", line) and not line.startswith("#")]
