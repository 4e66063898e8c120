"""lab.ipynb of the handout: the tour of the lab, with a cell that writes submission.py.

It is made from `notebook.markdown`, which stands beside this file, whenever the handout is built.
Code and text are there once, in one notebook for both languages: two notebooks would differ in
nothing but the text, and a change to a cell of one would be needed in the other.
"""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import nbformat

SOURCE = Path(__file__).with_suffix(".markdown")
SUBMISSION = "@SUBMISSION@"  # replaced by the blank submission.py
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(submission: str) -> bytes:
    """Return lab.ipynb: the same bytes for the same text of submission.py."""
    text = SOURCE.read_text(encoding="utf-8").replace(SUBMISSION, submission.rstrip("\n"))
    book = jupytext.reads(text, fmt="md")
    book.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": KERNEL["language"]}}
    )
    for number, cell in enumerate(book.cells, 1):
        cell.id = f"cell-{number}"  # instead of a random one
        cell.metadata = nbformat.from_dict({})
    nbformat.validate(book)
    return (nbformat.writes(book, version=4) + "\n").encode("utf-8")


def code_of(content: bytes) -> str:
    """Return the code of a notebook's cells, one after the other."""
    cells = json.loads(content)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
