"""fixes.csv: what staff say about files that the rules read wrongly.

    student,file,take as
    20260007,王伟_99_assignsubmission_file_/final.py,submission.py
    20260008,Li Wei_12_assignsubmission_file_,all

A file is named as in collected.csv and oddities.csv. `all` gives a whole file or folder of the
download to a student; `nothing` leaves a file out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from staff.collect.table import read_table
from staff.tables import TableError

COLUMNS = ("student", "file", "take as")
ALL, NOTHING = "all", "nothing"


@dataclass(frozen=True)
class Fix:
    """A row of the file: take a file of the download as one of the files of a student."""

    line: int
    student: str
    file: str
    take_as: str


def read_fixes(file: Path, students: Collection[str], kinds: Collection[str]) -> list[Fix]:
    """Return the rows of fixes.csv; none if there is no file. Raises TableError.

    Args:
        file: the table.
        students: the known ids.
        kinds: the names of files that a student hands in.
    """
    if not file.exists():
        return []
    rows = read_table(file)
    head = [cell.casefold() for cell in rows[0][1]] if rows else []
    if not {*COLUMNS} <= {*head}:
        raise TableError(
            f"{file} has the columns {', '.join(head) or 'none'}; expected {', '.join(COLUMNS)}."
        )
    fixes = []
    for line, row in rows[1:]:
        cells = dict(zip(head, [*row, *[""] * len(head)]))
        student, name, take_as = (cells[column] for column in COLUMNS)
        if student not in students:
            raise TableError(f"{file}, line {line}: there is no student {student!r} in the roster.")
        if take_as not in {*kinds, ALL, NOTHING}:
            known = ", ".join([*kinds, ALL, NOTHING])
            raise TableError(f"{file}, line {line}: take as {take_as!r}; expected one of {known}.")
        fixes.append(Fix(line, student, name.replace("\\", "/").strip("/"), take_as))
    return fixes
