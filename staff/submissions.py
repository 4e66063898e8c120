"""What students handed in: a folder of folders and zips, as Moodle, Canvas and Gradescope give it.

Nothing in here is trusted: only regular files with the names we ask for are taken, each up to a
bound, and an archive is read member by member, never unpacked.
"""

from __future__ import annotations

import functools
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from staff.statuses import TASKS

CODE = "submission.py"
MAX_CODE_BYTES = 1 << 20
MAX_CHECKPOINT_BYTES = 256 << 20
MAX_ARCHIVE_BYTES = 1 << 30
MAX_CONTENTS_BYTES = 2 << 20  # of an archive's table of contents
MAX_END_BYTES = (1 << 16) + 22  # of what follows that table: a record and a comment
MAX_FILES = 5000  # in one student's folder or archive
MAX_CHECKPOINTS = 4
MAX_DEPTH = 6
CHUNK = 1 << 20

# How learning platforms name what they hand out: who, and their number for this student.
PLATFORMS = (
    # Ada Lovelace_123456_assignsubmission_file_
    (re.compile(r"^(?P<name>.+)_(?P<moodle>\d+)_assignsubmission_\w+$"), "moodle"),
    # lovelaceada_LATE_4711_815_lab.zip: user, then attempt
    (re.compile(r"^(?P<name>[^_]+)(_LATE)?_(?P<canvas>\d+)_\d+_.+$"), "canvas"),
    (re.compile(r"^(?P<name>submission_\d+)$"), "gradescope"),
)


class HandedInError(ValueError):
    """What was handed in cannot be taken; says what was expected. The student's to mend."""


@dataclass(frozen=True)
class Student:
    """One student's folder or zip.

    Attributes:
        key: names the student's folder in the results; unique, and safe as a file's name.
        name: as the platform wrote it.
        platform, number: the learning platform, and its number for the student; "" if unknown.
        path: the folder or zip.
    """

    key: str
    name: str
    platform: str
    number: str
    path: Path


@dataclass(frozen=True)
class HandedIn:
    """The files taken from a student, copied into a folder of ours.

    checkpoints: by task where the name tells it, and by their own place where it does not.
    """

    code: Path
    checkpoints: dict[str, Path]


@dataclass(frozen=True)
class _Found:
    """A file that a student has: where, how large it says it is, and how to read it."""

    place: PurePosixPath
    size: int
    open: Callable[[], BinaryIO]


def students_in(folder: Path) -> list[Student]:
    """Return the students of a class, by key. Raises HandedInError when there are none."""
    if not folder.is_dir():
        raise HandedInError(f"{folder} is no folder; expected one with a folder or zip a student.")
    students: dict[str, Student] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        is_zip = path.suffix.lower() == ".zip"
        if not (is_zip or path.is_dir() or path.is_symlink()):
            continue  # a list of grades, submission_metadata.yml, ...
        stem = path.stem if is_zip else path.name
        name, platform, number = _who(stem.encode("utf-8", "replace").decode("utf-8"))
        key = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "student"
        while key.lower() in students:
            key += "_"
        students[key.lower()] = Student(key, name, platform, number, path)
    if not students:
        raise HandedInError(f"{folder} holds no folder and no zip; expected one a student.")
    return list(students.values())


def loose_files(folder: Path) -> list[str]:
    """Return submissions and checkpoints that lie beside the folders and zips, with no student."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".py", ".pth"))


def _who(stem: str) -> tuple[str, str, str]:
    for pattern, platform in PLATFORMS:
        if match := pattern.match(stem):
            return match["name"], platform, match.groupdict().get(platform, "")
    return stem, "", ""


def take(student: Student, into: Path) -> HandedIn:
    """Copy what counts of a student's files into a folder. Raises HandedInError."""
    with _opened(student.path) as found:
        return _take(found, into)


class _opened:
    """The files of a folder or zip, for as long as they are read."""

    def __init__(self, path: Path) -> None:
        self.path, self.archive = path, None

    def __enter__(self) -> list[_Found]:
        if self.path.is_symlink():
            raise HandedInError(f"{self.path.name} is a link; hand in the files themselves.")
        if self.path.is_dir():
            found = list(_files_in(self.path))
            zips = [one for one in found if one.place.suffix.lower() == ".zip"]
            if len(zips) != 1 or any(one.place.name == CODE for one in found):
                return found
            self.path = self.path / zips[0].place  # a folder around the one zip
        if self.path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise HandedInError(f"the zip is larger than {MAX_ARCHIVE_BYTES:,} bytes.")
        _expect_short_contents(self.path)
        try:
            self.archive = zipfile.ZipFile(self.path)
            return list(_members_of(self.archive))
        except HandedInError:
            raise
        except Exception as error:  # a damaged table of contents fails in many ways
            raise HandedInError(
                f"{self.path.name} is not a zip that can be read ({error})."
            ) from None

    def __exit__(self, *_: object) -> None:
        if self.archive:
            self.archive.close()


