"""The folder of a class: what `staff.collect` wrote, or one folder or zip per student."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from staff.archives import is_archive
from staff.collect.layouts import source_of
from staff.collect.table import COLLECTED, read_collected
from staff.submissions import HandedInError, Student
from staff.tables import TableError
from staff.text import name_as_text

MAX_KEY = 60  # characters, at most 240 bytes: a file name may have 255
DIGEST = 12  # hexadecimal digits
LIKE_A_DIGEST = re.compile(rf"-[0-9a-f]{{{DIGEST}}}$", re.IGNORECASE)


def students_in(folder: Path) -> list[Student]:
    """Return the students of a class: in the order of the roster, or else of their files' names.

    In a folder that `staff.collect` wrote, a student of the roster who handed in nothing has a
    path that does not exist. Raises HandedInError if the folder does not exist or holds no student.
    """
    if not folder.is_dir():
        raise HandedInError(
            f"{folder} is not a folder; expected one that holds a folder or zip per student."
        )
    if (folder / COLLECTED).is_file():
        return _collected(folder)
    paths: list[Path] = []
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith((".", "__MACOSX"))
        # Others are a list of grades, submission_metadata.yml, ...
        if not hidden and (is_archive(path.name) or path.is_dir() or path.is_symlink()):
            paths.append(path)
    if not paths:
        raise HandedInError(f"{folder} holds no folder and no zip; expected one per student.")
    names = [path.name for path in paths]
    return [_student(key, path) for key, path in zip(keys_of(names), paths)]


def _collected(folder: Path) -> list[Student]:
    """Return the students of a folder that `staff.collect` wrote."""
    try:
        rows = read_collected(folder / COLLECTED)
    except TableError as error:
        raise HandedInError(str(error)) from None
    keys = keys_of(row["id"] for row in rows)
    key_of = {row["id"]: key for key, row in zip(keys, rows)}
    groups = [{key_of.get(one, "") for one in row.get("group", "").split()} for row in rows]
    return [
        Student(key, row["name"], row["platform"], row["number"], folder / key, frozenset(group))
        for key, row, group in zip(keys, rows, groups)
    ]


def _student(key: str, path: Path) -> Student:
    """Return a student by the name that a platform gave to their folder or zip."""
    source = source_of(name_as_text(path.name))
    if source is None:
        return Student(key, _stem(path.name), "", "", path)
    return Student(key, source.name, source.platform, source.number, path)


def keys_of(names: Iterable[str]) -> list[str]:
    """Return a key for each name of a folder or archive: the name of a folder in the results.

    A key has at most MAX_KEY letters, digits and `_.-`. No two are equal, even on a file system
    that ignores case or normalises Unicode, and the order of the names does not matter: a name that
    is too long, or whose key another name has too, gets a digest of the whole name.
    """
    names = list(names)
    plain = [_key(_stem(name)) for name in names]
    uses = Counter(map(_folded, plain))
    return [
        f"{key[: MAX_KEY - DIGEST - 1]}-{_digest(name)}"
        if len(key) > MAX_KEY or uses[_folded(key)] > 1 or LIKE_A_DIGEST.search(key)
        else key
        for key, name in zip(plain, names)
    ]


def _stem(name: str) -> str:
    """Return the name of a folder or archive as text, without the ending of an archive."""
    return name_as_text(Path(name).stem if is_archive(name) else name)


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:DIGEST]


def _key(stem: str) -> str:
    normal = unicodedata.normalize("NFKC", stem)
    return re.sub(r"[^\w.-]+", "-", normal).strip("-.") or "student"


def _folded(key: str) -> str:
    """Return a key as a file system may compare it."""
    return unicodedata.normalize("NFKC", key.casefold())


def loose_files(folder: Path) -> list[str]:
    """Return the names of .py and .pth files that are not in a student's folder or zip."""
    found = (path.name for path in folder.iterdir() if path.suffix in (".py", ".pth"))
    return sorted(map(name_as_text, found))
