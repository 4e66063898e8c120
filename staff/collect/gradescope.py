"""Gradescope's "Export Submissions": a folder per submission, and a table of who handed them in.

Gradescope publishes no description of it. The rule is that of exports, as their readers state it
(otter-grader's GradescopeParser, and tests of other readers with samples of the table):

    assignment_123_export/submission_metadata.yml
    assignment_123_export/submission_456/FILES

The table is YAML that Ruby wrote, so its keys begin with a colon:

    submission_456:
      :submitters:
      - :name: Ada Lovelace
        :sid: '20260001'
        :email: ada@example.edu
      :created_at: 2026-11-20 17:34:00.861687000 Z

A group has several submitters. `:sid` may be missing. The table does not say what is late.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from staff.collect.source import Source
from staff.tables import TableError
from staff.text import as_line

METADATA = "submission_metadata.yml"
FOLDER = re.compile(r"submission_(?P<number>\d+)")
MAX_BYTES = 64 << 20  # it also holds what the autograder printed


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Builds plain values only; an object of Ruby becomes its values by name."""


def _plain(loader: Any, node: yaml.Node) -> Any:
    """Return the value of a node with an unknown tag."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_Loader.add_constructor(None, _plain)


def parse(name: str) -> Source | None:
    """Return that a folder is a submission, by its name; only the table says whose."""
    return Source("gradescope", name) if FOLDER.fullmatch(name) else None


def read_submitters(file: Path) -> dict[str, list[Source]]:
    """Return the submitters of each submission, by the name of its folder. Raises TableError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise TableError(f"{file} is larger than {MAX_BYTES:,} bytes.")
        table = yaml.load(file.read_bytes(), _Loader)  # a SafeLoader: it builds plain values only
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"{file} is not a table that can be read ({as_line(str(error))[:200]}); "
            "export the submissions from Gradescope again."
        ) from None
    if not isinstance(table, dict):
        raise TableError(f"{file} holds no submissions; export them from Gradescope again.")
    return {str(name): list(_submitters(entry)) for name, entry in table.items()}


def _submitters(entry: Any) -> list[Source]:
    """Return the submitters of an entry of the table."""
    entry = entry if isinstance(entry, dict) else {}
    created = entry.get(":created_at")
    submitted = created.isoformat(timespec="seconds") if isinstance(created, datetime) else ""
    people = entry.get(":submitters")
    return [
        Source(
            "gradescope",
            _text(one, ":name"),
            id=_text(one, ":sid"),
            email=_text(one, ":email"),
            submitted=submitted,
        )
        for one in (people if isinstance(people, list) else [])
        if isinstance(one, dict)
    ]


def _text(entry: dict[Hashable, Any], key: str) -> str:
    value = entry.get(key)
    return "" if value is None else as_line(str(value)).strip()
