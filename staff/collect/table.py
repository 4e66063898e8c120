"""The tables that collecting reads and writes, and what their columns are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from staff import tables
from staff.tables import TableError, read_rows
from staff.text import as_line

COLLECTED, FIXES, ODDITIES = "collected.csv", "fixes.csv", "oddities.csv"
COLLECTED_COLUMNS = (
    *("id", "name", "email", "platform", "number", "submitted", "late", "group"),
    *("files", "help", "notes"),
)


def read_table(file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file as `staff.tables.read_rows` does, each cell on one line."""
    return [(line, [as_line(cell) for cell in row]) for line, row in read_rows(file)]


def table_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return a CSV file with these columns; no cell is a formula."""
    cells = ([row.get(name, "") for name in columns] for row in rows)
    return tables.table_bytes([columns, *cells])


def read_collected(file: Path) -> list[dict[str, str]]:
    """Return the rows of collected.csv by the names of its columns. Raises TableError."""
    rows = read_table(file)
    head = rows[0][1] if rows else []
    if missing := {"id", "name", "platform", "number"} - {*head}:
        raise TableError(
            f"{file} lacks the columns {', '.join(sorted(missing))}; "
            "write it again: python -m staff.collect"
        )
    found = [dict(zip(head, [*row, *[""] * len(head)])) for _, row in rows[1:]]
    if not found:
        raise TableError(f"{file} has no student.")
    return found
