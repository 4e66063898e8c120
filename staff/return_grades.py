"""Give the grades back: fill in the platform's own table, which its importer then takes.

The grades are those of the grade book, recomputed. Nothing that is written holds a flag.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab import command
from lab.checks.rubric import most
from lab.lock import FolderInUseError, only_one
from staff.course import CourseError
from staff.gradebook import GradebookError, read_book, write_book
from staff.permissions import PermissionsError, private_folder, write_for_owner_only
from staff.returning import canvas, classroom50, moodle
from staff.returning.matching import Filled
from staff.returning.sheet import ReturnError
from staff.seeds import SeedError
from staff.tables import TableError

RETURN = "return"  # folder in that of the results
SHOWN = 10  # names in a line
EXAMPLES = """examples:
  python -m staff.return_grades graded --moodle_worksheet worksheet.csv
  python -m staff.return_grades graded --canvas_export export.csv --assignment "Lab 2"
  python -m staff.return_grades graded --classroom50_scores scores.json --assignment lab-2
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of return_grades.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.return_grades"
    add = parser.add_argument
    add("out", type=Path, help="folder of the results, the --out of staff.grade_class")
    add("--moodle_worksheet", type=Path, help="the grading worksheet of Moodle's assignment")
    add(
        "--moodle_columns",
        help="its columns in another language than English, German or Chinese, with commas:\n"
        "the names of Identifier, Grade, Last modified (grade), Feedback comments",
    )
    add("--canvas_export", type=Path, help="the export of Canvas's gradebook")
    add("--classroom50_scores", type=Path, help="the scores.json of Classroom 50")
    add("--assignment", default="", help="beginning of Canvas's column, or Classroom 50's name")
    return parser


def main() -> None:
    """Parse, compute the grade book, write each table that was asked for, print what is missing."""
    parser = make_parser()
    options = parser.parse_args()
    asked = (options.moodle_worksheet, options.canvas_export, options.classroom50_scores)
    if not any(asked):
        parser.error("give --moodle_worksheet, --canvas_export or --classroom50_scores")
    write_for_owner_only()
    errors: tuple[type[Exception], ...] = (GradebookError, CourseError, TableError, ReturnError)
    errors += (FolderInUseError, SeedError, PermissionsError)
    with command.clear_errors(parser.prog, *errors), only_one(options.out, "OUT"):
        out, folder = options.out, options.out / RETURN
        results, decisions, _ = read_book(out)
        write_book(out, results, decisions)  # so that the pages agree with the grades
        private_folder(folder)
        emails = {student: one.email for student, one in decisions.times.items()}
        language = decisions.course.language
        if options.moodle_worksheet:
            file, archive = folder / "moodle_worksheet.csv", folder / "moodle_feedback.zip"
            names = options.moodle_columns.split(",") if options.moodle_columns else ()
            filled = moodle.fill_worksheet(
                options.moodle_worksheet, file, results, emails, language, most(), names
            )
            count = moodle.write_feedback_zip(archive, out, results, filled.numbers)
            print_filled(file, filled)
            print(f"feedback: {archive}, {count} students")
        if options.canvas_export:
            file, comments = folder / "canvas.csv", folder / "canvas_comments.csv"
            filled = canvas.fill_export(
                options.canvas_export, file, results, emails, options.assignment
            )
            canvas.write_comments(comments, results, filled.numbers, language, most())
            print_filled(file, filled)
            print(f"comments: {comments}")
        if options.classroom50_scores:
            into = folder / "classroom50"
            filled = classroom50.write_results(
                options.classroom50_scores, options.assignment, into, results
            )
            print_filled(into, filled)


def print_filled(file: Path, filled: Filled) -> None:
    """Print how many grades were filled in, and who is missing on either side."""
    print(f"grades:   {file}, {len(filled.numbers)} students")
    missing = filled.without_row
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        print(f"note:     not in the platform's file: {', '.join(missing[:SHOWN])}{more}")
    if filled.without_grade:
        print(f"note:     {filled.without_grade} of its students have no grade of this class")


if __name__ == "__main__":
    command.run(main)
