"""The students of the course, and which of them a name in a download means.

The roster is a CSV file with the columns `id`, `name` and `email`, in any order, and as far as they
are known `group` and `number`, the platform's own number. The lists that platforms export have
these under other names: Canvas's gradebook (ID is its number, SIS User ID the student's), Moodle's
grading worksheet (`Participant 123`, `Last modified (submission)`), Gradescope's roster.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from staff.collect.source import Source
from staff.collect.table import read_table
from staff.tables import TableError

COLUMNS = {  # the names of each column, in small letters
    "id": ("id", "sid", "student id", "id number", "sis user id", "学号"),
    "name": ("name", "full name", "student", "姓名"),
    "first": ("first name", "名"),
    "last": ("last name", "surname", "姓"),
    "email": ("email", "email address", "邮箱", "电子邮件"),
    "login": ("login", "username", "sis login id", "用户名"),
    "group": ("group", "groups", "小组", "组"),
    "number": ("number", "identifier"),
    "submitted": ("submitted", "last modified (submission)"),
}
NO_STUDENTS = ("points possible", "student, test", "test student")  # rows of Canvas's gradebook
SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+")  # what a spreadsheet makes of a long number
UNKNOWN = "not in the roster"


@dataclass(frozen=True)
class Person:
    """A student of the roster. What is not known is ""."""

    id: str
    name: str
    email: str = ""
    login: str = ""
    group: str = ""
    platform: str = ""
    number: str = ""
    submitted: str = ""


def read_roster(file: Path) -> list[Person]:
    """Return the students in the order of the file. Raises TableError."""
    rows = read_table(file)
    head = [cell.casefold() for cell in rows[0][1]] if rows else []
    places = _places(head)
    named = "name" in places or {"first", "last"} <= places.keys()
    if not named or not places.keys() & {"id", "login", "email", "number"}:
        raise TableError(
            f"{file} has the columns {', '.join(head) or 'none'}; expected id, name and email."
        )
    people: dict[str, Person] = {}
    for line, row in rows[1:]:
        person = _person({name: row[at] for name, at in places.items() if at < len(row)}, head)
        if not person.name or person.name.casefold() in NO_STUDENTS:
            continue
        if not person.id or SHORTENED.fullmatch(person.id):
            raise TableError(
                f"{file}, line {line}: the id of {person.name} is {person.id or 'missing'}; "
                "expected it in full: give the column the format Text before you save."
            )
        if person.id in people:
            raise TableError(f"{file}, line {line}: a second row of {person.id}; expected one.")
        people[person.id] = person
    if not people:
        raise TableError(f"{file} has no student; expected one row for each.")
    return list(people.values())


def _places(head: list[str]) -> dict[str, int]:
    """Return the place of each column that the roster has."""
    places = {
        column: head.index(found)
        for column, names in COLUMNS.items()
        if (found := next((name for name in names if name in head), None))
    }
    if "sis user id" in head and "id" in head:  # Canvas's gradebook
        places |= {"id": head.index("sis user id"), "number": head.index("id")}
    return places


def _person(cells: dict[str, str], head: list[str]) -> Person:
    number = re.sub(r"\D", "", cells.get("number", ""))
    platform = "canvas" if "sis user id" in head else "moodle" if "identifier" in head else ""
    first_and_last = f"{cells.get('first', '')} {cells.get('last', '')}".strip()
    email, login = cells.get("email", ""), cells.get("login", "")
    return Person(
        id=cells.get("id") or login or email or number,
        name=cells.get("name") or first_and_last,
        email=email,
        login=login,
        group=cells.get("group", ""),
        platform=platform if number else "",
        number=number,
        submitted=cells.get("submitted", ""),
    )


class Roster:
    """Finds the students of a roster."""

    def __init__(self, people: Iterable[Person]) -> None:
        self.people = list(people)
        self.by_id = {person.id: person for person in self.people}

    def find(self, source: Source) -> tuple[list[Person], str]:
        """Return whose a piece of a download is, and if it is nobody's why.

        Several students are the members of a group.
        """
        tests: list[Callable[[Person], bool]] = [
            lambda one: bool(source.id) and one.id.casefold() == source.id.casefold(),
            lambda one: bool(source.email) and one.email.casefold() == source.email.casefold(),
            lambda one: bool(source.number) and _has_number(one, source),
        ]
        if not source.platform:
            tests.append(lambda one: source.name.casefold() in _accounts(one))
        for test in tests:
            if len(found := list(filter(test, self.people))) == 1:
                return found, ""
        name = _letters(source.name)
        same = [one for one in self.people if name in _forms(one.name) and _may_be(one, source)]
        if len(same) > 1:
            ids = " and ".join(one.id for one in same)
            return [], f"{ids} have this name"
        members = [one for one in self.people if one.group and _letters(one.group) == name]
        return same or members, "" if same or members else UNKNOWN


def _has_number(person: Person, source: Source) -> bool:
    return person.number == source.number and person.platform in ("", source.platform)


def _may_be(person: Person, source: Source) -> bool:
    """Return whether nothing that the platform states contradicts that it is this student."""
    same_platform = person.platform in ("", source.platform)
    pairs = [(person.id, source.id), (person.email, source.email)]
    pairs += [(person.number, source.number)] if same_platform else []
    return not any(a and b and a.casefold() != b.casefold() for a, b in pairs)


def _accounts(person: Person) -> set[str]:
    """Return the words that may stand for a student's name in a file name they chose."""
    words = (person.id, person.login, person.email, person.email.partition("@")[0])
    return {word.casefold() for word in words if word}


def _letters(name: str) -> str:
    """Return the letters and digits of a name, as platforms may keep them."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _forms(name: str) -> set[str]:
    """Return the letters of a name, in each order that platforms write its words in."""
    words = [letters for word in re.split(r"[\s,]+", name) if (letters := _letters(word))]
    return {"".join(words[start:] + words[:start]) for start in range(len(words))}
