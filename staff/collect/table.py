"""The tables of a class as CSV files: read from any spreadsheet, written for any."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from staff.grades import escaped
from staff.text import as_line

COLLECTED, FIXES, ODDITIES = "collected.csv", "fixes.csv", "oddities.csv"
COLLECTED_COLUMNS = (
    *("id", "name", "email", "platform", "number", "submitted", "late", "group"),
    *("files", "help", "notes"),
)
MAX_BYTES = 16 << 20


class TableError(ValueError):
    """A table or download cannot be used; the message says what was expected."""


def read_table(file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not empty, with the numbers of their lines.

    Read as UTF-8, or else as GB 18030, in which a Chinese Excel saves. The cells are separated by
    commas, semicolons or tabs, and are plain text. Raises TableError.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise TableError(f"{file} is larger than {MAX_BYTES:,} bytes; expected a CSV file.")
        content = file.read_bytes()
        text = _decoded(content)
        head = text.partition("\n")[0]
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True
        )
        rows = [(reader.line_num, [as_line(cell).strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TableError(f"{file} is not a CSV file that can be read ({reason}).") from None
    return [(line, row) for line, row in rows if any(row)]


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030")


def table_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return a CSV file with these columns; no cell is a formula. Excel reads it as UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([[escaped(row.get(name, "")) for name in columns] for row in rows])
    return text.getvalue().encode("utf-8-sig")


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
