"""What the importers of learning platforms do with a file, after the rules in their source."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import dataclass, field

# The names in Moodle's language packs: mod_assign's recordid, hiddenuser, maxgrade,
# gradecanbechanged, lastmodifiedsubmission and lastmodifiedgrade, and the name of the plugin
# assignfeedback_comments; the core's fullname, email, status and grade.
LANGUAGES = {
    "en": (
        *("Identifier", "Participant ", "Full name", "Email address", "Status", "Grade"),
        *("Maximum grade", "Grade can be changed", "Last modified (submission)"),
        *("Last modified (grade)", "Feedback comments", "Friday, 20 November 2026, 11:58 PM"),
    ),
    "de": (
        *("ID", "Teilnehmer/in", "Vollständiger Name", "E-Mail-Adresse", "Status", "Bewertung"),
        *("Bestwertung", "Bewertung kann geändert werden", "Zuletzt geändert (Abgabe)"),
        *("Zuletzt geändert (Bewertung)", "Feedback als Kommentar"),
        "Freitag, 20. November 2026, 23:58",
    ),
    "zh": (
        *("标识符", "参与人", "全名", "电子邮件地址", "状态", "成绩", "最高分", "允许更改成绩"),
        *("上次修改（作业）", "上次修改（评分）", "反馈意见", "2026年11月20日 星期五 23:58"),
    ),
}


@dataclass
class Moodle:
    """An assignment in Moodle.

    Attributes:
        language: of the site, as in LANGUAGES.
        people: the participants, by their number for this assignment: name, address.
        most: the maximum grade.
        grades, comments: of the participants, by number.
        files: the names of the feedback files by number.
    """

    language: str
    people: dict[int, tuple[str, str]]
    most: float = 130
    grades: dict[int, float] = field(default_factory=dict)
    comments: dict[int, str] = field(default_factory=dict)
    files: dict[int, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = LANGUAGES[self.language]
        self.identifier, self.hidden_user = names[0], names[1]
        self.grade, self.modified, self.comment, self.date = (
            names[5],
            names[9],
            names[10],
            names[11],
        )
        self.head = [names[0], *names[2:11]]

    def worksheet(self, separator: str = ",", bom: bool = False) -> bytes:
        """Return the grading worksheet, as mod/assign/gradingtable.php downloads it."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator)
        writer.writerow(self.head)
        for number, (name, email) in self.people.items():
            grade = self.grades.get(number, "")
            row = [f"{self.hidden_user}{number}", name, email, "", grade, f"{self.most:.2f}"]
            writer.writerow([*row, "Yes", self.date, "-", self.comments.get(number, "")])
        return text.getvalue().encode("utf-8-sig" if bom else "utf-8")

    def import_worksheet(self, content: bytes, separator: str = ",") -> int:
        """Take grades and comments as importgradeslib.php and importgradesform.php do.

        Returns how many grades changed. Raises ValueError where Moodle refuses the file.
        """
        text = content.decode("utf-8").removeprefix("\ufeff")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        head = rows[0]
        if not {self.identifier, self.grade, self.modified} <= {*head}:
            raise ValueError("invalidgradeimport")
        if any(len(row) != len(head) for row in rows):
            raise ValueError("csvweirdcolumns")
        changed = 0
        for row in rows[1:]:
            cells = dict(zip(head, row))
            number = cells[self.identifier][len(self.hidden_user) :]
            if not number.isdigit() or int(number) not in self.people:
                continue  # in silence
            if comment := cells.get(self.comment, ""):
                self.comments[int(number)] = comment
            stated = cells[self.grade].strip().replace(" ", "")
            if self.language == "de":
                stated = stated.replace(",", ".")
            if not stated or not 0 <= float(stated) <= self.most:
                continue  # in silence
            changed += self.grades.get(int(number)) != float(stated)
            self.grades[int(number)] = float(stated)
        return changed

    def import_zip(self, content: bytes) -> None:
        """Take feedback files as is_valid_filename_for_import of importziplib.php does."""
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                parts = info.filename.split("/")
                if info.is_dir() or parts[-1].startswith((".", "~")):
                    continue
                while parts:
                    words = parts.pop(0).split("_", 4)
                    if len(words) < 4 or not words[1].isdigit():
                        continue
                    if int(words[1]) not in self.people or words[2:4] != ["assignfeedback", "file"]:
                        continue
                    name = "/".join([*words[4:], *parts]).lstrip("/")
                    self.files.setdefault(int(words[1]), {})[name] = archive.read(info)
                    break


class Canvas:
    """A course in Canvas whose gradebook takes a CSV file as lib/gradebook_importer.rb does."""

    def __init__(self, grades: dict[str, dict[str, str]]) -> None:
        """grades: of each student's number, by the title of the assignment with its number."""
        self.grades = grades

    def take(self, content: bytes) -> set[str]:
        """Import a file; return the assignments that it has. Raises ValueError if it is refused."""
        text = content.decode("utf-8-sig")
        separator = ";" if text.partition("\n")[0].count(";") > 2 else ","
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        head = rows[0]
        if len(head) <= 3 or "Student" not in head[0] or "ID" not in head[1]:
            raise ValueError("Invalid header row")
        first = next((n for n, name in enumerate(head) if "Section" in name), None)
        if first is None:
            raise ValueError("Invalid header row")
        ignored = "(Current|Final|Override) (Score|Points|Grade)"
        assignments = {
            name: n for n, name in enumerate(head) if n > first and not re.search(ignored, name)
        }
        for row in rows[1:]:
            if "Points Possible" in row[0] or all(
                re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", cell) for cell in row
            ):
                continue
            for name, place in assignments.items():
                self.grades[row[1]][name] = row[place].strip()
        return set(assignments)
