"""A CSV file of another program, of which only some cells change."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lab.checkpoint import write_whole
from staff.tables import MAX_BYTES, SEPARATORS

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"  # some programs begin a file in UTF-8 with it


class ReturnError(ValueError):
    """A platform's file cannot be filled in; the message says what was expected."""


@dataclass
class Sheet:
    """A platform's table, with what must stay as it was.

    Attributes:
        file: where it was read.
        rows: of cells; the first names the columns. All have the same length.
        separator: between cells.
        begins_with_bom: whether the file begins with a byte order mark.
    """

    file: Path
    rows: list[list[str]]
    separator: str
    begins_with_bom: bool

    @property
    def head(self) -> list[str]:
        """The names of the columns."""
        return self.rows[0]

    def column(self, *names: str) -> int | None:
        """Return the place of the first column with one of these names; None if there is none.

        Capitals and spaces around a name do not matter.
        """
        wanted = {name.strip().casefold() for name in names}
        found = (n for n, name in enumerate(self.head) if name.strip().casefold() in wanted)
        return next(found, None)

    def write(self, file: Path, rows: list[list[str]] | None = None) -> None:
        """Write the table, or other rows in its form. Raises OSError."""
        text = io.StringIO(BOM if self.begins_with_bom else "", newline="")
        text.seek(0, io.SEEK_END)
        csv.writer(text, delimiter=self.separator).writerows(rows or self.rows)
        with write_whole(file) as written:
            written.write(text.getvalue().encode())


def read_sheet(file: Path, what: str) -> Sheet:
    """Read the CSV file that a platform exported. Raises ReturnError.

    what: it is, for the messages.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ReturnError(f"{file} is larger than {MAX_BYTES:,} bytes; expected {what}.")
        text = file.read_bytes().decode()
        plain = text.removeprefix(BOM)
        first = plain.partition("\n")[0]
        separator = max(SEPARATORS, key=first.count)
        rows = [row for row in csv.reader(io.StringIO(plain, newline=""), delimiter=separator)]
    except UnicodeDecodeError:
        raise ReturnError(
            f"{file} is not in UTF-8; expected {what} as it was downloaded."
        ) from None
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ReturnError(f"{file} is not a CSV file that can be read ({reason}).") from None
    rows = [row for row in rows if any(row)]
    if not rows:
        raise ReturnError(f"{file} is empty; expected {what}.")
    for number, row in enumerate(rows, 1):
        if len(row) > len(rows[0]):
            raise ReturnError(
                f"{file}, row {number} has {len(row)} cells, but there are {len(rows[0])} columns; "
                f"expected {what} as it was downloaded."
            )
        row += [""] * (len(rows[0]) - len(row))
    return Sheet(file, rows, separator, text != plain)
