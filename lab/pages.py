"""HTML pages from Jinja templates: every value is escaped, and a missing one is an error."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


@functools.cache
def templates(folder: Path) -> Environment:
    """Return the templates of a folder; a process compiles each of them once."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def verbatim(file: Path) -> Markup:
    """Return a style sheet or script of the lab, which a template inserts unchanged."""
    return Markup(file.read_text(encoding="utf-8"))
