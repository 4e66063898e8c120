"""Canvas: the gradebook's export filled in, with the graded column alone, and comments as CSV.

The rules are those of lib/gradebook_importer.rb in Canvas's source. A column that the file has is
imported whole: an old grade in it replaces a newer one, and an empty cell deletes a grade.
Therefore the file holds no other assignment, and no student without a grade of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from staff.returning.comment import comment_of
from staff.returning.matching import Filled, Matching
from staff.returning.sheet import ReturnError, Sheet, read_sheet
from staff.tables import write_table

WHAT = "the export of Canvas's gradebook"
ASSIGNMENT = re.compile(r".+ \(\d+\)$")  # "Lab 2 (81523)": an assignment and its number
IDENTITY = (  # Canvas's names of what says who a student is; the others are of grades
    *("Student", "ID", "SIS User ID", "SIS Login ID", "Integration ID", "Root Account", "Section"),
    *("LastName", "FirstName"),
)
POINTS_POSSIBLE, READ_ONLY = "Points Possible", "read only"


def fill_export(
    export: Path,
    file: Path,
    results: Sequence[dict[str, Any]],
    emails: Mapping[str, str],
    assignment: str = "",
) -> Filled:
    """Fill the grades into a copy of Canvas's export.

    Args:
        export: the export of Canvas's gradebook.
        file: the copy to write.
        results: of the class, with their totals.
        emails: by student, to find rows where Canvas's number of a student is unknown.
        assignment: beginning of the column's name; needed if there are several assignments.

    Raises ReturnError, OSError.
    """
    sheet = read_sheet(export, WHAT)
    column = _column(sheet, assignment)
    by_id = sheet.column("ID")
    if by_id is None or sheet.column("Section") is None:
        raise ReturnError(f"{export} has no column ID or no column Section; expected {WHAT}.")
    matching, login = Matching("canvas", results, emails), sheet.column("SIS Login ID")
    kept = [sheet.head]
    for row in sheet.rows[1:]:
        number = row[by_id].strip()
        if number:  # otherwise the row of the possible points, or of the posting policies
            emails_of_row = [] if login is None else [row[login]]
            result = matching.student_of(sheet, number, emails_of_row)
            if result is None:
                continue
            row[column] = f"{result['total']:.2f}"
        kept.append(row)
    places = [n for n, name in enumerate(sheet.head) if name in IDENTITY or n == column]
    sheet.write(file, [[row[n] for n in places] for row in kept])
    return matching.finish()


def _column(sheet: Sheet, assignment: str) -> int:
    """Return the place of the assignment's column. Raises ReturnError."""
    known = [name for name in sheet.head if ASSIGNMENT.match(name)]
    columns = [name for name in known if name.startswith(assignment)]
    if len(columns) != 1:
        raise ReturnError(
            f"{sheet.file} has {len(columns)} columns of assignments that begin with "
            f"{assignment!r}; name one of these with --assignment: {', '.join(known) or 'none'}."
        )
    place = sheet.head.index(columns[0])
    for row in sheet.rows[1:]:
        if POINTS_POSSIBLE in row[0] and READ_ONLY in row[place]:
            raise ReturnError(
                f"{sheet.file}: Canvas ignores the column {columns[0]}, which is read only; name "
                "another with --assignment."
            )
    return place


def write_comments(
    file: Path,
    results: Sequence[dict[str, Any]],
    ids: Mapping[str, str],
    language: str,
    most: int,
) -> None:
    """Write a row with Canvas's number, name and comment of each student who has a grade.

    Canvas imports no comments with grades; scripts that use its API take such a table.
    """
    rows = [
        [ids[one["student"]], one["name"], "\n".join(comment_of(one, language, most))]
        for one in results
        if one["student"] in ids
    ]
    write_table(file, [["ID", "Student", "Comment"], *rows])