def _expect_short_contents(path: Path) -> None:
    """Raise HandedInError where reading an archive's table of contents would take much memory.

    The table's size stands in the last record, after "PK\\5\\6" (APPNOTE.TXT, 4.3.16). The larger
    kind of archive, Zip64, is refused: its table may be of any size, and no submission needs it.
    """
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - MAX_END_BYTES, 0))
        end = file.read()
    place = end.rfind(b"PK\5\6")
    if place < 0 or len(end) < place + 22:
        raise HandedInError(f"{path.name} is not a zip that can be read; zip it again.")
    (size,) = struct.unpack_from("<I", end, place + 12)
    if size > MAX_CONTENTS_BYTES or b"PK\6\7" in end[max(place - 20, 0) : place]:
        raise HandedInError(f"{path.name} lists far too many files; hand in the three.")


def _files_in(folder: Path) -> Iterator[_Found]:
    """Yield the regular files below a folder; links are no files, and are not followed."""
    count, left = 0, [folder]
    while left:
        for path in sorted(left.pop().iterdir()):
            count += 1
            if count > MAX_FILES:
                raise HandedInError(f"there are more than {MAX_FILES} files; hand in the three.")
            mode = path.lstat().st_mode
            place = PurePosixPath(*path.relative_to(folder).parts)
            if stat.S_ISLNK(mode) and _counts(place):
                raise HandedInError(f"{place} is a link; hand in the file itself.")
            if stat.S_ISDIR(mode) and len(place.parts) < MAX_DEPTH:
                left.append(path)
            elif stat.S_ISREG(mode):
                yield _Found(place, path.lstat().st_size, functools.partial(path.open, "rb"))


def _members_of(archive: zipfile.ZipFile) -> Iterator[_Found]:
    """Yield the regular files of an archive."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise HandedInError(f"the zip has more than {MAX_FILES} files; hand in the three.")
    for member in members:
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if not place.parts:
            continue  # the folder itself
        if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
            raise HandedInError(f"the zip has a file with the path {member.filename!r}; zip again.")
        mode = member.external_attr >> 16
        if stat.S_ISLNK(mode) and _counts(place):
            raise HandedInError(f"{place} is a link; hand in the file itself.")
        if not member.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG):
            yield _Found(place, member.file_size, functools.partial(archive.open, member))


def _counts(place: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
    return not hidden and (place.name == CODE or place.suffix == ".pth")


def _take(found: list[_Found], into: Path) -> HandedIn:
    found = [one for one in found if _counts(one.place)]
    codes = [one for one in found if one.place.name == CODE]
    if not codes:
        raise HandedInError(f"there is no {CODE}; hand it in with a checkpoint a task.")
    depth = min(len(one.place.parts) for one in codes)
    codes = [one for one in codes if len(one.place.parts) == depth]
    if len(codes) > 1:
        places = " and ".join(str(one.place) for one in codes[:2])
        raise HandedInError(f"there is more than one {CODE} ({places}); hand in one.")
    beside = codes[0].place.parent
    weights = [
        one for one in found if one.place.suffix == ".pth" and one.place.is_relative_to(beside)
    ]
    if not weights:
        raise HandedInError("there is no checkpoint (.pth); hand in one a task.")
    if len(weights) > MAX_CHECKPOINTS:
        raise HandedInError(f"there are {len(weights)} checkpoints; hand in one a task.")
    into.mkdir(parents=True, exist_ok=True)
    code = _copied(codes[0], into / CODE, MAX_CODE_BYTES)
    checkpoints: dict[str, Path] = {}
    for one in sorted(weights, key=lambda one: str(one.place)):
        task = next((task for task in TASKS if one.place.name.startswith(task)), "")
        task = task or str(one.place)
        if task in checkpoints:
            raise HandedInError(f"there are two checkpoints of {task}; hand in one.")
        file = into / f"checkpoint_{len(checkpoints)}.pth"
        checkpoints[task] = _copied(one, file, MAX_CHECKPOINT_BYTES)
    return HandedIn(code, checkpoints)


def _copied(found: _Found, to: Path, most: int) -> Path:
    """Copy a file of at most so many bytes, whatever its header says that it has."""
    too_large = HandedInError(f"{found.place} is larger than {most:,} bytes.")
    if found.size > most:
        raise too_large
    copied = 0
    with open(to, "wb") as file:
        for chunk in _chunks(found):
            copied += len(chunk)
            if copied > most:
                raise too_large
            file.write(chunk)
    to.chmod(0o644)  # whatever staff's umask is: an unprivileged user reads it
    return to


def _chunks(found: _Found) -> Iterator[bytes]:
    """Yield what a file holds, piece by piece. Raises HandedInError where it cannot be read."""
    try:
        with found.open() as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except Exception as error:  # each of zip's compressions has errors of its own
        raise HandedInError(f"{found.place} is damaged or encrypted ({error}).") from None
