"""Tables as CSV files: read from any spreadsheet, written so that no cell is a formula."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.text import as_text

MAX_BYTES = 16 << 20
SEPARATORS = ",;\t"
SIGNS = ("=", "+", "-", "@", "\N{MINUS SIGN}")  # a formula begins with one of them


class TableError(ValueError):
    """A table has a fault; the message names the file and line, and what was expected."""


def read_table(
    file: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a table that staff keep, each with the words "FILE, line N".

    Args:
        file: CSV in UTF-8, or in GB 18030, in which a Chinese Excel saves; the cells are separated
            by commas, semicolons or tabs.
        columns: the names that it must have, in any order; other columns are ignored.
        optional: further names; where a column is missing, its cells are "".

    Raises TableError.
    """
    rows = read_rows(file)
    names = [name.lower() for name in rows[0][1]] if rows else []
    if not {*columns} <= {*names}:
        found = ", ".join(names) or "none"
        raise TableError(f"{file} has the columns {found}; expected {', '.join(columns)}.")
    for line, row in rows[1:]:
        where = f"{file}, line {line}"
        if len(row) > len(names):
            raise TableError(f"{where}: more cells than columns; put a text with commas in quotes.")
        cells = dict(zip(names, [*row, *[""] * len(names)]))
        yield where, {name: cells.get(name, "") for name in (*columns, *optional)}


def read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not empty, with the numbers of their last lines.

    The cells are plain text. See `read_table` for encodings and separators. Raises TableError.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise TableError(f"{file} is larger than {MAX_BYTES:,} bytes; expected a CSV file.")
        text = _decoded(file.read_bytes())
        head = text.partition("\n")[0]
        separator = max(SEPARATORS, key=head.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, [as_text(cell).strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TableError(f"{file} is not a CSV file that can be read ({reason}).") from None
    return [(line, row) for line, row in rows if any(row)]


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030")


def write_table(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write what `table_bytes` returns. Raises OSError."""
    with write_whole(file) as written:
        written.write(table_bytes(rows))


def table_bytes(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return a CSV file that Excel reads as UTF-8, and in which no cell is a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(map(escaped, row) for row in rows)
    return text.getvalue().encode("utf-8-sig")


def escaped(value: Any) -> Any:
    """Return a cell's value, escaped so that no spreadsheet reads a student's text as a formula.

    An apostrophe is put before a sign at the beginning, and at each place where a spreadsheet may
    split the text into two cells: some take a semicolon or tab for the end of a cell.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    parts = re.split(r"([;\t\r\n])", value)
    text = "".join(f"'{part}" if _begins_with_sign(part) else part for part in parts)
    return f"'{text}" if text.startswith(("\t", "\r", "\n")) else text


def _begins_with_sign(text: str) -> bool:
    """Return whether the first visible character is a sign, of any width (such as U+FF1D)."""
    visible = (c for c in text if unicodedata.category(c)[0] not in "ZC")
    return unicodedata.normalize("NFKC", next(visible, "")).startswith(SIGNS)
