"""Moodle: the grading worksheet filled in, and the zip of feedback files.

The rules are those of the importers in Moodle's source, mod/assign/feedback:
offline/importgradeslib.php and importgradesform.php for the worksheet, file/importziplib.php for
the zip. The importer finds three columns by their names in the language of the site, so a table of
our own is refused; it is silent about the rows that it skips. Therefore the file that Moodle wrote
is filled in, and what Moodle would skip is an error here.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.returning.comment import comment_of
from staff.returning.matching import Filled, Matching
from staff.returning.sheet import ReturnError, Sheet, read_sheet
from staff.stored import folder_of
from staff.tables import escaped

WHAT = "the grading worksheet of Moodle's assignment"
# The names of a column in English, German and Chinese; Moodle's language packs have all others.
COLUMNS = {
    "identifier": ("Identifier", "ID", "标识符", "識別碼"),
    "grade": ("Grade", "Bewertung", "成绩", "成績"),
    "modified": ("Last modified (grade)", "Zuletzt geändert (Bewertung)", "上次修改（评分）"),
    "comments": ("Feedback comments", "Feedback als Kommentar", "反馈意见", "評語回饋"),
}
MOST = ("Maximum grade", "Bestwertung", "最高分", "最高成绩")
SCALE = ("Scale", "Skala", "量表", "等级")
REQUIRED = ("identifier", "grade", "modified")
NUMBER = re.compile(r"(\d+)\s*$")  # "Participant 123", "Teilnehmer/in123", "参与人123"
TIME = (1980, 1, 1, 0, 0, 0)  # of the files in the zip: the same results give the same bytes
FEEDBACK = "feedback.html"
PAGES = (FEEDBACK, "*_report.html")  # of a student's folder, for the student


def fill_worksheet(
    worksheet: Path,
    file: Path,
    results: Sequence[dict[str, Any]],
    emails: Mapping[str, str],
    language: str,
    most: int,
    names: Sequence[str] = (),
) -> Filled:
    """Fill grades and comments into a copy of Moodle's worksheet.

    Args:
        worksheet: as Moodle wrote it; a spreadsheet may have saved it again.
        file: the copy to write.
        results: of the class, with their sums.
        emails: by student, to find rows where Moodle's number of a student is unknown.
        language: of the comments.
        most: the points of all parts.
        names: the names of the columns identifier, grade, modified and comments, in this order, for
            a language that is not in `COLUMNS`.

    Raises ReturnError, OSError.
    """
    sheet = read_sheet(worksheet, WHAT)
    places = _places(sheet, names)
    matching = Matching("moodle", results, emails)
    for row in sheet.rows[1:]:
        number = _number(row[places["identifier"]])
        result = matching.student_of(sheet, number, (cell for cell in row if "@" in cell))
        if result is None:
            continue
        _expect_in_range(sheet, row, result["total"])
        row[places["grade"]] = f"{result['total']:.2f}"  # Moodle takes a point in each language
        if "comments" in places:
            lines = map(html.escape, comment_of(result, language, most))
            row[places["comments"]] = escaped("<br>".join(lines))
    sheet.write(file)
    return matching.finish()


def _places(sheet: Sheet, names: Sequence[str]) -> dict[str, int]:
    """Return the place of each column, and raise ReturnError if Moodle would refuse the file."""
    known = {key: (name,) for key, name in zip(COLUMNS, names)} if names else COLUMNS
    found = {key: sheet.column(*known[key]) for key in known}
    missing = [known[key][0] for key in REQUIRED if found.get(key) is None]
    if missing:
        raise ReturnError(
            f"{sheet.file} has no column {' and no column '.join(missing)}, without which Moodle "
            "imports nothing; download the grading worksheet again. In another language than "
            "English, German or Chinese, give the names with --moodle_columns."
        )
    return {key: place for key, place in found.items() if place is not None}


def _number(identifier: str) -> str:
    """Return Moodle's number of a participant; "" if there is none."""
    match = NUMBER.search(identifier)
    return match[1] if match else ""


def _expect_in_range(sheet: Sheet, row: Sequence[str], total: float) -> None:
    """Raise ReturnError if Moodle would skip a grade because it is above the assignment's."""
    place = sheet.column(*MOST)
    if place is None:
        if sheet.column(*SCALE) is not None:
            raise ReturnError(
                f"{sheet.file} is of an assignment that is graded on a scale; expected points: "
                "change the type of the grade in its settings, and download the worksheet again."
            )
        return
    stated = row[place].strip().replace(",", ".")
    if re.fullmatch(r"\d+(\.\d+)?", stated) and round(total, 2) > float(stated):
        raise ReturnError(
            f"{sheet.file} states {stated} as the maximum grade, and a student has {total:.2f}, "
            "which Moodle would skip; change the maximum in the assignment's settings, and "
            "download the worksheet again."
        )


def write_feedback_zip(
    file: Path, out: Path, results: Iterable[dict[str, Any]], participants: Mapping[str, str]
) -> int:
    """Write the zip for "Upload multiple feedback files in a zip"; return how many students it has.

    Moodle reads a path up to its fourth underscore as NAME_NUMBER_PLUGINTYPE_PLUGIN, so a name has
    none; the student sees what follows. Raises OSError.

    Args:
        file: the zip.
        out: folder of the results.
        results: of the class.
        participants: Moodle's number by student.
    """
    content, count = io.BytesIO(), 0
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for result in results:
            number, folder = participants.get(result["student"]), folder_of(out, result["student"])
            if number is None or not (folder / FEEDBACK).is_file():
                continue
            name = re.sub(r"[^\w .'-]|_", " ", result["name"]).strip(" .") or "student"
            for page in sorted(page for pattern in PAGES for page in folder.glob(pattern)):
                path = f"{name}_{number}_assignfeedback_file_/{page.name}"
                archive.writestr(
                    zipfile.ZipInfo(path, TIME), page.read_bytes(), zipfile.ZIP_DEFLATED
                )
            count += 1
    with write_whole(file) as written:
        written.write(content.getbuffer())
    return count
